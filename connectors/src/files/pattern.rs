//! Which files a `path` means: one file, those of a directory, or those that match a pattern.
//!
//! Invariant: the answer is sorted by name and names no hidden file (unfinished parts are hidden). A read that ends finds
//! at least one file: reading nothing by mistake looks too much like reading everything.

use super::stored::{key_of, s3_failed};
use crate::{Error, Result};
use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use objects::Bucket;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

pub fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?'])
}

/// A file, and what tells whether it is still the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Written the way the table's path is: relative ones stay relative, those on a store begin with `s3://`.
    pub path: String,
    pub bytes: u64,
    pub written_us: i64,
}

/// The files that there are now. `partitioned`: directories called `key=value` belong to the directory above them.
pub fn find(base: &Path, path: &str, partitioned: bool) -> Result<Vec<Found>> {
    let mut found = match objects::split(path) {
        Some((bucket, key)) => in_bucket(path, bucket, key, partitioned)?,
        None => local(base, path, partitioned)?,
    };
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// As [`find`], of at least one file.
pub fn find_some(base: &Path, path: &str, partitioned: bool) -> Result<Vec<Found>> {
    let found = find(base, path, partitioned)?;
    if found.is_empty() {
        let whole = if objects::split(path).is_some() { PathBuf::from(path) } else { base.join(path) };
        return Err(Error::Fatal(format!("no file is at '{}'; check option 'path'", whole.display())));
    }
    Ok(found)
}

fn local(base: &Path, path: &str, partitioned: bool) -> Result<Vec<Found>> {
    let mut paths = Vec::new();
    if is_pattern(path) {
        paths = expand(base, path)?;
    } else {
        let whole = base.join(path);
        let kind = std::fs::metadata(&whole).map_err(|why| failed(&whole, &why))?;
        if kind.is_dir() { files_in(base, path, partitioned, &mut paths)? } else { paths.push(path.to_owned()) }
    }
    let mut found = Vec::with_capacity(paths.len());
    for path in paths {
        let whole = base.join(&path);
        let about = match std::fs::metadata(&whole) {
            Ok(about) => about,
            // Removed while it was listed.
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => continue,
            Err(why) => return Err(failed(&whole, &why)),
        };
        let written = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let written_us = written.map_or(0, |since| since.as_micros() as i64);
        found.push(Found { path, bytes: about.len(), written_us });
    }
    Ok(found)
}

/// Objects have no directories: a pattern is what the keys below its literal beginning are held against.
fn in_bucket(path: &str, bucket: &str, key: &str, partitioned: bool) -> Result<Vec<Found>> {
    let failed = |why: object_store::Error| s3_failed(path, "be listed", &why);
    let bucket = Bucket::open(bucket).map_err(failed)?;
    let parts: Vec<&str> = key.split('/').filter(|part| !part.is_empty()).collect();
    let literal = parts.iter().take_while(|part| !is_pattern(part)).count();
    let below = key_of(path, &parts[..literal].join("/"))?;
    let found = |about: ObjectMeta| Found {
        path: format!("{}{}/{}", objects::S3, bucket.name, about.location),
        bytes: about.size,
        written_us: about.last_modified.timestamp_micros(),
    };
    if literal == parts.len() && !key.ends_with('/') && !parts.is_empty() {
        match bucket.block_on(bucket.store.head(&below)) {
            Ok(about) => return Ok(vec![found(about)]),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(why) => return Err(failed(why)),
        }
    }
    let listed: Vec<ObjectMeta> = bucket.block_on(bucket.store.list(Some(&below)).try_collect()).map_err(failed)?;
    let wanted = |key: &Key| {
        let names: Vec<String> = key.parts().map(|part| part.as_ref().to_owned()).collect();
        let (Some(rest), false) = (names.get(literal..), names.iter().any(|name| name.starts_with('.'))) else {
            return false;
        };
        match (parts.get(literal..).unwrap_or_default(), rest) {
            ([], [directories @ .., _]) => {
                directories.is_empty() || partitioned && directories.iter().all(|name| name.contains('='))
            }
            ([], []) => false,
            (patterns, names) => {
                patterns.len() == names.len() && patterns.iter().zip(names).all(|(part, name)| matches(part, name))
            }
        }
    };
    Ok(listed.into_iter().filter(|about| wanted(&about.location)).map(found).collect())
}

fn failed(path: &Path, why: &std::io::Error) -> Error {
    Error::Fatal(format!("'{}' cannot be read: {why}; check option 'path'", path.display()))
}

fn files_in(base: &Path, directory: &str, partitioned: bool, files: &mut Vec<String>) -> Result<()> {
    for name in visible_names(&base.join(directory))? {
        let path = format!("{}/{name}", directory.trim_end_matches('/'));
        let whole = base.join(&path);
        if whole.is_file() {
            files.push(path);
        } else if partitioned && name.contains('=') && whole.is_dir() {
            files_in(base, &path, partitioned, files)?;
        }
    }
    Ok(())
}

fn visible_names(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|why| failed(directory, &why))? {
        let entry = entry.map_err(|why| failed(directory, &why))?;
        let name = entry.file_name().into_string().map_err(|name| {
            Error::Fatal(format!("'{}' holds the file {name:?}, whose name is not UTF-8", directory.display()))
        })?;
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}

/// Walks the path's parts; only those with a `*` or `?` are looked up in their directory.
fn expand(base: &Path, pattern: &str) -> Result<Vec<String>> {
    let mut reached = vec![if pattern.starts_with('/') { "/".to_owned() } else { String::new() }];
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    for (depth, part) in parts.iter().enumerate() {
        let mut next = Vec::new();
        for at in &reached {
            let join = |name: &str| match at.as_str() {
                "" => name.to_owned(),
                "/" => format!("/{name}"),
                at => format!("{at}/{name}"),
            };
            let directory: PathBuf = base.join(at);
            if !is_pattern(part) {
                next.push(join(part));
            } else if directory.is_dir() {
                next.extend(
                    visible_names(&directory)?.iter().filter(|name| matches(part, name)).map(|name| join(name)),
                );
            }
        }
        let last = depth + 1 == parts.len();
        next.retain(|path| if last { base.join(path).is_file() } else { base.join(path).is_dir() });
        reached = next;
    }
    Ok(reached)
}

/// `*` stands for any characters, `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where the last star stood and what it had swallowed: the only place worth going back to.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, swallowed)) => {
                    star = Some((at, swallowed + 1));
                    p = at + 1;
                    n = swallowed + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*.json", "a.json", true),
            ("*.json", "a.json.gz", false),
            ("a*b*c", "a--b-b-c", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("a*", "b", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_directories_and_patterns_are_listed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["in/b/2.json", "in/b/10.json", "in/a/1.json", "in/a/.part", "in/a/1.csv", "in/top.json"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let list = |path: &str| -> Result<Vec<String>> {
            Ok(find_some(dir.path(), path, false)?.into_iter().map(|found| found.path).collect())
        };
        assert_eq!(list("in/*/*.json").unwrap(), ["in/a/1.json", "in/b/10.json", "in/b/2.json"]);
        assert_eq!(list("in/a/").unwrap(), ["in/a/1.csv", "in/a/1.json"]);
        assert_eq!(list("in/top.json").unwrap(), ["in/top.json"]);
        let absolute = dir.path().join("in/b/?.json");
        assert_eq!(list(absolute.to_str().unwrap()).unwrap(), [dir.path().join("in/b/2.json").to_str().unwrap()]);
        for missing in ["in/none", "in/*.parquet", "nowhere/*.json"] {
            let why = list(missing).unwrap_err().to_string();
            assert!(why.contains(missing), "{why}");
        }
    }

    #[test]
    fn objects_are_found_as_files_are() {
        let bucket = Bucket::in_memory("pattern-test").unwrap();
        for name in
            ["in/b/2.json", "in/b/10.json", "in/a/1.json", "in/a/.part", "in/.u/x", "in/top.json", "in/k=1/3.json"]
        {
            let key = Key::from(name);
            bucket.block_on(bucket.store.put(&key, name.to_owned().into_bytes().into())).unwrap();
        }
        let list = |path: &str, partitioned: bool| -> Vec<String> {
            let found = find(Path::new("/nowhere"), &format!("s3://pattern-test/{path}"), partitioned).unwrap();
            found.into_iter().map(|found| found.path.replace("s3://pattern-test/", "")).collect()
        };
        assert_eq!(list("in/?/*.json", false), ["in/a/1.json", "in/b/10.json", "in/b/2.json"]);
        assert_eq!(list("in/a", false), ["in/a/1.json"]);
        assert_eq!(list("in/top.json", false), ["in/top.json"]);
        assert_eq!(list("in", false), ["in/top.json"]);
        assert_eq!(list("in/", true), ["in/k=1/3.json", "in/top.json"]);
        assert_eq!(list("i", false), Vec::<String>::new());
        let none = find_some(Path::new("/nowhere"), "s3://pattern-test/none/*.json", false).unwrap_err().to_string();
        assert!(none.contains("s3://pattern-test/none/*.json"), "{none}");
    }
}
