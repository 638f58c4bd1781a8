//! A broker that speaks Apache Kafka's protocol, for one machine: what `smack dev` gives to whoever has no Kafka.
//!
//! Kafka's clients and tools work with it unchanged: produce, fetch, groups, idempotence, transactions, and what their
//! administration needs. It is one node without replicas, TLS or users.
//!
//! Invariant: it listens on this machine only (Kafka's protocol has no token that we could ask for). No bytes that a
//! client sends make it panic, or hold more than a request's length of memory: see [`Broker`].

mod configs;
mod coordinator;
mod facts;
mod log;
mod node;
mod server;
mod topics;

use configs::Defaults;
use node::Node;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often sessions and transactions are looked at.
const TICK: Duration = Duration::from_millis(100);
/// What a power cut may take; the death of the process takes nothing.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "listen on {address}: only an address of this machine (127.0.0.1) is allowed, as Kafka's protocol has no token"
    )]
    NotLocal { address: SocketAddr },
    #[error("listen on {address}: {error}; choose another port")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("open the broker's folder {dir}: {error}")]
    Open { dir: String, error: io::Error },
    #[error("open the broker's folder {dir}: another broker works in it; end that one, or choose another folder")]
    InUse { dir: String },
}

#[derive(Clone, Debug)]
pub struct Config {
    /// Port 0 takes any free one.
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    /// Whether a topic comes to be when a producer or consumer first asks for it, as with Kafka's own default.
    pub auto_create: bool,
    /// Of a topic for which nobody says how many.
    pub partitions: i32,
    /// Of topics that say nothing themselves; none keeps all.
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<i64>,
    pub segment_bytes: i32,
    /// How often topics are searched for what they need not keep.
    pub retention_check: Duration,
}

impl Config {
    pub fn new(listen: SocketAddr, data_dir: PathBuf) -> Self {
        Self {
            listen,
            data_dir,
            auto_create: true,
            partitions: 1,
            retention_ms: Some(7 * 24 * 3_600_000),
            retention_bytes: None,
            segment_bytes: 64 << 20,
            retention_check: Duration::from_secs(10),
        }
    }

    fn defaults(&self) -> Defaults {
        Defaults(BTreeMap::from([
            ("retention.ms", self.retention_ms.unwrap_or(-1).to_string()),
            ("retention.bytes", self.retention_bytes.unwrap_or(-1).to_string()),
            ("segment.bytes", self.segment_bytes.to_string()),
        ]))
    }
}

/// A running broker.
///
/// **Durability.** What is acknowledged has been handed to the operating system, so `kill -9` loses nothing; everything
/// is brought to disk each second and at the end, so a power cut may lose the last second.
///
/// **Memory.** A connection holds one request (at most 100 MiB, allocated as its bytes arrive; all but produce requests at
/// most 4 MiB) and one answer (at most 8 MiB and one batch); there are at most 1,000 connections. A partition holds 24
/// bytes per 32 KiB of log, 100 per segment, 24 per aborted transaction, and at most 300 KB for its producers; there are
/// at most 10,000. A committed offset takes some 300 bytes.
pub struct Broker {
    pub addr: SocketAddr,
    stop: watch::Sender<bool>,
    node: Arc<Node>,
    tasks: Vec<JoinHandle<()>>,
    /// Held as long as the broker lives.
    _lock: File,
}

impl Broker {
    /// Opens the folder, mends what a crash left, and listens.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let address = config.listen;
        if !address.ip().is_loopback() {
            return Err(Error::NotLocal { address });
        }
        let file = claim(&config)?;
        let listen = |error| Error::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let retention_check = config.retention_check;
        let node = Arc::new(Node::open(config, addr.port())?);
        let (stop, stopped) = watch::channel(false);
        let tasks = vec![
            tokio::spawn(server::accept(listener, Arc::clone(&node), stopped.clone())),
            tokio::spawn(every(TICK, Arc::clone(&node), stopped.clone(), |node| node.tick())),
            tokio::spawn(every(retention_check, Arc::clone(&node), stopped.clone(), |node| node.retain())),
            tokio::spawn(every(FLUSH_EVERY, Arc::clone(&node), stopped, flush)),
        ];
        Ok(Self { addr, stop, node, tasks, _lock: file })
    }

    /// Ends all connections and brings everything to disk.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            // It ended, or panicked, which was logged.
            let _ = task.await;
        }
        flush(&self.node);
    }
}

fn flush(node: &Node) {
    if let Err(error) = node.flush() {
        tracing::error!(%error, "what was written could not be brought to disk");
    }
}

async fn every(period: Duration, node: Arc<Node>, mut stopped: watch::Receiver<bool>, work: fn(&Node)) {
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(period) => {}
        }
        let node = Arc::clone(&node);
        // These wait for disks.
        let _ = tokio::task::spawn_blocking(move || work(&node)).await;
    }
}

/// One broker at a time works in a folder. The lock goes with the process, however it ends.
fn claim(config: &Config) -> Result<File, Error> {
    let dir = config.data_dir.display().to_string();
    let opened = |error: io::Error| Error::Open { dir: dir.clone(), error };
    std::fs::create_dir_all(&config.data_dir).map_err(opened)?;
    let path = config.data_dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(opened)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::InUse { dir }),
        Err(std::fs::TryLockError::Error(error)) => Err(Error::Open { dir, error }),
    }
}
