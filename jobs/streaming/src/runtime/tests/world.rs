//! Connectors whose other end is this process: `replay` gives prepared rows, `kept` takes rows in two phases, `known` finds
//! every key.
//!
//! Both find their world by the table's option `world`, so tests do not meet.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use connectors::{
    BadRecord, Connector, Context, Delivery, Error, FROM_THE_BEGINNING, Found, Lookup, OptionEntry, OptionInfo, Polled,
    Result, Sink, SourceReader, SplitStart, TableDef,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// time, key, value
pub type Row = (i64, i64, i64);

#[derive(Debug, Default)]
pub struct World {
    /// By split.
    pub rows: Vec<Vec<Row>>,
    pub batch_rows: usize,
    /// Rows of each split from here on are held back.
    pub gate: AtomicU64,
    /// A split that has no more to say from this row on, and does not end.
    pub silent: Option<(usize, u64)>,
    /// Where splits come into being: how many there are by now, of those that have rows.
    pub grown: Option<AtomicUsize>,
    /// Opening fails for now this often.
    pub refusals: AtomicU32,
    /// Rows whose value is this panic, do not decode, or fail the write for good.
    pub panics_at: Option<i64>,
    pub bad_at: Option<i64>,
    pub commits_fail: AtomicBool,
    /// The sink of this slot stands still while it is there.
    pub stalled: Mutex<Option<u32>>,
    /// Rows that sinks took, by slot.
    pub taken: Mutex<BTreeMap<u32, u64>>,
    /// Lookups fail for now this often.
    pub lookups_fail: AtomicU32,
    pub visible: Mutex<Visible>,
}

#[derive(Debug, Default)]
pub struct Visible {
    pub rows: Vec<String>,
    transactions: BTreeSet<String>,
}

impl World {
    fn n_splits(&self) -> usize {
        self.grown.as_ref().map_or(self.rows.len(), |grown| grown.load(SeqCst))
    }

    pub fn visible(&self) -> Vec<String> {
        let mut rows = self.visible.lock().expect("lock").rows.clone();
        rows.sort();
        rows
    }
}

static WORLDS: Mutex<BTreeMap<String, Arc<World>>> = Mutex::new(BTreeMap::new());

pub fn create(name: &str, world: World) -> Arc<World> {
    let world = Arc::new(world);
    let before = WORLDS.lock().expect("lock").insert(name.to_string(), Arc::clone(&world));
    assert!(before.is_none(), "world {name} is another test's");
    world
}

fn world(table: &TableDef) -> Arc<World> {
    let name = table.option("world").expect("option world");
    Arc::clone(&WORLDS.lock().expect("lock")[name])
}

pub fn find(name: &str) -> Option<&'static dyn Connector> {
    match name {
        "replay" => Some(&Replay),
        "kept" => Some(&Kept),
        "known" => Some(&Known),
        _ => None,
    }
}

pub fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    Arc::new(Schema::new(vec![
        Field::new("time", time, true),
        Field::new("key", DataType::Int64, true),
        Field::new("value", DataType::Int64, true),
    ]))
}

pub fn table(connector: &str, world: &str, schema: SchemaRef) -> TableDef {
    let option = |(key, value): (&str, &str)| OptionEntry {
        key: key.to_string(),
        value: value.to_string(),
        key_span: None,
        value_span: None,
    };
    let options = [("connector", connector), ("world", world)].map(option).to_vec();
    TableDef { name: format!("{world}_{connector}"), schema, primary_key: Vec::new(), options }
}

struct Replay;

