//! The operators of one slice, and what a batch, a watermark or a barrier does to them.
//!
//! Everything here runs to its end without waiting, except for the outside behind a sink and for whoever takes the
//! results; the slice's loop ([`crate::runtime::slice`]) decides what comes next.

use crate::control::OperatorMetrics;
use crate::dataflow::{self, Operator};
use crate::functions::{Cell, InUse, Versions, bound, bound_to};
use crate::runtime::budget::Budget;
use crate::runtime::edges::Edges;
use crate::runtime::exchange::Message;
use crate::runtime::exchange::partition::partition;
use crate::runtime::graph::Graph;
use crate::runtime::meter::Meter;
use crate::runtime::operators::changes;
use crate::runtime::operators::lookup::{GATHER_ROWS, LookupJoin};
use crate::runtime::operators::stateful::{Output, Scope, Stateful};
use crate::runtime::operators::unnest::unnest;
use crate::runtime::operators::window::BATCH_ROWS;
use crate::runtime::operators::{filter, project, relabel, weighted};
use crate::runtime::pace::Pace;
use crate::runtime::shared::Shared;
use crate::runtime::snapshot::Part;
use crate::runtime::sources::{Source, SourceInput};
use crate::runtime::watermark::Progress;
use crate::runtime::{Error, retry};
use arrow::array::{Int8Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use connectors::{Connector, Lookup, Sink, failpoint};
use crossbeam_channel::{SendTimeoutError, Sender};
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_expr::PhysicalExpr;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

mod state;

/// Rows that an operator takes before it says what it kept back, if input never pauses.
const PENDING_ROWS: usize = 50_000;
/// How long handing out results may wait until a stop is looked for.
const RESULT_WAIT: Duration = Duration::from_millis(100);

enum Running {
    Source(SourceInput),
    Project { exprs: Vec<Arc<dyn PhysicalExpr>> },
    Filter { predicate: Arc<dyn PhysicalExpr> },
    Unnest { n_lists: usize, outer: bool },
    Exchange { keys: Vec<usize>, edges: Edges, sent: Progress, pace: Option<Pace> },
    Stateful(Box<dyn Stateful>),
    HoldBack { by_us: i64 },
    LateRows,
    Lookup { join: Box<LookupJoin>, table: String, outside: Box<dyn Lookup> },
    Union,
    Sink { table: String, schema: SchemaRef, sink: Box<dyn Sink> },
    Collect { results: Sender<RecordBatch> },
}

pub struct Flow {
    shared: Arc<Shared>,
    graph: Graph,
    slot: u32,
    operators: Vec<Running>,
    /// By node: what of its state the next snapshot is to give.
    scopes: Vec<Scope>,
    /// By node: how far its output has come. For an exchange: of the receiving half.
    outputs: Vec<Progress>,
    /// By node: how far its input has come.
    inputs: Vec<Progress>,
    /// By exchange: how far each edge into this slice has come.
    edges_in: BTreeMap<usize, Vec<Progress>>,
    /// By node: its watermark, where expressions ask for it.
    watermarks: BTreeMap<usize, Cell>,
    /// By node: what its functions use that have versions.
    in_use: BTreeMap<usize, Arc<InUse>>,
    /// The last epoch that the sinks committed.
    committed: u64,
    budget: Budget,
    pub meter: Meter,
}

impl Flow {
    /// Opens sources and sinks and restores all state. `edges_out`: the sending ends, by exchange.
    pub fn open(
        shared: &Arc<Shared>,
        slot: u32,
        mut edges_out: BTreeMap<usize, Vec<Sender<Message>>>,
        results: Option<&Sender<RecordBatch>>,
    ) -> Result<Self, Error> {
        let graph = shared.graph.clone();
        let n_nodes = shared.dataflow.nodes.len();
        let mut operators = Vec::with_capacity(n_nodes);
        let mut scopes = vec![Scope::All; n_nodes];
        let (mut edges_in, mut binding) = (BTreeMap::new(), Binding::default());
        for (at, node) in shared.dataflow.nodes.iter().enumerate() {
            if let Some(operator) = state::open(shared, at, slot)? {
                if shared.restored.goes_on(&node.id, slot, shared.n_slots()).is_some() {
                    scopes[at] = Scope::Touched;
                }
                operators.push(Running::Stateful(operator));
                continue;
            }
            operators.push(match &node.operator {
                Operator::Source { table, projection, watermark } => {
                    let (table, projection, watermark) = (table.clone(), projection.clone(), watermark.clone());
                    let connector = find(shared, table.connector(), &table.name)?;
                    let source = Source { table, projection, watermark, connector };
                    Running::Source(SourceInput::open(shared, at, slot, &source)?)
                }
                Operator::Project { exprs } => {
                    let exprs = exprs.iter().map(|expr| binding.bind(expr, at));
                    let exprs = exprs.collect::<DataFusionResult<_>>().map_err(shared.operator_error(at))?;
                    Running::Project { exprs }
                }
                Operator::Filter { predicate } => {
                    let predicate = binding.bind(predicate, at);
                    Running::Filter { predicate: predicate.map_err(shared.operator_error(at))? }
                }
                Operator::Unnest { n_lists, outer } => Running::Unnest { n_lists: *n_lists, outer: *outer },
                Operator::Exchange { keys } => {
                    let queues = edges_out.remove(&at).unwrap_or_default();
                    edges_in.insert(at, vec![Progress::START; queues.len()]);
                    let pace = graph.is_awaited(&shared.dataflow, at).then(|| Pace::new(Instant::now()));
                    Running::Exchange { keys: keys.clone(), edges: Edges::new(queues), sent: Progress::START, pace }
                }
                Operator::HoldBack { by_us } => Running::HoldBack { by_us: *by_us },
                Operator::LateRows { .. } => Running::LateRows,
                Operator::Lookup(lookup) => {
                    let input = Arc::clone(&shared.node(node.inputs[0]).schema);
                    let join = LookupJoin::new(lookup.as_ref().clone(), input, Arc::clone(&node.schema));
                    let join = Box::new(join.map_err(shared.operator_error(at))?);
                    let table = lookup.table.name.clone();
                    Running::Lookup { join, outside: open_lookup(shared, slot, lookup)?, table }
                }
                Operator::Union => Running::Union,
                Operator::Sink { table } => {
                    let sink = open_sink(shared, at, slot, table)?;
                    Running::Sink { table: table.name.clone(), schema: Arc::clone(&table.schema), sink }
                }
                Operator::WindowAggregate { .. }
                | Operator::GroupAggregate { .. }
                | Operator::LocalAggregate { .. }
                | Operator::Join(_)
                | Operator::Temporal(_)
                | Operator::TopN { .. }
                | Operator::Over { .. }
                | Operator::Upsert { .. }
                | Operator::Normalize { .. } => unreachable!("node {at} has state and was made before"),
                Operator::Collect => {
                    let job = shared.config.job.clone();
                    let text = "it has a query without INSERT INTO, and nobody takes its rows".to_string();
                    Running::Collect { results: results.ok_or(Error::Plan { job, text })?.clone() }
                }
            });
        }
        let mut flow = Self {
            shared: Arc::clone(shared),
            graph,
            slot,
            operators,
            scopes,
            outputs: vec![Progress::START; n_nodes],
            inputs: vec![Progress::START; n_nodes],
            edges_in,
            watermarks: binding.watermarks,
            in_use: binding.in_use,
            committed: shared.restored.epoch,
            budget: Budget::new(state::memory_of_slice(shared)),
            meter: Meter::new(n_nodes),
        };
        if let Some(manifest) = &shared.config.restore {
            for node in flow.in_use.keys().copied().collect::<Vec<_>>() {
                flow.adopt(node, &manifest.versions)?;
            }
        }
        Ok(flow)
    }

    /// The functions of this node use these from here on.
    pub fn adopt(&mut self, node: usize, versions: &Versions) -> Result<(), Error> {
        let Some(in_use) = self.in_use.get(&node) else { return Ok(()) };
        in_use.adopt(versions).map_err(|text| Error::Version {
            job: self.shared.config.job.clone(),
            operator: self.shared.node(node).id.clone(),
            text,
        })
    }

    pub fn source(&mut self, node: usize) -> &mut SourceInput {
        match &mut self.operators[node] {
            Running::Source(source) => source,
            _ => unreachable!("node {node} is no source"),
        }
    }

    /// Whether all sources of this slice are at their end.
    pub fn input_ended(&self) -> bool {
        self.operators.iter().all(|operator| !matches!(operator, Running::Source(source) if !source.ended))
    }

    /// The queues that have no room for what goes there.
    pub fn full_edges(&self) -> impl Iterator<Item = &Sender<Message>> {
        self.operators
            .iter()
            .flat_map(|operator| match operator {
                Running::Exchange { edges, .. } => Some(edges.full()),
                _ => None,
            })
            .flatten()
    }

    /// Tries again to hand over what there was no room for.
    pub fn retry(&mut self) {
        for operator in &mut self.operators {
            if let Running::Exchange { edges, .. } = operator {
                edges.retry();
            }
        }
    }

    /// Hands over what goes to other slices.
    pub fn flush(&mut self) {
        for operator in &mut self.operators {
            if let Running::Exchange { edges, .. } = operator {
                edges.flush();
            }
        }
    }

    pub fn is_full(&self, exchange: usize) -> bool {
        matches!(&self.operators[exchange], Running::Exchange { edges, .. } if edges.is_full())
    }

    /// Whether what this slice sends there is so far ahead that the other slices are to come on first.
    pub fn is_ahead(&self, exchange: usize) -> bool {
        match &self.operators[exchange] {
            Running::Exchange { pace: Some(pace), .. } => pace.is_ahead(Instant::now),
            _ => false,
        }
    }

    /// `batch` came out of `node`: gives it to everybody who reads that node.
    pub fn push(&mut self, node: usize, batch: &RecordBatch) -> Result<(), Error> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.meter.gave(node, batch.num_rows());
        let samples = &self.shared.samples;
        samples.saw(&self.shared.dataflow, node, batch).map_err(self.shared.operator_error(node))?;
        for at in 0..self.graph.readers[node].len() {
            let (reader, input) = self.graph.readers[node][at];
            self.meter.took(reader, batch.num_rows());
            let outer = self.meter.enter(reader);
            self.process(reader, input, batch)?;
            self.meter.leave(outer);
        }
        Ok(())
    }

    /// What a stateful operator gave: its rows go on, the others are counted.
    fn emit(&mut self, node: usize, out: Output) -> Result<(), Error> {
        self.shared.counters.rows_late.fetch_add(out.n_late, Relaxed);
        if out.n_timeless > 0 && self.shared.counters.rows_bad.fetch_add(out.n_timeless, Relaxed) == 0 {
            let text = format!(
                "rows without an event time reach operator {} and are left out; they are counted as bad",
                self.shared.node(node).id
            );
            self.shared.notice(crate::control::Level::Warning, text);
        }
        // Changes of which none takes a row back are rows that are appended.
        let schema = &self.shared.node(node).schema;
        let n_columns = schema.fields().len();
        let appended = |batch: RecordBatch| match batch.num_columns() > n_columns {
            true => Ok(RecordBatch::try_new(Arc::clone(schema), batch.columns()[..n_columns].to_vec())?),
            false => Ok(batch),
        };
        let batches = out.batches.into_iter().map(appended).collect::<DataFusionResult<Vec<_>>>();
        let batches = batches.map_err(self.shared.operator_error(node))?;
        if let Some(reader) = self.graph.late[node] {
            out.late.iter().try_for_each(|batch| self.push(reader, batch))?;
        }
        batches.iter().try_for_each(|batch| self.push(node, batch))
    }

    /// Asks the table outside for the rows that wait, and lets them go on.
    fn look_up(&mut self, node: usize) -> Result<(), Error> {
        let failed = self.shared.operator_error(node);
        let Running::Lookup { join, table, outside } = &mut self.operators[node] else {
            unreachable!("node {node} looks nothing up");
        };
        if join.n_waiting() == 0 {
            return Ok(());
        }
        let outer = self.meter.enter(node);
        let keys = join.ask(Instant::now()).map_err(&failed)?;
        let found = match keys.num_rows() {
            0 => None,
            _ => Some(retry::until_done(&self.shared, table, "look up in", || outside.get(&keys))?),
        };
        let batches = join.answer(found, Instant::now()).map_err(failed)?;
        self.meter.leave(outer);
        batches.iter().try_for_each(|batch| self.push(node, batch))
    }

    /// Lets every operator say what it kept back, those nearer to the sources first. What they held event time back for
    /// is out then.
    pub fn flush_pending(&mut self) -> Result<(), Error> {
        let mut moved = false;
        for node in 0..self.operators.len() {
            if matches!(self.operators[node], Running::Lookup { .. }) {
                self.look_up(node)?;
                moved |= self.outputs[node] != self.inputs[node];
            }
            let Running::Stateful(operator) = &mut self.operators[node] else { continue };
            let mut out = self.graph.output(node);
            if operator.waits_for_flush() {
                let outer = self.meter.enter(node);
                operator.flush(&mut out).map_err(self.shared.operator_error(node))?;
                self.meter.leave(outer);
                self.emit(node, out)?;
                moved |= self.output_moved(node);
            }
        }
        if moved { self.propagate() } else { Ok(()) }
    }

    pub fn any_full(&self) -> bool {
        self.operators.iter().any(|operator| matches!(operator, Running::Exchange { edges, .. } if edges.is_full()))
    }

    fn process(&mut self, node: usize, input: usize, batch: &RecordBatch) -> Result<(), Error> {
        let from = self.shared.node(node).inputs[input];
        let schema = &self.shared.node(node).schema;
        let failed = self.shared.operator_error(node);
        match &mut self.operators[node] {
            Running::Source(_) => unreachable!("source {node} has no input"),
            Running::Project { exprs } => {
                let batch = project(exprs, schema, batch, self.shared.node(node).changes).map_err(failed)?;
                self.push(node, &batch)
            }
            Running::Filter { predicate } => {
                let batch = filter(predicate, batch.clone()).map_err(failed)?;
                self.push(node, &batch)
            }
            Running::Unnest { n_lists, outer } => {
                let end = batch.num_columns() - usize::from(self.shared.node(from).changes);
                let batches = unnest(end - *n_lists..end, *outer, schema, batch).map_err(failed)?;
                batches.iter().try_for_each(|batch| self.push(node, batch))
            }
            Running::LateRows => unreachable!("rows come out of {node} and not into it"),
            Running::HoldBack { .. } => {
                drop(failed);
                self.push(node, batch)
            }
            Running::Union => {
                let batch = match self.shared.node(node).changes && !self.shared.node(from).changes {
                    true => weighted(schema, batch),
                    false => relabel(schema, batch.clone()),
                };
                let batch = batch.map_err(failed)?;
                self.push(node, &batch)
            }
            Running::Exchange { keys, edges, .. } => {
                let batch = relabel(schema, batch.clone()).map_err(failed)?;
                for offset in (0..batch.num_rows()).step_by(BATCH_ROWS) {
                    let part = batch.slice(offset, BATCH_ROWS.min(batch.num_rows() - offset));
                    let parts = partition(&part, keys, self.shared.n_slots());
                    for (slot, part) in parts.map_err(self.shared.operator_error(node))? {
                        edges.send(slot as usize, Message::Batch(part));
                    }
                }
                Ok(())
            }
            Running::Stateful(operator) => {
                let mut out = self.graph.output(node);
                self.budget.took(batch);
                operator.process(input, batch, &mut out).map_err(failed)?;
                if operator.n_pending() >= PENDING_ROWS {
                    operator.flush(&mut out).map_err(self.shared.operator_error(node))?;
                }
                self.emit(node, out)
            }
            Running::Lookup { join, .. } => {
                join.push(relabel(&self.shared.node(from).schema, batch.clone()).map_err(failed)?);
                if join.n_waiting() >= GATHER_ROWS { self.look_up(node) } else { Ok(()) }
            }
            Running::Sink { table, schema, sink } => {
                let changes = self.shared.node(self.shared.node(node).inputs[0]).changes;
                let (rows, weights) = rows_of(schema, batch, changes).map_err(failed)?;
                retry::until_done(&self.shared, table, "write to", || match weights {
                    Some(weights) => sink.change(&rows, weights),
                    None => sink.write(&rows),
                })?;
                self.shared.counters.rows_out.fetch_add(batch.num_rows() as u64, Relaxed);
                Ok(())
            }
            Running::Collect { results } => {
                let mut waiting = match self.shared.node(node).changes {
                    true => changes::shown(batch).map_err(failed)?,
                    false => batch.clone(),
                };
                while let Err(error) = results.send_timeout(waiting, RESULT_WAIT) {
                    match error {
                        SendTimeoutError::Timeout(back) if !self.shared.stopped() => waiting = back,
                        SendTimeoutError::Timeout(_) => return Err(Error::Stopped),
                        // Whoever took the rows has enough: the end of the whole task, not of this slice alone.
                        SendTimeoutError::Disconnected(_) => {
                            self.shared.stop.store(true, Relaxed);
                            return Err(Error::Stopped);
                        }
                    }
                }
                self.shared.counters.rows_out.fetch_add(batch.num_rows() as u64, Relaxed);
                Ok(())
            }
        }
    }

    /// An edge into this slice has come further.
    pub fn edge_progressed(&mut self, exchange: usize, from_slot: usize, progress: Progress) -> Result<(), Error> {
        if let Some(edges) = self.edges_in.get_mut(&exchange) {
            edges[from_slot] = edges[from_slot].advanced(progress);
        }
        self.propagate()
    }

    /// Lets event time flow through the operators, inputs before their readers, so that what a window emits reaches its
    /// readers before the watermark that made it do so.
    pub fn propagate(&mut self) -> Result<(), Error> {
        for node in 0..self.operators.len() {
            let came_in = &self.shared.node(node).inputs;
            let input = match came_in.is_empty() {
                true => Progress::START,
                false => self.inputs[node].combined(came_in.iter().map(|input| self.outputs[*input])),
            };
            let changed = input != self.inputs[node];
            self.inputs[node] = input;
            // The end is no time; the last one stays.
            if let (Some(cell), false) = (self.watermarks.get(&node), input.ended()) {
                cell.store(input.watermark_us, Relaxed);
            }
            match &mut self.operators[node] {
                Running::Source(source) => {
                    self.outputs[node] = source.progress(self.outputs[node]);
                    let slice = (self.slot % self.shared.config.slices) as usize;
                    self.shared.counters.saw_watermark(slice, self.outputs[node]);
                }
                Running::Exchange { edges, sent, pace, .. } => {
                    if *sent != input {
                        *sent = input;
                        edges.send_all(&Message::Watermark(input));
                        if let Some(pace) = pace {
                            pace.said(input.watermark_us);
                        }
                    }
                    if let Some(edges) = self.edges_in.get(&node) {
                        let come = self.outputs[node].over_edges(edges);
                        if let Some(pace) = pace.as_mut().filter(|_| come != self.outputs[node]) {
                            pace.slowest(come.watermark_us, Instant::now());
                        }
                        self.outputs[node] = come;
                    }
                }
                Running::Stateful(operator) if changed || came_in.len() > 1 => {
                    for (place, from) in came_in.iter().enumerate() {
                        if self.outputs[*from].ended() {
                            operator.input_ended(place).map_err(self.shared.operator_error(node))?;
                        }
                    }
                    if !changed {
                        continue;
                    }
                    let mut out = self.graph.output(node);
                    let outer = self.meter.enter(node);
                    operator.advance(input.watermark_us, &mut out).map_err(self.shared.operator_error(node))?;
                    if input.idle {
                        // Who is idle holds nobody back, so what it keeps would come late.
                        operator.flush(&mut out).map_err(self.shared.operator_error(node))?;
                    }
                    self.meter.leave(outer);
                    self.emit(node, out)?;
                    if input.ended() {
                        self.settle(node)?;
                    }
                    self.output_moved(node);
                }
                Running::Stateful(_) => {}
                Running::HoldBack { by_us } => {
                    self.outputs[node] = self.outputs[node].advanced(input.behind(*by_us));
                }
                Running::Lookup { join, .. } => {
                    // Event time waits behind rows that wait; it goes on when they do, at the latest in `flush_pending`.
                    if input.ended() {
                        self.look_up(node)?;
                    } else if join.n_waiting() > 0 {
                        continue;
                    }
                    self.outputs[node] = input;
                }
                Running::Project { .. }
                | Running::Filter { .. }
                | Running::Unnest { .. }
                | Running::LateRows
                | Running::Union
                | Running::Sink { .. }
                | Running::Collect { .. } => self.outputs[node] = input,
            }
        }
        Ok(())
    }

    /// All barriers of an epoch have reached `node`: its share goes into `part`, the barrier goes on.
    pub fn snapshot(&mut self, node: usize, part: &mut Part) -> Result<(), Error> {
        let outer = self.meter.enter(node);
        self.take_snapshot(node, part)?;
        self.meter.leave(outer);
        Ok(())
    }

    fn take_snapshot(&mut self, node: usize, part: &mut Part) -> Result<(), Error> {
        let id = self.shared.node(node).id.clone();
        match &mut self.operators[node] {
            Running::Source(source) => {
                let (mut positions, mut watermarks) = (BTreeMap::new(), BTreeMap::new());
                let splits = source.splits.iter().map(|split| (split.name.clone(), self.slot)).collect();
                part.splits.insert(id.clone(), splits);
                for (split, next) in source.positions() {
                    positions.insert(split.name.clone(), next);
                    // The end of a split is found again by reading; no real time is kept for it.
                    let real = split.progress.watermark_us;
                    if real > i64::MIN && real < i64::MAX {
                        watermarks.insert(split.name.clone(), real);
                    }
                }
                part.positions.insert(id.clone(), positions);
                part.watermarks.insert(id, watermarks);
            }
            Running::Exchange { edges, .. } => {
                let versions = part.versions.clone();
                edges.send_all(&Message::Barrier { epoch: part.epoch, last: part.last, versions });
                edges.flush();
            }
            Running::Stateful(_) => {
                self.settle(node)?;
                if self.output_moved(node) {
                    self.propagate()?;
                }
                let watermark_us = self.inputs[node].watermark_us;
                if self.shared.take_wanted_base(self.slot, &id) {
                    self.scopes[node] = Scope::All;
                }
                if let Running::Stateful(operator) = &mut self.operators[node] {
                    let snapshot = operator.snapshot(self.scopes[node]).map_err(self.shared.operator_error(node))?;
                    part.take(id, watermark_us, snapshot);
                }
                self.scopes[node] = Scope::Touched;
            }
            Running::Lookup { .. } => {
                self.look_up(node)?;
                if self.outputs[node] != self.inputs[node] {
                    self.propagate()?;
                }
            }
            Running::Sink { table, sink, .. } => {
                let bytes = retry::until_done(&self.shared, table, "prepare", || sink.prepare(part.epoch))?;
                if !bytes.is_empty() {
                    failpoint::reached(failpoint::PREPARED);
                    part.prepared.insert(id, bytes);
                }
            }
            Running::Project { .. }
            | Running::Filter { .. }
            | Running::Unnest { .. }
            | Running::HoldBack { .. }
            | Running::LateRows
            | Running::Union
            | Running::Collect { .. } => {}
        }
        Ok(())
    }

    pub fn commit(&mut self, epoch: u64) -> Result<(), Error> {
        if epoch <= self.committed {
            return Ok(());
        }
        for operator in &mut self.operators {
            match operator {
                Running::Sink { table, sink, .. } => {
                    failpoint::reached(failpoint::BEFORE_COMMIT);
                    retry::until_done(&self.shared, table, "commit to", || sink.commit(epoch))?;
                }
                Running::Source(source) => source.committed(),
                _ => {}
            }
        }
        self.committed = epoch;
        Ok(())
    }

    /// The slice has slept since `from`.
    pub fn waited(&mut self, from: Instant) {
        let full =
            |(_, operator): &(usize, &Running)| matches!(operator, Running::Exchange { edges, .. } if edges.is_full());
        let full: Vec<usize> = self.operators.iter().enumerate().filter(full).map(|(node, _)| node).collect();
        self.meter.waited(from, &full);
    }

    /// Tells what each operator has done so far.
    pub fn measure(&self) {
        let micros = |time: Duration| time.as_micros() as u64;
        let measured = |(node, operator): (usize, &Running)| {
            let spent = self.meter.spent(node);
            let mut metrics = OperatorMetrics {
                id: self.shared.node(node).id.clone(),
                total_us: micros(self.meter.elapsed()),
                busy_us: micros(spent.busy),
                blocked_us: micros(spent.blocked),
                idle_us: micros(self.meter.idle()),
                rows_in: spent.rows_in,
                rows_out: spent.rows_out,
                ..OperatorMetrics::default()
            };
            match operator {
                Running::Stateful(operator) => {
                    metrics.state_bytes = operator.memory_bytes() as u64;
                    metrics.spilled_bytes = operator.spilled_bytes();
                }
                Running::Lookup { join, .. } => {
                    metrics.state_bytes = join.memory_bytes() as u64;
                    (metrics.looked_up, metrics.remembered) = (join.n_keys, join.n_remembered);
                }
                Running::Source(source) => source.times.measure(&mut metrics),
                _ => {}
            }
            metrics
        };
        let slice = (self.slot % self.shared.config.slices) as usize;
        self.shared.counters.saw_operators(slice, self.operators.iter().enumerate().map(measured).collect());
    }

    pub fn close(&mut self) {
        for operator in &mut self.operators {
            if let Running::Source(source) = operator {
                source.close();
            }
        }
    }
}

