//! The loop of one slice: which input is read next, and when not to read one.
//!
//! An input is not read while it waits for the barriers of others ([`Alignment`]), while an exchange that its rows reach has
//! kept messages ([`crate::runtime::edges`]), and, if it is a source, while it is far ahead of the other slices
//! ([`crate::runtime::pace`]). Everything else goes on meanwhile.

use crate::control::Order;
use crate::dataflow::Operator;
use crate::functions::Versions;
use crate::runtime::Error;
use crate::runtime::barrier::Alignment;
use crate::runtime::exchange::Message;
use crate::runtime::flow::Flow;
use crate::runtime::graph::Entry;
use crate::runtime::shared::{Event, Shared};
use crate::runtime::snapshot::Part;
use crate::runtime::sources::Read;
use crate::runtime::watermark::Progress;
use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, Select, Sender, TryRecvError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long the loop sleeps at most when nothing happens: a stop is seen after it.
const LOOK_UP_EVERY: Duration = Duration::from_millis(100);
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// Messages of every input after which what was gathered for other slices is handed over, however little that is: some
/// milliseconds of work.
const GATHER_ROUNDS: u32 = 16;

/// The ends of the queues that concern one slice.
#[derive(Debug)]
pub struct Ends {
    pub slot: u32,
    pub orders: Receiver<Order>,
    /// By exchange, by slot of the sender.
    pub edges_in: BTreeMap<usize, Vec<Receiver<Message>>>,
    /// By exchange, by slot of the receiver.
    pub edges_out: BTreeMap<usize, Vec<Sender<Message>>>,
    pub results: Option<Sender<RecordBatch>>,
}

/// Something to read from.
struct Channel {
    entry: usize,
    node: usize,
    kind: Kind,
    /// Nothing more comes: the sender is gone.
    closed: bool,
}

enum Kind {
    Source(Option<Receiver<Read>>),
    Edge { from_slot: usize, queue: Receiver<Message> },
}

struct Slice {
    shared: Arc<Shared>,
    flow: Flow,
    channels: Vec<Channel>,
    alignment: Alignment,
    part: Part,
    input_ended: bool,
    /// A last barrier was put into the sources: they are not read any more.
    finishing: bool,
    /// The epoch of the latest complete last snapshot; its commit is the end.
    last_epoch: Option<u64>,
    measured: Instant,
}

/// Runs until the commit of the last epoch, a stop, or an error.
pub fn run(shared: &Arc<Shared>, ends: Ends) -> Result<(), Error> {
    let Ends { slot, orders, mut edges_in, edges_out, results } = ends;
    let mut flow = Flow::open(shared, slot, edges_out, results.as_ref())?;
    let mut channels = Vec::new();
    for (entry, Entry { node, .. }) in shared.graph.entries.iter().enumerate() {
        let node = *node;
        match edges_in.remove(&node) {
            Some(queues) => channels.extend(queues.into_iter().enumerate().map(|(from_slot, queue)| {
                let kind = Kind::Edge { from_slot, queue };
                Channel { entry, node, kind, closed: false }
            })),
            None => {
                let reads = flow.source(node).reads.take();
                channels.push(Channel { entry, node, kind: Kind::Source(reads), closed: false });
            }
        }
    }
    let entries: Vec<usize> = channels.iter().map(|channel| channel.entry).collect();
    let mut slice = Slice {
        alignment: Alignment::new(&shared.graph, &entries, shared.restored.epoch),
        shared: Arc::clone(shared),
        flow,
        channels,
        part: Part::default(),
        input_ended: false,
        finishing: false,
        last_epoch: None,
        measured: Instant::now(),
    };
    slice.part.slot = slot;
    slice.flow.propagate()?;
    shared.tell(Event::Ready);
    slice.report_end_of_input();
    let result = slice.work(&orders);
    slice.flow.measure();
    slice.channels.clear();
    slice.flow.close();
    result?;
    shared.tell(Event::Done);
    Ok(())
}

