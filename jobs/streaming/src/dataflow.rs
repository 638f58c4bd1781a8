//! The operators of one job, as planned: the line between SQL and the runtime.
//!
//! Every slice of every task holds all of these operators; rows move between slices only at an [`Operator::Exchange`].

use crate::functions::calls_versions;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use connectors::{Gives, TableDef};
use datafusion::common::JoinType;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::window::WindowExpr;
use std::sync::Arc;
use std::time::Duration;

/// A dataflow: nodes in topological order, inputs before their readers.
#[derive(Clone, Debug)]
pub struct Dataflow {
    pub nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
pub struct Node {
    /// Stable across restarts and across edits elsewhere in the query: derives from kind, keys, expressions and the
    /// ids of the inputs. State files are found by it.
    pub id: String,
    /// Indices of earlier nodes.
    pub inputs: Vec<usize>,
    pub operator: Operator,
    /// Schema of what this node emits; where it gives changes, the last column is their weight.
    pub schema: SchemaRef,
    /// Whether rows may be taken back; see `runtime::operators::changes`.
    pub changes: bool,
    /// How long it keeps what is not touched; nothing where its state is bounded by itself, or kept for ever. Not part of
    /// the id: state is found again when the time to live is changed.
    pub lifetime: Option<Lifetime>,
    /// The parts of the file that it was made from, for people: bytes, in rising order. Empty where nothing says.
    pub spans: Vec<(usize, usize)>,
}

/// When state is forgotten that event time does not bound; see `runtime::operators::expiring`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    pub ttl_us: i64,
    /// By input: its columns that hold the event time of its rows, Timestamp(µs, UTC). Without any, what a row touches
    /// counts from the next watermark on.
    pub times: Vec<Vec<usize>>,
}

#[derive(Clone, Debug)]
pub enum Operator {
    /// Reads a table. The emitted schema is the projected physical columns, and the weight where the table gives changes;
    /// of [`Gives::Upserts`] it is an [`Operator::Normalize`] alone that understands them.
    Source {
        table: TableDef,
        /// Indices into the table's schema.
        projection: Vec<usize>,
        /// Event time of the rows, computed per split from the emitted columns, before anything else sees them.
        watermark: Option<Watermark>,
    },
    /// Expressions over the input's columns.
    Project { exprs: Vec<Arc<dyn PhysicalExpr>> },
    /// Keeps rows for which the predicate is true.
    Filter { predicate: Arc<dyn PhysicalExpr> },
    /// A row for each item of the lists in the last columns, side by side; those columns then hold the items.
    Unnest {
        n_lists: usize,
        /// A row without items stays, once.
        outer: bool,
    },
    /// Sends each row to the slice that owns the hash of these columns.
    Exchange { keys: Vec<usize> },
    /// Event-time windows; rows come already on the slice that owns their key. Emits key columns, then window start and
    /// end, then one column per aggregate, when the watermark passes the window's end: once, or, with allowed lateness,
    /// again for rows that come later.
    WindowAggregate {
        window: Window,
        /// Column of the input that holds the event time, Timestamp(µs, UTC).
        time: usize,
        /// Columns of the input.
        keys: Vec<usize>,
        aggregates: Vec<Arc<AggregateFunctionExpr>>,
        /// Parallel to `aggregates`: FILTER (WHERE …).
        filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
        /// For how long after its end a window still takes rows.
        lateness_us: i64,
        /// The input is what a [`Operator::LocalAggregate`] gives: keys, the time, states, rows.
        partial: bool,
    },
    /// Before the exchange of an aggregation: what the rows of this slice amount to until the next flush, so that a key
    /// with many rows sends one. Emits key columns, with a window the start of the pane, the states of the aggregates, and
    /// with a window how many rows they are of. Keeps nothing over a checkpoint.
    LocalAggregate {
        /// And the column of event time.
        window: Option<(Window, usize)>,
        keys: Vec<usize>,
        aggregates: Vec<Arc<AggregateFunctionExpr>>,
        /// Parallel to `aggregates`: FILTER (WHERE …).
        filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    },
    /// The rows that came too late for its input, a window aggregate, as that one got them; `changes`: with weights.
    LateRows { changes: bool },
    /// Passes rows on; its event time is that much behind, so that what follows waits for rows that are late.
    HoldBack { by_us: i64 },
    /// Aggregates of all rows so far, one row per key, as a changelog; rows come already on the slice that owns their key.
    /// Emits key columns, then one column per aggregate. Without keys there is one row from the beginning on.
    GroupAggregate {
        keys: Vec<usize>,
        aggregates: Vec<Arc<AggregateFunctionExpr>>,
        /// Parallel to `aggregates`: FILTER (WHERE …).
        filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    },
    /// Two inputs, left and right; rows with equal keys come to the same slice. Emits the columns of both, of a semi or
    /// anti join those of the left one, of a mark join those and whether the row has a match.
    Join(Join),
    /// Two inputs, left and right; rows with equal keys come to the same slice. Adds to each left row the version of its key
    /// at its event time. Emits the columns of both, once, when the watermark has passed the row. The left input may take
    /// rows back until then.
    Temporal(Temporal),
    /// Adds to each row the rows of a table outside that have its key, as they are when it passes. Emits the input's columns
    /// and then the table's.
    Lookup(Box<Lookup>),
    /// Of the rows of each key the first ones in an order.
    TopN {
        keys: Vec<usize>,
        order: Vec<Order>,
        /// Ranks from the first to this one, counted from 1.
        limit: usize,
        /// Adds a column with the rank, UInt64.
        rank: bool,
        /// Column of event time, by which the order rises: a row is emitted once, when the watermark has passed it.
        time: Option<usize>,
    },
    /// Adds a column per function, computed over the rows of the same key in an order.
    Over {
        keys: Vec<usize>,
        order: Vec<Order>,
        functions: Vec<Arc<dyn WindowExpr>>,
        /// Column of event time: the order is rising event time and no function looks ahead, so a row is final, and
        /// emitted once, when the watermark has passed it.
        time: Option<usize>,
    },
    /// Before a table that is written by key: at most one row per key, the latest that is still there, as a changelog.
    Upsert { keys: Vec<usize> },
    /// Behind a table that is read by key: its upserts as a changelog; rows come already on the slice that owns their key.
    Normalize { keys: Vec<usize> },
    /// Rows of all inputs, in any order.
    Union,
    /// Writes a table. The input's columns are the table's, in order.
    Sink { table: TableDef },
    /// Rows go to the caller: the result of a bare SELECT.
    Collect,
}

