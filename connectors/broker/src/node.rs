//! The hands of the broker: its topics, the two machines, and the file of facts, and what changes all of them together.
//!
//! Invariant: a fact is written before anybody is told of it. The lock order is that of [`crate::topics`].

mod topics;

use crate::configs::Defaults;
use crate::coordinator::groups::{self, Command, Groups, Joined, Synced, Ticket};
use crate::coordinator::offsets::{Committed, Offsets, Partition as PartitionName};
use crate::coordinator::transactions::{Decision, Fact, Outcome, Transaction, Transactions};
use crate::facts::Facts;
use crate::log::Marker;
use crate::topics::{Partition, Topic, Topics, lock};
use crate::{Config, Error};
use kafka_protocol::ResponseError as Code;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Between the parts of a key; names of groups may hold anything else.
const SEPARATOR: char = '\u{1f}';

pub type JoinAnswer = Result<Joined, (Code, String)>;
pub type SyncAnswer = Result<Synced, Code>;

enum Waiting {
    Join(oneshot::Sender<JoinAnswer>),
    Sync(oneshot::Sender<SyncAnswer>),
}

/// The two machines, and who waits for their answers.
#[derive(Default)]
pub struct Coordinator {
    pub groups: Groups,
    pub transactions: Transactions,
    waiting: HashMap<Ticket, Waiting>,
    last_ticket: Ticket,
}

pub struct Node {
    pub config: Config,
    pub port: u16,
    pub cluster_id: String,
    pub defaults: Defaults,
    dir: PathBuf,
    started: Instant,
    pub topics: RwLock<Topics>,
    pub coordinator: Mutex<Coordinator>,
    facts: Mutex<Facts>,
}

/// Why a topic was not changed: Kafka's code, and the sentence.
pub type Refused = (Code, String);

fn storage(error: &io::Error) -> Code {
    tracing::error!(%error, "the data folder cannot be written");
    Code::KafkaStorageError
}

impl Node {
    pub fn open(config: Config, port: u16) -> Result<Self, Error> {
        let dir = config.data_dir.clone();
        let opened = |error: io::Error| Error::Open { dir: dir.display().to_string(), error };
        std::fs::create_dir_all(&dir).map_err(opened)?;
        let mut facts = Facts::open(&dir.join("facts")).map_err(opened)?;
        let cluster_id = match facts.get::<String>("cluster").map_err(opened)? {
            Some(id) => id,
            None => {
                let id = Uuid::new_v4().simple().to_string();
                facts.put("cluster", &id).map_err(opened)?;
                id
            }
        };
        let node = Self {
            port,
            cluster_id,
            defaults: config.defaults(),
            dir: dir.clone(),
            started: Instant::now(),
            topics: RwLock::default(),
            coordinator: Mutex::default(),
            facts: Mutex::new(facts),
            config,
        };
        node.open_topics().map_err(opened)?;
        node.open_coordinator().map_err(opened)?;
        node.end_what_was_left().map_err(opened)?;
        Ok(node)
    }

    fn open_coordinator(&self) -> io::Result<()> {
        let facts = lock(&self.facts);
        let mut coordinator = lock(&self.coordinator);
        for (key, committed) in facts.scan::<Committed>("offset/")? {
            if let [group, topic, index] = key.split(SEPARATOR).collect::<Vec<_>>().as_slice()
                && let Ok(index) = index.parse()
            {
                coordinator.groups.group(group).offsets.insert((topic.to_string(), index), committed);
            }
        }
        let all: BTreeMap<String, Transaction> = facts.scan("transaction/")?.into_iter().collect();
        coordinator.transactions = Transactions::restored(all, facts.get("next-producer-id")?.unwrap_or(0));
        Ok(())
    }

