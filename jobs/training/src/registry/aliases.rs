//! Names for versions of a model: `aliases.json` beside its versions, for example `production`.
//!
//! The file is a log of what was promoted and rolled back, so that a rollback finds what an alias meant before, as often as it
//! is asked for.
//!
//! Invariant: the file is replaced as a whole, and whoever changes it holds the lock beside it, so no change is lost. An alias
//! means a version that was there when it was promoted, and such a version is not removed.

use super::{Error, absent, home, versions};
use crate::check::valid_name;
use crate::files::write_atomically;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What a query means that names no version, where it is there.
pub const PRODUCTION: &str = "production";

const FILE: &str = "aliases.json";
const LOCK: &str = ".aliases.lock";

/// Changes that are kept of one model; the oldest go first.
const KEPT: usize = 1_000;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub alias: String,
    pub at_us: i64,
    /// Absent: the alias went back to what it meant before.
    pub promoted: Option<u64>,
}

/// What the aliases of a model meant, oldest first; the last one counts. One that was rolled back to nothing is not there.
pub fn meanings(changes: &[Change]) -> BTreeMap<String, Vec<u64>> {
    let mut meanings: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for change in changes {
        let of = meanings.entry(change.alias.clone()).or_default();
        match change.promoted {
            Some(version) => of.push(version),
            None => drop(of.pop()),
        }
    }
    meanings.retain(|_, versions| !versions.is_empty());
    meanings
}

/// The changes of a model's aliases, oldest first.
pub fn changes(folder: &Path, model: &str) -> Result<Vec<Change>, Error> {
    let path = home(folder, model)?.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| Error::Manifest { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(Error::Read { path, source }),
    }
}

/// What each alias of a model means.
pub fn aliases(folder: &Path, model: &str) -> Result<BTreeMap<String, u64>, Error> {
    let meanings = meanings(&changes(folder, model)?);
    Ok(meanings.into_iter().filter_map(|(alias, of)| Some((alias, of.last().copied()?))).collect())
}

/// From now on `alias` means this version.
pub fn promote(folder: &Path, model: &str, version: u64, alias: &str, at_us: i64) -> Result<(), Error> {
    // A number would be taken for a version.
    if !valid_name(alias) || alias.parse::<u64>().is_ok() {
        return Err(Error::Alias { alias: alias.to_string() });
    }
    let _lock = lock(folder, model)?;
    if !versions(folder, model)?.contains(&version) {
        return Err(absent(folder, model, version)?);
    }
    let mut all = changes(folder, model)?;
    if meanings(&all).get(alias).and_then(|of| of.last()) == Some(&version) {
        return Ok(());
    }
    all.push(Change { alias: alias.to_string(), at_us, promoted: Some(version) });
    write(folder, model, all)
}

/// The alias means again what it meant before; which version that is.
pub fn rollback(folder: &Path, model: &str, alias: &str, at_us: i64) -> Result<u64, Error> {
    let _lock = lock(folder, model)?;
    let mut all = changes(folder, model)?;
    let there: BTreeSet<u64> = versions(folder, model)?.into_iter().collect();
    loop {
        let meant = meanings(&all).remove(alias).unwrap_or_default();
        let [.., before, _] = meant[..] else {
            return Err(Error::NoEarlier { model: model.to_string(), alias: alias.to_string() });
        };
        all.push(Change { alias: alias.to_string(), at_us, promoted: None });
        // One that was removed meanwhile is passed over.
        if there.contains(&before) {
            write(folder, model, all)?;
            return Ok(before);
        }
    }
}

fn write(folder: &Path, model: &str, mut all: Vec<Change>) -> Result<(), Error> {
    if all.len() > KEPT {
        // What was rolled back is told no more; what a rollback would find stays, but for the oldest.
        let meanings = meanings(&all);
        let at = |alias: &String, version: u64| {
            let promoted = |change: &&Change| change.alias == *alias && change.promoted == Some(version);
            all.iter().rfind(promoted).map_or(0, |change| change.at_us)
        };
        let kept = meanings.iter().flat_map(|(alias, of)| {
            let newest = of[of.len().saturating_sub(KEPT / 10)..].iter();
            newest.map(move |version| (alias, *version))
        });
        all = kept
            .map(|(alias, version)| Change { alias: alias.clone(), at_us: at(alias, version), promoted: Some(version) })
            .collect();
    }
    let path = home(folder, model)?.join(FILE);
    let text = serde_json::to_vec_pretty(&all).map_err(|source| Error::Manifest { path: path.clone(), source })?;
    write_atomically(&path, &text).map_err(|source| Error::Write { model: model.to_string(), path, source })
}