impl Node {
    fn calls_versions(&self) -> bool {
        match &self.operator {
            Operator::Project { exprs } => exprs.iter().any(calls_versions),
            Operator::Filter { predicate } => calls_versions(predicate),
            _ => false,
        }
    }
}

impl Operator {
    /// Whether the rows that it emits may be taken back, given whether those of its inputs are.
    pub fn gives_changes(&self, inputs: &[bool]) -> bool {
        match self {
            // Keys alone, once there, stay.
            Self::GroupAggregate { aggregates, .. } => !aggregates.is_empty() || inputs[0],
            // Without lateness it answers once, also where its input takes rows back.
            Self::WindowAggregate { lateness_us, .. } => *lateness_us > 0,
            Self::LateRows { changes } => *changes,
            Self::Upsert { .. } | Self::Normalize { .. } => true,
            Self::Source { table, .. } => connectors::gives(table) != Gives::Rows,
            Self::TopN { time, .. } | Self::Over { time, .. } => time.is_none(),
            // It answers once, also where its left input takes rows back.
            Self::Temporal(_) => false,
            Self::Join(join) => join.gives_changes(inputs[0], inputs[1]),
            _ => inputs.iter().any(|changes| *changes),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Join {
    pub kind: JoinType,
    /// Parallel: columns of the left and of the right input that must be equal. None at all: every row meets every row.
    pub left_keys: Vec<usize>,
    pub right_keys: Vec<usize>,
    /// Two nulls are equal keys, as in INTERSECT.
    pub nulls_equal: bool,
    /// What else must hold, over the left columns and then the right ones, without weights.
    pub residual: Option<Arc<dyn PhysicalExpr>>,
    /// How far apart in event time rows can be that meet; without it they are kept for ever.
    pub bounds: Option<Bounds>,
}

impl Join {
    /// Whether the rows that it emits may be taken back, given whether those of its inputs are.
    pub fn gives_changes(&self, left: bool, right: bool) -> bool {
        let settled = self.bounds.is_some() || matches!(self.kind, JoinType::Inner | JoinType::LeftSemi);
        left || right || !settled
    }
}

/// See [`Operator::Temporal`].
#[derive(Clone, Debug)]
pub struct Temporal {
    /// Parallel: columns of the left and of the right input that must be equal; a null is equal to nothing.
    pub left_keys: Vec<usize>,
    pub right_keys: Vec<usize>,
    /// Columns of event time, Timestamp(µs, UTC), of the left and of the right input.
    pub left_time: usize,
    pub right_time: usize,
    /// Rows without a match stay, with nulls.
    pub outer: bool,
    /// What else must hold of a row and its version, over the left columns and then the right ones.
    pub residual: Option<Arc<dyn PhysicalExpr>>,
}

/// See [`Operator::Lookup`].
#[derive(Clone, Debug)]
pub struct Lookup {
    pub table: TableDef,
    /// Parallel: columns of the table by which it finds rows, and of the input that hold what they must be equal to. A
    /// null is equal to nothing.
    pub table_keys: Vec<usize>,
    pub input_keys: Vec<usize>,
    /// Columns of the table that are read.
    pub projection: Vec<usize>,
    /// The columns that are added, over the columns that are read.
    pub exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// Rows without a match stay, with nulls.
    pub outer: bool,
    /// What else must hold, over the input's columns and then the added ones.
    pub residual: Option<Arc<dyn PhysicalExpr>>,
    /// What a slice remembers of answers; without it every batch asks for all its keys.
    pub cache: Option<LookupCache>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupCache {
    /// Rows of answers, a key without rows counting as one; the keys that were used longest ago go first.
    pub max_rows: usize,
    /// How long an answer holds.
    pub ttl: Duration,
}

impl LookupCache {
    /// What holds of an option that is not given while the other one is.
    pub const DEFAULT: Self = Self { max_rows: 10_000, ttl: Duration::from_secs(60) };
}

/// Rows meet only if `lower_us <= right time - left time <= upper_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Columns of event time, Timestamp(µs, UTC), of the left and of the right input.
    pub left_time: usize,
    pub right_time: usize,
    pub lower_us: i64,
    pub upper_us: i64,
}

/// A column to order by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub column: usize,
    pub options: SortOptions,
}

/// How event time and watermark of a source are computed.
#[derive(Clone, Debug)]
pub struct Watermark {
    /// Timestamp(µs, UTC) over the source's emitted columns: the row's event time.
    pub time: Arc<dyn PhysicalExpr>,
    /// Timestamp(µs, UTC) over the source's emitted columns: rows before this are not expected after this row.
    pub watermark: Arc<dyn PhysicalExpr>,
    /// A split without rows for this long does not hold the watermark back.
    pub idle_ms: Option<u64>,
}

/// Widths and slides in microseconds. Windows are aligned to the epoch, or to `offset_us` after it, which is less than the
/// time from one window's start to the next one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    Tumble {
        width_us: i64,
        offset_us: i64,
    },
    Hop {
        width_us: i64,
        slide_us: i64,
        offset_us: i64,
    },
    /// Windows of `width_us` as in a tumble, each told every `step_us`: from its start to the end of that step.
    Cumulate {
        width_us: i64,
        step_us: i64,
        offset_us: i64,
    },
    /// Runs of rows of one key whose neighbours are less than this apart; a window ends that long after its last row.
    Session {
        gap_us: i64,
    },
}

impl Dataflow {
    /// A text that is equal exactly when two plans of the same job have the same operators.
    pub fn fingerprint(&self) -> String {
        let ids: Vec<&str> = self.nodes.iter().map(|node| node.id.as_str()).collect();
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(ids.join(";").as_bytes()))
    }

    /// Whether it uses functions of things that have versions.
    pub fn has_versions(&self) -> bool {
        self.nodes.iter().any(Node::calls_versions)
    }

    /// Whether it stays with the versions that it began with: a row that another version would take back is another row.
    pub fn keeps_versions(&self) -> bool {
        let over_changes = |node: &Node| node.inputs.iter().any(|input| self.nodes[*input].changes);
        self.nodes.iter().any(|node| node.calls_versions() && over_changes(node))
    }

    /// Whether rows pass between its slices. The tasks of a job without an exchange depend on each other in nothing.
    pub fn exchanges(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.operator, Operator::Exchange { .. }))
    }

    /// Whether every source comes to an end by itself.
    pub fn bounded(&self) -> bool {
        self.nodes.iter().all(|node| match &node.operator {
            Operator::Source { table, .. } => {
                connectors::find(table.connector()).is_some_and(|connector| connector.bounded(table))
            }
            _ => true,
        })
    }
}
