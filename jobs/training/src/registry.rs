//! The model registry: `<folder>/<model>/<version>/{model.safetensors, model.json}`, and `<folder>/<model>/aliases.json`.
//!
//! Invariant: a version folder is complete from the moment it exists and never changes; versions rise by one. Two publishers
//! at once get two versions: a folder is filled under another name and renamed to the first free number, which the file
//! system grants to one of them. The number of a version that was removed is not given again.

pub mod aliases;
mod lineage;

pub use lineage::Lineage;

use crate::check::valid_name;
use crate::checkpoint;
use crate::evaluation::Evaluation;
use crate::files;
use crate::graph::{self, Graph, Slot, Source, Wanted};
use crate::preprocess::Preprocessing;
use crate::tensors::{self, Tensors};
use jobs::text::{model_reference, nearest};
use jobs::train::{Loss, Node};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::xxh3_64;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("use '{model}' as a model name: letters, digits, '_', '-' and '.' may stand in it")]
    Name { model: String },
    #[error("find model '{model}' in {path}: {known}")]
    NoModel { model: String, path: PathBuf, known: String },
    #[error("find version {version} of model '{model}': there are {versions:?}")]
    NoVersion { model: String, version: u64, versions: Vec<u64> },
    #[error("find version '{reference}': model '{model}' has no alias '{alias}'; it has {known}")]
    NoAlias { reference: String, model: String, alias: String, known: String },
    #[error(
        "use '{alias}' as an alias: letters, digits, '_', '-' and '.' may stand in it, and it is no number, which would be a \
         version"
    )]
    Alias { alias: String },
    #[error("roll back '{alias}' of model '{model}': it meant nothing else before")]
    NoEarlier { model: String, alias: String },
    #[error("remove version {version} of model '{model}': '{alias}' means it; promote another version first")]
    Promoted { model: String, version: u64, alias: String },
    #[error("remove {path}")]
    Remove { path: PathBuf, source: io::Error },
    #[error("write model '{model}' to {path}")]
    Write { model: String, path: PathBuf, source: io::Error },
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("understand {path}")]
    Manifest { path: PathBuf, source: serde_json::Error },
    #[error("load {path}")]
    Weights { path: PathBuf, source: tensors::Error },
    #[error("load {path}: it does not belong to the model.json beside it")]
    OtherWeights { path: PathBuf },
    #[error("feed the network of {path}")]
    Inputs { path: PathBuf, source: Box<crate::values::Error> },
    #[error("build the network of {path}")]
    Network { path: PathBuf, source: graph::Error },
}

/// `model.json`: everything about a model but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub model: String,
    /// Filled in when published.
    pub version: u64,
    pub job: String,
    pub generation: u64,
    /// Names of the columns that scoring takes, in their order.
    pub features: Vec<String>,
    pub label: String,
    /// In the last dimension of the output: classes, for cross-entropy.
    pub outputs: usize,
    pub layers: Vec<Node>,
    /// The node whose output is the answer; none where a dense layer stands behind the last node.
    #[serde(default)]
    pub output: Option<String>,
    pub loss: Loss,
    /// Names of the classes in the order of their numbers, where labels were texts.
    #[serde(default)]
    pub classes: Vec<String>,
    /// From columns to what the graph reads.
    pub preprocessing: Preprocessing,
    /// On the held-out rows, and the last training loss.
    pub metrics: BTreeMap<String, f64>,
    /// Of a classification, on the held-out rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
    /// Event time up to which rows were known to the training.
    pub trained_through_us: Option<i64>,
    pub rows: u64,
    pub rows_held_out: u64,
    pub steps: u64,
    pub seed: u64,
    pub seconds: f64,
    pub created_us: i64,
    /// Of the file of weights.
    pub weights_digest: String,
    #[serde(default)]
    pub lineage: Lineage,
}

impl Manifest {
    pub const FORMAT: u32 = 1;
}

/// Digest of a file of weights, as it stands in the manifest.
pub fn weights_digest(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

/// The bytes of `model.safetensors`.
pub fn encode_weights(model: &str, slots: &[Slot], weights: &[f32]) -> Result<Vec<u8>, tensors::Error> {
    tensors::write(&checkpoint::weight_arrays(slots, weights), &BTreeMap::from([("model", model)]))
}

/// Versions that this process has begun to publish.
static PUBLISHED: AtomicU64 = AtomicU64::new(0);

/// Publishes under the next free version and returns it.
pub fn publish(folder: &Path, mut manifest: Manifest, weights: &[u8]) -> Result<u64, Error> {
    let home = home(folder, &manifest.model)?;
    let name = manifest.model.clone();
    let failed = |path: &Path| {
        let (model, path) = (name.clone(), path.to_path_buf());
        move |source| Error::Write { model, path, source }
    };
    // A runner takes models over for several people at once.
    let number = PUBLISHED.fetch_add(1, Ordering::Relaxed);
    let unfinished = home.join(format!(".{}-{}-{number}", std::process::id(), manifest.generation));
    fs::create_dir_all(&unfinished).map_err(failed(&unfinished))?;
    files::write_and_sync(&unfinished.join(WEIGHTS), weights).map_err(failed(&unfinished))?;
    let highest = versions(folder, &manifest.model)?.last().copied().unwrap_or(0);
    let mut version = highest.max(highest_removed(&home)?) + 1;
    loop {
        manifest.version = version;
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|source| Error::Manifest { path: unfinished.join(MANIFEST), source })?;
        files::write_and_sync(&unfinished.join(MANIFEST), &text).map_err(failed(&unfinished))?;
        files::sync_folder(&unfinished).map_err(failed(&unfinished))?;
        let target = home.join(version.to_string());
        match fs::rename(&unfinished, &target) {
            Ok(()) => {
                files::sync_folder(&home).map_err(failed(&home))?;
                return Ok(version);
            }
            // Somebody else was given this number; a version folder is never empty, so it cannot be replaced.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                version += 1;
            }
            Err(source) => return Err(failed(&target)(source)),
        }
    }
}

