//! Reads Parquet files, some row groups of a file in one split.
//!
//! Invariant: of a row group only the bytes of the wanted columns are fetched, structs taken apart field by field; they are
//! in memory while it is decoded, and batches are handed on as they were decoded where their types are the declared ones.
//! Invariant: the splits of a file follow from the file alone, so that any number of slices shares them out alike, and a
//! position is the number of a row within its split.

use super::{Rows, Taken};
use crate::files::adopt::{adopt, bind};
use crate::files::stored::Stored;
use crate::{Error, Position, Result};
use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Row groups are read together up to so many rows: small ones are not worth a split each.
const SPLIT_ROWS: i64 = 64 << 10;
/// What is fetched first from the end of a file; most footers are no larger.
const FOOTER_BYTES: u64 = 64 << 10;
const BATCH_ROWS: usize = 8192;

/// The split of some row groups of a file.
pub fn split_name(path: &str, groups: &Range<usize>) -> String {
    format!("{path}#{}-{}", groups.start, groups.end)
}

/// The path and the row groups of such a split.
pub fn split_parts(split: &str) -> Result<(&str, Range<usize>)> {
    let parts = split.rsplit_once('#').and_then(|(path, groups)| {
        let (from, to) = groups.split_once('-')?;
        Some((path, from.parse().ok()?..to.parse().ok()?))
    });
    parts.ok_or_else(|| Error::Fatal(format!("'{split}' names no row groups of a Parquet file")))
}

/// What a file says of itself.
pub fn footer(file: &Stored) -> Result<Arc<ParquetMetaData>> {
    let unsound = |why: ParquetError| unsound(&file.path, &why);
    let mut decoder =
        ParquetMetaDataPushDecoder::try_new(file.bytes).map_err(unsound)?.with_page_index_policy(PageIndexPolicy::Skip);
    let end = file.bytes.saturating_sub(FOOTER_BYTES)..file.bytes;
    decoder.push_ranges(vec![end.clone()], file.pieces(&[end])?).map_err(unsound)?;
    loop {
        match decoder.try_decode().map_err(unsound)? {
            DecodeResult::Data(footer) => return Ok(Arc::new(footer)),
            DecodeResult::NeedsData(ranges) => {
                let pieces = file.pieces(&ranges)?;
                decoder.push_ranges(ranges, pieces).map_err(unsound)?;
            }
            DecodeResult::Finished => return Err(unsound(ParquetError::EOF("its footer is cut short".to_owned()))),
        }
    }
}

/// The columns of a file.
pub fn schema(path: &str, footer: Arc<ParquetMetaData>) -> Result<SchemaRef> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let about = ArrowReaderMetadata::try_new(footer, options).map_err(|why| unsound(Path::new(path), &why))?;
    Ok(Arc::clone(about.schema()))
}

/// The row groups of a file, those of one split together.
pub fn splits(footer: &ParquetMetaData) -> Vec<Range<usize>> {
    let mut splits = Vec::new();
    let (mut from, mut rows) = (0, 0);
    for (at, group) in footer.row_groups().iter().enumerate() {
        rows += group.num_rows();
        if rows >= SPLIT_ROWS {
            splits.push(from..at + 1);
            (from, rows) = (at + 1, 0);
        }
    }
    // A file without rows is read, too: it may not fit.
    if from < footer.num_row_groups() || splits.is_empty() {
        splits.push(from..footer.num_row_groups());
    }
    splits
}

fn unsound(path: &Path, why: &ParquetError) -> Error {
    Error::Fatal(format!("'{}' is no sound Parquet file: {why}", path.display()))
}

pub struct ParquetRows {
    file: Stored,
    decoder: ParquetPushDecoder,
    bound: Schema,
    wanted: SchemaRef,
    next: Position,
}

impl ParquetRows {
    pub fn open(
        file: Stored,
        footer: Arc<ParquetMetaData>,
        groups: Range<usize>,
        wanted: &SchemaRef,
        from: Position,
    ) -> Result<Self> {
        let known = footer.row_groups().get(groups.clone());
        let rows: Option<u64> = known.map(|groups| groups.iter().map(|group| group.num_rows().unsigned_abs()).sum());
        let Some(rows) = rows.filter(|rows| from <= *rows) else {
            return Err(Error::Fatal(format!(
                "'{}' has {} row groups and fewer rows in groups {} to {} than were read before ({from}); was it replaced?",
                file.path.display(),
                footer.num_row_groups(),
                groups.start,
                groups.end
            )));
        };
        let unsound = |why: ParquetError| unsound(&file.path, &why);
        // What the writer's own Arrow types were does not matter: those of Parquet are close to the table's.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let about = ArrowReaderMetadata::try_new(footer, options).map_err(unsound)?;
        let bound = bind(&file.path, about.schema(), wanted)?;
        let leaves = about.parquet_schema().columns().iter().enumerate();
        let read: Vec<usize> =
            leaves.filter(|(_, leaf)| reads(bound.fields(), leaf.path().parts())).map(|(at, _)| at).collect();
        let mask = ProjectionMask::leaves(about.parquet_schema(), read);
        // A decoder for no rows at all need not be told where to begin.
        let offset = usize::try_from(from.min(rows)).unwrap_or(usize::MAX);
        let decoder = ParquetPushDecoderBuilder::new_with_metadata(about)
            .with_batch_size(BATCH_ROWS)
            .with_row_groups(groups.collect())
            .with_projection(mask)
            .with_offset(offset)
            .build()
            .map_err(unsound)?;
        Ok(Self { file, decoder, bound, wanted: Arc::clone(wanted), next: from })
    }
}

/// Whether a leaf of the file's schema belongs to what is read.
fn reads(fields: &Fields, path: &[String]) -> bool {
    let Some((name, below)) = path.split_first() else { return true };
    match fields.iter().find(|field| field.name() == name).map(|field| field.data_type()) {
        None => false,
        Some(DataType::Struct(inner)) => reads(inner, below),
        Some(_) => true,
    }
}

impl Rows for ParquetRows {
    fn next(&mut self) -> Result<Option<Taken>> {
        loop {
            match self.decoder.try_decode().map_err(|why| unsound(&self.file.path, &why))? {
                DecodeResult::Data(batch) => {
                    let rows = adopt(&self.file.path, &batch, &self.bound, &self.wanted)?;
                    self.next += rows.num_rows() as u64;
                    return Ok(Some(Taken { rows, next: self.next, bad: Vec::new() }));
                }
                DecodeResult::NeedsData(ranges) => {
                    let pieces = self.file.pieces(&ranges)?;
                    self.decoder.push_ranges(ranges, pieces).map_err(|why| unsound(&self.file.path, &why))?;
                }
                DecodeResult::Finished => return Ok(None),
            }
        }
    }
}
