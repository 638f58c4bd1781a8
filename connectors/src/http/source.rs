//! Turns requests into batches, and answers each when the time has come.
//!
//! Invariant: a position is the number of lines that were ever taken, so that of the requests that wait for a checkpoint
//! those at or before its position are in it.

use super::Settings;
use super::door::{Door, Fate, Posted};
use crate::formats::Decoder;
use crate::{BadRecord, Error, Polled, Position, Result, SourceReader, SplitStart, TableDef};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

const BATCH_ROWS: usize = 8192;

pub struct HttpReader {
    /// Requests that are answered once a checkpoint has come this far. Let go before the door, which waits for answers.
    waiting: VecDeque<(Position, usize, oneshot::Sender<Fate>)>,
    door: Door,
    settings: Settings,
    decoder: Decoder,
    wanted: SchemaRef,
    split: String,
    next: Position,
}

impl HttpReader {
    pub fn open(table: &TableDef, projection: &[usize], splits: &[SplitStart], settings: Settings) -> Result<Self> {
        let [start] = splits else {
            return Err(Error::Fatal(format!("table '{}' is read by one slice, in one split", table.name)));
        };
        let wanted = Arc::new(table.schema.project(projection).map_err(|why| Error::Fatal(why.to_string()))?);
        Ok(Self {
            decoder: Decoder::new(Arc::clone(&wanted), table)?,
            wanted,
            door: Door::open(settings.clone())?,
            settings,
            split: start.split.clone(),
            next: start.from.unwrap_or(0),
            waiting: VecDeque::new(),
        })
    }

    /// The rows of one request, or nothing of it.
    fn taken(&mut self, posted: Posted, bad: &mut Vec<BadRecord>) -> Option<RecordBatch> {
        let Posted { body, answer, place } = posted;
        let mut n_lines = 0;
        for line in body.split(|byte| *byte == b'\n') {
            n_lines += 1;
            if !line.trim_ascii().is_empty() {
                self.decoder.push(line, n_lines);
            }
        }
        let (rows, rejected) = self.decoder.flush();
        drop(place);
        if self.settings.refuse_bad && !rejected.is_empty() {
            let lines = rejected.into_iter().map(|(line, _, error)| (line, error)).collect();
            // Whoever asked may be gone.
            let _ = answer.send(Fate::Refused(lines));
            return None;
        }
        let (before, split) = (self.next, &self.split);
        let told = rejected.into_iter();
        bad.extend(told.map(|(line, bytes, error)| BadRecord {
            split: split.clone(),
            position: before + line - 1,
            bytes,
            error,
        }));
        self.next += n_lines;
        if self.settings.ack_checkpoint {
            self.waiting.push_back((self.next, rows.num_rows(), answer));
        } else {
            let _ = answer.send(Fate::Kept { rows: rows.num_rows() });
        }
        Some(rows)
    }

    #[cfg(test)]
    pub fn address(&self) -> std::net::SocketAddr {
        self.door.address
    }

    #[cfg(test)]
    pub fn queued_bytes(&self) -> u64 {
        self.door.queued_bytes()
    }
}

impl SourceReader for HttpReader {
    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        let Ok(first) = self.door.posted.recv_timeout(wait) else { return Ok(Polled::Idle) };
        let (mut batches, mut bad, mut n_rows) = (Vec::new(), Vec::new(), 0);
        let before = self.next;
        let mut posted = Some(first);
        while let Some(one) = posted {
            if let Some(rows) = self.taken(one, &mut bad) {
                n_rows += rows.num_rows();
                batches.push(rows);
            }
            posted = if n_rows < BATCH_ROWS { self.door.posted.try_recv().ok() } else { None };
        }
        if self.next == before {
            return Ok(Polled::Idle);
        }
        let batch = match <[RecordBatch; 1]>::try_from(batches) {
            Ok([only]) => only,
            Err(several) if self.wanted.fields().is_empty() => {
                let rows = several.iter().map(RecordBatch::num_rows).sum();
                crate::formats::without_columns(Arc::clone(&self.wanted), rows)
            }
            Err(several) => concat_batches(&self.wanted, &several).map_err(|why| Error::Fatal(why.to_string()))?,
        };
        Ok(Polled::Batch { split: 0, batch, next: self.next, bad })
    }

    fn checkpointed(&mut self, positions: &[(usize, Position)]) {
        let Some((_, to)) = positions.iter().find(|(split, _)| *split == 0) else { return };
        while let Some((_, rows, answer)) = self.waiting.pop_front_if(|(position, ..)| *position <= *to) {
            let _ = answer.send(Fate::Kept { rows });
        }
    }
}
