//! Named arrays in a safetensors file, with a description beside them and a checksum over both.
//!
//! Invariant: what [`Tensors::read`] returns is exactly what [`write`] was given; anything else is an error that says what is
//! wrong with the file. Files can be opened by any safetensors reader.

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The one entry beside the arrays: the checksum in sixteen hexadecimal digits, a space, the description. The format keeps
/// such entries in a hash map, so that two of them would lie in the file in another order every time.
const ENTRY: &str = "smack";
const CHECKSUM_DIGITS: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read it: it is cut off or was never whole ({0})")]
    Unreadable(SafeTensorError),
    #[error("read it: it has no description of ours, so smack did not write it")]
    Foreign,
    #[error("read it: its contents do not have the checksum it names")]
    Damaged,
    #[error("read its description: {0}")]
    Description(serde_json::Error),
    #[error("write it: {0}")]
    Write(SafeTensorError),
    #[error("find {name} in it: this model has it with shape {dims:?}; it was written by another network")]
    Missing { name: String, dims: Vec<usize> },
    #[error("use {name} of it: its shape is {got:?}, this model's is {expected:?}; it was written by another network")]
    Shape { name: String, got: Vec<usize>, expected: Vec<usize> },
    #[error("use {name} of it: its values are {got:?}, not {expected:?}")]
    Type { name: String, got: Dtype, expected: Dtype },
}

pub struct Array<'a> {
    pub name: String,
    pub dims: Vec<usize>,
    pub dtype: Dtype,
    pub bytes: &'a [u8],
}

pub fn write(arrays: &[Array<'_>], description: &impl Serialize) -> Result<Vec<u8>, Error> {
    let description = serde_json::to_string(description).map_err(Error::Description)?;
    let checksum = checksum(arrays.iter().map(|array| (array.name.as_str(), array.bytes)), &description);
    let mut views = Vec::with_capacity(arrays.len());
    for array in arrays {
        let view = TensorView::new(array.dtype, array.dims.clone(), array.bytes).map_err(Error::Write)?;
        views.push((array.name.as_str(), view));
    }
    let beside = HashMap::from([(ENTRY.to_string(), format!("{checksum:016x} {description}"))]);
    safetensors::serialize(views, Some(beside)).map_err(Error::Write)
}

/// A file's contents after all checks.
pub struct Tensors<'a> {
    arrays: SafeTensors<'a>,
    description: String,
}

impl<'a> Tensors<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(Error::Unreadable)?;
        let arrays = SafeTensors::deserialize(bytes).map_err(Error::Unreadable)?;
        let beside = header.metadata().as_ref().ok_or(Error::Foreign)?;
        let entry = beside.get(ENTRY).ok_or(Error::Foreign)?;
        let (named, description) = entry.split_at_checked(CHECKSUM_DIGITS).ok_or(Error::Foreign)?;
        let description = description.strip_prefix(' ').ok_or(Error::Foreign)?;
        let tensors = arrays.tensors();
        let checksum = checksum(tensors.iter().map(|(name, view)| (name.as_str(), view.data())), description);
        if named != format!("{checksum:016x}") {
            return Err(Error::Damaged);
        }
        Ok(Self { arrays, description: description.to_string() })
    }

    pub fn description<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.description).map_err(Error::Description)
    }

    /// The bytes of an array, which must have exactly this shape and type.
    pub fn array(&self, name: &str, dims: &[usize], expected: Dtype) -> Result<&'a [u8], Error> {
        let view =
            self.arrays.tensor(name).map_err(|_| Error::Missing { name: name.to_string(), dims: dims.to_vec() })?;
        if view.shape() != dims {
            let (got, expected) = (view.shape().to_vec(), dims.to_vec());
            return Err(Error::Shape { name: name.to_string(), got, expected });
        }
        if view.dtype() != expected {
            return Err(Error::Type { name: name.to_string(), got: view.dtype(), expected });
        }
        Ok(view.data())
    }

    pub fn has(&self, name: &str) -> bool {
        self.arrays.tensor(name).is_ok()
    }

    /// The bytes of an array of one dimension, however long.
    pub fn list(&self, name: &str, expected: Dtype) -> Result<&'a [u8], Error> {
        let view = self.arrays.tensor(name).map_err(|_| Error::Missing { name: name.to_string(), dims: Vec::new() })?;
        self.array(name, &[view.shape().iter().product()], expected)
    }
}

/// Does not depend on the order in which the arrays lie in the file.
fn checksum<'a>(arrays: impl Iterator<Item = (&'a str, &'a [u8])>, description: &str) -> u64 {
    arrays
        .map(|(name, bytes)| xxh3_64_with_seed(bytes, xxh3_64(name.as_bytes())))
        .fold(xxh3_64(description.as_bytes()), u64::wrapping_add)
}
