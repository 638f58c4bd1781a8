//! Which files a `path` means: one file, those of a directory, or those that match a pattern.
//!
//! Invariant: the answer is sorted, names no hidden file (unfinished parts are hidden), and is never empty: reading
//! nothing by mistake looks too much like reading everything.

use crate::{Error, Result};
use std::path::{Path, PathBuf};

pub fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?'])
}

/// The files as paths written the way `path` is: relative ones stay relative to `base`.
pub fn list(base: &Path, path: &str) -> Result<Vec<String>> {
    let mut found = if is_pattern(path) {
        expand(base, path)?
    } else {
        let whole = base.join(path);
        let kind = std::fs::metadata(&whole).map_err(|why| failed(&whole, &why))?;
        if kind.is_dir() { files_in(base, path)? } else { vec![path.to_owned()] }
    };
    if found.is_empty() {
        return Err(Error::Fatal(format!("no file is at '{}'; check option 'path'", base.join(path).display())));
    }
    found.sort_unstable();
    Ok(found)
}

fn failed(path: &Path, why: &std::io::Error) -> Error {
    Error::Fatal(format!("'{}' cannot be read: {why}; check option 'path'", path.display()))
}

fn files_in(base: &Path, directory: &str) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for name in visible_names(&base.join(directory))? {
        let path = format!("{}/{name}", directory.trim_end_matches('/'));
        if base.join(&path).is_file() {
            files.push(path);
        }
    }
    Ok(files)
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
        let list = |path: &str| list(dir.path(), path);
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
}
