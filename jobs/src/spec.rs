//! A settled job: everything that a file said, checked and with its defaults filled in.

use crate::volumes::VolumeClaim;
use crate::{Artifact, Gang, GangRole, HealthCheck, JobId, Member, Resources, Rules, TrainBody};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One job of a group, ready to be planned. The text that the user wrote travels with it, never a serialised plan: each
/// task plans its own SQL, and refuses to start when its plan differs from the one made at the desk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    pub id: JobId,
    pub group: String,
    pub name: String,
    pub role: String,
    /// Among the jobs of its role those with a higher one come first, and may take the place of those with a lower one.
    #[serde(default)]
    pub priority: i32,
    /// Where its tasks may run.
    #[serde(default, skip_serializing_if = "Rules::is_empty")]
    pub rules: Rules,
    /// Number of tasks, placed all or none.
    pub parallelism: u32,
    /// What each task needs; of a gang with several roles see [`JobSpec::needs`].
    pub resources: Resources,
    /// Ports that each task needs, taken from its offer.
    pub n_ports: u32,
    pub restart: Restart,
    /// Between SIGTERM and SIGKILL for each of its tasks.
    #[serde(default = "kill_grace_ms")]
    pub kill_grace_ms: u64,
    /// How long it may wait for its place, each time, before it has failed; 0 is for ever.
    #[serde(default)]
    pub start_within_ms: u64,
    /// How long a task may run; 0 is no limit.
    #[serde(default)]
    pub max_completion_ms: u64,
    /// How long a task goes on when its agent hears no master; 0 is for ever.
    #[serde(default)]
    pub unreachable_kill_ms: u64,
    /// Directories that outlive its tasks, by the names under which they find them, in thousandths of a MiB: each task has its
    /// own, and the next one of its number, also of a later submission, finds it again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, i64>,
    /// Whose rights its tasks have; those that the agent says where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Jobs that must have finished (or, for a model, produced a version) before this one starts.
    pub after: Vec<JobId>,
    pub body: JobBody,
}

/// Of jobs that were submitted before it could be said.
fn kill_grace_ms() -> u64 {
    5_000
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum JobBody {
    Stream(StreamBody),
    /// Boxed, because it is much larger than the others.
    Train(Box<TrainBody>),
    Command(CommandBody),
    Service(CommandBody),
}

impl JobBody {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Stream(_) => "stream",
            Self::Train(_) => "train",
            Self::Command(_) => "command",
            Self::Service(_) => "service",
        }
    }

    pub fn gang(&self) -> Option<&Gang> {
        match self {
            Self::Command(command) => command.gang.as_ref(),
            Self::Stream(_) | Self::Train(_) | Self::Service(_) => None,
        }
    }
}

/// An INSERT set: statements of one SQL file that run as one dataflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamBody {
    /// The whole file, so that spans in errors fit what the user sees.
    pub sql: String,
    /// Indices of the INSERT statements of this job among the file's statements.
    pub statements: Vec<usize>,
    /// Relative paths in `WITH (…)` are relative to this folder.
    pub base_dir: String,
    pub checkpoint_interval_ms: u64,
    /// Where checkpoints go, a folder or `s3://bucket/prefix`; the runner's own folder when absent.
    pub checkpoint_dir: Option<String>,
    /// How many checkpoints are kept.
    #[serde(default = "checkpoints_retained")]
    pub checkpoint_retain: u32,
    /// What the state of each task may take in memory; what is more goes to its disk. See [`StreamBody::state_memory`].
    #[serde(default)]
    pub state_memory_bytes: Option<u64>,
    /// Models that `predict` names in these statements.
    pub models: Vec<String>,
    /// The job stays with the versions of its models that it began with, because it scores rows that may be taken back.
    #[serde(default = "keeps_versions")]
    pub keeps_versions: bool,
    /// Fingerprint of the operator graph planned at the desk; a task whose own plan differs refuses to start.
    pub fingerprint: String,
    /// Every source ends by itself, so that jobs after this one wait for its end instead of its start.
    pub bounded: bool,
    /// Rows pass between its tasks: they all start again together. Otherwise each starts again by itself.
    #[serde(default = "exchanges")]
    pub exchanges: bool,
    /// It has no operators: a batch engine answers it over all of its input at once, which a local run alone does.
    #[serde(default)]
    pub batch: bool,
}

/// Of jobs that were submitted before it could be said.
fn checkpoints_retained() -> u32 {
    3
}

fn keeps_versions() -> bool {
    true
}

fn exchanges() -> bool {
    true
}

impl StreamBody {
    /// In bytes, of a task with these resources: half of its memory, unless the file says something else.
    pub fn state_memory(&self, resources: &Resources) -> u64 {
        self.state_memory_bytes.unwrap_or((resources.memory_mib() * 1024.0 * 1024.0 / 2.0) as u64)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CommandBody {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Environment variables whose values agents keep, by the names of these secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// What each of its tasks finds in its sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// Of a service: it is running once this was healthy.
    #[serde(default)]
    pub health: Option<HealthCheck>,
    /// Of a command whose tasks train together; its roles then say what each task runs and needs.
    #[serde(default)]
    pub gang: Option<Gang>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    Never,
    OnFailure,
    Always,
    /// After what may go better the next time, as far as the exit code tells.
    ExitCode,
}

/// What one of `count` equal tasks needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Need<'a> {
    /// Of a gang with several roles.
    pub member: Option<Member>,
    pub count: u32,
    pub resources: &'a Resources,
    pub n_ports: u32,
    /// Of one task, whose number this is in its job.
    pub claims: Option<(u32, Vec<VolumeClaim>)>,
}

impl<'a> Need<'a> {
    fn of(role: &'a GangRole, several: bool) -> Self {
        let member = several.then_some(role.member);
        Self { member, count: role.count, resources: &role.resources, n_ports: role.n_ports, claims: None }
    }
}

impl JobSpec {
    /// What its tasks need, in order of their numbers.
    pub fn needs(&self) -> Vec<Need<'_>> {
        let needs = self.needs_of_roles();
        if self.volumes.is_empty() {
            return needs;
        }
        let mut each = Vec::new();
        for need in needs {
            let count = need.count as usize;
            each.extend(std::iter::repeat_n(need, count));
        }
        for (index, need) in (0..).zip(&mut each) {
            (need.count, need.claims) = (1, Some((index, self.claims(index))));
        }
        each
    }

    /// What the task of a number claims.
    pub fn claims(&self, index: u32) -> Vec<VolumeClaim> {
        let claim = |(name, disk_milli): (&String, &i64)| VolumeClaim {
            name: format!("{}.{}.{name}.{index}", self.group, self.name),
            disk_milli: *disk_milli,
            path: name.clone(),
        };
        self.volumes.iter().map(claim).collect()
    }

    fn needs_of_roles(&self) -> Vec<Need<'_>> {
        match self.body.gang() {
            Some(gang) => {
                let several = gang.roles.len() > 1;
                gang.roles.iter().map(|role| Need::of(role, several)).collect()
            }
            None => {
                let (count, resources, n_ports) = (self.parallelism, &self.resources, self.n_ports);
                vec![Need { member: None, count, resources, n_ports, claims: None }]
            }
        }
    }
}
