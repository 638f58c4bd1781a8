//! A cluster of one test: `smack dev` in a folder of its own, asked over its doors and with the program itself.
//!
//! Invariant: when it is dropped, `smack dev` was asked to end and nothing that it started is left; if something is, the
//! test fails.

use crate::processes::{self, Process};
use crate::program::{Ran, command, ended, smack};
use crate::rows;
use crate::wait::{patience, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// As many clusters as work well beside one another on two cores.
const CLUSTERS_MAX: usize = 2;

static AT_WORK: Mutex<usize> = Mutex::new(0);
static ONE_ENDED: Condvar = Condvar::new();

/// Leave to have one cluster.
pub struct Turn(());

impl Turn {
    pub fn take() -> Self {
        let at_work = AT_WORK.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at_work =
            ONE_ENDED.wait_while(at_work, |at_work| *at_work >= CLUSTERS_MAX).unwrap_or_else(PoisonError::into_inner);
        *at_work += 1;
        Self(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *AT_WORK.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ONE_ENDED.notify_one();
    }
}

/// A job as the API tells it, as far as tests look at it.
#[derive(Clone, Debug, Deserialize)]
pub struct Job {
    pub state: String,
    pub generation: u64,
    pub restarts: u64,
    pub why: String,
    pub metrics: Metrics,
    pub tasks: Vec<Task>,
    pub events: Vec<Told>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Metrics {
    pub rows_in: u64,
    pub rows_late: u64,
    pub rows_bad: u64,
    pub checkpoint_epoch: Option<u64>,
    pub step: u64,
    pub steps_total: u64,
    pub metric: Option<f64>,
    pub metric_name: String,
    pub model_version: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Task {
    pub id: String,
    pub agent: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    pub text: String,
}

impl Job {
    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "finished" | "failed" | "stopped")
    }

    pub fn told(&self) -> String {
        self.events.iter().map(|event| format!("{}\n", event.text)).collect()
    }
}

pub struct Cluster {
    folder: TempDir,
    dev: Child,
    /// What it was started with.
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    token: Option<String>,
    http: reqwest::blocking::Client,
    pub runner: String,
    pub master: String,
    /// Of its broker.
    pub kafka: String,
    _turn: Turn,
}

impl Cluster {
    pub fn start() -> Self {
        Self::start_with(&[], None)
    }

    /// `token`: written into the file `token` of the folder and asked for at every door.
    pub fn start_with(args: &[&str], token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::start_in(folder, args, token, None, &[])
    }

    /// With these variables in its environment.
    pub fn start_told(variables: &[(&str, &str)]) -> Self {
        Self::start_as(&[], variables)
    }

    pub fn start_as(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::start_in(folder, args, None, None, variables)
    }

    /// With a CA of its own, and one certificate for all members.
    pub fn start_encrypted() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        smack(folder.path(), &["cert", "--dir", "certs"]).expect(0);
        let args =
            ["--tls-cert", "certs/localhost.pem", "--tls-key", "certs/localhost.key", "--tls-ca", "certs/ca.pem"];
        let ca = std::fs::read(folder.path().join("certs/ca.pem")).expect("a CA");
        Self::start_in(folder, &args, None, Some(&ca), &[])
    }

    fn start_in(
        folder: TempDir,
        args: &[&str],
        token: Option<&str>,
        ca: Option<&[u8]>,
        variables: &[(&str, &str)],
    ) -> Self {
        let turn = Turn::take();
        let mut arguments = vec!["dev", "--port", "0", "--kafka-port", "0"];
        arguments.extend(args);
        if let Some(token) = token {
            std::fs::write(folder.path().join("token"), token).expect("a file");
            arguments.extend(["--token-file", "token"]);
        }
        let http = reqwest::blocking::Client::builder().no_proxy().timeout(patience());
        let http = match ca {
            Some(ca) => http.add_root_certificate(reqwest::Certificate::from_pem(ca).expect("a CA")),
            None => http,
        };
        let http = http.build().expect("an HTTP client");
        let mut cluster = Self {
            dev: spawn(folder.path(), &arguments, variables),
            variables: variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            arguments: arguments.into_iter().map(str::to_string).collect(),
            folder,
            token: token.map(str::to_string),
            http,
            runner: String::new(),
            master: String::new(),
            kafka: String::new(),
            _turn: turn,
        };
        cluster.wait_until_ready();
        cluster
    }

    fn wait_until_ready(&mut self) {
        wait_for("cluster that is ready", || {
            let said = std::fs::read_to_string(self.path("dev.log")).unwrap_or_default();
            if let Ok(Some(status)) = self.dev.try_wait() {
                panic!("smack dev ended ({status}): {said}");
            }
            if said.contains("smack dev is ready") { Ok(()) } else { Err(said) }
        });
        #[derive(Deserialize)]
        struct Doors {
            runner: String,
            master: String,
            kafka: String,
        }
        let doors = std::fs::read(self.path(".smack/dev.json")).expect("dev.json");
        let doors: Doors = serde_json::from_slice(&doors).expect("addresses in dev.json");
        self.runner = doors.runner;
        self.master = doors.master;
        self.kafka = doors.kafka;
    }

    /// `kill -9` of `smack dev`, which takes every process of the cluster with it; then starts it again.
    pub fn crash(&mut self) {
        self.dev.kill().expect("smack dev can be killed");
        self.dev.wait().expect("smack dev can be waited for");
        self.start_again();
    }

    /// Ends it as Ctrl-C does, then starts it again.
    pub fn restart(&mut self) {
        self.end();
        self.start_again();
    }

    fn start_again(&mut self) {
        wait_for("end of every process", || match self.processes() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let variables: Vec<(&str, &str)> = self.variables.iter().map(|(of, value)| (&**of, &**value)).collect();
        self.dev = spawn(self.folder.path(), &arguments, &variables);
        self.wait_until_ready();
    }

    /// The folder in which `smack dev` works and job files lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    /// The program, as run by somebody who stands in the folder.
    pub fn smack(&self, args: &[&str]) -> Ran {
        let mut command = command(self.folder(), args);
        if self.token.is_some() {
            command.args(["--token-file", "token"]);
        }
        ended(command)
    }

    /// Submits a file of this text; ids of its jobs.
    pub fn submit(&self, name: &str, text: &str) -> Vec<String> {
        self.write(name, text);
        self.submit_file(Path::new(name))
    }

    pub fn submit_file(&self, path: &Path) -> Vec<String> {
        #[derive(Deserialize)]
        struct Submitted {
            jobs: Vec<String>,
        }
        let path = path.to_str().expect("a plain name");
        let ran = self.smack(&["submit", path, "-o", "json"]).expect(0);
        serde_json::from_value::<Submitted>(ran.json()).expect("the jobs submitted").jobs
    }

    /// What the API says of a job; the runner may be away.
    pub fn look(&self, id: &str) -> Result<Job, String> {
        let body = self.get(&format!("/api/v1/jobs/{id}"))?;
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }

    /// The job as soon as `right` says so. One that is over will not become right.
    #[track_caller]
    pub fn wait_for(&self, id: &str, what: &str, right: impl Fn(&Job) -> bool) -> Job {
        wait_for(&format!("{what} of {id}"), || {
            let job = self.look(id)?;
            if right(&job) {
                return Ok(job);
            }
            assert!(!job.is_over(), "no {what}: {id} is {}: {}\n{}", job.state, job.why, job.told());
            Err(format!("{job:?}"))
        })
    }

    #[track_caller]
    pub fn wait_until(&self, id: &str, state: &str) -> Job {
        self.wait_for(id, state, |job| job.state == state)
    }

    /// One sentence of `smack why`.
    pub fn why(&self, subject: &str) -> String {
        let ran = self.smack(&["why", subject, "-o", "json"]).expect(0);
        ran.json()["sentence"].as_str().expect("a sentence").to_string()
    }

    /// Waits until `smack why` has all these words.
    pub fn wait_until_why(&self, subject: &str, words: &[&str]) -> String {
        wait_for(&format!("reason with {words:?}"), || {
            let sentence = self.why(subject);
            if words.iter().all(|word| sentence.contains(word)) { Ok(sentence) } else { Err(sentence) }
        })
    }

    /// All rows of a table of the cluster's own store, in the form of [`rows::canonical`].
    pub fn rows(&self, table: &str) -> Vec<String> {
        let body =
            self.get(&format!("/tables/{table}/rows")).unwrap_or_else(|error| panic!("rows of {table}: {error}"));
        rows::of_arrow(&body)
    }

    pub fn get(&self, path: &str) -> Result<Vec<u8>, String> {
        self.get_of(&self.runner, path)
    }

    /// From another member.
    pub fn get_of(&self, member: &str, path: &str) -> Result<Vec<u8>, String> {
        let mut request = self.http.get(format!("{member}{path}"));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().map_err(|error| error.to_string())?;
        let status = response.status();
        let body = response.bytes().map_err(|error| error.to_string())?;
        if status.is_success() {
            Ok(body.to_vec())
        } else {
            Err(format!("{status}: {}", String::from_utf8_lossy(&body)))
        }
    }

    fn processes(&self) -> Vec<Process> {
        processes::below(self.folder())
    }

    pub fn member(&self, name: &str) -> Process {
        wait_for(&format!("process of {name}"), || {
            let all = self.processes();
            all.iter().find(|process| process.is_member(name)).cloned().ok_or_else(|| format!("{all:?}"))
        })
    }

    /// Waits until another process has taken this one's place.
    pub fn wait_for_new(&self, name: &str, before: &Process) {
        wait_for(&format!("new process of {name}"), || {
            let now = self.member(name);
            if now.pid == before.pid { Err(format!("{now:?}")) } else { Ok(()) }
        });
    }

    /// The process of a task.
    pub fn task(&self, id: &str) -> Process {
        wait_for(&format!("process of task {id}"), || {
            let all = self.processes();
            all.iter().find(|process| process.task() == Some(id)).cloned().ok_or_else(|| format!("{all:?}"))
        })
    }

    /// The processes of a job's tasks.
    pub fn tasks_of(&self, job: &Job) -> Vec<Process> {
        job.tasks.iter().map(|task| self.task(&task.id)).collect()
    }

    /// `kill -9` of the agent that has the task; returns when the next one is there and has registered.
    pub fn kill_agent_of(&self, task: &Task) {
        let agent = self.member(&task.agent);
        agent.kill();
        self.wait_for_new(&task.agent, &agent);
        wait_for("agents that are all active", || {
            let ran = self.smack(&["agents"]).expect(0);
            if ran.out.contains("disconnected") || ran.out.contains("unreachable") { Err(ran.out) } else { Ok(()) }
        });
    }

    /// What the members and tasks logged.
    pub fn logs(&self) -> Vec<(PathBuf, String)> {
        fn collect(folder: &Path, logs: &mut Vec<(PathBuf, String)>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    collect(&path, logs);
                } else if path.extension().is_some_and(|end| end == "log") || path.ends_with("stderr") {
                    logs.push((path.clone(), String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into()));
                }
            }
        }
        let mut logs = Vec::new();
        collect(self.folder(), &mut logs);
        logs
    }

    fn end(&mut self) {
        let _ = kill(Pid::from_raw(self.dev.id() as i32), Signal::SIGTERM);
        let until = Instant::now() + patience();
        while matches!(self.dev.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.dev.kill();
        let _ = self.dev.wait();
    }
}

fn spawn(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Child {
    let log = File::create(folder.join("dev.log")).expect("a file");
    let mut command = command(folder, arguments);
    // A group of its own, as a shell gives it.
    command.envs(variables.iter().copied());
    command.process_group(0).stdout(log.try_clone().expect("a second handle")).stderr(log);
    command.spawn().expect("the program starts")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        let logs = self.logs();
        for (path, text) in &logs {
            if panicking && !text.is_empty() {
                let lines: Vec<&str> = text.lines().collect();
                let last = lines[lines.len().saturating_sub(20)..].join("\n");
                eprintln!("--- the end of {}\n{last}", path.display());
            }
        }
        self.end();
        // Tasks that are left follow `smack dev` within a moment.
        let until = Instant::now() + patience();
        while !self.processes().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let left = self.processes();
        for process in &left {
            process.kill();
        }
        if !panicking {
            assert!(left.is_empty(), "smack dev ended and left behind {left:?}");
            let panics: Vec<_> = logs.iter().filter(|(_, text)| text.contains("panicked at")).collect();
            assert!(panics.is_empty(), "something panicked: {panics:?}");
        }
    }
}
