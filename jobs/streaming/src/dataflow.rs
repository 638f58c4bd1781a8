//! The operators of one job, as planned: the line between SQL and the runtime.
//!
//! Every slice of every task holds all of these operators; rows move between slices only at an [`Operator::Exchange`].

use arrow::datatypes::SchemaRef;
use connectors::TableDef;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use std::sync::Arc;

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
    /// Schema of what this node emits.
    pub schema: SchemaRef,
}

#[derive(Clone, Debug)]
pub enum Operator {
    /// Reads a table. The emitted schema is the projected physical columns.
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
    /// Sends each row to the slice that owns the hash of these columns.
    Exchange { keys: Vec<usize> },
    /// Event-time windows; rows come already on the slice that owns their key. Emits key columns, then window start and
    /// end, then one column per aggregate, once, when the watermark passes the window's end.
    WindowAggregate {
        window: Window,
        /// Column of the input that holds the event time, Timestamp(µs, UTC).
        time: usize,
        /// Columns of the input.
        keys: Vec<usize>,
        aggregates: Vec<Arc<AggregateFunctionExpr>>,
        /// Parallel to `aggregates`: FILTER (WHERE …).
        filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    },
    /// Rows of all inputs, in any order.
    Union,
    /// Writes a table. The input's columns are the table's, in order.
    Sink { table: TableDef },
    /// Rows go to the caller: the result of a bare SELECT.
    Collect,
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

/// Widths and slides in microseconds, aligned to the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    Tumble { width_us: i64 },
    Hop { width_us: i64, slide_us: i64 },
}

impl Dataflow {
    /// A text that is equal exactly when two plans of the same job have the same operators.
    pub fn fingerprint(&self) -> String {
        let ids: Vec<&str> = self.nodes.iter().map(|node| node.id.as_str()).collect();
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(ids.join(";").as_bytes()))
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
