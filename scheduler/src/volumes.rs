//! Persistent volumes, as plain values: directories of an agent that outlive tasks. The next task of its role that names one
//! finds there what the one before it left.
//!
//! Invariant: a volume is of one role, and of one task at a time. Its disk is used for as long as it is there, whether a task
//! has it or not, and counts as its role's.

use crate::model::is_good_role;
use jobs::Scalars;
use jobs::volumes::{VolumeClaim, is_good_volume_name, is_good_volume_size};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A volume's name in the whole cluster: names are unique only within their role.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeKey {
    pub role: String,
    pub name: String,
}

impl VolumeKey {
    pub fn new(role: impl Into<String>, name: impl Into<String>) -> Self {
        Self { role: role.into(), name: name.into() }
    }

    /// Of what a task of this role claims.
    pub fn of(claim: &VolumeClaim, role: &str) -> Self {
        Self::new(role, &claim.name)
    }
}

impl fmt::Display for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of role {}", self.name, self.role)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    #[serde(flatten)]
    pub key: VolumeKey,
    /// Thousandths of a MiB.
    pub disk_milli: i64,
}

impl Volume {
    pub fn amounts(&self) -> Scalars {
        disk(self.disk_milli)
    }

    /// Whether there can be such a one.
    pub fn is_good(&self) -> bool {
        let Self { key: VolumeKey { role, name }, disk_milli } = self;
        is_good_volume_name(name) && is_good_role(role) && is_good_volume_size(*disk_milli)
    }
}

pub fn disk(milli: i64) -> Scalars {
    [("disk", milli)].into_iter().collect()
}
