//! The content of one file while it is written, whatever its format.
//!
//! Invariant: a body that was finished is a whole file. Parquet keeps a row group in memory, at most [`GROUP_BYTES`] or
//! [`GROUP_ROWS`] of it; the others hand their bytes on at once.

use super::target::Target;
use crate::files::packing::{Packer, Packing};
use crate::files::{FileFormat, has_header};
use crate::formats::Encoder;
use crate::formats::avro::{self, Codec, Container};
use crate::{Error, Result, TableDef};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::io::{BufWriter, Write};
use std::sync::Arc;

/// Large enough that columns compress well, and small enough that a file of some gigabytes is read by many slices.
const GROUP_ROWS: usize = 1 << 20;
const GROUP_BYTES: usize = 64 << 20;

/// How the files of a table are written.
#[derive(Debug)]
pub struct Shape {
    pub format: FileFormat,
    packing: Packing,
    schema: SchemaRef,
    encoder: Option<Encoder>,
    header: bool,
    /// Of Avro files: the text of a record's schema.
    avro: Option<String>,
}

impl Shape {
    /// `in_files`: the table as its files have it.
    pub fn of(in_files: &TableDef) -> Result<Self> {
        let format = FileFormat::of(in_files)?;
        Ok(Self {
            format,
            packing: Packing::of(in_files, format)?,
            schema: Arc::clone(&in_files.schema),
            encoder: if format.has_lines() { Some(Encoder::new(in_files)?) } else { None },
            header: has_header(in_files)?,
            avro: if format == FileFormat::Avro { Some(avro_schema(in_files)?) } else { None },
        })
    }

    /// What the names of files end with.
    pub fn extension(&self) -> String {
        let packed = if self.format.has_lines() { self.packing.extension() } else { "" };
        format!("{}{packed}", self.format.extension())
    }

    fn codec(&self) -> Codec {
        match self.packing {
            Packing::Gzip => Codec::Deflate,
            Packing::Zstd => Codec::Zstandard,
            Packing::Snappy => Codec::Snappy,
            // The last is refused where the table is read.
            Packing::None | Packing::Lz4 => Codec::Null,
        }
    }

    fn parquet(&self) -> std::result::Result<WriterProperties, parquet::errors::ParquetError> {
        let compression = match self.packing {
            Packing::None => Compression::UNCOMPRESSED,
            Packing::Gzip => Compression::GZIP(GzipLevel::default()),
            Packing::Zstd => Compression::ZSTD(ZstdLevel::default()),
            Packing::Lz4 => Compression::LZ4_RAW,
            Packing::Snappy => Compression::SNAPPY,
        };
        Ok(WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_max_row_group_bytes(Some(GROUP_BYTES))
            .build())
    }
}

/// A record of the table's name, where it can have that, and its columns.
pub fn avro_schema(in_files: &TableDef) -> Result<String> {
    let unfit = |why: String| Error::Fatal(format!("table '{}' cannot be written to Avro files: {why}", in_files.name));
    let columns = in_files.schema.fields();
    // Not every name of a table is one in Avro.
    avro::schema_of(&in_files.name, columns).or_else(|_| avro::schema_of("row", columns)).map_err(unfit)
}

pub enum Body {
    Lines(Box<Packer<Target>>),
    Parquet(Box<ArrowWriter<Target>>),
    Arrow(Box<FileWriter<BufWriter<Target>>>),
    Avro(Box<Container<Target>>),
}