    /// Carries out what was decided, and aborts what no transaction answers for: after a power cut the facts and the logs
    /// may be of different seconds.
    fn end_what_was_left(&self) -> io::Result<()> {
        let mut coordinator = lock(&self.coordinator);
        let ids: Vec<String> = coordinator.transactions.all.keys().cloned().collect();
        for id in ids {
            if let Some(decision) = coordinator.transactions.decided(&id) {
                self.carry_out(&mut coordinator, &decision).map_err(io::Error::other)?;
            }
        }
        for topic in self.all_topics() {
            let limits = topic.configs().limits;
            for partition in topic.all_partitions() {
                let name = (topic.name.clone(), partition.index);
                let result = partition.with(|log| {
                    for (producer_id, producer_epoch) in log.producers.open() {
                        if !coordinator.transactions.has_open(producer_id, &name) {
                            let marker = Marker { producer_id, producer_epoch, commit: false };
                            log.append_marker(marker, self.wall_ms(), &limits)?;
                        }
                    }
                    Ok(())
                });
                result.unwrap_or(Ok::<(), io::Error>(()))?;
            }
        }
        Ok(())
    }

    /// Milliseconds of a clock that never goes back; for sessions.
    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Milliseconds since 1970.
    pub fn wall_ms(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
    }

    fn partition_dir(&self, id: &Uuid, index: i32) -> PathBuf {
        self.dir.join(id.simple().to_string()).join(index.to_string())
    }