const WEIGHTS: &str = "model.safetensors";
const MANIFEST: &str = "model.json";
/// Holds the highest version that was removed.
const REMOVED: &str = ".removed";

/// The highest number of this model's that was ever removed; 0 if none.
fn highest_removed(home: &Path) -> Result<u64, Error> {
    let path = home.join(REMOVED);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|error| {
            let source = io::Error::new(io::ErrorKind::InvalidData, error);
            Error::Read { path, source }
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(Error::Read { path, source }),
    }
}

/// Removes a version for good. One that an alias means stays.
pub fn remove(folder: &Path, model: &str, version: u64) -> Result<(), Error> {
    let _lock = aliases::lock(folder, model)?;
    if !versions(folder, model)?.contains(&version) {
        return Err(absent(folder, model, version)?);
    }
    if let Some((alias, _)) = aliases::aliases(folder, model)?.into_iter().find(|(_, means)| *means == version) {
        return Err(Error::Promoted { model: model.to_string(), version, alias });
    }
    let home = home(folder, model)?;
    let removed = home.join(REMOVED);
    let highest = highest_removed(&home)?.max(version);
    files::write_atomically(&removed, highest.to_string().as_bytes()).map_err(|source| Error::Write {
        model: model.to_string(),
        path: removed,
        source,
    })?;
    // Under another name first, so that nobody finds half of it.
    let (path, going) = (home.join(version.to_string()), home.join(format!(".{version}.removed")));
    fs::rename(&path, &going).map_err(|source| Error::Remove { path, source })?;
    fs::remove_dir_all(&going).map_err(|source| Error::Remove { path: going, source })
}

/// The version that a query means by `name`, `name@3` or `name@alias`: by a name alone the one in production, or, where none
/// was promoted to that, the latest.
pub fn resolve(folder: &Path, reference: &str) -> Result<u64, Error> {
    let (model, which) = model_reference(reference);
    let all = versions(folder, model)?;
    let Some(latest) = all.last().copied() else { return Err(absent(folder, model, 0)?) };
    let Some(which) = which else {
        return Ok(aliases::aliases(folder, model)?.get(aliases::PRODUCTION).copied().unwrap_or(latest));
    };
    if let Ok(version) = which.parse::<u64>() {
        return if all.contains(&version) { Ok(version) } else { Err(absent(folder, model, version)?) };
    }
    let known = aliases::aliases(folder, model)?;
    known.get(which).copied().ok_or_else(|| Error::NoAlias {
        reference: reference.to_string(),
        model: model.to_string(),
        alias: which.to_string(),
        known: match known.is_empty() {
            true => "none".to_string(),
            false => known.into_keys().collect::<Vec<_>>().join(", "),
        },
    })
}

/// All versions of a model, rising; none for a model that does not exist.
pub fn versions(folder: &Path, model: &str) -> Result<Vec<u64>, Error> {
    let home = home(folder, model)?;
    let mut versions: Vec<u64> = names(&home)?.iter().filter_map(|name| name.parse().ok()).collect();
    versions.sort_unstable();
    Ok(versions)
}

pub fn latest(folder: &Path, model: &str) -> Result<Option<u64>, Error> {
    Ok(versions(folder, model)?.last().copied())
}

/// All models that have a version.
pub fn models(folder: &Path) -> Result<Vec<String>, Error> {
    let mut models = Vec::new();
    for name in names(folder)? {
        if valid_name(&name) && latest(folder, &name)?.is_some() {
            models.push(name);
        }
    }
    models.sort_unstable();
    Ok(models)
}

pub fn manifest(folder: &Path, model: &str, version: u64) -> Result<Manifest, Error> {
    let path = home(folder, model)?.join(version.to_string()).join(MANIFEST);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(absent(folder, model, version)?),
        Err(source) => return Err(Error::Read { path, source }),
    };
    serde_json::from_slice(&bytes).map_err(|source| Error::Manifest { path, source })
}

