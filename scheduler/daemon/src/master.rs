//! The master daemon: one owner of the master machine, its registry, and the doors that agents and frameworks use.
//!
//! Invariant: nothing that a peer sends ends the daemon; it may end that peer's connection.

mod doors;
mod events;
mod metrics;
mod owner;
mod watchers;

use crate::clock::Clock;
use crate::door::{self, ListenError, Token};
use crate::registry::{Registry, RegistryError};
use crate::{files, stop};
use scheduler::master::{Config, Record};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::info;

/// Streams that are still open when the master stops are told so; who does not hang up within this is cut off.
const DRAIN: Duration = Duration::from_secs(2);

/// Messages from all connections that the owner has not yet looked at. Each connection has at most one message in the
/// queue's door besides, so this bounds memory while letting a burst (every agent's heartbeat) pass without waiting;
/// when it is full the connections wait, and TCP slows their senders down.
const INPUTS: usize = 1024;

#[derive(Clone, Debug)]
pub struct MasterConfig {
    pub listen: SocketAddr,
    /// Holds the registry, and the address that the master listens on, in the file `address`.
    pub data_dir: PathBuf,
    pub token: Option<Token>,
    pub machine: Config,
}

impl MasterConfig {
    pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5050);

    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { listen: Self::DEFAULT_LISTEN, data_dir: data_dir.into(), token: None, machine: Config::default() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Files(#[from] files::FileError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("read {key} from the registry: it was written by a version of smack that this one does not understand")]
    Record {
        key: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("serve agents and frameworks")]
    Serve(#[source] tonic::transport::Error),
    #[error("go on: the master's {part} has a defect, see the log")]
    Defect { part: &'static str },
}

/// A master that runs in this process. Dropping it ends it at once, as a crash would.
pub struct Running {
    address: SocketAddr,
    leader_epoch: u64,
    stop: watch::Sender<bool>,
    owner: JoinHandle<Result<(), MasterError>>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Starts a master; returns once it listens.
pub async fn start(config: MasterConfig) -> Result<Running, MasterError> {
    let MasterConfig { listen, data_dir, token, machine } = config;
    let listener = door::listen(listen, "--listen", token.as_ref()).await?;
    let address = listener.local_addr().map_err(|source| ListenError::Listen { address: listen, source })?;
    files::create_private_dir(&data_dir)?;
    let registry = Registry::open(&data_dir.join("registry.redb"))?;
    files::write(&data_dir.join("address"), address.to_string().as_bytes())?;

    let mut versions = owner::Versions::new();
    let mut records = Vec::new();
    for (key, found) in registry.scan("")? {
        let record: Record =
            serde_json::from_slice(&found.value).map_err(|source| MasterError::Record { key: key.clone(), source })?;
        versions.insert(key, found.version);
        records.push(record);
    }
    let leader_epoch = registry.epoch();
    let clock = Clock::start();
    info!(%address, leader_epoch, n_records = records.len(), "master listens");
    let heartbeat_ms = machine.heartbeat_ms;
    let machine = scheduler::Master::new(machine, leader_epoch, clock.now_ms(), records);

    let (inputs, from_doors) = mpsc::channel(INPUTS);
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(doors::serve(listener, token, heartbeat_ms, inputs, stopped.clone()));
    let owner = tokio::spawn(owner::Owner::new(machine, clock, registry, versions).run(from_doors, stopped));
    Ok(Running { address, leader_epoch, stop, owner, server })
}

impl Running {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn leader_epoch(&self) -> u64 {
        self.leader_epoch
    }

    /// Waits until the master ends by itself, which only a failure makes it do.
    pub async fn ended(&mut self) -> Result<(), MasterError> {
        tokio::select! {
            ended = &mut self.owner => ended.unwrap_or(Err(MasterError::Defect { part: "owner" })),
            ended = &mut self.server => match ended {
                Ok(served) => served.map_err(MasterError::Serve),
                Err(_) => Err(MasterError::Defect { part: "server" }),
            },
        }
    }

    /// Ends at once, as a crash would; returns when the directory is free again.
    pub async fn kill(mut self) {
        self.owner.abort();
        self.server.abort();
        if !self.owner.is_finished() {
            // Aborted, so an error and expected.
            let _ = (&mut self.owner).await;
        }
    }

    /// Ends all streams, then the listener.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // What remains open after this is cut off by the drop.
        let drained = tokio::time::timeout(DRAIN, async {
            if !self.owner.is_finished() {
                let _ = (&mut self.owner).await;
            }
            if !self.server.is_finished() {
                let _ = (&mut self.server).await;
            }
        });
        if drained.await.is_err() {
            info!("some peers did not hang up; the master stops all the same");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.owner.abort();
        self.server.abort();
    }
}

/// Runs a master until SIGTERM or SIGINT.
pub async fn serve(config: MasterConfig) -> Result<(), MasterError> {
    let signals = stop::signals().map_err(MasterError::Signals)?;
    let mut running = start(config).await?;
    tokio::select! {
        ended = running.ended() => ended,
        signal = signals => {
            info!(signal, "master stops");
            running.stop().await;
            Ok(())
        }
    }
}
