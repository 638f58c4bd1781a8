//! The thread of a task that speaks with the outside: starts everything, passes orders to the slices and reports from
//! them, and sees to it that everything ends.
//!
//! Invariant: never waits for a slice. An order that a slice has no room for is left out: it is busy with an outside that
//! does not answer, and a later order of the same kind stands for all earlier ones.

use crate::control::{Level, Order, Report};
use crate::dataflow::{Dataflow, Operator};
use crate::runtime::archive::Archive;
use crate::runtime::dead_letters::DeadLetters;
use crate::runtime::exchange::connect::{self, Connections, Plan};
use crate::runtime::exchange::wire::{self, Identity};
use crate::runtime::exchange::{EDGE_QUEUE, EdgeId, Message, frame};
use crate::runtime::graph::Graph;
use crate::runtime::restore::Restored;
use crate::runtime::samples::Samples;
use crate::runtime::shared::{Counters, Event, Shared};
use crate::runtime::slice::{self, Ends};
use crate::runtime::snapshot::Gathering;
use crate::runtime::{Error, Outcome, TaskConfig};
use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded, select};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tls::Socket;

/// Slices seldom have something to tell (a few events per epoch); the bound only keeps a defect from filling memory.
const EVENT_QUEUE: usize = 1024;
/// One barrier and one commit are on their way at a time; more wait only while a slice is held up by the outside.
const ORDER_QUEUE: usize = 16;
const METRICS_EVERY: Duration = Duration::from_secs(1);
const FIRST_ROW_EVERY: Duration = Duration::from_millis(50);
/// How long threads may take to see that the task is over, before it ends without them.
const END_PATIENCE: Duration = Duration::from_secs(5);
const LOOK_UP_EVERY: Duration = Duration::from_millis(10);
/// Reports that wait for a caller who is slow to take them. Metrics and notices are left out beyond it; the others are
/// few.
const MAX_REPORTS_KEPT: usize = 256;

/// Runs one task to its end, in this thread and others. Blocks; must not be called from asynchronous code.
///
/// `results` takes the rows of a bare SELECT.
pub fn run_task(
    dataflow: Dataflow,
    mut config: TaskConfig,
    orders: Receiver<Order>,
    reports: Sender<Report>,
    results: Option<Sender<RecordBatch>>,
) -> Result<Outcome, Error> {
    let job = config.job.clone();
    let (restored, notices) = Restored::new(&dataflow, &config)?;
    let n_slots = config.slices * config.peers.len() as u32;
    let own = config.index * config.slices..(config.index + 1) * config.slices;
    let restore_bytes = own.map(|slot| restored.bytes_for(slot, n_slots)).sum();
    let io =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("checkpoint").enable_all().build();
    let io = io.map_err(|source| Error::Threads { job: job.clone(), source })?;
    let listener = config.listener.take();
    let (events, from_slices) = bounded(EVENT_QUEUE);
    let shared = Arc::new(Shared {
        graph: Graph::of(&dataflow),
        restored,
        dead_letters: DeadLetters::new(config.dead_letter_dir.clone()),
        counters: Counters::new(config.slices, restore_bytes),
        samples: Samples::default(),
        stop: AtomicBool::new(false),
        events,
        io: io.handle().clone(),
        splits: Default::default(),
        bases: Default::default(),
        dataflow,
        config,
    });
    notices.into_iter().for_each(|text| shared.notice(Level::Warning, text));
    let mut task = Task::new(&shared, &orders, &reports);
    let result = task.run(listener, &from_slices, results);
    shared.stop.store(true, Relaxed);
    task.end(result.is_ok());
    // A write that hangs must not keep the task.
    io.shutdown_background();
    // Files in it have no names; if another task of this process uses it, it stays, or is made again.
    let _ = std::fs::remove_dir(&shared.config.spill_dir);
    match result {
        Err(Error::Stopped) => Ok(Outcome::Stopped),
        result => result,
    }
}

struct Task<'a> {
    shared: &'a Arc<Shared>,
    orders: &'a Receiver<Order>,
    reports: &'a Sender<Report>,
    kept_reports: VecDeque<Report>,
    to_slices: Vec<Sender<Order>>,
    threads: Vec<JoinHandle<()>>,
    writers: Vec<JoinHandle<()>>,
    sockets: Vec<TcpStream>,
    /// By slot.
    archives: BTreeMap<u32, Archive>,
    gathering: Gathering,
    n_ready: u32,
    n_input_ended: u32,
    n_done: u32,
    /// The latest epoch that is being committed, and the slices that have done it.
    committed: (u64, BTreeSet<u32>),
    last_snapshot: Option<Report>,
    /// The epochs whose barriers were last ones.
    last_epochs: Vec<u64>,
}

