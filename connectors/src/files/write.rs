//! Writes rows into part files that appear whole or not at all.
//!
//! An epoch's rows go to a hidden file. [`Sink::prepare`] makes it durable and names it, with the name it shall have, in
//! the checkpoint; [`Sink::commit`] gives it that name. After a crash, [`Sink::restore`] renames what the checkpoint
//! names and removes the hidden files that no checkpoint knows, whose rows will be written again.
//!
//! Invariant: a file without a leading dot holds committed rows only and never changes. No file is ever overwritten.

use super::has_header;
use crate::formats::{Encoder, Format};
use crate::{Context, Error, Result, Sink, TableDef};
use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// One epoch's file of one slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    epoch: u64,
    hidden: String,
    last: String,
}

/// What a checkpoint keeps of a slice.
#[derive(Debug, Serialize, Deserialize)]
struct Prepared {
    slot: u32,
    claimed_us: i64,
    parts: Vec<Part>,
}

pub struct FilesSink {
    encoder: Encoder,
    header: bool,
    directory: PathBuf,
    /// The job, as it stands in file names.
    job: String,
    extension: &'static str,
    slot: u32,
    n_slots: u32,
    begun_us: i64,
    n_files: u64,
    writing: Option<Writing>,
    prepared: Vec<Part>,
    /// Whether what an earlier life left behind has been looked at.
    begun: bool,
    lines: Vec<u8>,
}

struct Writing {
    hidden: String,
    file: BufWriter<File>,
}

impl FilesSink {
    pub fn open(table: &TableDef, directory: PathBuf, context: &Context) -> Result<Self> {
        std::fs::create_dir_all(&directory).map_err(|why| failed(&directory, "be created", &why))?;
        let extension = match Format::of(table)? {
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Raw => "txt",
            // Refused with the table's options.
            Format::Avro | Format::Protobuf => {
                return Err(Error::Fatal(format!("table '{}' has a format that files have not", table.name)));
            }
        };
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '_' };
        Ok(Self {
            encoder: Encoder::new(table)?,
            header: has_header(table)?,
            directory,
            job: context.job.chars().map(safe).collect(),
            extension,
            slot: context.slot,
            n_slots: context.n_slots.max(1),
            begun_us: context.begun_us,
            n_files: 0,
            writing: None,
            prepared: Vec::new(),
            begun: false,
            lines: Vec::new(),
        })
    }

    /// Without a checkpoint to go on from, nothing an earlier life of this slot left unfinished is of use.
    fn begin(&mut self) -> Result<()> {
        if !self.begun {
            self.begun = true;
            let (slot, n_slots, begun_us) = (self.slot, self.n_slots, self.begun_us);
            self.remove_hidden(|of| of.slot % n_slots == slot && of.begun_us < begun_us)?;
        }
        Ok(())
    }

    fn remove_hidden(&self, unwanted: impl Fn(&HiddenName) -> bool) -> Result<()> {
        let failed = |why: std::io::Error| failed(&self.directory, "be cleaned", &why);
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let hidden = name.to_str().and_then(|name| HiddenName::parse(name, &self.job));
            if hidden.is_some_and(|hidden| unwanted(&hidden)) {
                gone_is_fine(std::fs::remove_file(entry.path())).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn writing(&mut self, batch: &RecordBatch) -> Result<&mut Writing> {
        if self.writing.is_none() {
            let name = HiddenName { slot: self.slot, begun_us: self.begun_us, number: self.n_files };
            self.n_files += 1;
            let hidden = name.text(&self.job);
            let path = self.directory.join(&hidden);
            let file = File::create_new(&path).map_err(|why| failed(&path, "be created", &why))?;
            let mut file = BufWriter::with_capacity(256 << 10, file);
            if self.header {
                let mut header = Vec::new();
                self.encoder.header(batch, &mut header)?;
                file.write_all(&header).map_err(|why| failed(&path, "be written", &why))?;
            }
            self.writing = Some(Writing { hidden, file });
        }
        self.writing.as_mut().ok_or_else(|| Error::Fatal("no part file is open".to_owned()))
    }

    /// A name that no file has: another run of the same job may have left its own.
    fn last_name(&self, epoch: u64) -> String {
        let plain = format!("part-{}-{}-{epoch}.{}", self.job, self.slot, self.extension);
        if self.directory.join(&plain).exists() {
            return format!("part-{}-{}-{epoch}-{}.{}", self.job, self.slot, self.begun_us, self.extension);
        }
        plain
    }

    fn publish(&self, parts: &[Part]) -> Result<()> {
        for part in parts {
            let (hidden, last) = (self.directory.join(&part.hidden), self.directory.join(&part.last));
            // A link cannot overwrite; a rename could.
            match std::fs::hard_link(&hidden, &last) {
                Ok(()) => {}
                Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                    // Renamed in an earlier life; a consumer may have taken it away since.
                    tracing::debug!(part = %last.display(), "was already committed");
                    continue;
                }
                Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists && same_file(&hidden, &last) => {}
                Err(why) => return Err(failed(&last, "be committed", &why)),
            }
            gone_is_fine(std::fs::remove_file(&hidden)).map_err(|why| failed(&hidden, "be removed", &why))?;
        }
        if !parts.is_empty() {
            self.sync_directory()?;
        }
        Ok(())
    }

    fn sync_directory(&self) -> Result<()> {
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|why| failed(&self.directory, "be made durable", &why))
    }
}