/// Held until it is dropped.
pub(super) fn lock(folder: &Path, model: &str) -> Result<File, Error> {
    let home = home(folder, model)?;
    if !home.is_dir() {
        return Err(absent(folder, model, 0)?);
    }
    let path: PathBuf = home.join(LOCK);
    let failed = |source| Error::Write { model: model.to_string(), path: path.clone(), source };
    let file = File::create(&path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{publish, remove, resolve};
    use crate::test_support::published;
    use jobs::train::Loss;

    fn three_versions() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            let (manifest, weights) = published("m", Loss::MeanSquaredError, 2);
            publish(folder.path(), manifest, &weights).unwrap();
        }
        folder
    }

    #[test]
    fn a_query_means_what_is_in_production() {
        let folder = three_versions();
        let folder = folder.path();
        let means = |reference: &str| resolve(folder, reference).map_err(|error| error.to_string());
        assert_eq!((means("m"), means("m@2")), (Ok(3), Ok(2)), "the latest, and the one that is named");
        promote(folder, "m", 1, PRODUCTION, 10).unwrap();
        promote(folder, "m", 2, PRODUCTION, 20).unwrap();
        promote(folder, "m", 3, "candidate", 30).unwrap();
        assert_eq!((means("m"), means("m@candidate"), means("m@production")), (Ok(2), Ok(3), Ok(2)));
        promote(folder, "m", 3, PRODUCTION, 40).unwrap();
        promote(folder, "m", 3, PRODUCTION, 45).unwrap();
        assert_eq!(rollback(folder, "m", PRODUCTION, 50).unwrap(), 2, "promoting it twice counts once");
        assert_eq!(rollback(folder, "m", PRODUCTION, 60).unwrap(), 1);
        assert!(rollback(folder, "m", PRODUCTION, 70).unwrap_err().to_string().contains("meant nothing else before"));
        assert_eq!(means("m"), Ok(1));
        assert_eq!(changes(folder, "m").unwrap().len(), 6, "all of it can be looked up");
        assert!(means("m@staging").unwrap_err().contains("no alias 'staging'"), "{:?}", means("m@staging"));
        assert!(means("m@9").unwrap_err().contains("there are [1, 2, 3]"));
        assert!(promote(folder, "m", 9, PRODUCTION, 80).is_err());
        for alias in ["7", "", "../x", "a b"] {
            let error = promote(folder, "m", 1, alias, 80).unwrap_err().to_string();
            assert!(error.contains("as an alias"), "{error}");
        }
    }

    #[test]
    fn what_an_alias_means_is_not_removed_and_no_number_comes_twice() {
        let folder = three_versions();
        let folder = folder.path();
        promote(folder, "m", 1, PRODUCTION, 10).unwrap();
        promote(folder, "m", 2, PRODUCTION, 20).unwrap();
        promote(folder, "m", 3, PRODUCTION, 30).unwrap();
        assert!(remove(folder, "m", 3).unwrap_err().to_string().contains("'production' means it"));
        remove(folder, "m", 2).unwrap();
        assert_eq!(rollback(folder, "m", PRODUCTION, 40).unwrap(), 1, "the one between is gone");
        remove(folder, "m", 3).unwrap();
        let (manifest, weights) = published("m", Loss::MeanSquaredError, 2);
        assert_eq!(publish(folder, manifest, &weights).unwrap(), 4);
        assert_eq!(versions(folder, "m").unwrap(), [1, 4]);
        assert!(remove(folder, "m", 2).is_err());
    }

    #[test]
    fn changes_at_once_are_all_kept_and_a_long_log_forgets_what_was_rolled_back() {
        let folder = three_versions();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let folder = folder.path();
                scope.spawn(move || promote(folder, "m", 1, &format!("alias-{n}"), n).unwrap());
            }
        });
        let folder = folder.path();
        assert_eq!(aliases(folder, "m").unwrap().len(), 8);
        let many = (0..KEPT as i64 + 1).map(|n| Change {
            alias: PRODUCTION.to_string(),
            at_us: n,
            promoted: if n % 3 == 2 { None } else { Some(1 + n as u64 % 2) },
        });
        write(folder, "m", many.collect()).unwrap();
        let kept = changes(folder, "m").unwrap();
        assert_eq!(kept.len(), KEPT / 10);
        assert!(kept.iter().all(|change| change.promoted.is_some()));
    }
}
