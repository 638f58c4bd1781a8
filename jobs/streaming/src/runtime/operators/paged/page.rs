//! One page: the keys whose hashes end alike, with the operator that holds their state, or where on disk it lies.
//!
//! Invariant: state on disk is what a checkpoint would hold, tables of rows with the hash of their key in front; so it is
//! read back, or cut into smaller pages, as it is after a restart at another number of slices.

use super::bytes::{Parts, decode_tables, encode_tables};
use super::directory::Directory;
use super::log::Log;
use super::{Base, MAX_BITS};
use crate::runtime::operators::stateful::{Output, Stateful, Timing, external, joined};
use crate::state::spill::Extent;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use datafusion::error::{DataFusionError, Result};
use std::collections::BTreeMap;

#[derive(Debug)]
pub struct Page {
    pub hold: Hold,
    pub log: Log,
    /// When the last row came: a count of batches.
    pub touched: u64,
    /// The last one that the state has seen.
    watermark_us: i64,
    /// The inputs whose end the state has seen.
    ended: Vec<usize>,
    /// The hashes that lead here end in these bits.
    pub ending: (u64, u32),
}

#[derive(Debug)]
pub enum Hold {
    Memory { operator: Box<dyn Stateful>, bytes: usize },
    Disk(Kept),
}

/// State on disk, of an operator that had nothing left to say.
#[derive(Debug)]
pub struct Kept {
    /// Tables; more than one where a restored state came in parts.
    pub pieces: Vec<Extent>,
    pub timing: Timing,
    /// What the operator's output had come to.
    pub output_us: i64,
}

impl Kept {
    /// Of no state, or of a restored one that no operator has seen yet.
    pub fn unknown(base: &Base) -> Self {
        let timing = if base.is_timeless { Timing::NONE } else { Timing::UNKNOWN };
        Self { pieces: Vec::new(), timing, output_us: base.watermark_us.min(timing.from_us) }
    }
}

impl Page {
    /// Empty, on disk.
    pub fn new(base: &Base, ending: (u64, u32)) -> Self {
        Self {
            hold: Hold::Disk(Kept::unknown(base)),
            log: Log::new(base.is_timeless),
            touched: 0,
            watermark_us: base.watermark_us,
            ended: base.ended.clone(),
            ending,
        }
    }

    /// The state was taken at this watermark.
    pub fn restored(&mut self, watermark_us: i64, bounds: &Kept) {
        self.watermark_us = watermark_us;
        if let Hold::Disk(kept) = &mut self.hold {
            (kept.timing, kept.output_us) = (bounds.timing, bounds.output_us);
        }
    }

    /// What the state and the rows that wait take in memory.
    pub fn memory_bytes(&self) -> usize {
        self.state_bytes() + self.log.memory_bytes()
    }

    pub fn state_bytes(&self) -> usize {
        match &self.hold {
            Hold::Memory { bytes, .. } => *bytes,
            Hold::Disk(_) => 0,
        }
    }

    pub fn kept_bytes(&self) -> u64 {
        match &self.hold {
            Hold::Memory { .. } => 0,
            Hold::Disk(kept) => kept.pieces.iter().map(Extent::len).sum(),
        }
    }

    pub fn in_memory(&self) -> bool {
        matches!(self.hold, Hold::Memory { .. })
    }

    /// Whether the page must be read to say, or forget, what it has to.
    pub fn is_behind(&self) -> bool {
        matches!(&self.hold, Hold::Disk(kept) if self.log.matters(kept.timing.due_us))
    }

    /// `without_state_us`: what an operator that holds nothing says.
    pub fn output_watermark_us(&self, without_state_us: i64) -> i64 {
        match &self.hold {
            Hold::Memory { operator, .. } => operator.output_watermark_us(),
            Hold::Disk(kept) if self.log.matters(kept.timing.due_us) => kept.output_us,
            Hold::Disk(kept) => without_state_us.min(kept.timing.from_us),
        }
    }

    /// Makes an operator of this state. `parts` are tables that belong to the page and are on disk nowhere.
    pub fn load(&mut self, base: &mut Base, mut parts: Parts) -> Result<()> {
        let Hold::Disk(kept) = &mut self.hold else {
            return Err(DataFusionError::Internal("a page that is in memory was read again".to_string()));
        };
        for piece in kept.pieces.drain(..) {
            let bytes = base.spill.read(&piece).map_err(external)?;
            base.spill.give_back(piece).map_err(external)?;
            decode_tables(&bytes, &mut parts)?;
        }
        let mut operator = (base.make)()?;
        operator.restore(self.watermark_us, whole(parts)?)?;
        for input in &self.ended {
            operator.input_ended(*input)?;
        }
        let bytes = operator.memory_bytes();
        self.hold = Hold::Memory { operator, bytes };
        Ok(())
    }

