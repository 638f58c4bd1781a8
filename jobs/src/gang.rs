//! Programs of others that train one model together: which roles there are, and how many tasks each has.
//!
//! Invariant: tasks are numbered over all roles in the order chief, workers, parameter servers, evaluators; so where there
//! are only the first two, the number of a task is its rank.

use crate::Resources;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Whose words tell the tasks of one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distributed {
    /// `TF_CONFIG`.
    Tensorflow,
    /// `MASTER_ADDR`, `RANK` and the like.
    Torch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Member {
    /// Writes checkpoints and the model; where there is none, the first worker does.
    Chief,
    Worker,
    /// A parameter server.
    Ps,
    /// Judges checkpoints beside the training, which does not wait for it.
    Evaluator,
}

impl Member {
    pub const ALL: [Self; 4] = [Self::Chief, Self::Worker, Self::Ps, Self::Evaluator];

    /// As `TF_CONFIG` and job files call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chief => "chief",
            Self::Worker => "worker",
            Self::Ps => "ps",
            Self::Evaluator => "evaluator",
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The tasks of one role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GangRole {
    pub member: Member,
    pub count: u32,
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// What each of them needs.
    pub resources: Resources,
    /// At least one: by the first of them the others find it.
    pub n_ports: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gang {
    pub distributed: Distributed,
    /// In the order of [`Member`], each once.
    pub roles: Vec<GangRole>,
    /// How long an evaluator, and a worker beside a chief, has to end by itself once the work is done.
    pub wind_down_ms: u64,
}

impl Gang {
    pub fn n_tasks(&self) -> u32 {
        self.roles.iter().map(|role| role.count).sum()
    }

    pub fn has(&self, member: Member) -> bool {
        self.roles.iter().any(|role| role.member == member)
    }

    /// The role of a task, and which one of that role it is.
    pub fn place_of(&self, index: u32) -> Option<(&GangRole, u32)> {
        let mut left = index;
        for role in &self.roles {
            if left < role.count {
                return Some((role, left));
            }
            left -= role.count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_numbered_over_all_roles() {
        let role = |member, count| GangRole {
            member,
            count,
            argv: Vec::new(),
            env: BTreeMap::new(),
            resources: Resources::new(),
            n_ports: 1,
        };
        let roles = vec![role(Member::Chief, 1), role(Member::Worker, 2), role(Member::Evaluator, 1)];
        let gang = Gang { distributed: Distributed::Tensorflow, roles, wind_down_ms: 0 };
        let places: Vec<Option<(Member, u32)>> =
            (0..5).map(|index| gang.place_of(index).map(|(role, at)| (role.member, at))).collect();
        let at = |member, index| Some((member, index));
        let expected =
            [at(Member::Chief, 0), at(Member::Worker, 0), at(Member::Worker, 1), at(Member::Evaluator, 0), None];
        assert_eq!(places, expected);
        assert_eq!((gang.n_tasks(), gang.has(Member::Ps)), (4, false));
    }
}
