//! Everything that training needs to go on with the bits it would have had: weights, optimizer state, place in the data,
//! seed and what preprocessing has learned.
//!
//! Randomness needs no state of its own: it is a function of seed, epoch and step (see [`crate::random`]). Invariant: the
//! newest readable file is the last step that was reported as saved or a later one; the two newest are kept, so that one
//! damaged file costs some steps and not the run.

use crate::bytes;
use crate::callbacks;
use crate::files;
use crate::graph::Slot;
use crate::preprocess::Preprocessing;
use crate::tensors::{self, Array, Tensors};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;
const KEPT: usize = 2;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("write checkpoint {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("list checkpoints in {path}")]
    List { path: PathBuf, source: io::Error },
    #[error("put a checkpoint together")]
    Encode { source: tensors::Error },
    #[error("use any checkpoint in {path}: none can be read ({reason}); remove the folder to start anew")]
    NoneReadable { path: PathBuf, reason: String },
    #[error("resume from the checkpoint in {path}; remove the folder to start anew")]
    OtherGraph { path: PathBuf, source: tensors::Error },
    #[error(
        "resume from the checkpoint in {path}: it was made from other columns or with other inputs; remove the folder to start anew"
    )]
    OtherInputs { path: PathBuf },
    #[error(
        "resume from the checkpoint in {path}: it was made with {what} {got}, the job says {expected}; remove the folder to start anew"
    )]
    OtherJob { path: PathBuf, what: &'static str, got: u64, expected: u64 },
}

/// Where in the data training stood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub format: u32,
    /// Steps taken.
    pub step: u64,
    pub epoch: u64,
    /// Rows of this epoch that were trained on.
    pub position: u64,
    /// Updates that the optimizer has made; more than `step` counts when the data changed on the way.
    pub optimizer_step: u64,
    pub seed: u64,
    pub batch: u64,
    /// Digest of the data that step and position count in.
    pub data_digest: u64,
    /// Training time so far, over all lives.
    pub seconds: f64,
    #[serde(default)]
    pub callbacks: callbacks::State,
}

impl Place {
    pub const FORMAT: u32 = FORMAT;
}

#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub place: Place,
    pub weights: Vec<f32>,
    pub moments: Vec<Vec<f32>>,
    pub preprocessing: Preprocessing,
    /// Of the best epoch, where the job keeps them.
    pub best: Option<Vec<f32>>,
}

/// As text, because it holds words.
const PREPROCESSING: &str = "preprocessing";
/// Before the names of the parameters.
const BEST: &str = "best.";

/// The bytes of a checkpoint file.
pub fn encode(
    place: &Place,
    slots: &[Slot],
    weights: &[f32],
    moments: &[(&str, &[f32])],
    preprocessing: &Preprocessing,
    best: Option<&[f32]>,
) -> Result<Vec<u8>, Error> {
    let mut arrays = weight_arrays(slots, weights);
    arrays.extend(moment_arrays(slots, moments));
    if let Some(best) = best {
        arrays.extend(
            slots
                .iter()
                .map(|slot| array(format!("{BEST}{}", slot.name), slot.dims.clone(), &best[slot.range.clone()])),
        );
    }
    let text = serde_json::to_vec(preprocessing)
        .map_err(|source| Error::Encode { source: tensors::Error::Description(source) })?;
    let (name, dims) = (PREPROCESSING.to_string(), vec![text.len()]);
    arrays.push(Array { name, dims, dtype: Dtype::U8, bytes: &text });
    tensors::write(&arrays, place).map_err(|source| Error::Encode { source })
}

/// The arrays of a network's parameters, under their own names.
pub fn weight_arrays<'a>(slots: &[Slot], weights: &'a [f32]) -> Vec<Array<'a>> {
    slots.iter().map(|slot| array(slot.name.clone(), slot.dims.clone(), &weights[slot.range.clone()])).collect()
}

/// The arrays of an optimizer's state, a set of them for each moment.
pub fn moment_arrays<'a>(slots: &[Slot], moments: &[(&str, &'a [f32])]) -> Vec<Array<'a>> {
    let mut arrays = Vec::with_capacity(moments.len() * slots.len());
    for (moment, values) in moments {
        for slot in slots {
            arrays.push(array(moment_name(moment, slot), slot.dims.clone(), &values[slot.range.clone()]));
        }
    }
    arrays
}

