//! Two hundred tasks of one framework while the master, the agents, the tasks and the framework's own connection are killed
//! and stopped at random, and lines between agents and master are cut where network namespaces are permitted: nothing is
//! lost, nothing runs twice, every update is delivered.
//!
//! `SMACK_CHAOS_SECONDS=n` says how long (60 without it), `SMACK_SEED=n` what happens when, as far as clocks allow.

mod framework;
mod members;
mod network;

use crate::cluster::Turn;
use crate::processes;
use crate::wait::patience;
use daemon::door::Token;
use framework::{Framework, Told};
use members::Members;
use network::{Cut, Network};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

const N_AGENTS: usize = 5;
const N_TASKS: usize = 200;

/// Numbers that follow from a seed (Marsaglia's xorshift).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// What a task leaves when it starts: its process. One that is started again under the same id says so instead.
fn script(folder: &Path, id: &str, lasts: &str) -> String {
    let folder = folder.display();
    format!(
        "set -C; if ! echo $$ > {folder}/started/{id}; then echo {id} >> {folder}/twice; exit 1; fi; exec sleep {lasts}"
    )
}

/// The processes of tasks that are there, by the tasks' ids.
fn alive(folder: &Path) -> BTreeMap<String, i32> {
    let mut alive = BTreeMap::new();
    for started in std::fs::read_dir(folder.join("started")).expect("the folder").flatten() {
        let text = std::fs::read_to_string(started.path()).unwrap_or_default();
        let Ok(pid) = text.trim().parse::<i32>() else { continue };
        let args = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if args.starts_with(b"sleep\0") || args.starts_with(b"/bin/sh\0") {
            alive.insert(started.file_name().to_string_lossy().into_owned(), pid);
        }
    }
    alive
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_no_task_is_lost_or_runs_twice() {
    let seconds = from_environment("SMACK_CHAOS_SECONDS").unwrap_or(60);
    let seed = from_environment("SMACK_SEED").unwrap_or(20_261_130);
    println!("SMACK_SEED={seed}, {seconds} s");
    let turn = tokio::task::spawn_blocking(Turn::take).await.expect("a turn");
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("started")).expect("a folder");
    let mut dice = Dice(seed | 1);
    let network = Network::start(N_AGENTS);
    if let Err(problem) = &network {
        println!("no line is cut, for there is no network to do it in: {problem}");
    }
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "chaos").expect("a file");
    let mut members = Members::start(folder.path(), N_AGENTS, network.ok(), &token_file);
    let token = Token::read(&token_file).expect("a token");
    let mut framework = Framework::start(folder.path(), &members, token, N_TASKS, seed);
    framework.wait_until("all tasks run", Framework::is_as_wanted).await;

    let until = Instant::now() + Duration::from_secs(seconds);
    let mut hits: BTreeMap<&str, u64> = BTreeMap::new();
    while Instant::now() < until {
        let what = strike(&mut dice, &mut members, &framework, folder.path());
        *hits.entry(what).or_default() += 1;
        tokio::time::sleep(dice.ms(100, 600)).await;
        members.pass_time();
    }
    members.calm();
    framework.make_only_long_tasks();
    framework.wait_until("all is as wanted again", Framework::is_as_wanted).await;
    settle(&framework, folder.path()).await;

    println!("{hits:?}\n{}", framework.summary());
    verify(&framework, folder.path());
    let n_faults = if members.network().is_some() { FAULTS.len() } else { WITHOUT_NETWORK };
    for fault in &FAULTS[..n_faults] {
        assert!(hits.contains_key(fault) || seconds < 60, "'{fault}' never happened: {hits:?}");
    }
    framework.tear_down().await;
    let begun = Instant::now();
    while !alive(folder.path()).is_empty() {
        assert!(
            begun.elapsed() < patience(),
            "tasks of a framework that was torn down run: {:?}",
            alive(folder.path())
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(members);
    drop(turn);
}

const FAULTS: [&str; 9] = [
    "master killed",
    "master stopped",
    "agent killed",
    "agent stopped",
    "task killed",
    "framework disconnected",
    "agent cut off",
    "agent not heard",
    "agent hears nothing",
];
/// So many of them need no network of their own.
const WITHOUT_NETWORK: usize = 6;

/// One thing goes wrong.
fn strike(dice: &mut Dice, members: &mut Members, framework: &Framework, folder: &Path) -> &'static str {
    let agent = dice.below(N_AGENTS as u64) as usize;
    let n_sides = if members.network().is_some() { 25 } else { 20 };
    match dice.below(n_sides) {
        0..2 => {
            members.kill(members::MASTER, dice.ms(0, 2_000));
            FAULTS[0]
        }
        2 => {
            members.stop(members::MASTER, dice.ms(100, 3_000));
            FAULTS[1]
        }
        3..6 => {
            members.kill(members::AGENT + agent, dice.ms(0, 4_000));
            FAULTS[2]
        }
        // Some are silent for so long that they are given up for a while.
        6..8 => {
            members.stop(members::AGENT + agent, dice.ms(100, 9_000));
            FAULTS[3]
        }
        8..18 => {
            let alive: Vec<i32> = alive(folder).into_values().collect();
            if !alive.is_empty() {
                let pid = alive[dice.below(alive.len() as u64) as usize];
                processes::Process { pid, args: Vec::new() }.signal(Signal::SIGKILL);
            }
            FAULTS[4]
        }
        18..20 => {
            framework.disconnect();
            FAULTS[5]
        }
        side => {
            let (fault, cut) = match side {
                20..22 => (6, Cut::BothWays),
                22..24 => (7, Cut::ToMaster),
                _ => (8, Cut::FromMaster),
            };
            // As long as when they are stopped: some of them are given up.
            members.cut(agent, cut, dice.ms(100, 12_000));
            FAULTS[fault]
        }
    }
}

/// What ended moments ago may still have an update on its way, and another in its place.
async fn settle(framework: &Framework, folder: &Path) {
    let begun = Instant::now();
    let is_settled =
        || framework.is_as_wanted() && missing(framework, folder).is_none() && alive(folder).len() == N_TASKS;
    while !is_settled() && begun.elapsed() < patience() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the framework was not told, or was told wrongly.
fn missing(framework: &Framework, folder: &Path) -> Option<String> {
    let alive = alive(folder);
    let started: BTreeSet<String> = std::fs::read_dir(folder.join("started"))
        .expect("the folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    framework.each(|id, told| {
        let (is_started, is_alive) = (started.contains(id), alive.contains_key(id));
        match told {
            Told::Ends if is_alive => Some(format!("{id} has ended, it was said, and is there")),
            Told::Gone if is_started => Some(format!("{id} was given up, and it had started")),
            Told::Runs if !is_alive => Some(format!("{id} runs, it was said, and is not there")),
            Told::Nothing => Some(format!("{id} was launched, and nothing was said of it")),
            Told::Ends | Told::Gone | Told::Runs => None,
        }
    })
}

fn verify(framework: &Framework, folder: &Path) {
    let twice = std::fs::read_to_string(folder.join("twice")).unwrap_or_default();
    assert!(twice.is_empty(), "started twice: {twice}");
    if let Some(missing) = missing(framework, folder) {
        panic!("{missing}\n{}", framework.summary());
    }
    let (alive, wanted) = (alive(folder).len(), N_TASKS);
    assert_eq!(alive, wanted, "processes of tasks");
}