impl<'a> Task<'a> {
    fn new(shared: &'a Arc<Shared>, orders: &'a Receiver<Order>, reports: &'a Sender<Report>) -> Self {
        Self {
            shared,
            orders,
            reports,
            kept_reports: VecDeque::new(),
            to_slices: Vec::new(),
            threads: Vec::new(),
            writers: Vec::new(),
            sockets: Vec::new(),
            archives: BTreeMap::new(),
            gathering: Gathering::new(shared.config.slices),
            n_ready: 0,
            n_input_ended: 0,
            n_done: 0,
            committed: (0, BTreeSet::new()),
            last_snapshot: None,
            last_epochs: Vec::new(),
        }
    }

    fn run(
        &mut self,
        listener: Option<std::net::TcpListener>,
        events: &Receiver<Event>,
        results: Option<Sender<RecordBatch>>,
    ) -> Result<Outcome, Error> {
        let (connections, early) = self.connect(listener)?;
        self.start_slices(connections, results)?;
        early.into_iter().try_for_each(|order| self.follow(order))?;
        let (mut measured, mut flows) = (Instant::now(), false);
        loop {
            self.flush_reports()?;
            let is_watched = self.shared.samples.is_wanted();
            let wait = match self.kept_reports.is_empty() && !is_watched {
                true if flows => METRICS_EVERY.saturating_sub(measured.elapsed()).max(LOOK_UP_EVERY),
                // The first row is told of as soon as it is there.
                true => FIRST_ROW_EVERY,
                false => LOOK_UP_EVERY,
            };
            select! {
                recv(self.orders) -> order => match order {
                    Ok(order) => self.follow(order)?,
                    // Whoever gave the orders is gone.
                    Err(_) => return Err(Error::Stopped),
                },
                recv(events) -> event => match event {
                    Ok(event) => self.hear(event)?,
                    Err(_) => return Err(Error::Stopped),
                },
                default(wait) => {}
            }
            if self.shared.stopped() {
                // A slice that nobody takes results from any more has ended the task.
                return Err(Error::Stopped);
            }
            for (id, rows) in self.shared.samples.taken(Instant::now()) {
                self.report(Report::Sampled { id, rows });
            }
            let begins_to_flow = !flows && self.shared.counters.rows_in.load(Relaxed) > 0;
            if measured.elapsed() >= METRICS_EVERY || begins_to_flow {
                flows |= begins_to_flow;
                measured = Instant::now();
                self.report(Report::Metrics(self.shared.counters.metrics()));
                self.report_input_ended();
            }
            if self.n_done == self.shared.config.slices {
                self.report(Report::Metrics(self.shared.counters.metrics()));
                self.flush_reports()?;
                let finished = self.n_input_ended == self.shared.config.slices;
                return Ok(if finished { Outcome::Finished } else { Outcome::Drained });
            }
        }
    }

    /// Connects this task with the others; also gives the orders that came meanwhile.
    fn connect(&mut self, listener: Option<std::net::TcpListener>) -> Result<(Connections, Vec<Order>), Error> {
        let shared = self.shared;
        let config = &shared.config;
        let nodes: Vec<u32> = self.exchanges().map(|node| node as u32).collect();
        let plan = Plan {
            job: &config.job,
            generation: config.generation,
            token: config.token.as_deref(),
            tls: tls::process(),
            index: config.index,
            slices: config.slices,
            peers: &config.peers,
            nodes: &nodes,
        };
        let mut early = Vec::new();
        let orders = self.orders;
        let stop = || match orders.try_recv() {
            Ok(Order::Stop) | Err(TryRecvError::Disconnected) => true,
            Ok(order) => {
                early.push(order);
                false
            }
            Err(TryRecvError::Empty) => false,
        };
        let reports = self.reports;
        let notice = |text: String| {
            tracing::warn!(job = %config.job, "{text}");
            let _ = reports.try_send(Report::Notice { level: Level::Warning, text });
        };
        match connect::connect(&plan, listener, stop, notice) {
            Ok(connections) => Ok((connections, early)),
            Err(connect::Error::Stopped) => Err(Error::Stopped),
            Err(source) => Err(Error::Connect { job: config.job.clone(), source }),
        }
    }