impl Body {
    pub fn begin(shape: &Shape, target: Target) -> Result<Self> {
        let name = target.name();
        let failed = |why: &dyn std::fmt::Display| Error::Fatal(format!("'{name}' cannot be written: {why}"));
        Ok(match shape.format {
            FileFormat::Parquet => {
                let properties = shape.parquet().map_err(|why| failed(&why))?;
                let writer = ArrowWriter::try_new(target, Arc::clone(&shape.schema), Some(properties));
                Self::Parquet(Box::new(writer.map_err(|why| failed(&why))?))
            }
            FileFormat::Arrow => {
                let writer = FileWriter::try_new(BufWriter::new(target), &shape.schema);
                Self::Arrow(Box::new(writer.map_err(|why| failed(&why))?))
            }
            FileFormat::Avro => {
                let schema = shape.avro.as_deref().unwrap_or_default();
                let container = Container::begin(target, schema, shape.schema.fields(), shape.codec());
                Self::Avro(Box::new(container.map_err(|why| failed(&why))?))
            }
            FileFormat::Json | FileFormat::Csv | FileFormat::Raw => {
                let mut packer = Packer::new(shape.packing, target).map_err(|why| failed(&why))?;
                if let Some(encoder) = shape.encoder.as_ref().filter(|_| shape.header) {
                    let mut header = Vec::new();
                    encoder.header(&RecordBatch::new_empty(Arc::clone(&shape.schema)), &mut header)?;
                    packer.write_all(&header).map_err(|why| super::write_failed(&name, &why))?;
                }
                Self::Lines(Box::new(packer))
            }
        })
    }

    /// `lines`: room for text, used again and again.
    pub fn write(&mut self, shape: &Shape, batch: &RecordBatch, lines: &mut Vec<u8>) -> Result<()> {
        let name = self.target().name();
        // A batch may call its columns otherwise than the table.
        let batch = RecordBatch::try_new(Arc::clone(&shape.schema), batch.columns().to_vec())
            .map_err(|why| Error::Fatal(format!("rows do not fit '{name}': {why}")))?;
        match self {
            Self::Lines(packer) => {
                lines.clear();
                if let Some(encoder) = &shape.encoder {
                    encoder.encode_lines(&batch, lines)?;
                }
                packer.write_all(lines).map_err(|why| super::write_failed(&name, &why))
            }
            Self::Parquet(writer) => writer.write(&batch).map_err(|why| super::write_failed(&name, &why.into())),
            Self::Avro(container) => container.write(&batch).map_err(|why| super::write_failed(&name, &why)),
            Self::Arrow(writer) => {
                writer.write(&batch).map_err(|why| super::write_failed(&name, &std::io::Error::other(why)))
            }
        }
    }

    /// Bytes of the file, and about as many as are to come of what was written.
    pub fn bytes(&self) -> u64 {
        let waiting = match self {
            Self::Lines(_) | Self::Arrow(_) => 0,
            Self::Parquet(writer) => writer.in_progress_size() as u64,
            Self::Avro(container) => container.waiting() as u64,
        };
        self.target().bytes() + waiting
    }

    fn target(&self) -> &Target {
        match self {
            Self::Lines(packer) => packer.target(),
            Self::Parquet(writer) => writer.inner(),
            Self::Arrow(writer) => writer.get_ref().get_ref(),
            Self::Avro(container) => container.target(),
        }
    }

    pub fn target_mut(&mut self) -> &mut Target {
        match self {
            Self::Lines(packer) => packer.target_mut(),
            Self::Parquet(writer) => writer.inner_mut(),
            Self::Arrow(writer) => writer.get_mut().get_mut(),
            Self::Avro(container) => container.target_mut(),
        }
    }

    /// Writes what is left.
    pub fn finish(self) -> Result<Target> {
        let name = self.target().name();
        let failed = |why: std::io::Error| super::write_failed(&name, &why);
        match self {
            Self::Lines(packer) => packer.finish().map_err(failed),
            Self::Parquet(writer) => writer.into_inner().map_err(|why| failed(why.into())),
            Self::Avro(container) => container.finish().map_err(failed),
            Self::Arrow(mut writer) => {
                writer.finish().map_err(|why| failed(std::io::Error::other(why)))?;
                let buffered = writer.into_inner().map_err(|why| failed(std::io::Error::other(why)))?;
                buffered.into_inner().map_err(|why| failed(why.into_error()))
            }
        }
    }
}