    /// The operator takes what waits for it.
    pub fn apply(&mut self, base: &mut Base, out: &mut Output) -> Result<()> {
        let Hold::Memory { operator, bytes } = &mut self.hold else { return Ok(()) };
        if self.log.is_empty() {
            return Ok(());
        }
        let replayed = self.log.replay(&mut base.spill, operator.as_mut(), out)?;
        self.watermark_us = replayed.watermark_us.unwrap_or(self.watermark_us);
        self.ended.extend(replayed.ended);
        *bytes = operator.memory_bytes();
        Ok(())
    }

    pub fn flush(&mut self, base: &mut Base, out: &mut Output) -> Result<()> {
        self.apply(base, out)?;
        if let Hold::Memory { operator, bytes } = &mut self.hold
            && operator.n_pending() > 0
        {
            operator.flush(out)?;
            *bytes = operator.memory_bytes();
        }
        Ok(())
    }

    pub fn n_pending(&self) -> usize {
        match &self.hold {
            Hold::Memory { operator, .. } => {
                operator.n_pending() + self.log.n_rows().max(usize::from(!self.log.is_empty()))
            }
            Hold::Disk(_) => 0,
        }
    }

    /// Writes the state to disk. Where nothing waits, and the state takes more than `most_bytes`, it becomes several pages:
    /// gives those beyond this one.
    pub fn put_away(
        &mut self,
        base: &mut Base,
        directory: &mut Directory,
        next: usize,
        most_bytes: usize,
        out: &mut Output,
    ) -> Result<Vec<Self>> {
        let Hold::Memory { operator, bytes } = &mut self.hold else { return Ok(Vec::new()) };
        operator.flush(out)?;
        let is_large = *bytes > most_bytes && self.ending.1 < MAX_BITS && self.log.is_empty();
        let (timing, output_us) = (operator.timing(), operator.output_watermark_us());
        let tables: Vec<(&str, Vec<RecordBatch>)> =
            operator.snapshot()?.into_iter().map(|table| (table.name, table.batches)).collect();
        if !is_large {
            let bytes = encode_tables(tables.iter().map(|(name, batches)| (*name, batches.as_slice())))?;
            self.hold = Hold::Disk(Kept { pieces: base.write(&bytes)?, timing, output_us });
            return Ok(Vec::new());
        }
        let (low, bits) = self.ending;
        let more = CUT_BITS.min(MAX_BITS - bits);
        let mut shares: Vec<Parts> = vec![Parts::new(); 1 << more];
        let by_bits = Directory::new(more);
        for (name, batches) in tables {
            for batch in batches {
                let hashes: Vec<u64> = hashes_of(&batch)?.iter().map(|hash| hash >> bits).collect();
                let (rows, parts) = by_bits.deal(&batch, &hashes, shares.len())?;
                for part in parts {
                    let rows = rows.slice(part.offset, part.n_rows);
                    shares[part.page].entry(name.to_string()).or_default().push(rows);
                }
            }
        }
        directory.cut((low, bits), more, next);
        let mut others = Vec::new();
        for (place, share) in shares.into_iter().enumerate() {
            let bytes = encode_tables(share.iter().map(|(name, batches)| (name.as_str(), batches.as_slice())))?;
            drop(share);
            // What bounds the whole bounds each part.
            let hold = Hold::Disk(Kept { pieces: base.write(&bytes)?, timing, output_us });
            let ending = (low | (place as u64) << bits, bits + more);
            if place == 0 {
                (self.hold, self.ending) = (hold, ending);
                continue;
            }
            others.push(Self {
                hold,
                log: Log::new(base.is_timeless),
                touched: self.touched,
                watermark_us: self.watermark_us,
                ended: self.ended.clone(),
                ending,
            });
        }
        Ok(others)
    }

    /// The state's tables, added to `parts`.
    pub fn tables(&mut self, base: &Base, parts: &mut Parts) -> Result<()> {
        match &mut self.hold {
            Hold::Memory { operator, .. } => {
                for table in operator.snapshot()? {
                    parts.entry(table.name.to_string()).or_default().extend(table.batches);
                }
            }
            Hold::Disk(kept) => {
                for piece in &kept.pieces {
                    decode_tables(&base.spill.read(piece).map_err(external)?, parts)?;
                }
            }
        }
        Ok(())
    }
}

/// A page that is too large becomes four.
const CUT_BITS: u32 = 2;

/// The first column of a table.
pub fn hashes_of(batch: &RecordBatch) -> Result<&[u64]> {
    let column = batch.columns().first().and_then(|column| column.as_primitive_opt::<UInt64Type>());
    let column = column.ok_or_else(|| {
        DataFusionError::Internal(format!("a table of state without the hash of its keys: {}", batch.schema()))
    })?;
    Ok(&column.values()[..])
}

pub fn whole(parts: Parts) -> Result<BTreeMap<String, RecordBatch>> {
    let mut tables = BTreeMap::new();
    for (name, batches) in parts {
        if let Some(rows) = joined(&batches)? {
            tables.insert(name, rows);
        }
    }
    Ok(tables)
}
