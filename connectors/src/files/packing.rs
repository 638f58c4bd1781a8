//! How text files are compressed: by the end of their name when they are read, by option `compression` when they are
//! written.
//!
//! Invariant: a file that was written is read again without any option, since its name says how it is packed.

use super::FileFormat;
use crate::{OptionInfo, Options, TableDef};
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use jobs::Diagnostic;
use std::io::{BufReader, Read, Result, Write};
use std::path::Path;

pub const COMPRESSION: OptionInfo = OptionInfo {
    name: "compression",
    kind: "none|gzip|zstd|lz4|snappy",
    default: None,
    required: false,
    doc: "to write: how files are compressed; default snappy for Parquet and none for others. Files are read by how their \
          names end (.gz, .zst, .lz4, .sz), Parquet and Avro by what they say of themselves",
};

const READ_BYTES: usize = 256 << 10;
/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    Gzip,
    Zstd,
    Lz4,
    Snappy,
}

impl Packing {
    /// How the table's files are written.
    pub fn of(table: &TableDef, format: FileFormat) -> std::result::Result<Self, Diagnostic> {
        let options = Options::new(table);
        let word = options.one_of(COMPRESSION.name, &["none", "gzip", "zstd", "lz4", "snappy"])?;
        let packing = match word {
            Some("none") => Self::None,
            Some("gzip") => Self::Gzip,
            Some("zstd") => Self::Zstd,
            Some("lz4") => Self::Lz4,
            Some(_) => Self::Snappy,
            None if format == FileFormat::Parquet => Self::Snappy,
            None => Self::None,
        };
        if format == FileFormat::Arrow && packing != Self::None {
            let wrong = options.wrong(COMPRESSION.name, "Arrow files are written without compression");
            return Err(wrong.help("leave out option 'compression', or write format = 'parquet'"));
        }
        if format == FileFormat::Avro && packing == Self::Lz4 {
            let wrong = options.wrong(COMPRESSION.name, "Avro files are not packed by lz4");
            return Err(wrong.help("gzip (Avro's deflate), zstd and snappy are"));
        }
        Ok(packing)
    }

    pub fn of_name(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => Self::Gzip,
            Some("zst" | "zstd") => Self::Zstd,
            Some("lz4") => Self::Lz4,
            Some("sz" | "snappy") => Self::Snappy,
            _ => Self::None,
        }
    }

    /// What a name ends with behind the format's own ending.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
            Self::Lz4 => ".lz4",
            Self::Snappy => ".sz",
        }
    }

    pub fn unpack(self, packed: impl Read + Send + 'static) -> Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::None => Box::new(packed),
            Self::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, packed))),
            Self::Zstd => Box::new(zstd::Decoder::new(packed)?),
            Self::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(packed)),
            Self::Snappy => Box::new(snap::read::FrameDecoder::new(packed)),
        })
    }
}

/// What packs a file while it is written.
pub enum Packer<W: Write> {
    None(W),
    Gzip(GzEncoder<W>),
    Zstd(Box<zstd::Encoder<'static, W>>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<W>>),
    Snappy(Box<snap::write::FrameEncoder<W>>),
}

impl<W: Write> Packer<W> {
    pub fn new(packing: Packing, out: W) -> Result<Self> {
        Ok(match packing {
            Packing::None => Self::None(out),
            Packing::Gzip => Self::Gzip(GzEncoder::new(out, flate2::Compression::default())),
            Packing::Zstd => Self::Zstd(Box::new(zstd::Encoder::new(out, ZSTD_LEVEL)?)),
            Packing::Lz4 => Self::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(out))),
            Packing::Snappy => Self::Snappy(Box::new(snap::write::FrameEncoder::new(out))),
        })
    }

    pub fn target(&self) -> &W {
        match self {
            Self::None(out) => out,
            Self::Gzip(packer) => packer.get_ref(),
            Self::Zstd(packer) => packer.get_ref(),
            Self::Lz4(packer) => packer.get_ref(),
            Self::Snappy(packer) => packer.get_ref(),
        }
    }

    pub fn target_mut(&mut self) -> &mut W {
        match self {
            Self::None(out) => out,
            Self::Gzip(packer) => packer.get_mut(),
            Self::Zstd(packer) => packer.get_mut(),
            Self::Lz4(packer) => packer.get_mut(),
            Self::Snappy(packer) => packer.get_mut(),
        }
    }

    pub fn finish(self) -> Result<W> {
        match self {
            Self::None(out) => Ok(out),
            Self::Gzip(packer) => packer.finish(),
            Self::Zstd(packer) => packer.finish(),
            Self::Lz4(packer) => packer.finish().map_err(std::io::Error::other),
            Self::Snappy(packer) => packer.into_inner().map_err(|why| std::io::Error::other(why.to_string())),
        }
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::None(out) => out.write(bytes),
            Self::Gzip(packer) => packer.write(bytes),
            Self::Zstd(packer) => packer.write(bytes),
            Self::Lz4(packer) => packer.write(bytes),
            Self::Snappy(packer) => packer.write(bytes),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::None(out) => out.flush(),
            Self::Gzip(packer) => packer.flush(),
            Self::Zstd(packer) => packer.flush(),
            Self::Lz4(packer) => packer.flush(),
            Self::Snappy(packer) => packer.flush(),
        }
    }
}
