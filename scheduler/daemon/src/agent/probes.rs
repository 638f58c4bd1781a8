//! Asks tasks whether they do their work, on this machine.
//!
//! Invariant: every question is answered, within its time.
//! Invariant: what a task answers is read only as far as it matters.

use super::accounts::Account;
use super::ground::work_of;
use super::keep::{has_begun, read_kept};
use super::sandboxes::{SANDBOX_VARIABLE, Sandboxes};
use crate::client::chain;
use jobs::Probe;
use scheduler::model::TaskKey;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// An answer by gRPC is one number.
const ANSWER_BYTES_MAX: usize = 1024;

/// "HTTP/1.1 200", and whatever else stands in a short first line.
const STATUS_BYTES: usize = 128;

/// Each task has one question open at most, so tasks bound this.
pub(super) type Answers = mpsc::UnboundedReceiver<(TaskKey, Result<(), String>)>;

pub(super) struct Probes {
    sandboxes: Sandboxes,
    answers: mpsc::UnboundedSender<(TaskKey, Result<(), String>)>,
}

impl Probes {
    pub fn new(sandboxes: Sandboxes) -> (Self, Answers) {
        let (answers, answered) = mpsc::unbounded_channel();
        (Self { sandboxes, answers }, answered)
    }

    pub fn ask(&self, task: TaskKey, probe: Probe, timeout_ms: u64) {
        let (sandbox, answers) = (self.sandboxes.path_of(&task), self.answers.clone());
        tokio::spawn(async move {
            let outcome = match timeout(Duration::from_millis(timeout_ms), ask(&probe, &sandbox)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("no answer within {timeout_ms} ms")),
            };
            // The agent ends when nobody takes it.
            let _ = answers.send((task, outcome));
        });
    }
}

async fn ask(probe: &Probe, sandbox: &Path) -> Result<(), String> {
    match probe {
        Probe::Command { argv } => run(argv, sandbox).await,
        Probe::Tcp { port } => connect(*port).await.map(drop),
        Probe::Http { port, path } => get(*port, path).await,
        Probe::Grpc { port, service } => check(*port, service).await,
    }
}

async fn run(argv: &[String], sandbox: &Path) -> Result<(), String> {
    let (program, args) = argv.split_first().ok_or("it has no command")?;
    let account = match read_kept(sandbox) {
        Some(kept) => kept.account,
        None if has_begun(sandbox) => return Err("nothing says as whom the task runs".to_string()),
        None => None,
    };
    let work = work_of(sandbox, account.as_ref());
    let mut command = Command::new(program);
    command.args(args).current_dir(&work).env(SANDBOX_VARIABLE, &work);
    if let Some(account) = account {
        command.env_clear().envs(Account::environment()).env(SANDBOX_VARIABLE, &work);
        command.env("USER", &account.name).env("LOGNAME", &account.name).env("HOME", &account.home);
        // SAFETY: system calls on what was made before.
        unsafe {
            command.pre_exec(move || account.become_it());
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match command.status().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program} ended with {status}")),
        Err(error) => Err(format!("{program} was not started: {error}")),
    }
}

async fn connect(port: u16) -> Result<TcpStream, String> {
    let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
    connected.map_err(|error| format!("no connection to port {port}: {error}"))
}

async fn get(port: u16, path: &str) -> Result<(), String> {
    let mut stream = connect(port).await?;
    let exchange = async {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::with_capacity(STATUS_BYTES);
        while !head.contains(&b'\n') && head.len() < STATUS_BYTES {
            if (&mut stream).take((STATUS_BYTES - head.len()) as u64).read_buf(&mut head).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(head)
    };
    let head = exchange.await.map_err(|error| format!("no answer from port {port}: {error}"))?;
    match status(&head) {
        Some(status) if (200..400).contains(&status) => Ok(()),
        Some(status) => Err(format!("port {port} answers {path} with status {status}")),
        None => Err(format!("what port {port} answers is not HTTP")),
    }
}

/// By <https://grpc.io/docs/guides/health-checking/>.
async fn check(port: u16, service: &str) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await;
    let channel = channel.map_err(|error| format!("no connection to port {port}: {}", chain(&error)))?;
    let request = HealthCheckRequest { service: service.to_string() };
    let of = if service.is_empty() { String::new() } else { format!(" of {service}") };
    match HealthClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).check(request).await {
        Ok(answer) => match answer.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            status => Err(format!("port {port} says{of} that it is {}", status.as_str_name())),
        },
        Err(status) => Err(format!("port {port} does not say{of} whether it serves: {}", status.message())),
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let mut words = head.strip_prefix(b"HTTP/1.")?.split(|byte| *byte == b' ');
    words.next()?;
    std::str::from_utf8(words.next()?.get(..3)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn each_kind_tells_well_from_ill() {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 256];
                let n = stream.read(&mut request).await.unwrap_or(0);
                let answer: &[u8] = match request[..n].strip_prefix(b"GET /") {
                    Some(path) if path.starts_with(b"well ") => b"HTTP/1.1 204 No Content\r\n\r\n",
                    Some(path) if path.starts_with(b"ill ") => b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
                    Some(path) if path.starts_with(b"slow ") => {
                        std::future::pending::<()>().await;
                        b""
                    }
                    _ => b"220 mail.example.org ESMTP\r\n",
                };
                // A probe that only connects has gone by now.
                let _ = stream.write_all(answer).await;
            }
        });
        let http = |path: &str| Probe::Http { port, path: path.into() };
        let command = |script: &str| Probe::Command { argv: ["sh", "-c", script].map(str::to_string).to_vec() };
        for (probe, expected) in [
            (Probe::Tcp { port }, None),
            (http("/well"), None),
            (command("test \"$PWD\" = \"$SMACK_SANDBOX\""), None),
            (http("/ill"), Some("status 503")),
            (http("/other"), Some("not HTTP")),
            (command("exit 3"), Some("exit status: 3")),
            (Probe::Command { argv: vec!["/no/such/program".into()] }, Some("not started")),
            (Probe::Tcp { port: 1 }, Some("no connection to port 1")),
        ] {
            let found = ask(&probe, dir.path()).await;
            match expected {
                None => assert_eq!(found, Ok(()), "{probe:?}"),
                Some(words) => assert!(found.clone().is_err_and(|error| error.contains(words)), "{probe:?}: {found:?}"),
            }
        }
        let grpc = |port, service: &str| Probe::Grpc { port, service: service.into() };
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("ill", tonic_health::ServingStatus::NotServing).await;
        let serving = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let served = serving.local_addr().expect("an address").port();
        let incoming = tonic::transport::server::TcpIncoming::from(serving);
        tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming));
        for (probe, expected) in [
            (grpc(served, ""), None),
            (grpc(served, "ill"), Some("says of ill that it is NOT_SERVING")),
            (grpc(served, "other"), Some("does not say of other whether it serves")),
            (grpc(1, ""), Some("no connection to port 1")),
        ] {
            let found = ask(&probe, dir.path()).await;
            let is_as_expected = match expected {
                None => found == Ok(()),
                Some(words) => found.clone().is_err_and(|error| error.contains(words)),
            };
            assert!(is_as_expected, "{probe:?}: {found:?}");
        }
        let (probes, mut answers) = Probes::new(Sandboxes::open(dir.path().join("s")).expect("opens"));
        let task = TaskKey::new("f".into(), "t".into());
        probes.ask(task.clone(), http("/slow"), 50);
        assert_eq!(answers.recv().await, Some((task, Err("no answer within 50 ms".to_string()))));
    }
}