impl Slice {
    fn work(&mut self, orders: &Receiver<Order>) -> Result<(), Error> {
        let (mut has_yielded, mut n_rounds) = (false, 0);
        loop {
            if self.shared.stopped() {
                return Err(Error::Stopped);
            }
            let mut idle = true;
            match orders.try_recv() {
                Ok(order) => {
                    if self.follow(order)? {
                        return Ok(());
                    }
                    idle = false;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(Error::Stopped),
            }
            self.flow.retry();
            for channel in 0..self.channels.len() {
                if self.may_read(channel) {
                    idle &= !self.read(channel)?;
                }
            }
            if idle && !has_yielded {
                // Who waits for this core may be about to send something.
                has_yielded = true;
                std::thread::yield_now();
                continue;
            }
            has_yielded = false;
            let due = self.measured.elapsed() >= MEASURE_EVERY;
            if due {
                self.measured = Instant::now();
                self.flow.measure();
            }
            self.flow.make_room()?;
            if !self.flow.any_full() {
                idle &= self.flow.catch_up()?;
            }
            // While an exchange is full, more output would only wait.
            if due || (idle && !self.flow.any_full()) {
                self.flow.flush_pending()?;
            }
            n_rounds += 1;
            if idle || due || n_rounds >= GATHER_ROUNDS {
                n_rounds = 0;
                self.flow.flush();
            }
            if idle {
                self.wait(orders);
            }
        }
    }

    fn may_read(&self, channel: usize) -> bool {
        let Channel { entry, kind, closed, .. } = &self.channels[channel];
        let exhausted = match kind {
            Kind::Source(reads) => reads.is_none() || self.finishing,
            Kind::Edge { .. } => false,
        };
        let Entry { exchanges, leaves, .. } = &self.shared.graph.entries[*entry];
        // Rows that go straight to a sink wait for nobody.
        let keeps_pace = *leaves && matches!(kind, Kind::Source(_));
        !closed
            && !exhausted
            && !self.alignment.waits(channel)
            && !exchanges
                .iter()
                .any(|exchange| self.flow.is_full(*exchange) || (keeps_pace && self.flow.is_ahead(*exchange)))
    }

    /// Takes one message, if there is one.
    fn read(&mut self, channel: usize) -> Result<bool, Error> {
        let Channel { node, kind, .. } = &self.channels[channel];
        let node = *node;
        let closed = match kind {
            Kind::Source(None) => return Ok(false),
            Kind::Source(Some(reads)) => match reads.try_recv() {
                Ok(read) => return self.source_gave(node, read).map(|()| true),
                Err(error) => error == TryRecvError::Disconnected,
            },
            Kind::Edge { from_slot, queue } => {
                let from_slot = *from_slot;
                match queue.try_recv() {
                    Ok(message) => return self.edge_gave(channel, node, from_slot, message).map(|()| true),
                    Err(error) => error == TryRecvError::Disconnected,
                }
            }
        };
        // Where this is not in order, whoever let the other end go tells why.
        self.channels[channel].closed = closed;
        Ok(false)
    }

    fn source_gave(&mut self, node: usize, read: Read) -> Result<(), Error> {
        let before = self.flow.source(node).progress(Progress::START);
        match read {
            Read::Batch { split, batch, next, bad, watermark_us, event_time_us } => {
                let counters = &self.shared.counters;
                counters.rows_in.fetch_add(batch.num_rows() as u64, Relaxed);
                if let Some(time_us) = event_time_us {
                    counters.saw_event_time(time_us);
                }
                if !bad.is_empty() {
                    counters.rows_bad.fetch_add(bad.len() as u64, Relaxed);
                    self.keep_bad_records(node, &bad)?;
                }
                self.flow.push(node, &batch)?;
                let split = &mut self.flow.source(node).splits[split];
                split.next = Some(next);
                split.progress = split.progress.advanced(Progress::at(watermark_us.unwrap_or(i64::MIN)));
            }
            Read::Found { name } => self.flow.source(node).found(name),
            Read::Idle { split } => self.flow.source(node).splits[split].progress.idle = true,
            Read::SplitEnd { split } => self.flow.source(node).splits[split].progress = Progress::END,
            Read::End => {
                let source = self.flow.source(node);
                source.splits.iter_mut().for_each(|split| split.progress = Progress::END);
                source.ended = true;
            }
        }
        if self.flow.source(node).progress(Progress::START) != before {
            self.flow.propagate()?;
        }
        self.report_end_of_input();
        Ok(())
    }

    fn keep_bad_records(&self, node: usize, bad: &[connectors::BadRecord]) -> Result<(), Error> {
        let Operator::Source { table, .. } = &self.shared.node(node).operator else {
            unreachable!("node {node} is no source");
        };
        self.shared.dead_letters.append(&table.name, bad).map_err(|source| Error::DeadLetters {
            job: self.shared.config.job.clone(),
            table: table.name.clone(),
            source,
        })
    }

    fn edge_gave(&mut self, channel: usize, node: usize, from_slot: usize, message: Message) -> Result<(), Error> {
        match message {
            Message::Batch(batch) => self.flow.push(node, &batch),
            Message::Watermark(progress) => self.flow.edge_progressed(node, from_slot, progress),
            Message::Barrier { epoch, last, versions } => self.barrier(channel, epoch, last, &versions),
        }
    }

    fn report_end_of_input(&mut self) {
        if !self.input_ended && self.flow.input_ended() {
            self.input_ended = true;
            self.shared.tell(Event::InputEnded);
        }
    }

    /// Gives true when the slice is done.
    fn follow(&mut self, order: Order) -> Result<bool, Error> {
        match order {
            Order::Stop => Err(Error::Stopped),
            // For the task itself, which does not pass it on.
            Order::Sample { .. } => Ok(false),
            Order::Barrier { epoch, last, versions } => {
                self.finishing |= last;
                for channel in 0..self.channels.len() {
                    let is_source = matches!(self.channels[channel].kind, Kind::Source(_));
                    // An order that comes again, or late, changes nothing.
                    if is_source && epoch > self.alignment.delivered(channel) && epoch >= self.alignment.epoch() {
                        self.barrier(channel, epoch, last, &versions)?;
                    }
                }
                Ok(false)
            }
            Order::Commit { epoch } => {
                self.flow.commit(epoch)?;
                self.shared.tell(Event::Committed { slot: self.part.slot, epoch });
                Ok(self.last_epoch.is_some_and(|last| epoch >= last))
            }
        }
    }

    fn barrier(&mut self, channel: usize, epoch: u64, last: bool, versions: &Versions) -> Result<(), Error> {
        let nodes = self.alignment.deliver(channel, epoch);
        if epoch > self.part.epoch {
            self.part = std::mem::take(&mut self.part).next(epoch, last, versions.clone());
        }
        let completes = !nodes.is_empty();
        for node in nodes {
            self.flow.snapshot(node, &mut self.part)?;
            // Those of the first barrier of the epoch that came, should others say something else; the epoch is given up then.
            self.flow.adopt(node, &self.part.versions)?;
        }
        if completes && self.alignment.complete() {
            // One that came after an abandoned last one, because a task had to begin again, is not the last any more.
            self.last_epoch = self.part.last.then_some(self.part.epoch);
            let rest = Part { slot: self.part.slot, epoch: self.part.epoch, ..Part::default() };
            let part = std::mem::replace(&mut self.part, rest);
            self.shared.tell(Event::Snapshot(Box::new(part)));
        }
        Ok(())
    }

    /// Sleeps until there is something to read, or room in a queue that was full.
    fn wait(&mut self, orders: &Receiver<Order>) {
        let mut select = Select::new();
        select.recv(orders);
        for (at, channel) in self.channels.iter().enumerate() {
            if !self.may_read(at) {
                continue;
            }
            match &channel.kind {
                Kind::Source(None) => continue,
                Kind::Source(Some(reads)) => select.recv(reads),
                Kind::Edge { queue, .. } => select.recv(queue),
            };
        }
        for queue in self.flow.full_edges() {
            select.send(queue);
        }
        let from = Instant::now();
        let _ = select.ready_timeout(LOOK_UP_EVERY);
        drop(select);
        self.flow.waited(from);
    }
}
