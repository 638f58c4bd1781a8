//! Manifests in the checkpoint folder, and the claims that keep old generations from writing there.
//!
//! ```text
//! generations/0000000003.json        claimed by generation 3
//! manifests/0000000041.json          publishes epoch 41
//! epochs/0000000041/3/…, folds/…     files that it and later ones name
//! savepoints/NAME.json               a manifest that is kept under a name
//! ```
//!
//! Invariant: claims and manifests are created if absent and never changed. A generation that sees a higher claim, before
//! or after it created a manifest, does not commit it. So of two generations that run at the same time for a moment, at
//! most one commits an epoch, and the next restart finds either all of it or none of it.

use crate::control::{Chain, Manifest, StateFile, TaskSnapshot};
use crate::runtime::store::{self, Folder};
use object_store::{ObjectStore, PutMode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Rises when the meaning of a field of [`Manifest`] changes.
pub const FORMAT: u32 = 2;
/// Manifests of whole state files by operator, not of chains.
const FORMAT_OF_FILES: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("read {file} of the checkpoint folder: it is damaged; move it away to go back to the checkpoint before it")]
    Damaged {
        file: String,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "read {file} of the checkpoint folder: it has format {found} and this version reads formats {FORMAT_OF_FILES} and {FORMAT}; use the version that wrote it, or another folder"
    )]
    Format { file: String, found: u32 },
    #[error("write a checkpoint as generation {ours}: generation {newest} has taken over")]
    Superseded { ours: u64, newest: u64 },
    #[error("make savepoint {name}: there is one of this name, of epoch {epoch}; drop it first, or take another name")]
    Named { name: String, epoch: u64 },
    #[error(
        "find checkpoint '{name}': no savepoint and no epoch that is kept is called so; `smack checkpoint JOB --ls` lists them"
    )]
    Unknown { name: String },
    #[error("publish epoch {epoch}: generation {by} has published another one under this number")]
    Taken { epoch: u64, by: u64 },
}

impl Error {
    /// Whether the same generation can still succeed, if need be with a higher epoch.
    pub fn retry(&self) -> bool {
        !matches!(self, Self::Superseded { .. })
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    generation: u64,
    claimed_us: i64,
}

/// Claims the folder for `generation`; from then on lower ones cannot publish. Gives the time of the claim: the given
/// one, or a later one if an earlier generation's clock was ahead.
pub async fn claim_generation(folder: &Folder, generation: u64, claimed_us: i64) -> Result<i64, Error> {
    let mut claimed_us = claimed_us;
    if let Some(newest) = newest_claim(folder).await? {
        if newest.generation >= generation {
            return Err(Error::Superseded { ours: generation, newest: newest.generation });
        }
        claimed_us = claimed_us.max(newest.claimed_us.saturating_add(1));
    }
    let file = claim_file(generation);
    let claim = Claim { generation, claimed_us };
    if create(folder, &file, &claim).await? {
        return Ok(claimed_us);
    }
    Err(Error::Superseded { ours: generation, newest: generation })
}

/// The highest generation that was ever claimed here; 0 if none.
pub async fn newest_generation(folder: &Folder) -> Result<u64, Error> {
    Ok(newest_claim(folder).await?.map_or(0, |claim| claim.generation))
}

/// Publishes an epoch. Saying the same again is no error.
pub async fn write(folder: &Folder, manifest: &Manifest) -> Result<(), Error> {
    check_claim(folder, manifest.generation).await?;
    let file = manifest_file(manifest.epoch);
    if !create(folder, &file, manifest).await? {
        let published = read(folder, manifest.epoch).await?;
        if published != *manifest {
            return Err(Error::Taken { epoch: manifest.epoch, by: published.generation });
        }
    }
    // Whoever claimed in between may have read the folder before our file was there: then it must not be committed.
    check_claim(folder, manifest.generation).await
}

/// The newest manifest, if there is any.
pub async fn latest(folder: &Folder) -> Result<Option<Manifest>, Error> {
    match epochs(folder).await?.last() {
        Some(epoch) => read(folder, *epoch).await.map(Some),
        None => Ok(None),
    }
}

pub async fn read(folder: &Folder, epoch: u64) -> Result<Manifest, Error> {
    read_file(folder, &manifest_file(epoch)).await
}

pub(super) async fn read_file(folder: &Folder, file: &str) -> Result<Manifest, Error> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let bytes = folder.get(file).await?;
    let damaged = |source| Error::Damaged { file: file.to_string(), source };
    let Format { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
    match format {
        FORMAT => serde_json::from_slice(&bytes).map_err(damaged),
        FORMAT_OF_FILES => serde_json::from_slice::<OfFiles>(&bytes).map(Manifest::from).map_err(damaged),
        found => Err(Error::Format { file: file.to_string(), found }),
    }
}

/// A manifest of the first format.
#[derive(Deserialize)]
struct OfFiles {
    job: String,
    generation: u64,
    epoch: u64,
    fingerprint: String,
    claimed_us: i64,
    finished: bool,
    tasks: Vec<TaskOfFiles>,
}

#[derive(Deserialize)]
struct TaskOfFiles {
    index: u32,
    state: BTreeMap<String, Vec<String>>,
    positions: BTreeMap<String, BTreeMap<String, u64>>,
    prepared: BTreeMap<String, Vec<String>>,
    watermarks: BTreeMap<String, BTreeMap<String, i64>>,
}

impl From<OfFiles> for Manifest {
    fn from(manifest: OfFiles) -> Self {
        // Every file was a whole table of a slice; which one, the files say themselves.
        let chain = |name: String| Chain {
            slot: 0,
            n_slots: 0,
            watermark_us: i64::MIN,
            files: vec![StateFile { name, bytes: 0 }],
        };
        let chains = |(operator, files): (String, Vec<String>)| (operator, files.into_iter().map(chain).collect());
        let task = |task: TaskOfFiles| TaskSnapshot {
            index: task.index,
            state: task.state.into_iter().map(chains).collect(),
            positions: task.positions,
            prepared: task.prepared,
            watermarks: task.watermarks,
            ..TaskSnapshot::default()
        };
        Self {
            format: FORMAT,
            job: manifest.job,
            generation: manifest.generation,
            epoch: manifest.epoch,
            fingerprint: manifest.fingerprint,
            claimed_us: manifest.claimed_us,
            finished: manifest.finished,
            tasks: manifest.tasks.into_iter().map(task).collect(),
            ..Self::default()
        }
    }
}

/// The epochs that are published, rising.
pub async fn epochs(folder: &Folder) -> Result<Vec<u64>, Error> {
    Ok(numbers(&folder.list("manifests").await?))
}

/// The numbers in names like `manifests/0000000041.json`, rising.
fn numbers(names: &[String]) -> Vec<u64> {
    let number = |name: &String| name.rsplit('/').next()?.strip_suffix(".json")?.parse().ok();
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

async fn newest_claim(folder: &Folder) -> Result<Option<Claim>, Error> {
    let Some(generation) = numbers(&folder.list("generations").await?).pop() else { return Ok(None) };
    let file = claim_file(generation);
    let bytes = folder.get(&file).await?;
    serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Damaged { file, source })
}

async fn check_claim(folder: &Folder, ours: u64) -> Result<(), Error> {
    let newest = newest_generation(folder).await?;
    if newest > ours { Err(Error::Superseded { ours, newest }) } else { Ok(()) }
}

/// Gives false if the file exists already.
pub(super) async fn create(folder: &Folder, file: &str, content: &impl Serialize) -> Result<bool, Error> {
    let bytes =
        serde_json::to_vec_pretty(content).map_err(|source| Error::Damaged { file: file.to_string(), source })?;
    match folder.store.put_opts(&folder.path(file), bytes.into(), PutMode::Create.into()).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
        Err(source) => Err(folder.error("create", file, source).into()),
    }
}

