//! What a connector is: the seam between the streaming runtime and the outside.
//!
//! Rows come to a sink in one of two ways, the same for the whole life of a sink. A query whose rows are final *appends*:
//! the runtime calls [`Sink::write`]. A query that takes rows back gives a *changelog*: every row has a weight, +1 for a
//! row that is there now and -1 for one that is there no longer, and the runtime calls [`Sink::change`]. What a table does
//! with a changelog is [`Connector::takes`]; a table that appends only is refused for such a query before the job runs
//! ([`crate::refuses_changes`]). What a source gives is [`Connector::gives`], in the same two ways.

use arrow::array::{ArrayRef, Int8Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use jobs::Diagnostic;
use std::path::PathBuf;
use std::time::Duration;

/// One `key = 'value'` of a `WITH (…)`, with where it stands in the file.
#[derive(Clone, PartialEq, Eq)]
pub struct OptionEntry {
    pub key: String,
    pub value: String,
    pub key_span: Option<(usize, usize)>,
    pub value_span: Option<(usize, usize)>,
}

impl std::fmt::Debug for OptionEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if crate::secrets::is_secret(&self.key) { "***" } else { &self.value };
        f.debug_struct("OptionEntry").field("key", &self.key).field("value", &value).finish_non_exhaustive()
    }
}

/// A table of a job file, settled: what its connector needs to open it.
#[derive(Clone, Debug)]
pub struct TableDef {
    pub name: String,
    /// The physical columns, in written order and case. Computed columns are not here: the planner adds them.
    pub schema: SchemaRef,
    /// Indices into `schema`.
    pub primary_key: Vec<usize>,
    /// Includes `connector`; a table without one has connector `table`.
    pub options: Vec<OptionEntry>,
}

impl TableDef {
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }

    pub fn connector(&self) -> &str {
        self.option("connector").unwrap_or("table")
    }

    /// The columns that are not of the record's value but come with it, as indices into `schema`, with what was declared
    /// of them: `name`, or `name VIRTUAL`. They are options too, whose keys begin with [`METADATA`], so that a connector
    /// which has none refuses them like any option that it does not know.
    pub fn metadata(&self) -> impl Iterator<Item = (usize, &OptionEntry)> {
        self.options.iter().filter_map(|entry| {
            let column = entry.key.strip_prefix(METADATA)?;
            Some((self.schema.index_of(column).ok()?, entry))
        })
    }
}

/// What the keys of options begin with that declare a column to be metadata; the column's name follows.
pub const METADATA: &str = "metadata.";

/// What a task gives its connectors besides the table: who it is and where things are.
#[derive(Clone, Debug)]
pub struct Context {
    /// For example `fraud/features`; with `slot` it names transactional ids and consumer groups.
    pub job: String,
    pub generation: u64,
    /// Microseconds since the epoch at which the runner claimed this generation; larger than any earlier claim, and the
    /// same for all of its tasks. What an earlier generation still sends may be refused by it.
    pub claimed_us: i64,
    /// When this life of the task began: `claimed_us`, or larger where it takes the place of a life whose process has ended
    /// while the other tasks go on. Larger than that of any earlier life or generation, so it names what a life leaves
    /// outside, and the Cassandra sink's write timestamps start here. It fences nobody: the others' lives may be older.
    pub begun_us: i64,
    /// This slice among all slices of the job.
    pub slot: u32,
    pub n_slots: u32,
    /// Relative paths are relative to this.
    pub base_dir: PathBuf,
    /// `http://host:port` of the table store, see [`crate::TableDef`]; absent where there is none.
    pub tables_endpoint: Option<String>,
    /// Bearer token for the table store.
    pub token: Option<String>,
}

/// Why an operation of a connector failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other end did not answer or refused for now; trying again may help and the runtime does so, with back-off,
    /// telling why. The text names the address.
    #[error("{0}")]
    Transient(String),
    /// Trying again cannot help: the text names the thing, the place and the way out.
    #[error("{0}")]
    Fatal(String),
}

pub type Result<T> = std::result::Result<T, Error>;

/// Where to go on reading a split: the next Kafka offset, generator event number, or row of a file.
pub type Position = u64;

