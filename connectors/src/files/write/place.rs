//! Where a table's files come to be: a folder, or the keys below a prefix on a store.
//!
//! In a folder an unfinished file has a hidden name, and is linked to its own when it is published. On a store it is an
//! upload in pieces, which is completed when it is published; beside it a small hidden object says which upload it is, so
//! that those of a process that died can be given up.
//!
//! Invariant: publishing is idempotent, overwrites nothing, and can be done by another process than the one that wrote.

use super::target::{Target, Upload};
use super::{Part, UploadId};
use crate::files::stored::{key_of, s3_failed};
use crate::{Error, Result};
use futures::TryStreamExt;
use object_store::multipart::PartId;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use objects::Bucket;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Where the hidden objects are that tell of uploads, below the prefix.
const UPLOADS: &str = ".uploads";
const FILE_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub enum Place {
    Folder(PathBuf),
    Store { bucket: Bucket, prefix: String },
}

impl Place {
    pub fn open(base: &Path, path: &str) -> Result<Self> {
        if let Some((bucket, prefix)) = objects::split(path) {
            let bucket = Bucket::open(bucket).map_err(|why| s3_failed(path, "be written", &why))?;
            let prefix = prefix.trim_matches('/').to_owned();
            key_of(path, &prefix)?;
            return Ok(Self::Store { bucket, prefix });
        }
        let directory = base.join(path);
        std::fs::create_dir_all(&directory).map_err(|why| failed(&directory, "be created", &why))?;
        Ok(Self::Folder(directory))
    }

    /// For people.
    pub fn name(&self) -> String {
        match self {
            Self::Folder(directory) => directory.display().to_string(),
            Self::Store { bucket, prefix } => format!("{}{}/{prefix}", objects::S3, bucket.name),
        }
    }

    /// Begins a file. On a store it is called `visible` once it is published; in a folder its name is given later.
    pub fn begin(&self, hidden: &str, visible: &str) -> Result<Target> {
        match self {
            Self::Folder(directory) => {
                let path = directory.join(hidden);
                let file = File::create_new(&path).map_err(|why| failed(&path, "be created", &why))?;
                Ok(Target::Folder { path, file: Some(BufWriter::with_capacity(FILE_BYTES, file)), bytes: 0 })
            }
            Self::Store { bucket, prefix } => {
                let key = below(prefix, visible)?;
                let location = || format!("{}{}/{key}", objects::S3, bucket.name);
                let failed = |why: object_store::Error| s3_failed(&location(), "be written", &why);
                let id = bucket.block_on(bucket.store.create_multipart(&key)).map_err(failed)?;
                let upload = UploadId { key: key.to_string(), id: id.clone(), pieces: Vec::new() };
                let about = serde_json::to_vec(&upload).map_err(|why| Error::Fatal(why.to_string()))?;
                let marker = below(prefix, &format!("{UPLOADS}/{hidden}"))?;
                bucket.block_on(bucket.store.put(&marker, about.into())).map_err(failed)?;
                Ok(Target::Store(Upload::new(bucket.clone(), key, id)))
            }
        }
    }

    /// Makes a finished file durable; it is still hidden.
    pub fn settle(&self, target: &mut Target) -> Result<()> {
        match target {
            Target::Folder { path, file, .. } => {
                if let Some(writer) = file {
                    writer.flush().map_err(|why| failed(path, "be written", &why))?;
                    writer.get_ref().sync_all().map_err(|why| failed(path, "be made durable", &why))?;
                }
                *file = None;
                Ok(())
            }
            Target::Store(upload) => upload.settle().map_err(|why| s3_failed(&upload.location(), "be written", &why)),
        }
    }

    /// Where a file cannot take more for now, this fails, and may be called again.
    pub fn catch_up(&self, target: &mut Target) -> Result<()> {
        match target {
            Target::Folder { .. } => Ok(()),
            Target::Store(upload) => upload.catch_up().map_err(|why| s3_failed(&upload.location(), "be written", &why)),
        }
    }

    pub fn sync(&self) -> Result<()> {
        let Self::Folder(directory) = self else { return Ok(()) };
        sync(directory)
    }

    /// Whether a visible file is called so.
    pub fn has(&self, visible: &str) -> bool {
        matches!(self, Self::Folder(directory) if directory.join(visible).exists())
    }

    /// Makes a file visible.
    pub fn publish(&self, part: &Part) -> Result<()> {
        match (self, &part.upload) {
            (Self::Folder(directory), None) => publish_file(directory, part),
            (Self::Store { bucket, prefix }, Some(upload)) => complete(bucket, prefix, part, upload),
            (_, upload) => {
                let kind = if upload.is_some() { "an upload to a store" } else { "a file of a folder" };
                Err(Error::Fatal(format!(
                    "the checkpoint holds {kind} for '{}', which is not what this table's path is; finish the job under \
                     its earlier path first",
                    self.name()
                )))
            }
        }
    }

