//! Typed ids. Each is a short text that a person can read in a log and paste into a command.
//!
//! Invariant: a copy shares the text of the original, because one id stands in many tables.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }
    };
}

id!(
    /// One agent: a machine, or a share of one, that runs tasks. Kept across restarts of the agent process.
    AgentId
);
id!(
    /// One framework: a client of the master that accepts offers. Kept across restarts of the framework process.
    FrameworkId
);
id!(
    /// One offer. Never used again once it was accepted, declined, rescinded or expired.
    OfferId
);
id!(
    /// One task of one generation of a job; never used again.
    TaskId
);
id!(
    /// One job: `group/name`, for example `fraud/features`.
    JobId
);

impl TaskId {
    /// The id of task `index` of `job` in `generation`: `fraud.features.3.0`.
    pub fn of(job: &JobId, generation: u64, index: u32) -> Self {
        Self::new(format!("{}.{generation}.{index}", job.as_str().replace('/', ".")))
    }

    /// Which task it is, if by its name it is one of `job` in `generation`.
    pub fn index_in(&self, job: &JobId, generation: u64) -> Option<u32> {
        let (of_job, rest) = self.as_str().split_at_checked(job.as_str().len())?;
        let is_of_job =
            of_job.bytes().zip(job.as_str().bytes()).all(|(it, of)| it == if of == b'/' { b'.' } else { of });
        let (of_generation, rest) = rest.strip_prefix('.').filter(|_| is_of_job)?.split_once('.')?;
        let index = rest.split('.').next()?;
        (of_generation.parse() == Ok(generation)).then(|| index.parse().ok())?
    }
}

impl JobId {
    pub fn of(group: &str, name: &str) -> Self {
        Self::new(format!("{group}/{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_says_which_of_a_job_it_is() {
        let job = JobId::of("fraud.v2", "features");
        let task = TaskId::of(&job, 3, 41);
        assert_eq!(task.index_in(&job, 3), Some(41));
        assert_eq!(TaskId::new(format!("{task}.20260101t.2")).index_in(&job, 3), Some(41));
        assert_eq!(task.index_in(&job, 4), None);
        assert_eq!(task.index_in(&JobId::of("fraud", "v2"), 3), None);
        for other in ["", "fraud.v2", "fraud.v2.features", "fraud.v2.features.3", "fraud.v2.features.3.x", "é"] {
            assert_eq!(TaskId::new(other).index_in(&job, 3), None, "{other}");
        }
    }
}