/// A record that did not decode. Never dropped silently: the runtime counts it and hands it to the dead-letter place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    pub split: String,
    pub position: Position,
    pub bytes: Vec<u8>,
    pub error: String,
}

/// What one poll of a source gave.
#[derive(Debug)]
pub enum Polled {
    /// Rows of one split, in its order. `next` is where to go on after them: it rides with the rows, so that a
    /// checkpoint never runs ahead of what was processed. A batch may be empty when all its records were bad. The batch
    /// of a table that gives more than [`Gives::Rows`] has one column more, the last one: the weights.
    Batch { split: usize, batch: RecordBatch, next: Position, bad: Vec<BadRecord> },
    /// This split has ended and gives nothing more.
    SplitEnd { split: usize },
    /// Nothing came within the wait.
    Idle,
    /// All splits have ended.
    End,
}

/// Where to begin a split that is new to a job which goes on from a checkpoint: at its first record, whatever the table's
/// options say of the job's first start. Given only to connectors that discover splits.
pub const FROM_THE_BEGINNING: Position = Position::MAX;

/// One split to be read and where to begin; `None` is where the table's options say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitStart {
    pub split: String,
    pub from: Option<Position>,
}

/// Reads some splits of a table. `Polled::Batch::split` indexes the list it was opened with.
pub trait SourceReader: Send {
    /// Waits at most `wait` for the next rows. Decoding happens here, in the reader's own thread.
    fn poll(&mut self, wait: Duration) -> Result<Polled>;

    /// Tells the outside how far the job has durably come (for lag tools); never needed for correctness.
    fn checkpointed(&mut self, _positions: &[(usize, Position)]) {}

    /// The names of splits that were found since the last call. They are the next ones, in this order: what `poll` gives
    /// from now on may be theirs. Asked for after each poll, before its answer is looked at.
    fn found(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// By split, as far as it is known: how many records there are that were not given yet.
    fn behind(&self) -> Vec<Option<u64>> {
        Vec::new()
    }
}

/// Writes one slice's rows of a table. Calls come in this order: `restore` at most once, then any number of `write` or
/// `change`, `prepare(e)`, `commit(e)` with rising epochs; rows of the next epoch may be written before `commit(e)`.
///
/// What `write` promises of rows holds of changes as well: what [`Connector::delivery`] says after a crash at any moment
/// is said of the deletions, too, and they take effect in their order among the rows.
pub trait Sink: Send {
    /// Rows that are there from now on. To a table that takes [`Takes::Upsert`] they are rows by primary key too: a later
    /// one replaces the earlier one of its key.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Changes of rows: `batch` has the table's columns and no other, and `weights` is as long as it, without nulls, each
    /// +1 or -1. Called only for a table that takes more than [`Takes::Append`].
    ///
    /// - [`Takes::Upsert`]: at most one row per primary key in one call, so their order within it means nothing. +1 writes
    ///   the row, whatever was under its key. -1 removes the row with this key, if there is one; its other columns hold
    ///   the values last known, and nothing may depend on them. A later call takes effect after an earlier one, and all
    ///   calls about one key come to the same slice. Where delivery is not exactly once, the runtime gives -1 also for a
    ///   key that came and went since the call before: a process that was killed may have written it.
    /// - [`Takes::Changes`]: every change as it is, in the stream's order. The two halves of an update may come in either
    ///   order and in different calls; the sum of the weights of equal rows is what holds in the end.
    ///
    /// On a transient error nothing of `batch` was taken, so that it can be given again.
    fn change(&mut self, _batch: &RecordBatch, _weights: &Int8Array) -> Result<()> {
        Err(Error::Fatal("this table takes appended rows only, and was given changes of rows".to_owned()))
    }

    /// Ends the epoch: when it returns, all rows written so far are either acknowledged by the other end or contained
    /// in the returned bytes, which are kept with the checkpoint. The bytes hold everything prepared and not yet
    /// committed, also of earlier epochs whose manifest never came.
    fn prepare(&mut self, epoch: u64) -> Result<Vec<u8>>;

    /// The manifest of `epoch` is durable: makes its rows (and those of all epochs before it) visible. Idempotent.
    fn commit(&mut self, epoch: u64) -> Result<()>;