    /// Removes what earlier lives began and no checkpoint knows.
    pub fn give_up(&self, job: &str, unwanted: impl Fn(&HiddenName) -> bool) -> Result<()> {
        match self {
            Self::Folder(directory) => {
                let failed = |why: std::io::Error| failed(directory, "be cleaned", &why);
                for entry in std::fs::read_dir(directory).map_err(failed)? {
                    let entry = entry.map_err(failed)?;
                    let name = entry.file_name();
                    let hidden = name.to_str().and_then(|name| HiddenName::parse(name, job));
                    if hidden.is_some_and(|hidden| unwanted(&hidden)) {
                        gone_is_fine(std::fs::remove_file(entry.path())).map_err(failed)?;
                    }
                }
                Ok(())
            }
            Self::Store { bucket, prefix } => {
                let name = self.name();
                let failed = |why: object_store::Error| s3_failed(&name, "be cleaned", &why);
                let markers = below(prefix, UPLOADS)?;
                let found: Vec<ObjectMeta> =
                    bucket.block_on(bucket.store.list(Some(&markers)).try_collect()).map_err(failed)?;
                for marker in found {
                    let hidden = marker.location.filename().and_then(|name| HiddenName::parse(name, job));
                    if hidden.is_some_and(|hidden| unwanted(&hidden)) {
                        bucket.block_on(abort(bucket, &marker.location)).map_err(failed)?;
                    }
                }
                Ok(())
            }
        }
    }
}

fn below(prefix: &str, name: &str) -> Result<Key> {
    let whole = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    key_of(&whole, &whole)
}

fn publish_file(directory: &Path, part: &Part) -> Result<()> {
    let (hidden, last) = (directory.join(&part.hidden), directory.join(&part.last));
    let within = last.parent().unwrap_or(directory);
    if within != directory {
        std::fs::create_dir_all(within).map_err(|why| failed(within, "be created", &why))?;
    }
    // A link cannot overwrite; a rename could.
    match std::fs::hard_link(&hidden, &last) {
        Ok(()) => {}
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            // Renamed in an earlier life; a consumer may have taken it away since.
            tracing::debug!(part = %last.display(), "was already committed");
            return Ok(());
        }
        Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists && same_file(&hidden, &last) => {}
        Err(why) => return Err(failed(&last, "be committed", &why)),
    }
    // The name must be durable before the hidden one goes, and so must the directories that are new.
    for directory in within.ancestors().take_while(|within| within.starts_with(directory)) {
        sync(directory)?;
    }
    gone_is_fine(std::fs::remove_file(&hidden)).map_err(|why| failed(&hidden, "be removed", &why))
}

/// Completes an upload, or finds that this was done before.
fn complete(bucket: &Bucket, prefix: &str, part: &Part, upload: &UploadId) -> Result<()> {
    let location = format!("{}{}/{}", objects::S3, bucket.name, upload.key);
    let key = key_of(&location, &upload.key)?;
    let pieces: Vec<PartId> = upload.pieces.iter().map(|id| PartId { content_id: id.clone() }).collect();
    if let Err(why) = bucket.block_on(bucket.store.complete_multipart(&key, &upload.id, pieces)) {
        match bucket.block_on(bucket.store.head(&key)) {
            Ok(_) => tracing::debug!(part = %location, "was already committed"),
            Err(object_store::Error::NotFound { .. }) => {
                let gone = matches!(why, object_store::Error::NotFound { .. });
                let failed = s3_failed(&location, "be committed", &why);
                return Err(match gone {
                    true => Error::Fatal(format!(
                        "{failed}; the store has given up this upload, or someone took the committed object away: in the \
                         second case put any object under this name and start the job again"
                    )),
                    false => failed,
                });
            }
            Err(why) => return Err(s3_failed(&location, "be committed", &why)),
        }
    }
    let marker = below(prefix, &format!("{UPLOADS}/{}", part.hidden))?;
    match bucket.block_on(bucket.store.delete(&marker)) {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(why) => Err(s3_failed(&location, "be committed", &why)),
    }
}

async fn abort(bucket: &Bucket, marker: &Key) -> object_store::Result<()> {
    let about = bucket.store.get(marker).await?.bytes().await?;
    if let Ok(upload) = serde_json::from_slice::<UploadId>(&about) {
        let key = Key::parse(&upload.key)?;
        match bucket.store.abort_multipart(&key, &upload.id).await {
            // Completed or given up before.
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(why) => return Err(why),
        }
    }
    bucket.store.delete(marker).await
}

/// What the name of an unfinished file says: whose it is.
#[derive(Clone, Copy, Debug)]
pub struct HiddenName {
    pub slot: u32,
    pub begun_us: i64,
    pub number: u64,
}

impl HiddenName {
    pub fn text(&self, job: &str) -> String {
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

fn sync(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|why| failed(directory, "be made durable", &why))
}

fn failed(path: &Path, what: &str, why: &std::io::Error) -> Error {
    super::io_failed(&path.display().to_string(), what, why)
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
