//! Applying a writer's epoch, once.
//!
//! Invariant: rows and the note that they are applied become durable in one transaction. A (epoch, part) not above the
//! writer's last is a repetition and changes nothing; a generation below the job's highest is refused.
//! Invariant: rows and removals take effect in the order in which they were sent, over batches, parts and epochs.
//!
//! Commits that arrive while another is being made durable wait and then share one transaction: the disk is waited for
//! once for all of them. Each is checked by itself, so that a refused one does not take the others with it.

use crate::codec::{EncodedRows, Purpose, encode};
use crate::schema::TableInfo;
use crate::store::{APPLIED, GENERATIONS, RowsDefinition, Store, rows_name};
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, Int8Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::Int8Type;
use redb::{ReadableTable, WriteTransaction};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};

/// Some rows of one writer's epoch.
#[derive(Clone, Debug)]
pub struct Commit {
    pub table: String,
    pub job: String,
    /// One life of one slice of the job; its epochs rise.
    pub writer: String,
    /// Rises with every life of the job.
    pub generation: u64,
    pub epoch: u64,
    /// Counts the commits of one epoch from 0.
    pub part: u64,
    /// Whether each batch has one column behind the table's, Int8: +1 for a row that is there now, -1 for a key whose row
    /// is to go. For tables with a primary key.
    pub changes: bool,
    pub batches: Vec<RecordBatch>,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Now,
    /// It had been applied before; nothing changed.
    Before,
}

/// An encoded commit, and where its answer goes.
pub(crate) struct Waiting {
    table: Arc<TableInfo>,
    commit: Commit,
    rows: Vec<Encoded>,
    answer: SyncSender<Result<Applied>>,
}

struct Encoded {
    /// Absent where rows are only appended.
    keys: Option<EncodedRows>,
    values: EncodedRows,
    /// Of changes: +1 where the row is put, -1 where its key is removed.
    weights: Option<Int8Array>,
}

impl Encoded {
    fn removes(&self, row: usize) -> bool {
        self.weights.as_ref().is_some_and(|weights| weights.value(row) < 0)
    }
}

impl Store {
    /// Returns when the commit is durable. With a primary key, a row replaces the one of its key or removes it, later rows
    /// winning; without, rows are appended. Removing a key that is not there changes nothing.
    pub fn commit(&self, mut commit: Commit) -> Result<Applied> {
        let table = self.describe(&commit.table)?;
        let batches = std::mem::take(&mut commit.batches);
        if commit.changes && table.primary_key.is_empty() {
            let why = "changes of rows were sent, and a table without a primary key is only appended to".to_owned();
            return Err(Error::Unfit { table: commit.table, why });
        }
        let rows: Result<Vec<Encoded>> =
            batches.iter().map(|batch| encode_batch(&table, batch, commit.changes)).collect();
        let (answer, answered) = sync_channel(1);
        let waiting = Waiting { table, commit, rows: rows?, answer };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(waiting);
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever held the lock before may have taken this one along.
        if let Ok(done) = answered.try_recv() {
            return done;
        }
        let all = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let outcomes = self.apply_all(&all);
        for (at, waiting) in all.iter().enumerate() {
            let outcome = match &outcomes {
                Ok(each) => each[at].clone(),
                Err(why) => Err(why.clone()),
            };
            // Its receiver waits on the writer's lock or has given up with its thread.
            let _ = waiting.answer.send(outcome);
        }
        answered
            .try_recv()
            .unwrap_or_else(|_| Err(Error::Storage("a commit was lost before it was applied".to_owned())))
    }

    fn apply_all(&self, all: &[Waiting]) -> Result<Vec<Result<Applied>>> {
        let mut transaction = self.db.begin_write()?;
        // Else a killed process costs the next one a walk over the whole file before it can serve.
        transaction.set_quick_repair(true);
        let mut outcomes = Vec::with_capacity(all.len());
        for waiting in all {
            outcomes.push(match self.check(&transaction, waiting)? {
                Ok(Applied::Now) => {
                    apply(&transaction, waiting)?;
                    Ok(Applied::Now)
                }
                other => other,
            });
        }
        transaction.commit()?;
        Ok(outcomes)
    }

