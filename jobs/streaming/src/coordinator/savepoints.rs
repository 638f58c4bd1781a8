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

/// The savepoint of this name, or the epoch of this number.
pub async fn find(folder: &Folder, name: &str) -> Result<Manifest, Error> {
    let found = match name.parse::<u64>() {
        Ok(epoch) => manifest::read(folder, epoch).await,
        Err(_) => read(folder, name).await,
    };
    found.map_err(|error| match error {
        Error::Store(error) if error.is_absent() => Error::Unknown { name: name.to_string() },
        error => error,
    })
}

/// Makes a savepoint or an epoch the newest manifest again, for a job of which nothing runs: what came after it counts no
/// more, but epochs go on rising. Gives that manifest.
pub async fn go_back(folder: &Folder, name: &str) -> Result<Manifest, Error> {
    let found = find(folder, name).await?;
    let Some(latest) = manifest::latest(folder).await?.filter(|latest| latest.epoch > found.epoch) else {
        return Ok(found);
    };
    let mut again = Manifest { epoch: latest.epoch + 1, ..found };
    for task in &mut again.tasks {
        // A later epoch was taken, so this one was committed: its sinks have nothing left to do.
        task.prepared.clear();
        (task.prepared_bytes, task.bytes_written) = (0, 0);
    }
    match manifest::create(folder, &manifest::manifest_file(again.epoch), &again).await? {
        true => Ok(again),
        false => Err(Error::Taken { epoch: again.epoch, by: latest.generation }),
    }
}

/// A checkpoint that is kept, for people.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Of a savepoint.
    pub name: Option<String>,
    pub manifest: Manifest,
    pub written_ms: u64,
}

/// All that are kept: savepoints by name, then epochs, rising.
pub async fn list(folder: &Folder) -> Result<Vec<Listed>, Error> {
    let mut files: Vec<(Option<String>, String)> =
        names(folder).await?.into_iter().map(|name| (Some(name.clone()), file(&name))).collect();
    let epochs = manifest::epochs(folder).await?;
    files.extend(epochs.into_iter().map(|epoch| (None, manifest::manifest_file(epoch))));
    let mut listed = Vec::with_capacity(files.len());
    for (name, file) in files {
        let found = async {
            let manifest = manifest::read_file(folder, &file).await?;
            Ok(Listed { name, manifest, written_ms: folder.written_ms(&file).await? })
        };
        match found.await {
            Ok(found) => listed.push(found),
            // Removed since it was listed.
            Err(Error::Store(error)) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(listed)
}

fn file(name: &str) -> String {
    format!("{FOLDER}/{name}.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::TaskSnapshot;
    use std::collections::BTreeMap;

    async fn publish(folder: &Folder, epoch: u64) {
        let positions = BTreeMap::from([("source".to_string(), BTreeMap::from([("split".to_string(), epoch * 10)]))]);
        let prepared = BTreeMap::from([("sink".to_string(), vec![format!("epochs/{epoch:010}/1/sink-0.sink")])]);
        let manifest = Manifest {
            format: manifest::FORMAT,
            job: "demo/count".into(),
            generation: 1,
            epoch,
            fingerprint: "f".into(),
            claimed_us: 1,
            tasks: vec![TaskSnapshot { positions, prepared, prepared_bytes: 5, ..TaskSnapshot::default() }],
            ..Manifest::default()
        };
        manifest::write(folder, &manifest).await.expect("published");
    }

    #[tokio::test]
    async fn what_is_gone_back_to_is_the_newest_again() {
        let folder = Folder::memory();
        for epoch in 1..=5 {
            publish(&folder, epoch).await;
        }
        make(&folder, "mine", 2).await.expect("made");
        make(&folder, "mine", 2).await.expect("the same again");
        make(&folder, "newest", 5).await.expect("made");
        assert_eq!(go_back(&folder, "newest").await.expect("found").epoch, 5, "it is the newest");
        assert_eq!(find(&folder, "mine").await.expect("found").tasks[0].prepared.len(), 1);
        for (name, newest) in [("mine", 6), ("3", 7), ("mine", 8)] {
            let again = go_back(&folder, name).await.expect("gone back");
            assert_eq!(manifest::latest(&folder).await.expect("read"), Some(again.clone()));
            assert_eq!(again.epoch, newest);
            let position = if name == "3" { 30 } else { 20 };
            assert_eq!(again.tasks[0].positions["source"]["split"], position);
            assert_eq!((again.tasks[0].prepared.len(), again.bytes()), (0, 0), "its rows were committed then");
        }
        for name in ["9", "other"] {
            let text = go_back(&folder, name).await.expect_err("not there").to_string();
            assert!(text.contains(name) && text.contains("--ls"), "{text}");
        }
    }
}
