//! What tasks claim of persistent volumes: directories of an agent that outlive tasks.
//!
//! Invariant: a claim that was checked names one file, and a place that is in the task's sandbox.

use serde::{Deserialize, Serialize};
use std::path::{Component, Path};

/// In one task.
const MAX_VOLUMES: usize = 64;

/// More than any real machine has, in thousandths of a MiB.
const MAX_MILLI: i64 = 1 << 48;

/// What a task, or one that is wanted, needs of a volume. It is made where it is not there yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeClaim {
    pub name: String,
    /// One that is there and smaller grows to this. Thousandths of a MiB.
    pub disk_milli: i64,
    /// Where in its sandbox the task finds it. Empty: under the volume's name.
    #[serde(default)]
    pub path: String,
}

impl VolumeClaim {
    pub fn path(&self) -> &str {
        if self.path.is_empty() { &self.name } else { &self.path }
    }
}

/// Whether a text can name a volume.
pub fn is_good_volume_name(text: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=128).contains(&text.len()) && text.bytes().all(is_good) && !text.starts_with(['.', '-'])
}

pub fn is_good_volume_size(disk_milli: i64) -> bool {
    (1..=MAX_MILLI).contains(&disk_milli)
}

/// Whether one task can have all of these.
pub fn check_claims(claims: &[VolumeClaim]) -> Result<(), String> {
    if claims.len() > MAX_VOLUMES {
        return Err(format!("{} volumes are more than the {MAX_VOLUMES} that one task may have", claims.len()));
    }
    for (at, claim) in claims.iter().enumerate() {
        let VolumeClaim { name, disk_milli, .. } = claim;
        if !is_good_volume_name(name) {
            return Err(format!(
                "'{name}' cannot be a volume's name: it has up to 128 letters, digits, dots, dashes and underscores, and \
                 begins with neither dot nor dash"
            ));
        }
        if !is_good_volume_size(*disk_milli) {
            return Err(format!("volume {name} cannot have {} MiB of disk", *disk_milli as f64 / 1000.0));
        }
        let path = claim.path();
        if path.len() > 512 || !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(format!("volume {name} cannot be at {path:?}: it must be a path below the task's sandbox"));
        }
        let is_same = |other: &&VolumeClaim| {
            let (one, two) = (Path::new(other.path()), Path::new(path));
            other.name == *name || one.starts_with(two) || two.starts_with(one)
        };
        if let Some(other) = claims[..at].iter().find(is_same) {
            return Err(format!("volumes {} and {name} have one name, or lie in each other", other.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, mib: i64, path: &str) -> VolumeClaim {
        VolumeClaim { name: name.into(), disk_milli: mib * 1000, path: path.into() }
    }

    #[test]
    fn claims_that_cannot_be_are_named() {
        assert_eq!(check_claims(&[claim("data", 1, ""), claim("logs", 1, "var/logs")]), Ok(()));
        for (wrong, words) in [
            (vec![claim("..", 1, "")], "cannot be a volume's name"),
            (vec![claim("a/b", 1, "")], "cannot be a volume's name"),
            (vec![claim("a", 0, "")], "0 MiB"),
            (vec![claim("a", -1, "")], "-1 MiB"),
            (vec![claim("a", 1, "/etc")], "below the task's sandbox"),
            (vec![claim("a", 1, "x/../../y")], "below the task's sandbox"),
            (vec![claim("a", 1, ""), claim("a", 1, "b")], "one name"),
            (vec![claim("a", 1, "x"), claim("b", 1, "x/y")], "lie in each other"),
        ] {
            let problem = check_claims(&wrong).expect_err("refused");
            assert!(problem.contains(words), "{problem}");
        }
    }
}