/// Takes an optimizer's state out of a file.
pub fn read_moments(tensors: &Tensors<'_>, slots: &[Slot], moments: &[&str]) -> Result<Vec<Vec<f32>>, tensors::Error> {
    let mut arrays = Vec::with_capacity(moments.len());
    for moment in moments {
        let mut values = Vec::new();
        for slot in slots {
            let name = moment_name(moment, slot);
            values.extend(bytes::to_f32(tensors.array(&name, &slot.dims, Dtype::F32)?));
        }
        arrays.push(values);
    }
    Ok(arrays)
}

/// Takes a network's parameters out of a file.
pub fn read_weights(tensors: &Tensors<'_>, slots: &[Slot]) -> Result<Vec<f32>, tensors::Error> {
    let mut weights = Vec::new();
    for slot in slots {
        weights.extend(bytes::to_f32(tensors.array(&slot.name, &slot.dims, Dtype::F32)?));
    }
    Ok(weights)
}

/// Takes a checkpoint apart for a network of these slots and an optimizer with these moments.
pub fn decode(bytes: &[u8], slots: &[Slot], moments: &[&str]) -> Result<Checkpoint, tensors::Error> {
    let tensors = Tensors::read(bytes)?;
    let weights = read_weights(&tensors, slots)?;
    let arrays = read_moments(&tensors, slots, moments)?;
    let mut best = Vec::new();
    for slot in slots {
        let name = format!("{BEST}{}", slot.name);
        // All of them are there, or none.
        if best.is_empty() && !tensors.has(&name) {
            break;
        }
        best.extend(bytes::to_f32(tensors.array(&name, &slot.dims, Dtype::F32)?));
    }
    let best = (!best.is_empty()).then_some(best);
    let preprocessing = tensors.list(PREPROCESSING, Dtype::U8)?;
    let preprocessing = serde_json::from_slice(preprocessing).map_err(tensors::Error::Description)?;
    Ok(Checkpoint { place: tensors.description()?, weights, moments: arrays, preprocessing, best })
}

fn moment_name(moment: &str, slot: &Slot) -> String {
    format!("optimizer.{moment}.{}", slot.name)
}

fn array(name: String, dims: Vec<usize>, values: &[f32]) -> Array<'_> {
    Array { name, dims, dtype: Dtype::F32, bytes: bytes::of_f32(values) }
}

/// Writes the file of a step and lets all but the newest two go.
pub fn save(folder: &Path, step: u64, bytes: &[u8]) -> Result<(), Error> {
    let path = folder.join(format!("step-{step:012}.safetensors"));
    files::write_atomically(&path, bytes).map_err(|source| Error::Write { path, source })?;
    for old in newest_first(folder)?.into_iter().skip(KEPT) {
        if let Err(error) = std::fs::remove_file(&old) {
            tracing::warn!(path = %old.display(), %error, "an old checkpoint stays");
        }
    }
    Ok(())
}

/// The newest checkpoint that can be read, and what is to be said about newer ones that cannot.
pub fn newest(folder: &Path) -> Result<(Option<Vec<u8>>, Vec<String>), Error> {
    let mut notices = Vec::new();
    for path in newest_first(folder)? {
        let read = std::fs::read(&path).map_err(|error| error.to_string());
        let checked = read.and_then(|bytes| match Tensors::read(&bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(error.to_string()),
        });
        match checked {
            Ok(bytes) => return Ok((Some(bytes), notices)),
            Err(reason) => notices.push(format!("checkpoint {} is passed over: failed to {reason}", path.display())),
        }
    }
    if notices.is_empty() {
        return Ok((None, notices));
    }
    Err(Error::NoneReadable { path: folder.to_path_buf(), reason: notices.join("; ") })
}

/// The step of the newest file, whether or not it can be read.
pub fn newest_step(folder: &Path) -> Result<Option<u64>, Error> {
    let newest = newest_first(folder)?.into_iter().next();
    Ok(newest.and_then(|path| path.file_stem()?.to_str()?.strip_prefix("step-")?.parse().ok()))
}