impl Connector for Replay {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn doc(&self) -> &'static str {
        "rows of a test"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &[]
    }

    fn is_source(&self) -> bool {
        true
    }

    fn is_sink(&self) -> bool {
        false
    }

    fn bounded(&self, _table: &TableDef) -> bool {
        true
    }

    fn splits(&self, table: &TableDef, _context: &Context) -> Result<Vec<String>> {
        Ok((0..world(table).n_splits()).map(|split| format!("split-{split}")).collect())
    }

    fn discovers(&self, table: &TableDef) -> bool {
        world(table).grown.is_some()
    }

    fn open_source(
        &self,
        table: &TableDef,
        _projection: &[usize],
        splits: &[SplitStart],
        context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        let world = world(table);
        if world.refusals.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(Error::Transient("rows at 10.0.0.1:9 do not answer".to_string()));
        }
        let number =
            |start: &SplitStart| -> usize { start.split.trim_start_matches("split-").parse().expect("a number") };
        let from = |start: &SplitStart| start.from.filter(|from| *from != FROM_THE_BEGINNING).unwrap_or(0);
        let read = splits.iter().map(number).collect();
        let splits = splits.iter().map(|start| Some((number(start), from(start)))).collect();
        let share = (context.slot as usize, context.n_slots as usize);
        Ok(Box::new(ReplayReader { world, splits, turn: 0, read, share, found: Vec::new() }))
    }

    fn open_sink(&self, _table: &TableDef, _context: &Context) -> Result<Box<dyn Sink>> {
        Err(Error::Fatal("replay is no sink".to_string()))
    }
}

struct ReplayReader {
    world: Arc<World>,
    /// Split and position; gone at its end.
    splits: Vec<Option<(usize, u64)>>,
    turn: usize,
    /// Splits that this reader reads, or has read.
    read: BTreeSet<usize>,
    /// This slot, of so many.
    share: (usize, usize),
    found: Vec<String>,
}

impl SourceReader for ReplayReader {
    fn found(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found)
    }

    fn poll(&mut self, _wait: Duration) -> Result<Polled> {
        let n_splits = self.world.n_splits();
        if self.world.grown.is_some() {
            let (slot, n_slots) = self.share;
            for split in (0..n_splits).filter(|split| split % n_slots == slot) {
                if self.read.insert(split) {
                    self.splits.push(Some((split, 0)));
                    self.found.push(format!("split-{split}"));
                }
            }
        }
        let complete = n_splits == self.world.rows.len();
        if complete && self.splits.iter().all(Option::is_none) {
            return Ok(Polled::End);
        }
        for _ in 0..self.splits.len() {
            self.turn = (self.turn + 1) % self.splits.len();
            let Some((split, position)) = self.splits[self.turn] else { continue };
            let rows = &self.world.rows[split];
            if position as usize == rows.len() {
                self.splits[self.turn] = None;
                return Ok(Polled::SplitEnd { split: self.turn });
            }
            let silent = self.world.silent.filter(|(of, _)| *of == split).map_or(u64::MAX, |(_, from)| from);
            let gate = self.world.gate.load(SeqCst).min(silent).min(rows.len() as u64);
            let next = gate.min(position + self.world.batch_rows as u64);
            if next <= position {
                continue;
            }
            self.splits[self.turn] = Some((split, next));
            let rows = &rows[position as usize..next as usize];
            assert!(rows.iter().all(|row| Some(row.2) != self.world.panics_at), "a row that no test survives");
            let is_bad = |row: &&Row| Some(row.2) == self.world.bad_at;
            let bad = rows.iter().filter(is_bad).map(|row| BadRecord {
                split: format!("split-{split}"),
                position,
                bytes: format!("{row:?}").into_bytes(),
                error: "it is bad".to_string(),
            });
            let bad = bad.collect();
            let good: Vec<&Row> = rows.iter().filter(|row| !is_bad(row)).collect();
            return Ok(Polled::Batch { split: self.turn, batch: batch(&good), next, bad });
        }
        std::thread::sleep(Duration::from_millis(2));
        Ok(Polled::Idle)
    }
}

fn batch(rows: &[&Row]) -> RecordBatch {
    let times: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.0)).collect();
    let keys: Int64Array = rows.iter().map(|row| Some(row.1)).collect();
    let values: Int64Array = rows.iter().map(|row| Some(row.2)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(times.with_timezone("+00:00")), Arc::new(keys), Arc::new(values)];
    RecordBatch::try_new(schema(), columns).expect("columns fit")
}

struct Known;

impl Connector for Known {
    fn name(&self) -> &'static str {
        "known"
    }

    fn doc(&self) -> &'static str {
        "finds every key"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &[]
    }

    fn is_source(&self) -> bool {
        false
    }

    fn is_sink(&self) -> bool {
        false
    }

    fn bounded(&self, _table: &TableDef) -> bool {
        true
    }

    fn splits(&self, _table: &TableDef, _context: &Context) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn open_source(
        &self,
        _table: &TableDef,
        _projection: &[usize],
        _splits: &[SplitStart],
        _context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        Err(Error::Fatal("known is no source".to_string()))
    }

    fn open_sink(&self, _table: &TableDef, _context: &Context) -> Result<Box<dyn Sink>> {
        Err(Error::Fatal("known is no sink".to_string()))
    }

    fn open_lookup(
        &self,
        table: &TableDef,
        _keys: &[usize],
        _projection: &[usize],
        _context: &Context,
    ) -> Result<Box<dyn Lookup>> {
        Ok(Box::new(EveryKey { world: world(table) }))
    }
}