/// A model's manifest and its network with the weights in place.
pub fn load(folder: &Path, model: &str, version: u64) -> Result<(Manifest, Graph<f32>), Error> {
    let manifest = manifest(folder, model, version)?;
    let path = home(folder, model)?.join(version.to_string()).join(WEIGHTS);
    let bytes = fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let weights_failed = |source| Error::Weights { path: path.clone(), source };
    let tensors = Tensors::read(&bytes).map_err(weights_failed)?;
    let network_failed = |source| Error::Network { path: path.clone(), source };
    let inputs_failed = |source| Error::Inputs { path: path.clone(), source: Box::new(source) };
    let inputs = manifest.preprocessing.shapes().map_err(inputs_failed)?;
    let sources = Source::all(inputs);
    let Manifest { layers, output, outputs, .. } = &manifest;
    let wanted = Wanted { sources: &sources, layers, output: output.as_deref(), outputs: *outputs };
    let mut graph = Graph::new(wanted, 0).map_err(network_failed)?;
    let weights = checkpoint::read_weights(&tensors, graph.slots()).map_err(weights_failed)?;
    if weights_digest(&bytes) != manifest.weights_digest {
        return Err(Error::OtherWeights { path });
    }
    graph.set_weights(&weights);
    Ok((manifest, graph))
}

fn home(folder: &Path, model: &str) -> Result<PathBuf, Error> {
    if valid_name(model) { Ok(folder.join(model)) } else { Err(Error::Name { model: model.to_string() }) }
}

/// The error for a version that is not there.
fn absent(folder: &Path, model: &str, version: u64) -> Result<Error, Error> {
    let versions = versions(folder, model)?;
    if !versions.is_empty() {
        return Ok(Error::NoVersion { model: model.to_string(), version, versions });
    }
    let models = models(folder)?;
    let known = match nearest(model, models.iter().map(String::as_str)) {
        Some(near) => format!("did you mean '{near}'?"),
        None if models.is_empty() => "no model has been trained yet".to_string(),
        None => format!("there are {}", models.join(", ")),
    };
    Ok(Error::NoModel { model: model.to_string(), path: folder.to_path_buf(), known })
}

fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Read { path: folder.to_path_buf(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::published;

    #[test]
    fn versions_rise_and_never_change() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(latest(folder.path(), "m").unwrap(), None);
        let (manifest, weights) = published("m", Loss::MeanSquaredError, 2);
        assert_eq!(publish(folder.path(), manifest.clone(), &weights).unwrap(), 1);
        assert_eq!(publish(folder.path(), manifest.clone(), &weights).unwrap(), 2);
        fs::create_dir_all(folder.path().join("m/7")).unwrap();
        fs::write(folder.path().join("m/7/x"), "taken by somebody else").unwrap();
        assert_eq!(publish(folder.path(), manifest.clone(), &weights).unwrap(), 8);
        assert_eq!(versions(folder.path(), "m").unwrap(), [1, 2, 7, 8]);
        assert_eq!(models(folder.path()).unwrap(), ["m"]);
        assert_eq!(load(folder.path(), "m", 2).unwrap().0, Manifest { version: 2, ..manifest });
        assert_eq!(names(&folder.path().join("m")).unwrap().len(), 4, "nothing unfinished is left");
    }

    #[test]
    fn publishers_at_once_get_their_own_versions() {
        let folder = tempfile::tempdir().unwrap();
        let (manifest, weights) = published("m", Loss::MeanSquaredError, 2);
        let mut got: Vec<u64> = std::thread::scope(|scope| {
            let publishers: Vec<_> = (0..6)
                .map(|generation| {
                    let manifest = Manifest { generation, ..manifest.clone() };
                    scope.spawn(|| publish(folder.path(), manifest, &weights).unwrap())
                })
                .collect();
            publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect()
        });
        got.sort_unstable();
        assert_eq!(got, [1, 2, 3, 4, 5, 6]);
        for version in got {
            assert_eq!(load(folder.path(), "m", version).unwrap().0.version, version);
        }
    }

    #[test]
    fn what_is_wrong_with_a_model_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let check = |model: &str, version: u64, expect: &str| {
            let error = load(folder.path(), model, version).err().unwrap();
            let text =
                format!("{error}: {}", std::error::Error::source(&error).map_or(String::new(), |s| s.to_string()));
            assert!(text.contains(expect), "{text}\nexpected to contain: {expect}");
        };
        check("fraud", 1, "no model has been trained yet");
        let (manifest, weights) = published("fraud", Loss::MeanSquaredError, 2);
        publish(folder.path(), manifest.clone(), &weights).unwrap();
        check("frud", 1, "did you mean 'fraud'?");
        check("../fraud", 1, "as a model name");
        check("fraud", 3, "find version 3 of model 'fraud': there are [1]");
        let path = folder.path().join("fraud/1");
        fs::write(path.join(WEIGHTS), &weights[..weights.len() - 3]).unwrap();
        check("fraud", 1, "cut off");
        let (_, wider) = published("fraud", Loss::MeanSquaredError, 3);
        fs::write(path.join(WEIGHTS), &wider).unwrap();
        check("fraud", 1, "use dense_00.weight of it: its shape is [3, 4], this model's is [2, 4]");
        fs::write(path.join(MANIFEST), "{").unwrap();
        check("fraud", 1, "understand");
    }
}