    fn exchanges(&self) -> impl Iterator<Item = usize> + use<'a> {
        let nodes = self.shared.dataflow.nodes.iter().enumerate();
        nodes.filter(|(_, node)| matches!(node.operator, Operator::Exchange { .. })).map(|(at, _)| at)
    }

    fn start_slices(&mut self, connections: Connections, results: Option<Sender<RecordBatch>>) -> Result<(), Error> {
        let config = &self.shared.config;
        let first = config.index * config.slices;
        let own = first..first + config.slices;
        let Connections { mut outgoing, mut incoming } = connections;
        let mut edges_out: BTreeMap<u32, BTreeMap<usize, Vec<Sender<Message>>>> = BTreeMap::new();
        let mut edges_in: BTreeMap<u32, BTreeMap<usize, Vec<Receiver<Message>>>> = BTreeMap::new();
        for node in self.exchanges() {
            // Both loops rise, so the ends of each slice come in order of the other end's slot.
            for from_slot in 0..self.shared.n_slots() {
                for to_slot in 0..self.shared.n_slots() {
                    let edge = EdgeId { node: node as u32, from_slot, to_slot };
                    let (sends, receives) = (own.contains(&from_slot), own.contains(&to_slot));
                    if !sends && !receives {
                        continue;
                    }
                    let (sender, receiver) = bounded(EDGE_QUEUE);
                    match outgoing.remove(&edge) {
                        Some(socket) => self.start_writer(node, edge, receiver.clone(), socket)?,
                        None if receives => {
                            edges_in.entry(to_slot).or_default().entry(node).or_default().push(receiver.clone())
                        }
                        None => {}
                    }
                    match incoming.remove(&edge) {
                        Some(socket) => self.start_reader(edge, sender, socket)?,
                        None => edges_out.entry(from_slot).or_default().entry(node).or_default().push(sender),
                    }
                }
            }
        }
        for slot in own {
            let (to_slice, orders) = bounded(ORDER_QUEUE);
            self.to_slices.push(to_slice);
            let ends = Ends {
                slot,
                orders,
                edges_in: edges_in.remove(&slot).unwrap_or_default(),
                edges_out: edges_out.remove(&slot).unwrap_or_default(),
                results: results.clone(),
            };
            let thread = self.shared.spawn(format!("slice-{slot}"), move |shared| slice::run(shared, ends))?;
            self.threads.push(thread);
        }
        Ok(())
    }

    fn start_writer(
        &mut self,
        node: usize,
        edge: EdgeId,
        queue: Receiver<Message>,
        socket: Socket,
    ) -> Result<(), Error> {
        let identity = self.keep_socket(edge, &socket)?;
        let thread = self.shared.spawn(format!("send-{node}-{}-{}", edge.from_slot, edge.to_slot), move |shared| {
            let sent = wire::send_all(identity, &shared.node(node).schema, &queue, socket);
            sent.map_err(|source| peer_error(shared, edge, edge.to_slot, source))
        })?;
        self.writers.push(thread);
        Ok(())
    }

    fn start_reader(&mut self, edge: EdgeId, queue: Sender<Message>, socket: Socket) -> Result<(), Error> {
        let identity = self.keep_socket(edge, &socket)?;
        let name = format!("receive-{}-{}-{}", edge.node, edge.from_slot, edge.to_slot);
        let thread = self.shared.spawn(name, move |shared| {
            let received = wire::receive_all(identity, &queue, socket);
            received.map_err(|source| peer_error(shared, edge, edge.from_slot, source))
        })?;
        self.threads.push(thread);
        Ok(())
    }

    fn keep_socket(&mut self, edge: EdgeId, socket: &Socket) -> Result<Identity, Error> {
        let config = &self.shared.config;
        let threads = |source| Error::Threads { job: config.job.clone(), source };
        self.sockets.push(socket.tcp().try_clone().map_err(threads)?);
        Ok(Identity { job: frame::job_hash(&config.job), generation: config.generation, edge })
    }

    fn follow(&mut self, order: Order) -> Result<(), Error> {
        match order {
            Order::Stop => return Err(Error::Stopped),
            Order::Barrier { epoch, last, .. } => {
                if last {
                    self.last_epochs.push(epoch);
                }
                match &self.last_snapshot {
                    // Whoever asks again did not hear the answer.
                    Some(Report::Snapshotted { epoch: known, .. }) if *known == epoch => {
                        self.kept_reports.extend(self.last_snapshot.clone());
                    }
                    _ => self.pass_on(&order),
                }
            }
            Order::Commit { epoch } => {
                if epoch > self.committed.0 {
                    self.committed = (epoch, BTreeSet::new());
                }
                self.pass_on(&order);
            }
            Order::Sample { id, operator, n_rows } => {
                let wanted = self.shared.samples.want(&self.shared.dataflow, id, &operator, n_rows);
                if let Err(why) = wanted {
                    self.report(Report::Sampled { id, rows: Err(why) });
                }
            }
        }
        Ok(())
    }

    fn pass_on(&self, order: &Order) {
        for to_slice in &self.to_slices {
            if let Err(TrySendError::Full(order)) = to_slice.try_send(order.clone()) {
                tracing::warn!(job = %self.shared.config.job, ?order, "a slice is held up and does not get this order");
            }
        }
    }

    fn hear(&mut self, event: Event) -> Result<(), Error> {
        let slices = self.shared.config.slices;
        match event {
            Event::Ready => {
                self.n_ready += 1;
                if self.n_ready == slices {
                    self.report(Report::Ready);
                    self.report_input_ended();
                }
            }
            Event::InputEnded => {
                self.n_input_ended += 1;
                self.report_input_ended();
            }
            Event::Snapshot(part) => {
                let archive = self.archives.entry(part.slot);
                archive.or_insert_with(|| Archive::open(self.shared, part.slot)).store(*part);
            }
            Event::Stored { epoch, result: Err(text) } => {
                let text = format!("epoch {epoch} cannot be kept: {text}");
                self.report(Report::Notice { level: Level::Error, text });
            }
            Event::Stored { epoch, result: Ok(part) } => {
                if let Some(snapshot) = self.gathering.add(epoch, *part) {
                    let last = self.last_epochs.contains(&epoch);
                    let report = Report::Snapshotted { epoch, snapshot, last };
                    self.last_snapshot = Some(report.clone());
                    self.report(report);
                }
            }
            Event::Committed { slot, epoch } => {
                // A slice may be told twice, and then says so twice.
                if epoch == self.committed.0 {
                    self.committed.1.insert(slot);
                    if self.committed.1.len() as u32 == slices {
                        self.report(Report::Committed { epoch });
                    }
                }
            }
            Event::Done => self.n_done += 1,
            Event::Failed(error) => return Err(error),
            Event::Notice(level, text) => self.report(Report::Notice { level, text }),
        }
        Ok(())
    }

    /// Said again every second, since whoever listens may be another one than at the time.
    fn report_input_ended(&mut self) {
        let slices = self.shared.config.slices;
        if self.n_input_ended == slices && self.n_ready == slices {
            self.report(Report::InputEnded);
        }
    }

    fn report(&mut self, report: Report) {
        let optional = matches!(report, Report::Metrics(_) | Report::Notice { .. } | Report::Sampled { .. });
        if !optional || self.kept_reports.len() < MAX_REPORTS_KEPT {
            self.kept_reports.push_back(report);
        }
    }

    fn flush_reports(&mut self) -> Result<(), Error> {
        while let Some(report) = self.kept_reports.pop_front() {
            match self.reports.try_send(report) {
                Ok(()) => {}
                Err(TrySendError::Full(report)) => {
                    self.kept_reports.push_front(report);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => return Err(Error::Stopped),
            }
        }
        Ok(())
    }

    /// Lets all threads go and waits a while for them.
    fn end(mut self, in_order: bool) {
        self.to_slices.clear();
        let deadline = Instant::now() + END_PATIENCE;
        if in_order {
            // The slices are done; what they sent last must still go out.
            wait_for(&mut self.writers, deadline);
        }
        for socket in &self.sockets {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.threads.append(&mut self.writers);
        wait_for(&mut self.threads, deadline);
        if !self.threads.is_empty() {
            let names: Vec<&str> = self.threads.iter().filter_map(|thread| thread.thread().name()).collect();
            tracing::warn!(job = %self.shared.config.job, ?names, "threads are held up; the task ends without them");
        }
        let reports_kept = self.kept_reports.len();
        self.kept_reports.drain(..).for_each(|report| drop(self.reports.try_send(report)));
        tracing::debug!(reports_kept, "task is over");
    }
}

fn wait_for(threads: &mut Vec<JoinHandle<()>>, deadline: Instant) {
    while !threads.is_empty() && Instant::now() < deadline {
        threads.retain(|thread| !thread.is_finished());
        if !threads.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn peer_error(shared: &Shared, edge: EdgeId, slot: u32, source: std::io::Error) -> Error {
    let config = &shared.config;
    let task = slot / config.slices;
    let jobs::Peer { host, port } = &config.peers[task as usize];
    Error::Peer { job: config.job.clone(), task, address: format!("{host}:{port}"), edge, source }
}
