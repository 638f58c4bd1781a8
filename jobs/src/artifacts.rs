//! What tasks want fetched into their sandboxes before they start.
//!
//! Invariant: an artifact that was checked comes from a place that agents can fetch from, and lands below the task's
//! sandbox, where nothing else is put.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Component, Path};

/// Of one task.
const MAX_ARTIFACTS: usize = 256;

/// What agents put into sandboxes themselves.
const TAKEN: [&str; 3] = ["stdout", "stderr", "plan.json"];

/// Archives that can be unpacked, by the ends of their names.
const ARCHIVES: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"];

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// `https://…`, `http://…`, `s3://bucket/key`, `file:///path` or `/path` on the agent's machine.
    pub from: String,
    /// Where the task finds it in its sandbox: the file, or the folder that an archive is unpacked into.
    pub path: String,
    /// Of its bytes, 64 lowercase hexadecimal digits. Empty: whatever is there.
    #[serde(default)]
    pub sha256: String,
    /// It is an archive, and what is in it is wanted.
    #[serde(default)]
    pub unpack: bool,
    #[serde(default)]
    pub executable: bool,
}

/// Where an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    Http(&'a str),
    Store { bucket: &'a str, key: &'a str },
    File(&'a Path),
}

/// What an archive is packed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    Plain,
    Gzip,
    Zstd,
}

impl Artifact {
    /// `Err`: why nothing can be fetched from there.
    pub fn source(&self) -> Result<Source<'_>, String> {
        let from = self.from.as_str();
        let scheme = from.split_once("://").map_or("", |(scheme, _)| scheme);
        let rest = from.get(scheme.len() + 3..).unwrap_or_default();
        match scheme {
            "http" | "https" if !rest.is_empty() && !rest.starts_with('/') => Ok(Source::Http(from)),
            "s3" => match rest.split_once('/') {
                Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => Ok(Source::Store { bucket, key }),
                Some(_) | None => Err(format!("'{from}' names no object; write s3://bucket/key")),
            },
            "file" if rest.starts_with('/') => Ok(Source::File(Path::new(rest))),
            "" if from.starts_with('/') => Ok(Source::File(Path::new(from))),
            _ => Err(format!(
                "'{}' is no place to fetch from; it is https://…, http://…, s3://bucket/key, or a path from the root",
                self.shown()
            )),
        }
    }

    /// How it is packed, by the name that it has where it is.
    pub fn packed(&self) -> Result<Packed, String> {
        let name = self.from.split(['?', '#']).next().unwrap_or_default();
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        match () {
            () if ends(&[".tar.gz", ".tgz"]) => Ok(Packed::Gzip),
            () if ends(&[".tar.zst", ".tzst"]) => Ok(Packed::Zstd),
            () if ends(&[".tar"]) => Ok(Packed::Plain),
            () => {
                Err(format!("'{}' cannot be unpacked; its name ends in none of {}", self.shown(), ARCHIVES.join(", ")))
            }
        }
    }

    /// Where it is from, without what may be secret: a user's password, and signatures in a query.
    pub fn shown(&self) -> impl fmt::Display + '_ {
        Shown(&self.from)
    }
}

struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.0.split(['?', '#']).next().unwrap_or_default();
        let hidden = if plain.len() < self.0.len() { "?…" } else { "" };
        let Some((scheme, rest)) = plain.split_once("://") else { return write!(f, "{plain}{hidden}") };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        write!(f, "{scheme}://{host}{path}{hidden}")
    }
}

/// Whether one task can have all of these.
pub fn check_artifacts(artifacts: &[Artifact]) -> Result<(), String> {
    if artifacts.len() > MAX_ARTIFACTS {
        return Err(format!("{} artifacts are more than the {MAX_ARTIFACTS} that one task may have", artifacts.len()));
    }
    for (at, artifact) in artifacts.iter().enumerate() {
        artifact.source()?;
        let Artifact { path, sha256, .. } = artifact;
        let parts = || Path::new(path).components();
        let is_below =
            !path.is_empty() && path.len() <= 512 && parts().all(|part| matches!(part, Component::Normal(_)));
        if !is_below || path.starts_with('.') {
            return Err(format!("an artifact cannot be at {path:?}: it must be a path below the task's sandbox"));
        }
        if parts().next().is_some_and(|first| TAKEN.iter().any(|taken| first.as_os_str() == *taken)) {
            return Err(format!("an artifact cannot be at {path:?}: something else is there"));
        }
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if !sha256.is_empty() && (sha256.len() != 64 || !sha256.bytes().all(is_digit)) {
            return Err(format!("the sha256 of {path} is not 64 lowercase hexadecimal digits"));
        }
        if artifact.unpack {
            artifact.packed()?;
        }
        if artifact.unpack && artifact.executable {
            return Err(format!("{path} is unpacked, and its files are as executable as the archive says"));
        }
        let collides = |other: &&Artifact| {
            let (one, two) = (Path::new(&other.path), Path::new(path));
            one.starts_with(two) || two.starts_with(one)
        };
        if let Some(other) = artifacts[..at].iter().find(collides) {
            return Err(format!("artifacts {} and {path} lie in each other", other.path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(from: &str, path: &str) -> Artifact {
        Artifact { from: from.into(), path: path.into(), ..Artifact::default() }
    }

    #[test]
    fn artifacts_that_cannot_be_are_named() {
        let sum = "0123456789abcdef".repeat(4);
        let good = [
            Artifact { sha256: sum.clone(), ..artifact("https://h/a.bin", "bin/a") },
            Artifact { unpack: true, ..artifact("s3://models/digits/7.tar.gz", "model") },
            Artifact { executable: true, ..artifact("file:///opt/tool", "tool") },
            artifact("/opt/other", "other"),
        ];
        assert_eq!(check_artifacts(&good), Ok(()));
        let model = || artifact("https://h/a.zip", "a");
        for (wrong, words) in [
            (vec![artifact("ftp://h/a", "a")], "no place to fetch from"),
            (vec![artifact("https:///a", "a")], "no place to fetch from"),
            (vec![artifact("relative/a", "a")], "no place to fetch from"),
            (vec![artifact("s3://bucket", "a")], "names no object"),
            (vec![artifact("/a", "../a")], "below the task's sandbox"),
            (vec![artifact("/a", "/a")], "below the task's sandbox"),
            (vec![artifact("/a", ".end")], "below the task's sandbox"),
            (vec![artifact("/a", "stdout")], "something else is there"),
            (vec![artifact("/a", "x"), artifact("/b", "x/y")], "lie in each other"),
            (vec![Artifact { sha256: sum.to_uppercase(), ..model() }], "64 lowercase"),
            (vec![Artifact { unpack: true, ..model() }], "cannot be unpacked"),
            (vec![Artifact { unpack: true, executable: true, ..artifact("/a.tgz", "a") }], "as the archive says"),
        ] {
            let problem = check_artifacts(&wrong).expect_err("refused");
            assert!(problem.contains(words), "{problem}");
        }
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        for (from, shown) in [
            ("https://me:word@host:8/a/b.tgz?X-Amz-Signature=1", "https://host:8/a/b.tgz?…"),
            ("s3://bucket/key", "s3://bucket/key"),
            ("/path/a@b", "/path/a@b"),
        ] {
            assert_eq!(artifact(from, "a").shown().to_string(), shown);
        }
    }
}