pub(super) fn manifest_file(epoch: u64) -> String {
    format!("manifests/{epoch:010}.json")
}

fn claim_file(generation: u64) -> String {
    format!("generations/{generation:010}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(generation: u64, epoch: u64) -> Manifest {
        Manifest {
            format: FORMAT,
            job: "demo/count".into(),
            generation,
            epoch,
            fingerprint: "f".into(),
            claimed_us: 1,
            ..Manifest::default()
        }
    }

    #[tokio::test]
    async fn an_older_generation_cannot_publish() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = Folder::local(dir.path()).expect("folder");
        assert_eq!(latest(&folder).await.expect("read"), None);
        assert_eq!(claim_generation(&folder, 1, 500).await.expect("claim"), 500);
        write(&folder, &manifest(1, 1)).await.expect("write");
        write(&folder, &manifest(1, 1)).await.expect("the same again");
        assert_eq!(claim_generation(&folder, 2, 400).await.expect("claim"), 501, "claims rise");
        let refused = write(&folder, &manifest(1, 2)).await.expect_err("superseded");
        assert!(!refused.retry(), "{refused}");
        let taken = write(&folder, &manifest(2, 1)).await.expect_err("taken");
        assert!(taken.retry(), "{taken}");
        assert!(claim_generation(&folder, 2, 600).await.is_err());
        assert_eq!(latest(&folder).await.expect("read"), Some(manifest(1, 1)));
    }

    #[tokio::test]
    async fn a_manifest_of_the_first_format_is_read() {
        let folder = Folder::memory();
        let text = r#"{"format": 1, "job": "demo/count", "generation": 1, "epoch": 7, "fingerprint": "f", "claimed_us": 1,
            "finished": false, "tasks": [{"index": 0, "state": {"window-1": ["a.state", "b.state"]},
            "positions": {"source": {"split": 4}}, "prepared": {"sink": ["c.sink"]}, "watermarks": {}}]}"#;
        folder.put("manifests/0000000007.json", text.as_bytes().to_vec()).await.expect("put");
        let found = latest(&folder).await.expect("read").expect("a manifest");
        assert_eq!(found.files().collect::<Vec<_>>(), ["a.state", "b.state", "c.sink"]);
        assert_eq!(found.tasks[0].positions["source"]["split"], 4);
    }

    #[tokio::test]
    async fn a_damaged_or_newer_manifest_is_named() {
        let folder = Folder::memory();
        folder.put("manifests/0000000007.json", b"{\"format\":".to_vec()).await.expect("put");
        let text = latest(&folder).await.expect_err("damaged").to_string();
        assert!(text.contains("0000000007.json") && text.contains("move it away"), "{text}");
        folder.put("manifests/0000000008.json", b"{\"format\":99}".to_vec()).await.expect("put");
        let text = latest(&folder).await.expect_err("newer").to_string();
        assert!(text.contains("format 99"), "{text}");
    }
}