fn newest_first(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::List { path: folder.to_path_buf(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("step-") && name.ends_with(".safetensors") {
            paths.push(entry.path());
        }
    }
    // Twelve digits, so the order by name is the order by step.
    paths.sort_unstable_by(|left, right| right.cmp(left));
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Graph, Source, Wanted};
    use crate::test_support::normalizing;
    use jobs::train::{Activation, Layer, Node, chain};

    fn place(step: u64) -> Place {
        Place {
            format: FORMAT,
            step,
            epoch: 0,
            position: 8,
            optimizer_step: step,
            seed: u64::MAX,
            batch: 4,
            data_digest: 9,
            seconds: 0.5,
            callbacks: callbacks::State { best: Some((0.5, 1)), ..callbacks::State::default() },
        }
    }

    fn slots(layers: &[Node]) -> Vec<Slot> {
        let sources = [Source::numbers("features", 2)];
        let wanted = Wanted { sources: &sources, layers, output: None, outputs: 1 };
        Graph::<f32>::new(wanted, 1).unwrap().slots().to_vec()
    }

    fn example(step: u64) -> (Vec<Slot>, Vec<u8>) {
        let slots = slots(&chain([Layer::dense(3, Activation::Relu)]));
        let weights: Vec<f32> = (0..13).map(|i| i as f32 / 3.0).collect();
        let bytes =
            encode(&place(step), &slots, &weights, &[("momentum", &weights)], &normalizing(2), Some(&weights)).unwrap();
        (slots, bytes)
    }

    #[test]
    fn what_is_written_comes_back() {
        let (slots, bytes) = example(3);
        let checkpoint = decode(&bytes, &slots, &["momentum"]).unwrap();
        assert_eq!(checkpoint.place, place(3));
        assert_eq!(checkpoint.weights[12], 4.0);
        assert_eq!(checkpoint.moments, std::slice::from_ref(&checkpoint.weights));
        assert_eq!(checkpoint.best.as_ref(), Some(&checkpoint.weights));
        assert_eq!(checkpoint.preprocessing, normalizing(2));
    }

    #[test]
    fn another_graph_is_named_by_layer_and_shape() {
        let (_, bytes) = example(3);
        let wider = slots(&chain([Layer::dense(4, Activation::Relu)]));
        let error = decode(&bytes, &wider, &["momentum"]).unwrap_err().to_string();
        assert!(error.contains("dense_00.bias") && error.contains("[3]") && error.contains("[4]"), "{error}");
        let narrower = slots(&[]);
        let error = decode(&bytes, &narrower, &["momentum"]).unwrap_err().to_string();
        assert!(error.contains("output.weight") && error.contains("[3, 1]") && error.contains("[2, 1]"), "{error}");
        let (slots, bytes) = example(3);
        let error = decode(&bytes, &slots, &["first_moment"]).unwrap_err().to_string();
        assert!(error.contains("optimizer.first_moment.dense_00.bias"), "{error}");
    }

    #[test]
    fn a_damaged_file_falls_back_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(newest(folder.path()).unwrap(), (None, vec![]));
        assert_eq!(newest_step(folder.path()).unwrap(), None);
        for step in [5, 10, 15] {
            save(folder.path(), step, &example(step).1).unwrap();
        }
        assert_eq!(newest_first(folder.path()).unwrap().len(), KEPT);
        assert_eq!(newest_step(folder.path()).unwrap(), Some(15));
        let whole = example(15).1;
        let path = folder.path().join("step-000000000015.safetensors");
        for cut in [0, 7, 40, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (found, notices) = newest(folder.path()).unwrap();
            assert_eq!(found.unwrap(), example(10).1, "cut at {cut}");
            assert!(notices[0].contains("step-000000000015.safetensors is passed over"), "{notices:?}");
        }
        for at in [whole.len() - 1, whole.len() - 60] {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            std::fs::write(&path, &flipped).unwrap();
            assert_eq!(newest(folder.path()).unwrap().0.unwrap(), example(10).1, "flipped at {at}");
        }
        std::fs::write(folder.path().join("step-000000000010.safetensors"), b"x").unwrap();
        let error = newest(folder.path()).unwrap_err().to_string();
        assert!(error.contains("none can be read") && error.contains("remove the folder"), "{error}");
    }
}