/// What expressions of a slice ask the slice for, by node.
#[derive(Default)]
struct Binding {
    watermarks: BTreeMap<usize, Cell>,
    in_use: BTreeMap<usize, Arc<InUse>>,
}

impl Binding {
    /// The expression on this slice, with the node's watermark and versions where it asks for them.
    fn bind(&mut self, expr: &Arc<dyn PhysicalExpr>, node: usize) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        let mut expr = Arc::clone(expr);
        let cell = self.watermarks.get(&node).cloned().unwrap_or_else(|| Arc::new(AtomicI64::new(i64::MIN)));
        if let Some(bound) = bound(&expr, &cell)? {
            self.watermarks.insert(node, cell);
            expr = bound;
        }
        let mut in_use = self.in_use.get(&node).cloned();
        if let Some(bound) = bound_to(&expr, &mut in_use)? {
            self.in_use.extend(in_use.map(|in_use| (node, in_use)));
            expr = bound;
        }
        Ok(expr)
    }
}

/// A batch as a sink takes it: the table's columns, and apart from them the weights of a changelog.
fn rows_of<'a>(
    schema: &SchemaRef,
    batch: &'a RecordBatch,
    changes: bool,
) -> datafusion::error::Result<(RecordBatch, Option<&'a Int8Array>)> {
    let (columns, weights) = changes::split(batch, changes)?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok((RecordBatch::try_new_with_options(Arc::clone(schema), columns.to_vec(), &options)?, weights))
}