    /// Begins from the checkpoint of `epoch`: `states` are the bytes that the slices of the earlier generation (or the
    /// earlier life of this very task) returned from `prepare(epoch)` and that fall to this one. Epochs that were prepared but perhaps not committed
    /// are finished now: committed if that did not happen yet, never forgotten and never doubled.
    fn restore(&mut self, epoch: u64, states: Vec<Vec<u8>>) -> Result<()>;
}

/// A column that has one of some values in all rows that are wanted.
#[derive(Clone, Debug)]
pub struct OneOf {
    /// Index into the table's schema.
    pub column: usize,
    /// Of the column's type, none of them null.
    pub values: ArrayRef,
}

/// What a lookup found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The columns that were wanted, of all rows of all keys; those of one key stand in the table's own order.
    pub rows: RecordBatch,
    /// By row: which of the keys that were asked for it has. As long as `rows`.
    pub keys: Vec<u32>,
}

/// Finds rows of a table by key, as they are at the moment of asking.
pub trait Lookup: Send {
    /// The rows of these keys, of which no two are equal and none holds a null. A key without rows is simply not among
    /// what was found. The call returns when all are answered; how many requests are under way meanwhile is the
    /// connector's matter, and bounded. After a transient error the whole call may be made again.
    fn get(&mut self, keys: &RecordBatch) -> Result<Found>;
}

/// What a sink promises when processes are killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Rows may appear again after a crash.
    AtLeastOnce,
    /// Rows may be written again, onto themselves: same key, same result.
    Idempotent,
    /// Every row is visible once.
    ExactlyOnce,
}

/// What a table does with a changelog; it is said of the table's declaration, before anything is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: rows are appended, and what was appended stays.
    Append,
    /// One row per primary key, which is not empty: a row replaces the one of its key, or removes it.
    Upsert,
    /// Every change, as a row with its weight.
    Changes,
}

/// The columns of a table, as whoever has its rows tells them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// In the order in which a person would declare them.
    pub columns: Vec<(String, DataType)>,
    /// By what rows are told apart there, as indices into `columns`; empty where nothing says it.
    pub primary_key: Vec<usize>,
}

/// What a source gives; it is said of the table's declaration, before anything is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// Rows that stay.
    Rows,
    /// Changes of rows, as [`Takes::Changes`] takes them: +1 for a row that is there now, -1 for one that is there no
    /// longer, with all of its columns.
    Changes,
    /// One row per primary key, which is not empty and never null: +1 replaces whatever was under its key, -1 says that
    /// nothing is, and then only the columns of the key mean anything. All that is said of a key is in one split, in its
    /// order. A reader is always asked for the columns of the key, too.
    Upserts,
}

/// One option that a connector understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionInfo {
    pub name: &'static str,
    /// For people: `text`, `number`, `duration`, `bool`, or `a|b|c`.
    pub kind: &'static str,
    pub default: Option<&'static str>,
    pub required: bool,
    pub doc: &'static str,
}

/// What a record has beside its value, and a column can be declared to hold with `METADATA FROM 'name'`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataInfo {
    pub name: &'static str,
    /// For people, as SQL writes it; `a|b` is either.
    pub kind: &'static str,
    /// Whether a sink writes it.
    pub writable: bool,
    pub doc: &'static str,
}

/// A kind of table: what it can do and how it is opened.
pub trait Connector: Send + Sync {
    fn name(&self) -> &'static str;

    fn doc(&self) -> &'static str;

    fn options(&self) -> &'static [OptionInfo];

