//! Binary records: by one schema that the table gives, or each by the schema of a registry that it names.
//!
//! Invariant: a schema is fetched once and compiled once; while the registry does not answer, records wait as they are
//! ([`Engine::prepare`]). A schema that is not there, or that does not fit the columns, costs the records that name it.
//! Invariant: no record can reach into another: what a bad one has left in the columns is cut off before the next.

use super::framing::{Frame, frame_len, frame_of};
use super::json::walk::{Result as Read, wrong};
use super::json::{Object, plain};
use super::records::{Engine, Failure, Records, without_columns};
use super::schema_registry::{Registered, SchemaRegistry};
use super::timestamp::TimestampForm;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Frames that are remembered at most, so that rubbish cannot fill the memory: after so many all are asked for anew.
const MOST_FRAMES: usize = 10_000;

/// One format.
pub trait Wire: Send {
    type Plan: Send;
    /// Whether the message's indexes follow a schema's id.
    const INDEXES: bool;

    /// How records of a schema of the registry are read.
    fn plan(&self, schema: &Registered, frame: &Frame) -> Result<Self::Plan, String>;

    fn read(&self, plan: &Self::Plan, columns: &mut Object, record: &[u8], row: usize) -> Read<()>;
}

pub enum Plans<P> {
    /// Of all records, which are nothing but their payload.
    One(P),
    ByFrame {
        registry: Arc<SchemaRegistry>,
        /// Why there is no plan is as good to know as the plan.
        known: HashMap<Box<[u8]>, Result<P, String>>,
    },
}

pub struct BinaryEngine<W: Wire> {
    schema: SchemaRef,
    columns: Object,
    wire: W,
    plans: Plans<W::Plan>,
}

/// Columns to be filled; or the name and type of one that no binary format fills.
pub fn columns_of(schema: &SchemaRef) -> Result<Object, (String, DataType)> {
    Object::new(schema.fields(), TimestampForm::Auto).ok_or_else(|| {
        let unfilled = |field: &&Arc<arrow::datatypes::Field>| {
            Object::new(&std::iter::once(Arc::clone(field)).collect(), TimestampForm::Auto).is_none()
        };
        let found = schema.fields().iter().find(unfilled);
        found
            .map_or_else(|| ("?".to_owned(), DataType::Null), |field| (field.name().clone(), field.data_type().clone()))
    })
}

impl<W: Wire> BinaryEngine<W> {
    pub fn new(schema: SchemaRef, columns: Object, wire: W, plans: Plans<W::Plan>) -> Self {
        Self { schema, columns, wire, plans }
    }
}

impl<W: Wire> Engine for BinaryEngine<W> {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn prepare(&mut self, records: &Records) -> crate::Result<()> {
        let Plans::ByFrame { registry, known } = &mut self.plans else { return Ok(()) };
        let mut last: &[u8] = &[];
        for at in 0..records.len() {
            let record = records.get(at);
            let Ok(n) = frame_len(record, W::INDEXES) else { continue };
            let frame = &record[..n];
            if frame == last || known.contains_key(frame) {
                last = frame;
                continue;
            }
            let Ok(parsed) = frame_of(frame, W::INDEXES) else { continue };
            let plan = match registry.schema(parsed.id)? {
                Some(schema) => self
                    .wire
                    .plan(&schema, &parsed)
                    .map_err(|why| format!("is written by schema {} of {}, which {why}", parsed.id, registry.name())),
                None => Err(format!("is written by schema {}, which {} does not have", parsed.id, registry.name())),
            };
            if known.len() >= MOST_FRAMES {
                known.clear();
                // Those before may be among them.
                last = &[];
            }
            known.insert(frame.into(), plan);
        }
        Ok(())
    }

    fn decode(
        &mut self,
        records: &Records,
        range: Range<usize>,
        rejected: &mut Vec<(usize, String)>,
    ) -> Result<RecordBatch, Failure> {
        let mut rows = 0;
        let mut bad = Vec::new();
        let mut last: (&[u8], Option<&W::Plan>) = (&[], None);
        for at in range {
            let record = records.get(at);
            let taken = match &self.plans {
                Plans::One(plan) => self.wire.read(plan, &mut self.columns, record, rows),
                Plans::ByFrame { known, .. } => frame_len(record, W::INDEXES).and_then(|n| {
                    let (frame, payload) = record.split_at(n);
                    let plan = match last {
                        (same, Some(plan)) if same == frame => plan,
                        _ => match known.get(frame) {
                            Some(Ok(plan)) => plan,
                            Some(Err(why)) => return Err(wrong(why.as_str())),
                            None => return Err(wrong("is written by a schema that was not asked for")),
                        },
                    };
                    last = (frame, Some(plan));
                    self.wire.read(plan, &mut self.columns, payload, rows)
                }),
            };
            match taken {
                Ok(()) => rows += 1,
                Err(wrong) => {
                    self.columns.truncate(rows);
                    bad.push((at, wrong.error));
                }
            }
        }
        let whole = |why| Failure { record: None, error: plain(&why) };
        let columns = self.columns.finish(rows).map_err(|why| {
            self.columns.truncate(0);
            whole(why)
        })?;
        let batch = match self.schema.fields().is_empty() {
            true => without_columns(self.schema.clone(), rows),
            false => RecordBatch::try_new(self.schema.clone(), columns).map_err(whole)?,
        };
        rejected.append(&mut bad);
        Ok(batch)
    }
}

#[cfg(test)]
pub(super) mod tests;