    pub fn all_topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).all().cloned().collect()
    }

    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub fn topic_by_id(&self, id: &Uuid) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get_id(id).cloned()
    }

    pub fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.topic(topic)?.partition(index)
    }

    /// Writes facts, then carries out the decision that follows from them.
    pub fn follow(&self, coordinator: &mut Coordinator, outcome: &Outcome) -> Result<(), Code> {
        outcome.facts.iter().try_for_each(|fact| self.write_down(fact)).map_err(|error| storage(&error))?;
        match &outcome.decision {
            Some(decision) => self.carry_out(coordinator, decision),
            None => Ok(()),
        }
    }

    pub fn write_down(&self, fact: &Fact) -> io::Result<()> {
        let mut facts = lock(&self.facts);
        match fact {
            Fact::Transaction(id, transaction) => facts.put(&format!("transaction/{id}"), transaction),
            Fact::Forgotten(id) => facts.remove(&format!("transaction/{id}")),
            Fact::NextProducerId(id) => facts.put("next-producer-id", id),
        }
    }

    /// Writes the markers, and with a commit the offsets. May be done twice, after a crash in between: a second marker
    /// finds nothing open.
    fn carry_out(&self, coordinator: &mut Coordinator, decision: &Decision) -> Result<(), Code> {
        let Decision { producer_id, epoch: producer_epoch, commit, .. } = *decision;
        for (topic, index) in &decision.partitions {
            let Some(topic) = self.topic(topic) else { continue };
            let Some(partition) = topic.partition(*index) else { continue };
            let limits = topic.configs().limits;
            let marker = Marker { producer_id, producer_epoch, commit };
            if let Some(written) = partition.with(|log| log.append_marker(marker, self.wall_ms(), &limits)) {
                written.map_err(|error| storage(&error))?;
                partition.wake();
            }
        }
        for (group, offsets) in &decision.offsets {
            self.commit_offsets(coordinator, group, offsets.clone()).map_err(|error| storage(&error))?;
        }
        if let Some(fact) = coordinator.transactions.completed(self.wall_ms() as u64, &decision.id) {
            self.write_down(&fact).map_err(|error| storage(&error))?;
        }
        Ok(())
    }

    pub fn commit_offsets(&self, coordinator: &mut Coordinator, group: &str, offsets: Offsets) -> io::Result<()> {
        let mut facts = lock(&self.facts);
        let state = coordinator.groups.group(group);
        for (at, committed) in offsets {
            facts.put(&offset_key(group, &at), &committed)?;
            state.offsets.insert(at, committed);
        }
        Ok(())
    }

    pub fn delete_offset(&self, coordinator: &mut Coordinator, group: &str, at: &PartitionName) -> io::Result<()> {
        lock(&self.facts).remove(&offset_key(group, at))?;
        coordinator.groups.group(group).offsets.remove(at);
        Ok(())
    }

    pub fn delete_group(&self, coordinator: &mut Coordinator, group: &str) -> Result<(), Code> {
        coordinator.groups.may_delete(group)?;
        let offsets: Vec<PartitionName> = coordinator.groups.group(group).offsets.keys().cloned().collect();
        for at in offsets {
            self.delete_offset(coordinator, group, &at).map_err(|error| storage(&error))?;
        }
        coordinator.groups.all.remove(group);
        Ok(())
    }

    /// Waits for what the machine answers to an event with a ticket.
    pub async fn join(&self, join: groups::Join) -> JoinAnswer {
        let (sender, answer) = oneshot::channel();
        let member = join.member.clone();
        let ticket = self.waits(Waiting::Join(sender), |ticket| groups::Event::Join(ticket, join));
        let _guard = Guard { node: self, ticket };
        answer.await.unwrap_or(Err((Code::CoordinatorNotAvailable, member)))
    }

    pub async fn sync(
        &self,
        group: String,
        caller: groups::Caller,
        assignments: Vec<(String, bytes::Bytes)>,
    ) -> SyncAnswer {
        let (sender, answer) = oneshot::channel();
        let ticket =
            self.waits(Waiting::Sync(sender), |ticket| groups::Event::Sync { ticket, group, caller, assignments });
        let _guard = Guard { node: self, ticket };
        answer.await.unwrap_or(Err(Code::CoordinatorNotAvailable))
    }

    fn waits(&self, waiting: Waiting, event: impl FnOnce(Ticket) -> groups::Event) -> Ticket {
        let mut coordinator = lock(&self.coordinator);
        coordinator.last_ticket += 1;
        let ticket = coordinator.last_ticket;
        coordinator.waiting.insert(ticket, waiting);
        let commands = coordinator.groups.apply(self.now_ms(), event(ticket));
        coordinator.tell(commands);
        ticket
    }

    /// What only time brings about: sessions and transactions that end.
    pub fn tick(&self) {
        let mut coordinator = lock(&self.coordinator);
        let commands = coordinator.groups.apply(self.now_ms(), groups::Event::Tick);
        coordinator.tell(commands);
        for outcome in coordinator.transactions.expire(self.wall_ms() as u64) {
            if let Err(code) = self.follow(&mut coordinator, &outcome) {
                tracing::error!(?code, "a transaction that took too long could not be aborted");
            }
        }
    }

    /// Deletes what topics need not keep any more, and closes files that nobody uses.
    pub fn retain(&self) {
        let now_ms = self.wall_ms();
        for topic in self.all_topics() {
            let limits = topic.configs().limits;
            for partition in topic.all_partitions() {
                let retained = partition.with(|log| {
                    log.retain(&limits, now_ms)?;
                    log.close_idle_files();
                    Ok::<(), io::Error>(())
                });
                if let Some(Err(error)) = retained {
                    tracing::error!(topic = topic.name, partition = partition.index, %error, "old records stay");
                }
            }
        }
    }

    /// Brings everything that was written to disk.
    pub fn flush(&self) -> io::Result<()> {
        for topic in self.all_topics() {
            for partition in topic.all_partitions() {
                for file in partition.with(|log| log.take_unflushed()).unwrap_or_default() {
                    file.sync_data()?;
                }
            }
        }
        let facts = lock(&self.facts).take_unflushed();
        facts.map_or(Ok(()), |file| file.sync_data())
    }
}

impl Coordinator {
    pub fn tell(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Joined(ticket, answer) => {
                    if let Some(Waiting::Join(waiting)) = self.waiting.remove(&ticket) {
                        // Whoever asked may be gone.
                        let _ = waiting.send(answer);
                    }
                }
                Command::Synced(ticket, answer) => {
                    if let Some(Waiting::Sync(waiting)) = self.waiting.remove(&ticket) {
                        let _ = waiting.send(answer);
                    }
                }
            }
        }
    }
}

/// Tells the machine when nobody waits for an answer any more.
struct Guard<'a> {
    node: &'a Node,
    ticket: Ticket,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut coordinator = lock(&self.node.coordinator);
        if coordinator.waiting.remove(&self.ticket).is_some() {
            let commands = coordinator.groups.apply(self.node.now_ms(), groups::Event::Gone(self.ticket));
            coordinator.tell(commands);
        }
    }
}

fn offset_key(group: &str, (topic, index): &PartitionName) -> String {
    format!("offset/{group}{SEPARATOR}{topic}{SEPARATOR}{index}")
}
