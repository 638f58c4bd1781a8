//! A broker for a run in one process, made when a table first asks for one: a file whose Kafka tables name no brokers runs
//! with nothing else around. What it keeps goes with the run.
//!
//! Invariant: asked from any thread, also from one that is at work for a runtime; it is started on a thread of its own and
//! lives there until [`OwnBroker::end`].

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Started or not.
#[derive(Default)]
pub struct OwnBroker {
    running: Arc<Mutex<Option<Running>>>,
}

struct Running {
    stop: tokio::sync::oneshot::Sender<()>,
    thread: JoinHandle<()>,
    folder: PathBuf,
}

impl OwnBroker {
    /// From now on tables that name no brokers, where the cluster around has none, get one below `folder`.
    pub fn offer(folder: &Path, quiet: bool) -> Self {
        let own = Self::default();
        let running = Arc::clone(&own.running);
        let folder = folder.to_path_buf();
        connectors::usual_brokers::make_with(move || match start(&folder) {
            Ok((address, started)) => {
                if !quiet {
                    eprintln!("tables that name no brokers use one of this run, at {address}");
                }
                *running.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
                Some(address.to_string())
            }
            Err(error) => {
                eprintln!("no broker could be started for tables that name none: {error:#}");
                None
            }
        });
        own
    }

    /// Ends it, and removes what it kept.
    pub fn end(self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { stop, thread, folder }) = running {
            let _ = stop.send(());
            let _ = thread.join();
            if let Err(error) = std::fs::remove_dir_all(&folder) {
                eprintln!("the folder {} could not be removed: {error}", folder.display());
            }
        }
    }
}

fn start(folder: &Path) -> anyhow::Result<(SocketAddr, Running)> {
    std::fs::create_dir_all(folder)?;
    let config = broker::Config::new((Ipv4Addr::LOCALHOST, 0).into(), folder.to_path_buf());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (said, hear) = mpsc::channel();
    let thread = std::thread::Builder::new().name("broker".to_string()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(said.send(Err(anyhow::Error::from(error)))),
        };
        runtime.block_on(async move {
            match broker::Broker::start(config).await {
                Ok(broker) => {
                    let _ = said.send(Ok(broker.addr));
                    let _ = stopped.await;
                    broker.stop().await;
                }
                Err(error) => drop(said.send(Err(error.into()))),
            }
        });
    })?;
    match hear.recv() {
        Ok(Ok(address)) => Ok((address, Running { stop, thread, folder: folder.to_path_buf() })),
        Ok(Err(error)) => Err(error),
        Err(_) => anyhow::bail!("its thread ended"),
    }
}
