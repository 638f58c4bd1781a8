//! Those who watch: each is told what there is, and then every change.
//!
//! Invariant: a watcher is told all of it in order, and nothing that the registry may forget, or it is cut off with a last word
//! that says so. Its queue is bounded, what is in it is let go of with it, and the owner waits for none of them.

use scheduler::master::{ClusterView, Noted};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tracing::warn;

/// Changes that wait for one watcher to take them away: what a cluster of thousands of tasks does in some seconds, and some
/// tens of MiB, which all that are behind share.
const WATCHER_CHANGES: usize = 1 << 16;

/// Changes that are put into words at once.
const BATCH: usize = 1024;

/// Said to one that does not keep up.
pub(super) const BEHIND: &str = "fell behind; watch again";

/// What there is for one watcher.
pub(super) enum Told {
    Snapshot(Box<Snapshot>),
    Change(Arc<Noted>),
    /// It does not keep up. Nothing comes after this.
    Behind,
}

/// All that there was at a moment.
pub(super) struct Snapshot {
    pub view: ClusterView,
    /// Of the latest change that the view has.
    pub number: u64,
    pub at_ms: u64,
}

/// The owner's end of a line to one watcher.
pub(super) struct Caller {
    queue: mpsc::Sender<Told>,
    cut_off: oneshot::Sender<()>,
}

/// The other end.
pub(super) struct Line {
    told: mpsc::Receiver<Told>,
    cut_off: oneshot::Receiver<()>,
}

pub(super) fn line() -> (Caller, Line) {
    // There is room for the snapshot besides.
    let (queue, told) = mpsc::channel(WATCHER_CHANGES + 1);
    let (caller, line) = oneshot::channel();
    (Caller { queue, cut_off: caller }, Line { told, cut_off: line })
}

struct Watcher {
    caller: Caller,
    /// What it is told first, and how many changes of this turn that has.
    first: Option<Box<Snapshot>>,
    n_known: usize,
}

/// All of them, as the owner knows them.
#[derive(Default)]
pub(super) struct Watchers {
    watching: Vec<Watcher>,
    /// Of this turn.
    changes: Vec<Arc<Noted>>,
    n_cut_off: u64,
}

impl Watchers {
    pub fn add(&mut self, caller: Caller, snapshot: Snapshot) {
        let (first, n_known) = (Some(Box::new(snapshot)), self.changes.len());
        self.watching.push(Watcher { caller, first, n_known });
    }

    pub fn note(&mut self, changes: Vec<Noted>) {
        self.changes.extend(changes.into_iter().map(Arc::new));
    }

    /// Tells them what is new at the end of a turn, and lets go of those who are gone or do not keep up.
    pub fn flush(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        for mut watcher in std::mem::take(&mut self.watching) {
            let first = watcher.first.take().map(Told::Snapshot);
            let news = &changes[std::mem::take(&mut watcher.n_known)..];
            let n_told = usize::from(first.is_some()) + news.len();
            let told = first.into_iter().chain(news.iter().map(|change| Told::Change(Arc::clone(change))));
            let places = watcher.caller.queue.try_reserve_many(n_told);
            match places.map(|places| places.zip(told).for_each(|(place, told)| place.send(told))) {
                // One that is gone while there is nothing to be told.
                Ok(()) if watcher.caller.queue.is_closed() => {}
                Ok(()) => self.watching.push(watcher),
                Err(TrySendError::Full(())) => {
                    warn!("a watcher does not take changes away and is cut off");
                    self.n_cut_off += 1;
                    // If it has just gone it need not hear it.
                    let _ = watcher.caller.cut_off.send(());
                }
                Err(TrySendError::Closed(())) => {}
            }
        }
    }

    pub fn n(&self) -> usize {
        self.watching.len()
    }

    pub fn n_cut_off(&self) -> u64 {
        self.n_cut_off
    }
}

/// What a watcher is told, in the words of its door. Where nothing is told for as long as a heartbeat, there are words for
/// nothing. It ends when the watcher hangs up, is cut off, or the master stops.
pub(super) fn spoken<M: Send + 'static>(
    line: Line,
    heartbeat_ms: u64,
    words: impl Fn(Vec<Told>) -> Vec<M> + Send + Sync + 'static,
) -> ReceiverStream<M> {
    // What waits is told in the line's queue, and not in words: it is the owner who sees how long that is.
    let (said, heard) = mpsc::channel(1);
    tokio::spawn(async move {
        if !speak(line, Duration::from_millis(heartbeat_ms), &words, &said).await {
            return;
        }
        for message in words(vec![Told::Behind]) {
            // If it is never taken away, the watcher is gone.
            let _ = said.send(message).await;
        }
    });
    ReceiverStream::new(heard)
}

/// Ends as the line does; answers whether that was cut off.
async fn speak<M>(
    mut line: Line,
    heartbeat: Duration,
    words: &impl Fn(Vec<Told>) -> Vec<M>,
    said: &mpsc::Sender<M>,
) -> bool {
    loop {
        let mut told = Vec::new();
        tokio::select! {
            n_told = tokio::time::timeout(heartbeat, line.told.recv_many(&mut told, BATCH)) => if n_told == Ok(0) {
                return line.cut_off.await.is_ok();
            },
            cut_off = &mut line.cut_off => return cut_off.is_ok(),
            () = said.closed() => return false,
        }
        for message in words(told) {
            tokio::select! {
                sent = said.send(message) => if sent.is_err() {
                    return false;
                },
                cut_off = &mut line.cut_off => return cut_off.is_ok(),
            }
        }
    }
}
