//! Turns rows into events, at once or once their checkpoint is durable.
//!
//! Invariant: the id of an event is its series and its number in it. A series is a life of a task and a slice, or an epoch and a
//! slice, so that what is told again of an epoch has the id that it had.

use super::Settings;
use super::door::Door;
use crate::changes::Told;
use crate::formats::Encoder;
use crate::kept::{self, Part};
use crate::{Context, Error, Result, Sink, TableDef};
use arrow::array::{Int8Array, RecordBatch};
use std::sync::Arc;

pub struct SseSink {
    table: String,
    encoder: Encoder,
    told: Told,
    door: Arc<Door>,
    slot: u32,
    /// `None`: rows wait for their checkpoint.
    life: Option<String>,
    /// Told in this life.
    n: u64,
    lines: Vec<u8>,
    /// By epoch, which are not committed.
    prepared: Vec<Part>,
}

impl SseSink {
    pub fn open(table: &TableDef, settings: Settings, context: &Context) -> Result<Self> {
        let (slot, at_once) = (context.slot, settings.at_once);
        Ok(Self {
            table: table.name.clone(),
            encoder: Encoder::new(table)?,
            told: Told::of(table),
            door: Door::of(&table.name, &settings)?,
            slot,
            life: at_once.then(|| format!("{:x}-{slot}", context.begun_us)),
            n: 0,
            lines: Vec::new(),
            prepared: Vec::new(),
        })
    }

    fn tell(&self, writer: &str, part: &Part) {
        let epoch = part.epoch.unwrap_or_default();
        self.door.events.tell(&part.body, &format!("{epoch}-{writer}"), 0);
    }

    #[cfg(test)]
    pub fn address(&self) -> std::net::SocketAddr {
        self.door.address
    }

    #[cfg(test)]
    pub fn door_events(&self) -> u64 {
        self.door.events.latest()
    }
}

impl Sink for SseSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(life) = &self.life else { return self.encoder.encode_lines(batch, &mut self.lines) };
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        self.encoder.encode_lines(batch, &mut lines)?;
        self.n = self.door.events.tell(&lines, life, self.n);
        self.lines = lines;
        Ok(())
    }

    fn change(&mut self, batch: &RecordBatch, weights: &Int8Array) -> Result<()> {
        let told = self.told.of_changes(batch, weights)?;
        self.write(&told)
    }

    fn prepare(&mut self, epoch: u64) -> Result<Vec<u8>> {
        if self.life.is_some() {
            return Ok(Vec::new());
        }
        let body = std::mem::take(&mut self.lines);
        if !body.is_empty() {
            self.prepared.push(Part { epoch: Some(epoch), number: 0, changes: false, body });
        }
        let failed = |why| Error::Fatal(format!("rows of table '{}' cannot be kept: {why}", self.table));
        kept::encode(&self.slot.to_string(), &self.prepared).map_err(failed)
    }

    fn commit(&mut self, epoch: u64) -> Result<()> {
        let writer = self.slot.to_string();
        let (due, later) = std::mem::take(&mut self.prepared).into_iter().partition(|part| part.epoch <= Some(epoch));
        self.prepared = later;
        let due: Vec<Part> = due;
        due.iter().for_each(|part| self.tell(&writer, part));
        Ok(())
    }

    /// Whether they were told before nobody knows: whoever goes by ids hears them once.
    fn restore(&mut self, epoch: u64, states: Vec<Vec<u8>>) -> Result<()> {
        for state in states.iter().filter(|state| !state.is_empty()) {
            let unread =
                |why| Error::Fatal(format!("what epoch {epoch} keeps of table '{}' is unreadable: {why}", self.table));
            let (writer, parts) = kept::decode(state).map_err(unread)?;
            parts.iter().for_each(|part| self.tell(&writer, part));
        }
        Ok(())
    }
}
