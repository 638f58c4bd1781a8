//! Rows that leave an operator, for people who want to see some.
//!
//! Invariant: a task whose rows nobody wants to see pays one look at a number per batch.

use crate::dataflow::{Dataflow, Operator};
use crate::runtime::operators::changes;
use arrow::array::RecordBatch;
use datafusion::error::Result;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a sample waits for its rows.
pub const WAITS: Duration = Duration::from_secs(3);
/// At once; later ones are refused, so that nobody keeps a task busy by looking at it.
const MOST: usize = 8;
pub const MOST_ROWS: u32 = 1_000;

#[derive(Debug, Default)]
pub struct Samples {
    n_open: AtomicUsize,
    open: Mutex<Vec<Open>>,
}

#[derive(Debug)]
struct Open {
    id: u64,
    node: usize,
    left: usize,
    rows: Vec<RecordBatch>,
    until: Instant,
}

/// A sample that is whole, or has waited long enough.
pub type Taken = (u64, std::result::Result<Vec<RecordBatch>, String>);

impl Samples {
    pub fn want(&self, dataflow: &Dataflow, id: u64, operator: &str, n_rows: u32) -> std::result::Result<(), String> {
        let node = dataflow.nodes.iter().position(|node| node.id == operator);
        let node = node.ok_or_else(|| format!("there is no operator '{operator}'"))?;
        // Nothing leaves a sink for another operator: shown is what it is given.
        let node = match dataflow.nodes[node].operator {
            Operator::Sink { .. } | Operator::Collect => dataflow.nodes[node].inputs[0],
            _ => node,
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MOST {
            return Err(format!("{MOST} others look at this task at the moment; try again in some seconds"));
        }
        let left = n_rows.clamp(1, MOST_ROWS) as usize;
        open.push(Open { id, node, left, rows: Vec::new(), until: Instant::now() + WAITS });
        self.n_open.store(open.len(), Relaxed);
        Ok(())
    }

    /// These rows leave `node`.
    pub fn saw(&self, dataflow: &Dataflow, node: usize, batch: &RecordBatch) -> Result<()> {
        if self.n_open.load(Relaxed) == 0 {
            return Ok(());
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for sample in open.iter_mut().filter(|sample| sample.node == node && sample.left > 0) {
            let rows = batch.slice(0, batch.num_rows().min(sample.left));
            sample.left -= rows.num_rows();
            sample.rows.push(if dataflow.nodes[node].changes { changes::shown(&rows)? } else { rows });
        }
        Ok(())
    }

    /// Those that need no longer wait.
    pub fn taken(&self, now: Instant) -> Vec<Taken> {
        if self.n_open.load(Relaxed) == 0 {
            return Vec::new();
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_done = |sample: &mut Open| sample.left == 0 || sample.until <= now;
        let done: Vec<Taken> = open.extract_if(.., is_done).map(|sample| (sample.id, Ok(sample.rows))).collect();
        self.n_open.store(open.len(), Relaxed);
        done
    }

    pub fn is_wanted(&self) -> bool {
        self.n_open.load(Relaxed) > 0
    }
}
