//! The owner of the master machine: what happened goes in, what is to be done is done, in that order.
//!
//! Invariant: within one turn everything to persist is on disk before anything is sent, so nobody hears of what the
//! registry may forget.
//! Invariant: the owner waits for no peer. What a peer does not take away piles up in its own bounded queue, and when
//! that is full the peer is cut off.

use super::MasterError;
use super::metrics::Turns;
use super::watchers::{Caller, Snapshot, Watchers};
use crate::client::MESSAGE_BYTES_AIM;
use crate::clock::Clock;
use crate::convert;
use crate::registry::{Put, Registry};
use prost::Message;
use scheduler::Master;
use scheduler::master::{ClusterView, Command, Event, Record, Summary};
use scheduler::model::{AgentCall, ConnectionId, FrameworkCall, OperatorCall, RequestId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;
use tracing::{debug, info, warn};
use wire::v1;

/// The version of each registry entry, as this master last saw or wrote it.
pub(super) type Versions = HashMap<String, u64>;

/// Inputs taken in one turn: enough that a burst shares one write to the registry and one message per peer, few enough
/// that no peer waits long for its answer.
const INPUTS_PER_TURN: usize = 256;

/// What the doors tell the owner.
pub(super) enum Input {
    Opened(ConnectionId, Outbox, Hold),
    AgentSaid(ConnectionId, Vec<AgentCall>),
    FrameworkSaid(ConnectionId, Vec<FrameworkCall>),
    /// It said something that cannot be understood: answer with this and hang up.
    Malformed(ConnectionId, Status),
    Closed(ConnectionId),
    View(oneshot::Sender<ClusterView>),
    Summary(oneshot::Sender<(Summary, Turns)>),
    /// Somebody watches, for as long as the other end of the line is there.
    Watch(Caller),
    Operate(OperatorCall, oneshot::Sender<Answer>),
}

/// With what was put up with, or why it was not done.
pub(super) type Answer = Result<Vec<String>, String>;

/// Dropped to make a connection's reader stop reading.
pub(super) type Hold = oneshot::Sender<()>;

/// Towards one peer: what was said in this turn, and the queue of messages that the peer takes away.
pub(super) enum Outbox {
    Agent { said: Vec<v1::AgentOrder>, queue: mpsc::Sender<Result<v1::AgentOrders, Status>> },
    Framework { said: Vec<v1::FrameworkEvent>, queue: mpsc::Sender<Result<v1::FrameworkEvents, Status>> },
}

/// The peer does not take its messages away.
enum Stuck {
    Slow,
    Gone,
}

impl<T> From<TrySendError<T>> for Stuck {
    fn from(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full(_) => Self::Slow,
            TrySendError::Closed(_) => Self::Gone,
        }
    }
}

impl Outbox {
    /// Queues what was said, as few messages as sensible.
    fn flush(&mut self) -> Result<(), Stuck> {
        match self {
            Self::Agent { said, queue } => {
                for orders in cut(said) {
                    queue.try_send(Ok(v1::AgentOrders { orders }))?;
                }
            }
            Self::Framework { said, queue } => {
                for events in cut(said) {
                    queue.try_send(Ok(v1::FrameworkEvents { events }))?;
                }
            }
        }
        Ok(())
    }

    fn refuse(&self, status: Status) -> Result<(), Stuck> {
        match self {
            Self::Agent { queue, .. } => queue.try_send(Err(status))?,
            Self::Framework { queue, .. } => queue.try_send(Err(status))?,
        }
        Ok(())
    }
}

/// Takes everything out, in lists that are not too large to send.
pub(super) fn cut<M: Message>(said: &mut Vec<M>) -> Vec<Vec<M>> {
    let mut lists = Vec::new();
    let mut list = Vec::new();
    let mut bytes = 0;
    for message in said.drain(..) {
        let size = message.encoded_len();
        if bytes + size > MESSAGE_BYTES_AIM && !list.is_empty() {
            lists.push(std::mem::take(&mut list));
            bytes = 0;
        }
        bytes += size;
        list.push(message);
    }
    if !list.is_empty() {
        lists.push(list);
    }
    lists
}

pub(super) struct Owner {
    machine: Master,
    clock: Clock,
    registry: Arc<Registry>,
    versions: Versions,
    connections: HashMap<ConnectionId, (Outbox, Hold)>,
    /// Operators that wait for their answer.
    operators: HashMap<RequestId, oneshot::Sender<Answer>>,
    n_requests: u64,
    turns: Turns,
    watchers: Watchers,
    /// Heard in this turn, and not yet told to the machine.
    heard: Vec<Event>,
    /// Of this turn: to be written, to be answered, to be sent to, to be hung up on.
    puts: Vec<Put>,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    said_to: BTreeSet<ConnectionId>,
    closing: Vec<ConnectionId>,
}

impl Owner {
    pub fn new(machine: Master, clock: Clock, registry: Registry, versions: Versions) -> Self {
        Self {
            machine,
            clock,
            registry: Arc::new(registry),
            versions,
            connections: HashMap::new(),
            operators: HashMap::new(),
            n_requests: 0,
            turns: Turns::default(),
            watchers: Watchers::default(),
            heard: Vec::new(),
            puts: Vec::new(),
            answers: Vec::new(),
            said_to: BTreeSet::new(),
            closing: Vec::new(),
        }
    }

    pub async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<(), MasterError> {
        let mut turn = Vec::with_capacity(INPUTS_PER_TURN);
        loop {
            tokio::select! {
                n_inputs = inputs.recv_many(&mut turn, INPUTS_PER_TURN) => if n_inputs == 0 {
                    return Ok(());
                },
                () = self.clock.reached(self.machine.next_wakeup()) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            }
            let began = Instant::now();
            for input in turn.drain(..) {
                self.take(input)?;
            }
            if self.machine.next_wakeup().is_some_and(|at_ms| at_ms <= self.clock.now_ms()) {
                self.heard.push(Event::Tick);
            }
            self.tell()?;
            self.finish_turn().await?;
            self.turns.n += 1;
            self.turns.busy += began.elapsed();
        }
    }

