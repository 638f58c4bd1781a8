//! Buffers an epoch's rows and sends them when the checkpoint that ends it is durable.
//!
//! The checkpoint keeps the rows of every epoch that was prepared and not committed, encoded once and cut into parts
//! once, under the name of the writer that made them. So whoever restores it, on whichever slot, sends the very same
//! bytes under the very same names, and the store knows what it has.
//!
//! Invariant: a writer's name is used by one life of one slice only, because a life without a checkpoint counts its
//! epochs from the beginning again.

use super::client::{Client, CommitName};
use crate::{Context, Error, Result, Sink, TableDef};
use arrow::array::{Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Rows are cut into parts of about this size, well below what the store takes at once.
const PART_BYTES: usize = 8 << 20;

pub struct TableSink {
    client: Client,
    /// The table's columns as they are sent: text in one piece, because a view drags along all it was cut from.
    schema: SchemaRef,
    job: String,
    writer: String,
    /// Rises with every life of the job and across resubmissions, unlike a count of restarts.
    generation: u64,
    current: Vec<RecordBatch>,
    current_bytes: usize,
    parts: Vec<Part>,
    /// Parts of the current epoch made so far.
    n_parts: u64,
    /// Parts handed over by earlier lives that are not yet sent; kept, so that a failed restore can be tried again.
    inherited: Vec<(String, Part)>,
}

/// Rows of one epoch, as they are sent.
#[derive(Clone, Debug)]
struct Part {
    /// Unknown until the epoch ends.
    epoch: Option<u64>,
    number: u64,
    body: Vec<u8>,
}

/// Heads the bytes in a checkpoint; the bodies follow, back to back.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    writer: String,
    /// Epoch, number and length in bytes of each part.
    parts: Vec<(u64, u64, usize)>,
}

const MAGIC: &[u8; 8] = b"smktbl01";

impl TableSink {
    pub fn new(client: Client, table: &TableDef, context: &Context) -> Self {
        Self {
            client,
            schema: Arc::new(sent_schema(&table.schema)),
            job: context.job.clone(),
            writer: format!("{}@{}", context.slot, context.claimed_us),
            generation: context.claimed_us.max(0) as u64,
            current: Vec::new(),
            current_bytes: 0,
            parts: Vec::new(),
            n_parts: 0,
            inherited: Vec::new(),
        }
    }

    /// The batch in the types that are sent.
    fn fit(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        if batch.schema_ref() == &self.schema {
            return Ok(batch.clone());
        }
        let unfit = |why: String| Error::Fatal(format!("rows do not fit table '{}': {why}", self.client.table()));
        if batch.num_columns() != self.schema.fields().len() {
            return Err(unfit(format!("{} columns, not {}", batch.num_columns(), self.schema.fields().len())));
        }
        let columns: std::result::Result<Vec<_>, _> = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| cast(column, field.data_type()))
            .collect();
        RecordBatch::try_new(self.schema.clone(), columns.map_err(|why| unfit(why.to_string()))?)
            .map_err(|why| unfit(why.to_string()))
    }

    fn end_part(&mut self) -> Result<()> {
        if self.current.is_empty() {
            return Ok(());
        }
        let body = StreamWriter::try_new(Vec::new(), &self.schema)
            .and_then(|mut writer| {
                self.current.iter().try_for_each(|batch| writer.write(batch))?;
                writer.into_inner()
            })
            .map_err(|why| Error::Fatal(format!("rows of table '{}' cannot be sent: {why}", self.client.table())))?;
        self.parts.push(Part { epoch: None, number: self.n_parts, body });
        self.n_parts += 1;
        self.current.clear();
        self.current_bytes = 0;
        Ok(())
    }

    fn send(&self, writer: &str, epoch: u64, part: &Part) -> Result<()> {
        let name = CommitName { job: &self.job, writer, generation: self.generation, epoch, part: part.number };
        self.client.commit(&name, part.body.clone())
    }

    fn send_inherited(&mut self) -> Result<()> {
        while let Some((writer, part)) = self.inherited.first() {
            let epoch = part.epoch.unwrap_or_default();
            self.send(writer, epoch, part)?;
            self.inherited.remove(0);
        }
        Ok(())
    }
}

impl Sink for TableSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = self.fit(batch)?;
        let sizes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
        let bytes: usize = sizes.sum();
        // A batch that alone would be more than a part is cut by rows.
        let pieces = bytes.div_ceil(PART_BYTES).clamp(1, batch.num_rows().max(1));
        let rows = batch.num_rows().div_ceil(pieces);
        for begin in (0..batch.num_rows()).step_by(rows.max(1)) {
            let piece = batch.slice(begin, rows.min(batch.num_rows() - begin));
            self.current.push(piece);
            self.current_bytes += bytes / pieces;
            if self.current_bytes >= PART_BYTES {
                self.end_part()?;
            }
        }
        Ok(())
    }

    fn prepare(&mut self, epoch: u64) -> Result<Vec<u8>> {
        self.end_part()?;
        self.n_parts = 0;
        for part in self.parts.iter_mut().filter(|part| part.epoch.is_none()) {
            part.epoch = Some(epoch);
        }
        let parts: Vec<(u64, u64, usize)> =
            self.parts.iter().map(|part| (part.epoch.unwrap_or(epoch), part.number, part.body.len())).collect();
        let head = serde_json::to_vec(&Head { writer: self.writer.clone(), parts })
            .map_err(|why| Error::Fatal(why.to_string()))?;
        let mut state = MAGIC.to_vec();
        state.extend_from_slice(&(head.len() as u32).to_be_bytes());
        state.extend_from_slice(&head);
        for part in &self.parts {
            state.extend_from_slice(&part.body);
        }
        Ok(state)
    }

    fn commit(&mut self, epoch: u64) -> Result<()> {
        self.send_inherited()?;
        // What is sent is forgotten at once, so that a commit that is tried again goes on where it failed.
        while self.parts.first().and_then(|part| part.epoch).is_some_and(|of| of <= epoch) {
            let part = &self.parts[0];
            self.send(&self.writer, part.epoch.unwrap_or(epoch), part)?;
            self.parts.remove(0);
        }
        Ok(())
    }

    fn restore(&mut self, epoch: u64, states: Vec<Vec<u8>>) -> Result<()> {
        self.inherited.clear();
        for state in states {
            let parts = read_state(&state).ok_or_else(|| {
                Error::Fatal(format!(
                    "the checkpoint of epoch {epoch} holds no readable rows of table '{}'",
                    self.client.table()
                ))
            })?;
            self.inherited.extend(parts);
        }
        self.send_inherited()
    }
}

fn sent_schema(schema: &Schema) -> Schema {
    let sent = |field: &FieldRef| match field.data_type() {
        DataType::Utf8View => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        DataType::BinaryView => Arc::new(field.as_ref().clone().with_data_type(DataType::Binary)),
        _ => field.clone(),
    };
    Schema::new(schema.fields().iter().map(sent).collect::<Vec<FieldRef>>())
}

fn read_state(state: &[u8]) -> Option<Vec<(String, Part)>> {
    let rest = state.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    let head: Head = serde_json::from_slice(rest.get(..length)?).ok()?;
    let mut bodies = rest.get(length..)?;
    let mut parts = Vec::with_capacity(head.parts.len());
    for (epoch, number, length) in head.parts {
        let body = bodies.get(..length)?.to_vec();
        bodies = &bodies[length..];
        parts.push((head.writer.clone(), Part { epoch: Some(epoch), number, body }));
    }
    bodies.is_empty().then_some(parts)
}