    /// Options beginning with one of these are passed through unchecked (`librdkafka.`).
    fn option_prefixes(&self) -> &'static [&'static str] {
        &[]
    }

    /// What columns can hold beside the record's value.
    fn metadata(&self) -> &'static [MetadataInfo] {
        &[]
    }

    fn is_source(&self) -> bool;

    fn is_sink(&self) -> bool;

    /// Checks what can be checked without the network: option values against each other and against the columns.
    /// Names and required options were checked before.
    fn check(&self, _table: &TableDef) -> Vec<Diagnostic> {
        Vec::new()
    }

    /// The columns of a table that is declared without any, where the other end, a file or the connector itself knows them;
    /// else nothing. May ask the other end. `table`: its schema is empty, and its options have been checked by name.
    fn columns(&self, _table: &TableDef, _context: &Context) -> Result<Option<Columns>> {
        Ok(None)
    }

    /// Whether reading the table comes to an end by itself.
    fn bounded(&self, table: &TableDef) -> bool;

    fn delivery(&self, _table: &TableDef) -> Delivery {
        Delivery::AtLeastOnce
    }

    /// What the table does with the changelog of a query that takes rows back.
    fn takes(&self, _table: &TableDef) -> Takes {
        Takes::Append
    }

    /// What a table that takes [`Takes::Append`] would have to declare to take more, as an order: `declare …`. Absent
    /// where nothing helps but another connector.
    fn to_take_changes(&self, _table: &TableDef) -> Option<&'static str> {
        None
    }

    /// What the rows of the table are when it is read.
    fn gives(&self, _table: &TableDef) -> Gives {
        Gives::Rows
    }

    /// Whether a table may be opened for reading with struct columns that have lost some of their fields: those are then
    /// not decoded.
    fn reads_fields(&self, _table: &TableDef) -> bool {
        false
    }

    /// Why this very table cannot be written, though the connector is a sink; said before the job runs.
    fn refuses_writing(&self, _table: &TableDef) -> Option<Diagnostic> {
        None
    }

    /// The names of all splits, in an order that every task sees alike. May ask the other end.
    fn splits(&self, table: &TableDef, context: &Context) -> Result<Vec<String>>;

    /// What an earlier version called this split, in checkpoints that it wrote.
    fn formerly(&self, _table: &TableDef, _split: &str) -> Option<String> {
        None
    }

    /// Whether readers look for splits that come into being while they read ([`SourceReader::found`]). Each slice has a
    /// reader then, also one that has nothing to read yet.
    fn discovers(&self, _table: &TableDef) -> bool {
        false
    }

    /// The slice, of so many, that reads this split, which is at place `at` of all. Where splits are discovered, the answer
    /// does not depend on `at`: slices that look at different times see different lists.
    fn slot_of(&self, _table: &TableDef, _split: &str, at: usize, n_slots: u32) -> u32 {
        (at as u64 % u64::from(n_slots)) as u32
    }

    /// `projection`: the columns wanted, as indices into the table's schema; batches hold exactly these, and a weight
    /// where the table gives changes.
    fn open_source(
        &self,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        context: &Context,
    ) -> Result<Box<dyn SourceReader>>;

    /// Whether [`Connector::open_found`] may find rows of the table.
    fn finds_rows(&self, _table: &TableDef) -> bool {
        false
    }

    /// Reads the rows in which these columns have these values without reading all others, if the table has them in an order
    /// for that; else nothing. Rows with other values may come along. Asked only of a table that ends, where
    /// positions do not matter.
    fn open_found(
        &self,
        _table: &TableDef,
        _projection: &[usize],
        _wanted: &[OneOf],
        _context: &Context,
    ) -> Result<Option<Box<dyn SourceReader>>> {
        Ok(None)
    }

    fn open_sink(&self, table: &TableDef, context: &Context) -> Result<Box<dyn Sink>>;

    /// A query looks rows up whose columns `equal` have given values: by which of them the table finds its rows, in the
    /// order in which [`Connector::open_lookup`] takes them; what the others ask is compared afterwards. The mistake
    /// says by what the table can be looked up.
    fn lookup_keys(&self, table: &TableDef, _equal: &[usize]) -> std::result::Result<Vec<usize>, Diagnostic> {
        let text = format!("'{}' cannot be looked up: connector '{}' finds no rows by key", table.name, self.name());
        Err(Diagnostic::new(text).help("look up in a table of the table store (no connector) or of Cassandra"))
    }

    /// `keys`: as [`Connector::lookup_keys`] gave them. `projection`: the columns wanted, at least one.
    fn open_lookup(
        &self,
        table: &TableDef,
        _keys: &[usize],
        _projection: &[usize],
        _context: &Context,
    ) -> Result<Box<dyn Lookup>> {
        let text =
            format!("table '{}' cannot be looked up: connector '{}' finds no rows by key", table.name, self.name());
        Err(Error::Fatal(text))
    }
}
