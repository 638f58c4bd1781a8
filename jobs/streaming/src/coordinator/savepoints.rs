//! Checkpoints that are kept under a name until somebody drops them.
//!
//! A savepoint is a copy of a manifest beside the others: it names the same files, and garbage collection keeps what it
//! names.
//!
//! Invariant: a name is given once; a savepoint that was made has all of its files.

use super::manifest::{self, Error};
use crate::control::Manifest;
use crate::runtime::store::Folder;

const FOLDER: &str = "savepoints";

/// Why a name cannot be one.
pub fn refuse_name(name: &str) -> Option<String> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if name.is_empty() || name.len() > 100 || !name.chars().all(fits) || name.starts_with('.') {
        return Some(format!(
            "'{name}' is no name for a savepoint: letters, digits, '-', '_' and '.' make one, up to 100 of them"
        ));
    }
    name.bytes().all(|letter| letter.is_ascii_digit()).then(|| {
        format!("'{name}' is no name for a savepoint: a number alone means an epoch; put a letter in front of it")
    })
}

/// Keeps a published epoch under this name. Saying the same again is no error.
pub async fn make(folder: &Folder, name: &str, epoch: u64) -> Result<Manifest, Error> {
    let manifest = manifest::read(folder, epoch).await?;
    let file = file(name);
    if !manifest::create(folder, &file, &manifest).await? {
        let known = manifest::read_file(folder, &file).await?;
        return match known == manifest {
            true => Ok(known),
            false => Err(Error::Named { name: name.to_string(), epoch: known.epoch }),
        };
    }
    // Garbage collection removes the manifest before it looks at savepoints and removes files. So if the manifest is still
    // there, all of its files stay.
    match manifest::read(folder, epoch).await {
        Ok(_) => Ok(manifest),
        Err(error) => {
            folder.delete(&file).await?;
            Err(error)
        }
    }
}

/// Gives false if there is none of this name.
pub async fn remove(folder: &Folder, name: &str) -> Result<bool, Error> {
    let file = file(name);
    let is_there = folder.list(FOLDER).await?.contains(&file);
    folder.delete(&file).await?;
    Ok(is_there)
}

pub async fn read(folder: &Folder, name: &str) -> Result<Manifest, Error> {
    manifest::read_file(folder, &file(name)).await
}

/// The names, sorted.
pub async fn names(folder: &Folder) -> Result<Vec<String>, Error> {
    let files = folder.list(FOLDER).await?;
    let name = |file: &String| Some(file.rsplit('/').next()?.strip_suffix(".json")?.to_string());
    Ok(files.iter().filter_map(name).collect())
}

pub async fn all(folder: &Folder) -> Result<Vec<Manifest>, Error> {
    let mut all = Vec::new();
    for name in names(folder).await? {
        match read(folder, &name).await {
            Ok(manifest) => all.push(manifest),
            // Dropped since they were listed.
            Err(Error::Store(error)) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

fn file(name: &str) -> String {
    format!("{FOLDER}/{name}.json")
}