impl Sink for FilesSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.begin()?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        self.encoder.encode_lines(batch, &mut lines)?;
        let directory = self.directory.clone();
        let writing = self.writing(batch)?;
        writing.file.write_all(&lines).map_err(|why| failed(&directory.join(&writing.hidden), "be written", &why))?;
        self.lines = lines;
        Ok(())
    }

    fn prepare(&mut self, epoch: u64) -> Result<Vec<u8>> {
        self.begin()?;
        if let Some(writing) = self.writing.take() {
            let path = self.directory.join(&writing.hidden);
            let file = writing.file.into_inner().map_err(|why| failed(&path, "be written", why.error()))?;
            file.sync_all().map_err(|why| failed(&path, "be made durable", &why))?;
            self.sync_directory()?;
            self.prepared.push(Part { epoch, hidden: writing.hidden, last: self.last_name(epoch) });
        }
        let prepared = Prepared { slot: self.slot, claimed_us: self.begun_us, parts: self.prepared.clone() };
        serde_json::to_vec(&prepared).map_err(|why| Error::Fatal(why.to_string()))
    }

    fn commit(&mut self, epoch: u64) -> Result<()> {
        let (due, later): (Vec<Part>, Vec<Part>) = self.prepared.iter().cloned().partition(|part| part.epoch <= epoch);
        self.publish(&due)?;
        self.prepared = later;
        Ok(())
    }

    fn restore(&mut self, epoch: u64, states: Vec<Vec<u8>>) -> Result<()> {
        self.begun = true;
        for state in states {
            let prepared: Prepared = serde_json::from_slice(&state).map_err(|why| {
                Error::Fatal(format!(
                    "the checkpoint of epoch {epoch} holds no readable state of the files in '{}': {why}",
                    self.directory.display()
                ))
            })?;
            self.publish(&prepared.parts)?;
            let begun_us = self.begun_us;
            self.remove_hidden(|of| of.slot == prepared.slot && of.begun_us < begun_us)?;
        }
        Ok(())
    }
}

/// What the name of an unfinished file says: whose it is.
struct HiddenName {
    slot: u32,
    begun_us: i64,
    number: u64,
}

impl HiddenName {
    fn text(&self, job: &str) -> String {
        format!(".part-{job}-{}-{}-{}", self.slot, self.begun_us, self.number)
    }

    fn parse(name: &str, job: &str) -> Option<Self> {
        let mut numbers = name.strip_prefix(".part-")?.strip_prefix(job)?.strip_prefix('-')?.split('-');
        let (slot, begun_us, number) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let whole = numbers.next().is_none();
        let parsed = Self { slot: slot.parse().ok()?, begun_us: begun_us.parse().ok()?, number: number.parse().ok()? };
        whole.then_some(parsed)
    }
}

fn failed(path: &Path, what: &str, why: &std::io::Error) -> Error {
    let text = format!("'{}' cannot {what}: {why}", path.display());
    match why.kind() {
        // Space may be made while the job waits.
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::Transient(text),
        _ => Error::Fatal(text),
    }
}

fn gone_is_fine(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}