struct EveryKey {
    world: Arc<World>,
}

impl Lookup for EveryKey {
    fn get(&mut self, keys: &RecordBatch) -> Result<Found> {
        if self.world.lookups_fail.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(Error::Transient("keys at 10.0.0.1:9 are not answered".to_string()));
        }
        Ok(Found { rows: keys.clone(), keys: (0..keys.num_rows() as u32).collect() })
    }
}

struct Kept;

impl Connector for Kept {
    fn name(&self) -> &'static str {
        "kept"
    }

    fn doc(&self) -> &'static str {
        "results of a test"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &[]
    }

    fn is_source(&self) -> bool {
        false
    }

    fn is_sink(&self) -> bool {
        true
    }

    fn bounded(&self, _table: &TableDef) -> bool {
        true
    }

    fn delivery(&self, _table: &TableDef) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn splits(&self, _table: &TableDef, _context: &Context) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn open_source(
        &self,
        _table: &TableDef,
        _projection: &[usize],
        _splits: &[SplitStart],
        _context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        Err(Error::Fatal("kept is no source".to_string()))
    }

    fn open_sink(&self, table: &TableDef, context: &Context) -> Result<Box<dyn Sink>> {
        let writer = format!("{}-{}", context.generation, context.slot);
        let (world, slot) = (world(table), context.slot);
        Ok(Box::new(KeptSink { world, slot, writer, open: Vec::new(), prepared: Vec::new() }))
    }
}

struct KeptSink {
    world: Arc<World>,
    slot: u32,
    writer: String,
    open: Vec<String>,
    /// Transaction, epoch, rows.
    prepared: Vec<(String, u64, Vec<String>)>,
}

impl KeptSink {
    fn show(&self, transaction: &str, rows: &[String]) {
        let mut visible = self.world.visible.lock().expect("lock");
        if visible.transactions.insert(transaction.to_string()) {
            visible.rows.extend_from_slice(rows);
        }
    }
}

impl Sink for KeptSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        while *self.world.stalled.lock().expect("lock") == Some(self.slot) {
            std::thread::sleep(Duration::from_millis(1));
        }
        *self.world.taken.lock().expect("lock").entry(self.slot).or_default() += batch.num_rows() as u64;
        self.open.extend(lines(batch));
        Ok(())
    }

    fn prepare(&mut self, epoch: u64) -> Result<Vec<u8>> {
        let transaction = format!("{}-{epoch}", self.writer);
        self.prepared.push((transaction, epoch, std::mem::take(&mut self.open)));
        serde_json::to_vec(&self.prepared).map_err(|error| Error::Fatal(error.to_string()))
    }

    fn commit(&mut self, epoch: u64) -> Result<()> {
        if self.world.commits_fail.load(SeqCst) {
            return Err(Error::Fatal("the other end is gone".to_string()));
        }
        let (done, rest) = std::mem::take(&mut self.prepared).into_iter().partition(|(_, of, _)| *of <= epoch);
        self.prepared = rest;
        let done: Vec<(String, u64, Vec<String>)> = done;
        done.iter().for_each(|(transaction, _, rows)| self.show(transaction, rows));
        Ok(())
    }

    fn restore(&mut self, _epoch: u64, states: Vec<Vec<u8>>) -> Result<()> {
        for state in states {
            let prepared: Vec<(String, u64, Vec<String>)> =
                serde_json::from_slice(&state).map_err(|error| Error::Fatal(error.to_string()))?;
            prepared.iter().for_each(|(transaction, _, rows)| self.show(transaction, rows));
        }
        Ok(())
    }
}

/// One text per row.
pub fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default();
    let columns: Vec<ArrayFormatter<'_>> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("a type that can be shown"))
        .collect();
    let line = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" ");
    (0..batch.num_rows()).map(line).collect()
}
