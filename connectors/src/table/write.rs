//! Buffers an epoch's rows and removals and sends them when the checkpoint that ends it is durable.
//!
//! The checkpoint keeps the rows of every epoch that was prepared and not committed, encoded once and cut into parts
//! once, under the name of the writer that made them. So whoever restores it, on whichever slot, sends the very same
//! bytes under the very same names, and the store knows what it has. A part holds either rows, or changes, whose last
//! column is their weight.
//!
//! Invariant: a writer's name is used by one life of one slice only, because a life without a checkpoint counts its
//! epochs from the beginning again.

use super::client::{Client, CommitName};
use crate::kept::{self, Part};
use crate::{Context, Error, Result, Sink, TableDef, changes};
use arrow::array::{Array, ArrayRef, Int8Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use std::sync::Arc;

/// Rows are cut into parts of about this size, well below what the store takes at once.
const PART_BYTES: usize = 8 << 20;

pub struct TableSink {
    client: Client,
    /// The table's columns as they are sent: text in one piece, because a view drags along all it was cut from.
    schema: SchemaRef,
    /// The same with weights.
    changes_schema: SchemaRef,
    /// Whether there is a key, by which rows can be removed.
    keyed: bool,
    job: String,
    writer: String,
    /// Rises with every generation of the job and across resubmissions, unlike a count of restarts. All lives of its
    /// slices have the same: one that began later must not shut the others out.
    generation: u64,
    current: Vec<RecordBatch>,
    /// Whether these are changes; a part holds but one kind.
    current_changes: bool,
    current_bytes: usize,
    parts: Vec<Part>,
    /// Parts of the current epoch made so far.
    n_parts: u64,
    /// Parts handed over by earlier lives that are not yet sent; kept, so that a failed restore can be tried again.
    inherited: Vec<(String, Part)>,
}

impl TableSink {
    pub fn new(client: Client, table: &TableDef, context: &Context) -> Self {
        let schema = sent_schema(&table.schema);
        let weight: FieldRef = Arc::new(Field::new("weight", DataType::Int8, false));
        let with_weight: Vec<FieldRef> = schema.fields().iter().cloned().chain([weight]).collect();
        Self {
            client,
            changes_schema: Arc::new(Schema::new(with_weight)),
            schema: Arc::new(schema),
            keyed: !table.primary_key.is_empty(),
            job: context.job.clone(),
            writer: format!("{}@{}", context.slot, context.begun_us),
            generation: context.claimed_us.max(0) as u64,
            current: Vec::new(),
            current_changes: false,
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

    /// Takes a batch into the current part, ending it where it is full.
    fn put(&mut self, batch: &RecordBatch, changes: bool) -> Result<()> {
        if self.current_changes != changes {
            self.end_part()?;
            self.current_changes = changes;
        }
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

    fn end_part(&mut self) -> Result<()> {
        if self.current.is_empty() {
            return Ok(());
        }
        let changes = self.current_changes;
        let body = StreamWriter::try_new(Vec::new(), if changes { &self.changes_schema } else { &self.schema })
            .and_then(|mut writer| {
                self.current.iter().try_for_each(|batch| writer.write(batch))?;
                writer.into_inner()
            })
            .map_err(|why| Error::Fatal(format!("rows of table '{}' cannot be sent: {why}", self.client.table())))?;
        self.parts.push(Part { epoch: None, number: self.n_parts, changes, body });
        self.n_parts += 1;
        self.current.clear();
        self.current_bytes = 0;
        Ok(())
    }

    fn send(&self, writer: &str, epoch: u64, part: &Part) -> Result<()> {
        let name = CommitName { job: &self.job, writer, generation: self.generation, epoch, part: part.number };
        self.client.commit(&name, part.changes, part.body.clone())
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
        self.put(&batch, false)
    }

    fn change(&mut self, batch: &RecordBatch, weights: &Int8Array) -> Result<()> {
        if !self.keyed {
            return Err(Error::Fatal(format!(
                "table '{}' takes appended rows only, and was given changes of rows; declare PRIMARY KEY (…) NOT ENFORCED",
                self.client.table()
            )));
        }
        changes::there(self.client.table(), batch, weights)?;
        let weights: ArrayRef = Arc::new(weights.clone());
        let columns = self.fit(batch)?.columns().iter().cloned().chain([weights]).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.changes_schema), columns)
            .map_err(|why| Error::Fatal(format!("changes do not fit table '{}': {why}", self.client.table())))?;
        self.put(&batch, true)
    }

    fn prepare(&mut self, epoch: u64) -> Result<Vec<u8>> {
        self.end_part()?;
        self.n_parts = 0;
        for part in self.parts.iter_mut().filter(|part| part.epoch.is_none()) {
            part.epoch = Some(epoch);
        }
        kept::encode(&self.writer, &self.parts)
            .map_err(|why| Error::Fatal(format!("rows of table '{}' cannot be kept: {why}", self.client.table())))
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
            let (writer, parts) = kept::decode(&state).map_err(|why| {
                Error::Fatal(format!(
                    "the checkpoint of epoch {epoch} holds no readable rows of table '{}': {why}",
                    self.client.table()
                ))
            })?;
            self.inherited.extend(parts.into_iter().map(|part| (writer.clone(), part)));
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
