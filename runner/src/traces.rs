//! Traces of what jobs wait for: from a submission over offers and launches to the first row, and of each checkpoint.
//!
//! The watch sees what the book is told and what it decides, and makes spans of it. Like the book it is pure: it reads no
//! clock. What it misses (a runner that was away) it leaves out.
//! Invariant: what is remembered is bounded by the jobs that run.

pub mod export;
#[cfg(test)]
mod tests;

use crate::book::job::{Phase, Record};
use crate::book::{Command, Event, TrainReport};
use jobs::{JobId, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use streaming::control::{Order, Report};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub trace: [u8; 16],
    pub id: [u8; 8],
    /// None of the first span of a trace.
    pub parent: Option<[u8; 8]>,
    pub name: &'static str,
    pub start_ms: u64,
    pub end_ms: u64,
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it came to nothing.
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(u64),
}

/// Whose part a trace is, as the W3C's header `traceparent` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    pub trace: [u8; 16],
    pub span: [u8; 8],
}

impl Parent {
    /// `00-TRACE-SPAN-FLAGS`, all of it in hexadecimal digits; anything else is nobody.
    pub fn read(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let (version, trace, span, _flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let known = version.len() == 2 && version != "ff" && (version != "00" || parts.next().is_none());
        let parent = Self { trace: bytes(trace)?, span: bytes(span)? };
        (known && parent.trace != [0; 16] && parent.span != [0; 8]).then_some(parent)
    }
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    if hex.len() != 2 * N || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// How far a generation of a job is on its way to its first row.
#[derive(Clone, Debug)]
struct Start {
    submission: String,
    generation: u64,
    trace: [u8; 16],
    root: [u8; 8],
    parent: Option<[u8; 8]>,
    name: &'static str,
    attributes: Vec<(&'static str, Value)>,
    began_ms: u64,
    /// The part that is going on, and since when.
    part: (&'static str, u64),
    /// When each task was seen ready.
    ready: BTreeSet<TaskId>,
    launched_ms: Option<u64>,
    is_over: bool,
}

/// An epoch between its barrier and the last commit.
#[derive(Clone, Debug)]
struct Epoch {
    epoch: u64,
    trace: [u8; 16],
    root: [u8; 8],
    began_ms: u64,
    manifest_ms: Option<u64>,
    durable_ms: Option<u64>,
    tasks: BTreeSet<TaskId>,
    committed: BTreeSet<TaskId>,
}

#[derive(Debug)]
pub struct Watch {
    seed: [u8; 16],
    n_ids: u64,
    starts: BTreeMap<JobId, Start>,
    epochs: BTreeMap<JobId, Epoch>,
    /// Of present generations.
    jobs: BTreeMap<TaskId, JobId>,
    /// Jobs whose submission came with one.
    parents: BTreeMap<JobId, Parent>,
    spans: Vec<Span>,
}

impl Watch {
    /// `seed`: makes the ids of this process different from all others.
    pub fn new(seed: [u8; 16]) -> Self {
        Self {
            seed,
            n_ids: 0,
            starts: BTreeMap::new(),
            epochs: BTreeMap::new(),
            jobs: BTreeMap::new(),
            parents: BTreeMap::new(),
            spans: Vec::new(),
        }
    }

    /// These jobs are submitted now, as a part of `parent`.
    pub fn submitted(&mut self, jobs: &[String], parent: Parent) {
        self.parents.extend(jobs.iter().map(|job| (JobId::new(job.clone()), parent)));
    }

    /// What the book has decided; the spans that have ended with this, and with what was heard before.
    pub fn decided(&mut self, now_ms: u64, commands: &[Command]) -> Vec<Span> {
        for command in commands {
            match command {
                Command::Persist(record) => self.record(now_ms, record),
                Command::Forget(record) => self.forget(&record.spec.id, &record.submission),
                Command::Order { task, order: Order::Barrier { epoch, .. } } => self.barrier(now_ms, task, *epoch),
                Command::WriteManifest { job, manifest, .. } => {
                    if let Some(at) = self.epochs.get_mut(job).filter(|at| at.epoch == manifest.epoch) {
                        at.manifest_ms.get_or_insert(now_ms);
                    }
                }
                _ => {}
            }
        }
        std::mem::take(&mut self.spans)
    }

    fn new_id(&mut self) -> u64 {
        self.n_ids += 1;
        let seed = u64::from_le_bytes(self.seed[..8].try_into().unwrap_or_default());
        // An id of zeros is none.
        (seed ^ self.n_ids.rotate_left(32)).max(1)
    }

    fn new_span(&mut self) -> [u8; 8] {
        self.new_id().to_be_bytes()
    }

    fn new_trace(&mut self) -> [u8; 16] {
        let mut trace = self.seed;
        trace[..8].copy_from_slice(&self.new_span());
        trace
    }

    /// What the book is told.
    pub fn heard(&mut self, now_ms: u64, event: &Event) {
        match event {
            Event::StreamReport { task, report } => {
                let Some(job) = self.jobs.get(task).cloned() else { return };
                match report {
                    Report::Ready => self.task_ready(now_ms, &job, task),
                    Report::Metrics(metrics) if metrics.rows_in > 0 => self.first(now_ms, &job),
                    Report::Snapshotted { epoch, .. } => self.of_task(now_ms, &job, task, *epoch, "snapshot"),
                    Report::Committed { epoch } => self.committed(now_ms, &job, task, *epoch),
                    _ => {}
                }
            }
            Event::TrainReport { task, report } => {
                let Some(job) = self.jobs.get(task).cloned() else { return };
                match report {
                    TrainReport::Ready => self.task_ready(now_ms, &job, task),
                    TrainReport::Metrics(_) => self.first(now_ms, &job),
                    _ => {}
                }
            }
            Event::ManifestWritten { job, epoch, result, .. } => {
                let Some(at) = self.epochs.get_mut(job).filter(|at| at.epoch == *epoch) else { return };
                let (trace, root, from) = (at.trace, at.root, at.manifest_ms.unwrap_or(now_ms));
                if result.is_ok() {
                    at.durable_ms = Some(now_ms);
                }
                let error = result.as_ref().err().map(|(error, _)| error.clone());
                self.child((trace, root), "manifest", (from, now_ms), Vec::new(), error);
            }
            _ => {}
        }
    }

    fn child(
        &mut self,
        (trace, parent): ([u8; 16], [u8; 8]),
        name: &'static str,
        (start_ms, end_ms): (u64, u64),
        attributes: Vec<(&'static str, Value)>,
        error: Option<String>,
    ) {
        let id = self.new_span();
        self.spans.push(Span { trace, id, parent: Some(parent), name, start_ms, end_ms, attributes, error });
    }

    // ---- from a submission to the first row ----

    fn record(&mut self, now_ms: u64, record: &Record) {
        let id = &record.spec.id;
        self.jobs.retain(|_, job| job != id);
        self.jobs.extend(record.tasks.iter().map(|task| (task.id.clone(), id.clone())));
        let known = self.starts.get(id);
        let is_new = known.is_none_or(|start| start.submission != record.submission);
        // Where a first record was seen already, what begins is another generation.
        let begins_again = known.is_some_and(|start| start.generation != record.generation && start.is_over);
        if is_new || begins_again {
            let is_over = record.phase.is_over() || (is_new && record.phase == Phase::Running);
            self.begin(now_ms, record, is_new, is_over);
        }
        if let Some(start) = self.starts.get_mut(id) {
            start.generation = record.generation;
        }
        match &record.phase {
            Phase::Waiting => self.part(now_ms, id, "wait for jobs before it"),
            Phase::Preparing => self.part(now_ms, id, "look up the last checkpoint"),
            Phase::Placing => self.part(now_ms, id, "wait for offers"),
            Phase::Launching => {
                if let Some(start) = self.starts.get_mut(id).filter(|start| !start.is_over) {
                    start.launched_ms.get_or_insert(now_ms);
                }
                self.part(now_ms, id, "launch");
            }
            Phase::Running => self.part(now_ms, id, "wait for the first record"),
            Phase::Restarting { .. } => self.part(now_ms, id, "wait to start again"),
            Phase::Stopping | Phase::Ending { .. } => {}
            Phase::Finished | Phase::Stopped => {
                self.over(now_ms, id, None);
                self.given_up(now_ms, id);
            }
            Phase::Failed { error } => {
                self.over(now_ms, id, Some(error.clone()));
                self.given_up(now_ms, id);
            }
        }
    }

    fn begin(&mut self, now_ms: u64, record: &Record, is_new: bool, is_over: bool) {
        let parent = self.parents.remove(&record.spec.id).filter(|_| is_new);
        let trace = parent.map_or_else(|| self.new_trace(), |parent| parent.trace);
        let root = self.new_span();
        let began_ms = if is_new && record.generation <= 1 { record.submitted_ms.min(now_ms) } else { now_ms };
        let attributes = vec![
            ("smack.job", Value::Text(record.spec.id.to_string())),
            ("smack.submission", Value::Text(record.submission.clone())),
            ("smack.kind", Value::Text(record.spec.body.kind().to_string())),
            ("smack.role", Value::Text(record.spec.role.clone())),
            ("smack.tasks", Value::Number(u64::from(record.spec.parallelism))),
            ("smack.generation", Value::Number(record.generation.max(1))),
        ];
        let start = Start {
            submission: record.submission.clone(),
            generation: record.generation,
            trace,
            root,
            parent: parent.map(|parent| parent.span),
            name: if is_new && record.generation <= 1 { "submit" } else { "start again" },
            attributes,
            began_ms,
            part: ("", began_ms),
            ready: BTreeSet::new(),
            launched_ms: None,
            is_over,
        };
        self.starts.insert(record.spec.id.clone(), start);
    }

    /// What goes on from now; what went on has ended.
    fn part(&mut self, now_ms: u64, job: &JobId, name: &'static str) {
        let Some(start) = self.starts.get_mut(job).filter(|start| !start.is_over && start.part.0 != name) else {
            return;
        };
        let (was, since_ms) = std::mem::replace(&mut start.part, (name, now_ms));
        let place = (start.trace, start.root);
        if !was.is_empty() {
            self.child(place, was, (since_ms, now_ms), Vec::new(), None);
        }
    }

    fn task_ready(&mut self, now_ms: u64, job: &JobId, task: &TaskId) {
        let Some(start) = self.starts.get_mut(job).filter(|start| !start.is_over) else { return };
        let Some(launched_ms) = start.launched_ms.filter(|_| start.ready.insert(task.clone())) else { return };
        let place = (start.trace, start.root);
        let attributes = vec![("smack.task", Value::Text(task.to_string()))];
        self.child(place, "start task", (launched_ms, now_ms), attributes, None);
    }

    fn first(&mut self, now_ms: u64, job: &JobId) {
        // Rows of one task may flow before the others are ready; the job runs when all are.
        let runs = |start: &&mut Start| start.part.0 == "wait for the first record";
        if self.starts.get_mut(job).as_ref().is_some_and(runs) {
            self.over(now_ms, job, None);
        }
    }

    fn over(&mut self, now_ms: u64, job: &JobId, error: Option<String>) {
        self.part(now_ms, job, "");
        let Some(start) = self.starts.get_mut(job).filter(|start| !start.is_over) else { return };
        start.is_over = true;
        start.ready.clear();
        let span = Span {
            trace: start.trace,
            id: start.root,
            parent: start.parent,
            name: start.name,
            start_ms: start.began_ms,
            end_ms: now_ms,
            attributes: std::mem::take(&mut start.attributes),
            error,
        };
        self.spans.push(span);
    }

    fn forget(&mut self, job: &JobId, submission: &str) {
        if self.starts.get(job).is_some_and(|start| start.submission == submission) {
            self.starts.remove(job);
            self.epochs.remove(job);
            self.jobs.retain(|_, of| of != job);
        }
    }

    // ---- checkpoints ----

    fn barrier(&mut self, now_ms: u64, task: &TaskId, epoch: u64) {
        let Some(job) = self.jobs.get(task).cloned() else { return };
        if self.epochs.get(&job).is_some_and(|at| at.epoch != epoch) {
            self.given_up(now_ms, &job);
        }
        if !self.epochs.contains_key(&job) {
            let (trace, root) = (self.new_trace(), self.new_span());
            let tasks = self.jobs.iter().filter(|(_, of)| **of == job).map(|(task, _)| task.clone()).collect();
            let at = Epoch {
                epoch,
                trace,
                root,
                began_ms: now_ms,
                manifest_ms: None,
                durable_ms: None,
                tasks,
                committed: BTreeSet::new(),
            };
            self.epochs.insert(job, at);
        }
    }

    fn of_task(&mut self, now_ms: u64, job: &JobId, task: &TaskId, epoch: u64, name: &'static str) {
        let Some(at) = self.epochs.get(job).filter(|at| at.epoch == epoch) else { return };
        let from = at.durable_ms.unwrap_or(at.began_ms);
        let place = (at.trace, at.root);
        self.child(place, name, (from, now_ms), vec![("smack.task", Value::Text(task.to_string()))], None);
    }

    fn committed(&mut self, now_ms: u64, job: &JobId, task: &TaskId, epoch: u64) {
        let Some(at) = self.epochs.get_mut(job).filter(|at| at.epoch == epoch) else { return };
        if !at.committed.insert(task.clone()) {
            return;
        }
        let is_whole = at.tasks.is_subset(&at.committed);
        self.of_task(now_ms, job, task, epoch, "commit");
        if is_whole {
            self.checkpoint_over(now_ms, job, None);
        }
    }

    /// A newer one has begun, or the job is over.
    fn given_up(&mut self, now_ms: u64, job: &JobId) {
        let durable = self.epochs.get(job).is_some_and(|at| at.durable_ms.is_some());
        let error = (!durable).then(|| "given up".to_string());
        self.checkpoint_over(now_ms, job, error);
    }

    fn checkpoint_over(&mut self, now_ms: u64, job: &JobId, error: Option<String>) {
        let Some(Epoch { epoch, trace, root, began_ms, .. }) = self.epochs.remove(job) else { return };
        let attributes = vec![("smack.job", Value::Text(job.to_string())), ("smack.epoch", Value::Number(epoch))];
        let (start_ms, end_ms) = (began_ms, now_ms);
        self.spans.push(Span {
            trace,
            id: root,
            parent: None,
            name: "checkpoint",
            start_ms,
            end_ms,
            attributes,
            error,
        });
    }
}
