//! One slice stands still: those that send to it are held back once its queues are full, and until then every other slice
//! gets what is its own.

use super::*;
use crate::runtime::exchange::partition::partition;
use crate::runtime::exchange::{EDGE_QUEUE, GATHERED};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};

const BATCH_ROWS: usize = 1_000;
/// Some times what the queues hold.
const N_BATCHES: usize = 60;
const N_SLOTS: u32 = 3;
/// Neither the slice that reads, nor the last to which parts are dealt.
const STALLED: u32 = 1;

/// replay -> exchange by key -> kept.
fn dealt(name: &str) -> Dataflow {
    let schema = world::schema();
    let source = Operator::Source {
        table: world::table("replay", name, Arc::clone(&schema)),
        projection: vec![0, 1, 2],
        watermark: None,
    };
    let sink = Operator::Sink { table: world::table("kept", name, Arc::clone(&schema)) };
    let operators = [("source", source), ("exchange", Operator::Exchange { keys: vec![1] }), ("sink", sink)];
    let node = |(at, (id, operator)): (usize, (&str, Operator))| Node {
        id: id.to_string(),
        inputs: at.checked_sub(1).into_iter().collect(),
        operator,
        schema: Arc::clone(&schema),
        changes: false,
        lifetime: None,
        spans: Vec::new(),
    };
    Dataflow { nodes: operators.into_iter().enumerate().map(node).collect() }
}

/// How many of these rows go to each slot.
fn dealt_to(rows: &[Row]) -> Vec<u64> {
    let keys: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>());
    let batch = RecordBatch::try_from_iter([("key", keys)]).expect("a batch");
    let mut dealt = vec![0; N_SLOTS as usize];
    for (slot, rows) in partition(&batch, &[0], N_SLOTS).expect("keys") {
        dealt[slot as usize] = rows.num_rows() as u64;
    }
    dealt
}

fn to_others(rows: &[Row]) -> u64 {
    dealt_to(rows).iter().enumerate().filter(|(slot, _)| *slot != STALLED as usize).map(|(_, n)| n).sum()
}

fn check(name: &str, tasks: u32, slices: u32, holds_back: bool) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let rows: Vec<Row> = (0..BATCH_ROWS * N_BATCHES).map(|at| (at as i64, (at % 97) as i64, at as i64)).collect();
    assert!(rows.chunks(BATCH_ROWS).all(|rows| dealt_to(rows).iter().all(|n| *n > 0)), "each batch has rows for all");
    let world =
        World { rows: vec![rows.clone()], batch_rows: BATCH_ROWS, gate: AtomicU64::new(u64::MAX), ..World::default() };
    *world.stalled.lock().expect("lock") = Some(STALLED);
    let world = world::create(name, world);
    let mut config = config(dir.path(), tasks, slices);
    config.checkpoint_interval_ms = 0;
    let job = run(dealt(name), config).expect("start");
    // One batch is being written, some wait in the queue, and a few are kept by the slice that has read them.
    let (least, most) = match holds_back {
        true => ((1 + EDGE_QUEUE + 1) * BATCH_ROWS, (1 + EDGE_QUEUE + GATHERED) * BATCH_ROWS),
        false => (rows.len(), rows.len()),
    };
    until(&job, "all rows of the others", |status| {
        let taken = world.taken.lock().expect("lock");
        status.metrics.rows_in >= least as u64
            && taken.values().sum::<u64>() == to_others(&rows[..(status.metrics.rows_in as usize).min(rows.len())])
    });
    let rows_in = job.status().metrics.rows_in;
    assert!(rows_in <= most as u64, "{rows_in} rows are read, of which {most} have a place");
    assert_eq!(world.taken.lock().expect("lock").get(&STALLED), None);
    *world.stalled.lock().expect("lock") = None;
    assert_eq!(job.wait().expect("run"), Outcome::Finished);
    assert_eq!(world.taken.lock().expect("lock").values().copied().collect::<Vec<_>>(), dealt_to(&rows));
    assert_eq!(world.visible().len(), rows.len());
}

/// Rows wait in queues, which are short.
#[test]
fn a_slice_that_stands_still_holds_its_senders_back_and_nobody_else() {
    check("stalled_slice", 1, N_SLOTS, true);
}

/// Rows wait in the connection, which has room for all of these; the others' connections are their own.
#[test]
fn a_task_that_stands_still_keeps_nothing_from_the_others() {
    check("stalled_task", N_SLOTS, 1, false);
}