    /// The outer result fails for all commits of the transaction, the inner one for this commit.
    fn check(&self, transaction: &WriteTransaction, waiting: &Waiting) -> Result<Result<Applied>> {
        let (commit, id) = (&waiting.commit, waiting.table.id);
        match self.describe(&commit.table) {
            Ok(now) if now.id == id => {}
            Ok(_) => return Ok(Err(Error::Invalid(format!("table '{}' was made anew meanwhile", commit.table)))),
            Err(gone) => return Ok(Err(gone)),
        }
        let generations = transaction.open_table(GENERATIONS)?;
        let highest = generations.get((id, commit.job.as_str()))?.map_or(0, |highest| highest.value());
        if commit.generation < highest {
            return Ok(Err(Error::Stale {
                table: commit.table.clone(),
                job: commit.job.clone(),
                generation: commit.generation,
                highest,
            }));
        }
        let applied = transaction.open_table(APPLIED)?;
        let last = applied.get((id, commit.job.as_str(), commit.writer.as_str()))?.map(|last| last.value());
        let repeated = last.is_some_and(|last| (commit.epoch, commit.part) <= last);
        Ok(Ok(if repeated { Applied::Before } else { Applied::Now }))
    }
}

fn apply(transaction: &WriteTransaction, waiting: &Waiting) -> Result<()> {
    let (commit, id) = (&waiting.commit, waiting.table.id);
    transaction.open_table(GENERATIONS)?.insert((id, commit.job.as_str()), commit.generation)?;
    transaction
        .open_table(APPLIED)?
        .insert((id, commit.job.as_str(), commit.writer.as_str()), (commit.epoch, commit.part))?;
    let name = rows_name(id);
    let mut table = transaction.open_table(RowsDefinition::new(&name))?;
    for batch in &waiting.rows {
        let values = &batch.values;
        match &batch.keys {
            Some(keys) => {
                // In key order, because neighbours share pages; of equal keys only the last row counts, also when it
                // removes.
                let mut order: Vec<usize> = (0..keys.len()).collect();
                order.sort_by(|a, b| keys.row(*a).cmp(keys.row(*b)));
                for (at, row) in order.iter().enumerate() {
                    if order.get(at + 1).is_some_and(|next| keys.row(*next) == keys.row(*row)) {
                        continue;
                    }
                    match batch.removes(*row) {
                        true => drop(table.remove(keys.row(*row))?),
                        false => drop(table.insert(keys.row(*row), values.row(*row))?),
                    }
                }
            }
            None => {
                let last = table.last()?.and_then(|(key, _)| <[u8; 8]>::try_from(key.value()).ok());
                let first = last.map_or(0, |last| u64::from_be_bytes(last) + 1);
                for row in 0..values.len() {
                    table.insert((first + row as u64).to_be_bytes().as_slice(), values.row(row))?;
                }
            }
        }
    }
    Ok(())
}

fn encode_batch(table: &TableInfo, batch: &RecordBatch, changes: bool) -> Result<Encoded> {
    let unfit = |why: String| Error::Unfit { table: table.name.clone(), why };
    let n_columns = table.schema.fields().len();
    if batch.num_columns() != n_columns + usize::from(changes) {
        let behind = if changes { " with their weight" } else { "" };
        return Err(unfit(format!("{} columns were sent for {table}{behind}", batch.num_columns())));
    }
    let weights = changes.then(|| weights(batch.column(n_columns))).transpose().map_err(unfit)?;
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(n_columns);
    for (at, field) in table.schema.fields().iter().enumerate() {
        let sent = batch.schema_ref().field(at);
        if sent.name() != field.name() || crate::schema::stored_type(sent.data_type()) != *field.data_type() {
            return Err(unfit(format!("column '{}' of type {} was sent for {table}", sent.name(), sent.data_type())));
        }
        let column = batch.column(at);
        columns.push(if column.data_type() == field.data_type() {
            column.clone()
        } else {
            cast(column, field.data_type()).map_err(|why| unfit(why.to_string()))?
        });
    }
    let keys: Vec<ArrayRef> = table.primary_key.iter().map(|at| columns[*at].clone()).collect();
    let keys = if keys.is_empty() { None } else { Some(encode(&keys, batch.num_rows(), Purpose::Key)?) };
    Ok(Encoded { keys, values: encode(&columns, batch.num_rows(), Purpose::Value)?, weights })
}

fn weights(column: &ArrayRef) -> std::result::Result<Int8Array, String> {
    let weights = column
        .as_primitive_opt::<Int8Type>()
        .filter(|weights| weights.null_count() == 0 && weights.values().iter().all(|weight| matches!(weight, 1 | -1)));
    weights.cloned().ok_or_else(|| "the last column of changes must be Int8 and hold +1 and -1 only".to_owned())
}

#[cfg(test)]
mod tests;
