//! The runner's frameworks: two in each role that a job names, one for what runs and one for what trains.
//!
//! Invariant: a framework keeps its id for as long as the runner's store lives, so that the tasks that it launched stay its
//! own. The two of the usual role are always there; those of others begin with the first job that has something to place.

use super::job::{Job, Phase};
use super::placement::HeldOffer;
use super::{Book, Command, Demand};
use jobs::{AgentId, FrameworkId, JobBody, JobId, JobSpec, OfferId};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Of jobs that name none.
pub const USUAL_ROLE: &str = "default";

/// What a framework is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Streams,
    Training,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Streams, Self::Training];

    pub fn name(self) -> &'static str {
        match self {
            Self::Streams => "smack-streams",
            Self::Training => "smack-training",
        }
    }

    fn of(spec: &JobSpec) -> Self {
        match spec.body {
            JobBody::Stream(_) | JobBody::Service(_) => Self::Streams,
            JobBody::Train(_) | JobBody::Command(_) => Self::Training,
        }
    }
}

/// A client of the master of its own, with its id, demand and offers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Framework {
    pub kind: Kind,
    pub role: Arc<str>,
}

impl Framework {
    pub fn of(spec: &JobSpec) -> Self {
        Self { kind: Kind::of(spec), role: spec.role.as_str().into() }
    }

    /// Those that are always there.
    pub fn usual() -> [Self; 2] {
        Kind::ALL.map(|kind| Self { kind, role: USUAL_ROLE.into() })
    }

    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Under which its id is stored: the usual ones by their names alone, as they were before there were others.
    pub fn key(&self) -> String {
        match &*self.role {
            USUAL_ROLE => self.name().to_string(),
            role => format!("{}@{role}", self.name()),
        }
    }

    pub fn of_key(key: &str) -> Option<Self> {
        let (name, role) = key.split_once('@').unwrap_or((key, USUAL_ROLE));
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name)?;
        Some(Self { kind, role: role.into() })
    }

    pub fn has(&self, job: &Job) -> bool {
        let spec = &job.record.spec;
        *self.role == *spec.role && self.kind == Kind::of(spec)
    }
}

/// A framework's standing with the master.
#[derive(Debug, Default)]
pub struct Standing {
    pub id: Option<FrameworkId>,
    pub connected: bool,
    pub offers: BTreeMap<OfferId, HeldOffer>,
    /// What was last posted, so that demand is only sent when it changes.
    pub posted: Option<Vec<Demand>>,
    pub waiting: BTreeMap<String, String>,
    /// Where the volumes are that it demands; those that are not named are nowhere yet.
    pub homes: BTreeMap<String, AgentId>,
}

/// A job that has something to place; what is first in order is placed first: by priority, then what does not run without
/// it, then by age.
type Waiting = (Reverse<i32>, bool, u64, JobId);

impl Book {
    /// Whom the runner is to be subscribed as, with the ids that were given to them before.
    pub fn frameworks(&self) -> Vec<(Framework, Option<FrameworkId>)> {
        self.standings.iter().map(|(framework, standing)| (framework.clone(), standing.id.clone())).collect()
    }

    pub(super) fn standing(&mut self, framework: &Framework) -> &mut Standing {
        self.standings.entry(framework.clone()).or_default()
    }

    /// By framework, the jobs that have something to place, in the order in which they are placed. Subscribes those of roles
    /// that no job has named before.
    pub(super) fn waiting_jobs(&mut self, now_ms: u64, commands: &mut Vec<Command>) -> BTreeMap<Framework, Vec<JobId>> {
        let mut waiting: BTreeMap<Framework, Vec<Waiting>> = BTreeMap::new();
        for job in self.jobs.values().filter(|job| job.n_wanted(now_ms) > 0) {
            let record = &job.record;
            let runs = job.missing(now_ms) > 0;
            let place = (Reverse(record.spec.priority), runs, record.submitted_ms, record.spec.id.clone());
            waiting.entry(Framework::of(&record.spec)).or_default().push(place);
        }
        for framework in waiting.keys() {
            if !self.standings.contains_key(framework) {
                self.standings.insert(framework.clone(), Standing::default());
                commands.push(Command::Subscribe { framework: framework.clone() });
            }
        }
        let in_order = |(framework, mut jobs): (Framework, Vec<Waiting>)| {
            jobs.sort();
            (framework, jobs.into_iter().map(|(_, _, _, id)| id).collect())
        };
        waiting.into_iter().map(in_order).collect()
    }

    /// Jobs whose place was not found in time have failed.
    pub(super) fn expired(
        &mut self,
        now_ms: u64,
        framework: &Framework,
        names: &[String],
        commands: &mut Vec<Command>,
    ) {
        let (waiting, jobs) = match self.standings.get(framework) {
            Some(standing) => (&standing.waiting, &mut self.jobs),
            None => return,
        };
        for job in jobs.values_mut().filter(|job| framework.has(job) && job.start_within_ms().is_some()) {
            let Some(name) =
                job.demands(now_ms).into_iter().map(|demand| demand.name).find(|name| names.contains(name))
            else {
                continue;
            };
            let within_s = job.record.spec.start_within_ms as f64 / 1000.0;
            let why = waiting.get(&name).map_or(String::new(), |why| format!(": {why}"));
            let error = format!("there was no room for it within {within_s} s{why}");
            job.note(now_ms, "error", error.clone());
            job.record.phase = Phase::Failed { error };
            commands.push(Command::Persist(Box::new(job.record.clone())));
        }
    }

    pub(super) fn post_demands(&mut self, now_ms: u64, commands: &mut Vec<Command>) {
        let mut demands: BTreeMap<Framework, Vec<Demand>> = BTreeMap::new();
        for job in self.jobs.values() {
            let wanted = job.demands(now_ms);
            if !wanted.is_empty() {
                demands.entry(Framework::of(&job.record.spec)).or_default().extend(wanted);
            }
        }
        for (framework, standing) in self.standings.iter_mut().filter(|(_, standing)| standing.connected) {
            let demands = demands.remove(framework).unwrap_or_default();
            if standing.posted.as_ref() != Some(&demands) {
                standing.posted = Some(demands.clone());
                commands.push(Command::Demand { framework: framework.clone(), demands });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_framework_is_found_by_its_key() {
        let vision = Framework { kind: Kind::Training, role: "ml/vision".into() };
        assert_eq!(vision.key(), "smack-training@ml/vision");
        assert_eq!(Framework::usual()[0].key(), "smack-streams");
        for framework in Framework::usual().into_iter().chain([vision]) {
            assert_eq!(Framework::of_key(&framework.key()), Some(framework));
        }
        assert_eq!(Framework::of_key("other"), None);
    }
}
