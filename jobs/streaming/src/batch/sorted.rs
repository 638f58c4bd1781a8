//! Joins whose smaller side memory has no room for: both sides are sorted instead, which files have room for.
//!
//! Invariant: no row is given twice. A query begins anew only as long as nothing of it was given.

use super::exhausted;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNode;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use futures::{StreamExt, TryStreamExt, stream};

/// With one the planner hashes whatever it is told, and each more has two sorts with memory of their own, where the disk is
/// what is waited for.
const PARTITIONS: usize = 2;
/// What each sort keeps back for merging; by default all of a small query's memory would be that.
const SORT_RESERVATION: usize = 1 << 20;
/// A sort merges as many runs as it has memory for a batch of each.
const BATCH_ROWS: usize = 1024;

/// Runs a plan, whose joins are done by sorting where memory turns out too small for them.
pub(super) async fn execute(state: SessionState, plan: LogicalPlan) -> Result<SendableRecordBatchStream> {
    let physical = state.create_physical_plan(&plan).await?;
    let has_hash_table = physical.exists(|node| Ok(node.downcast_ref::<HashJoinExec>().is_some()))?;
    let rows = execute_stream(physical, state.task_ctx())?;
    Ok(if has_hash_table { or_sorted(rows, state, plan) } else { rows })
}

fn or_sorted(mut rows: SendableRecordBatchStream, state: SessionState, plan: LogicalPlan) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let begun = async move {
        let first = rows.next().await;
        match first {
            Some(Err(error)) if exhausted(&error) => {
                // With what it holds.
                drop(rows);
                tracing::info!(%error, "a query begins anew, and joins by sorting");
                let state = preferring_sorts(state);
                execute_stream(state.create_physical_plan(&plan).await?, state.task_ctx())
            }
            first => {
                let schema = rows.schema();
                let rows = stream::iter(first).chain(rows);
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)) as SendableRecordBatchStream)
            }
        }
    };
    Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(begun).try_flatten()))
}

fn preferring_sorts(state: SessionState) -> SessionState {
    let mut config = state.config().clone().with_target_partitions(PARTITIONS).with_batch_size(BATCH_ROWS);
    let options = config.options_mut();
    options.optimizer.prefer_hash_join = false;
    options.execution.sort_spill_reservation_bytes = SORT_RESERVATION;
    SessionStateBuilder::new_from_existing(state).with_config(config).build()
}

#[cfg(test)]
mod tests {
    use super::super::tests::context;
    use super::super::{Parameters, Planned};
    use super::*;
    use crate::batch::{BatchContext, Error, Memory, collect};
    use crate::functions::Functions;
    use crate::sql::parse;
    use arrow::util::pretty::pretty_format_batches;
    use std::path::Path;
    use tokio::runtime::Runtime;

    const TABLES: &str = "
    CREATE TABLE bids (id BIGINT, price BIGINT) WITH (connector = 'datagen', rows = 300000, splits = 2,
      fields.id.kind = sequence, fields.price.min = 0, fields.price.max = 999);
    ";
    const JOIN: &str = "SELECT COUNT(*) AS n, SUM(a.id + b.price) AS s, MAX(LENGTH(b.text)) AS most FROM \
        (SELECT id + 1 AS id, price, REPEAT('x', CAST(price % 400 AS BIGINT)) AS text FROM bids) b \
        JOIN bids a ON a.id = b.id";

    fn open(folder: &Path, memory_bytes: Option<u64>) -> BatchContext {
        let memory = memory_bytes.map(|bytes| Memory { bytes, spill_dir: folder.into() });
        BatchContext { memory, target_partitions: 1, ..context(folder) }
    }

    fn asked(memory_bytes: Option<u64>) -> Result<String, Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let (script, functions) = (parse(TABLES).expect("the file is right"), Functions::new());
        let rows = collect(&script, JOIN, &functions, open(folder.path(), memory_bytes));
        let rows = Runtime::new().expect("a runtime").block_on(rows)?;
        Ok(pretty_format_batches(&rows).expect("text").to_string())
    }

    #[test]
    fn a_join_that_memory_has_no_room_for_is_done_by_sorting() {
        let little = Some(40 << 20);
        let expected = asked(None).expect("there is memory enough");
        assert!(expected.contains("| 299999 |"), "{expected}");
        assert_eq!(asked(little).expect("it goes on in files"), expected);

        // By hashing alone it fails.
        let folder = tempfile::tempdir().expect("a folder");
        let (script, functions) = (parse(TABLES).expect("the file is right"), Functions::new());
        let open = open(folder.path(), little);
        let planned = Planned::new(&script, JOIN, &functions, Parameters::NONE, Some(open)).expect("it plans");
        let state = &planned.catalog.state;
        let by_hashing = async {
            let physical = state.create_physical_plan(&planned.plan).await?;
            execute_stream(physical, state.task_ctx())?.try_collect::<Vec<_>>().await
        };
        let error = Runtime::new().expect("a runtime").block_on(by_hashing).expect_err("there is too little memory");
        assert!(exhausted(&error), "{error}");
    }
}