fn find(shared: &Shared, connector: &str, table: &str) -> Result<&'static dyn Connector, Error> {
    (shared.config.connectors)(connector).ok_or_else(|| Error::Connector {
        job: shared.config.job.clone(),
        table: table.to_string(),
        doing: "open",
        text: format!("there is no connector '{connector}'"),
    })
}

fn open_lookup(shared: &Shared, slot: u32, lookup: &dataflow::Lookup) -> Result<Box<dyn Lookup>, Error> {
    let dataflow::Lookup { table, table_keys, projection, .. } = lookup;
    let connector = find(shared, table.connector(), &table.name)?;
    let context = shared.context(slot);
    retry::until_done(shared, &table.name, "open", || connector.open_lookup(table, table_keys, projection, &context))
}

fn open_sink(shared: &Shared, node: usize, slot: u32, table: &connectors::TableDef) -> Result<Box<dyn Sink>, Error> {
    let id = &shared.node(node).id;
    let connector = find(shared, table.connector(), &table.name)?;
    let context = shared.context(slot);
    let mut sink = retry::until_done(shared, &table.name, "open", || connector.open_sink(table, &context))?;
    if shared.restored.from_manifest {
        let epoch = shared.restored.epoch;
        let files = shared.restored.prepared.get(id).into_iter().flatten().enumerate();
        let (slot, n_slots) = shared.dealt_to(slot);
        let own = files.filter(|(at, _)| (*at as u64) % u64::from(n_slots) == u64::from(slot));
        let read = |(_, name): (usize, &String)| {
            let bytes = shared.config.checkpoints.get_blocking(&shared.io, name);
            bytes.map(|bytes| bytes.to_vec()).map_err(|source| Error::Restore {
                job: shared.config.job.clone(),
                operator: id.clone(),
                epoch,
                source: Box::new(source),
            })
        };
        let states = own.map(read).collect::<Result<Vec<_>, _>>()?;
        retry::until_done(shared, &table.name, "restore", || sink.restore(epoch, states.clone()))?;
    }
    Ok(sink)
}