    fn take(&mut self, input: Input) -> Result<(), MasterError> {
        match input {
            Input::Opened(connection, outbox, hold) => {
                self.connections.insert(connection, (outbox, hold));
            }
            Input::AgentSaid(connection, calls) => {
                self.heard.extend(calls.into_iter().map(|call| Event::FromAgent { connection, call }));
            }
            Input::FrameworkSaid(connection, calls) => {
                self.heard.extend(calls.into_iter().map(|call| Event::FromFramework { connection, call }));
            }
            Input::Malformed(connection, status) => {
                // What it said before that is answered first.
                self.tell()?;
                warn!(%connection, status = status.message(), "malformed message; connection ended");
                if let Some((mut outbox, _)) = self.connections.remove(&connection) {
                    // If it takes nothing away any more it does not hear why, and the end is the same.
                    let _ = outbox.flush().and_then(|()| outbox.refuse(status));
                }
                self.heard.push(Event::Closed { connection });
            }
            Input::Closed(connection) => {
                self.connections.remove(&connection);
                self.heard.push(Event::Closed { connection });
            }
            Input::Operate(call, answer) => {
                self.n_requests += 1;
                let request = RequestId(self.n_requests);
                self.operators.insert(request, answer);
                self.heard.push(Event::FromOperator { request, call });
            }
            Input::View(answer) => {
                self.tell()?;
                // Nobody waits for the answer any more: nothing to do.
                let _ = answer.send(self.machine.view(self.clock.now_ms()));
            }
            Input::Summary(answer) => {
                self.tell()?;
                let (n_watchers, n_cut_off) = (self.watchers.n() as u64, self.watchers.n_cut_off());
                let _ = answer.send((self.machine.summary(), Turns { n_watchers, n_cut_off, ..self.turns }));
            }
            Input::Watch(caller) => {
                self.tell()?;
                self.machine.watch(true);
                let at_ms = self.clock.now_ms();
                let (view, number) = (self.machine.view(at_ms), self.machine.latest_change());
                self.watchers.add(caller, Snapshot { view, number, at_ms });
            }
        }
        Ok(())
    }

    /// Tells the machine what was heard. All of a turn goes in at once, so that what it frees is dealt out once.
    fn tell(&mut self) -> Result<(), MasterError> {
        if self.heard.is_empty() {
            return Ok(());
        }
        for command in self.machine.apply_all(self.clock.now_ms(), self.heard.drain(..)) {
            match command {
                Command::Answer { request, answer } => {
                    if let Some(operator) = self.operators.remove(&request) {
                        self.answers.push((operator, answer));
                    }
                }
                Command::Persist(record) => self.persist(&record)?,
                Command::ToAgent { connection, order } => {
                    if let Some((Outbox::Agent { said, .. }, _)) = self.connections.get_mut(&connection) {
                        said.push(convert::agent_order_to(order));
                        self.said_to.insert(connection);
                    }
                }
                Command::ToFramework { connection, event } => {
                    if let Some((Outbox::Framework { said, .. }, _)) = self.connections.get_mut(&connection) {
                        said.push(convert::framework_event_to(event));
                        self.said_to.insert(connection);
                    }
                }
                Command::Close { connection } => self.closing.push(connection),
            }
        }
        self.watchers.note(self.machine.take_changes());
        Ok(())
    }

    fn persist(&mut self, record: &Record) -> Result<(), MasterError> {
        let key = record.key();
        let value = serde_json::to_vec(record).map_err(|source| MasterError::Record { key: key.clone(), source })?;
        let version = self.versions.entry(key.clone()).or_insert(0);
        self.puts.push(Put { key, version: *version, value: Some(value) });
        *version += 1;
        Ok(())
    }

    /// Writes, then sends, then hangs up; again, if that had consequences.
    async fn finish_turn(&mut self) -> Result<(), MasterError> {
        loop {
            if !self.puts.is_empty() {
                let (registry, puts) = (Arc::clone(&self.registry), std::mem::take(&mut self.puts));
                // A write waits for the disk, some milliseconds, and must not hold up the runtime's other tasks.
                tokio::task::spawn_blocking(move || registry.put_all_if_version(&puts))
                    .await
                    .map_err(|_| MasterError::Defect { part: "registry" })??;
            }
            for (operator, answer) in self.answers.drain(..) {
                // Whoever does not wait for it any more asks again, or looks.
                let _ = operator.send(answer);
            }
            self.watchers.flush();
            self.machine.watch(self.watchers.n() > 0);
            let mut lost = Vec::new();
            for connection in std::mem::take(&mut self.said_to) {
                let Some((outbox, _)) = self.connections.get_mut(&connection) else { continue };
                match outbox.flush() {
                    Ok(()) => {}
                    Err(Stuck::Slow) => {
                        warn!(%connection, "peer does not take its messages away; connection ended");
                        lost.push(connection);
                    }
                    Err(Stuck::Gone) => {
                        debug!(%connection, "peer is gone");
                        lost.push(connection);
                    }
                }
            }
            for connection in self.closing.drain(..) {
                info!(%connection, "connection ended by the master");
                self.connections.remove(&connection);
            }
            if lost.is_empty() {
                return Ok(());
            }
            for connection in lost {
                self.connections.remove(&connection);
                self.heard.push(Event::Closed { connection });
            }
            self.tell()?;
        }
    }
}
