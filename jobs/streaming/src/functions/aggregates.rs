//! Aggregate functions that other dialects have and DataFusion lacks: `percentile_disc`, `mode`, `min_by`, `max_by`;
//! and `sum`, which does not wrap.
//!
//! Invariant: batch queries and streams have the same functions, and they give the same over the same rows.

mod extreme_by;
mod of_set;
mod room;
mod sum;

pub(crate) use extreme_by::ValueAtExtreme;
pub(crate) use of_set::is_of_set;
pub(crate) use room::Room;
pub(crate) use sum::{is_sum, out_of_range};

use datafusion::logical_expr::AggregateUDF;

/// All functions of this file.
pub(crate) fn aggregate_functions() -> [AggregateUDF; 5] {
    [of_set::percentile_disc(), of_set::mode(), extreme_by::min_by(), extreme_by::max_by(), sum::checked_sum()]
}
