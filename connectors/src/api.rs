//! What a connector is: the seam between the streaming runtime and the outside.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use jobs::Diagnostic;
use std::path::PathBuf;
use std::time::Duration;

/// One `key = 'value'` of a `WITH (…)`, with where it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionEntry {
    pub key: String,
    pub value: String,
    pub key_span: Option<(usize, usize)>,
    pub value_span: Option<(usize, usize)>,
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
}

/// What a task gives its connectors besides the table: who it is and where things are.
#[derive(Clone, Debug)]
pub struct Context {
    /// For example `fraud/features`; with `slot` it names transactional ids and consumer groups.
    pub job: String,
    pub generation: u64,
    /// Microseconds since the epoch at which the runner claimed this generation; larger than any earlier claim. The
    /// Cassandra sink's write timestamps start here.
    pub claimed_us: i64,
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
    /// checkpoint never runs ahead of what was processed. A batch may be empty when all its records were bad.
    Batch { split: usize, batch: RecordBatch, next: Position, bad: Vec<BadRecord> },
    /// This split has ended and gives nothing more.
    SplitEnd { split: usize },
    /// Nothing came within the wait.
    Idle,
    /// All splits have ended.
    End,
}

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
}

/// Writes one slice's rows of a table. Calls come in this order: `restore` at most once, then any number of `write`,
/// `prepare(e)`, `commit(e)` with rising epochs; rows of the next epoch may be written before `commit(e)`.
///
/// What is promised after a crash at any moment is [`Connector::delivery`].
pub trait Sink: Send {
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Ends the epoch: when it returns, all rows written so far are either acknowledged by the other end or contained
    /// in the returned bytes, which are kept with the checkpoint. The bytes hold everything prepared and not yet
    /// committed, also of earlier epochs whose manifest never came.
    fn prepare(&mut self, epoch: u64) -> Result<Vec<u8>>;

    /// The manifest of `epoch` is durable: makes its rows (and those of all epochs before it) visible. Idempotent.
    fn commit(&mut self, epoch: u64) -> Result<()>;

    /// Begins from the checkpoint of `epoch`: `states` are the bytes that the slices of the earlier generation
    /// returned from `prepare(epoch)` and that fall to this one. Epochs that were prepared but perhaps not committed
    /// are finished now: committed if that did not happen yet, never forgotten and never doubled.
    fn restore(&mut self, epoch: u64, states: Vec<Vec<u8>>) -> Result<()>;
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

/// A kind of table: what it can do and how it is opened.
pub trait Connector: Send + Sync {
    fn name(&self) -> &'static str;

    fn doc(&self) -> &'static str;

    fn options(&self) -> &'static [OptionInfo];

    /// Options beginning with one of these are passed through unchecked (`librdkafka.`).
    fn option_prefixes(&self) -> &'static [&'static str] {
        &[]
    }

    fn is_source(&self) -> bool;

    fn is_sink(&self) -> bool;

    /// Checks what can be checked without the network: option values against each other and against the columns.
    /// Names and required options were checked before.
    fn check(&self, _table: &TableDef) -> Vec<Diagnostic> {
        Vec::new()
    }

    /// Whether reading the table comes to an end by itself.
    fn bounded(&self, table: &TableDef) -> bool;

    fn delivery(&self, _table: &TableDef) -> Delivery {
        Delivery::AtLeastOnce
    }

    /// The names of all splits, in an order that every task sees alike. May ask the other end.
    fn splits(&self, table: &TableDef, context: &Context) -> Result<Vec<String>>;

    /// `projection`: the columns wanted, as indices into the table's schema; batches hold exactly these.
    fn open_source(
        &self,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        context: &Context,
    ) -> Result<Box<dyn SourceReader>>;

    fn open_sink(&self, table: &TableDef, context: &Context) -> Result<Box<dyn Sink>>;
}
