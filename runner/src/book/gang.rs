//! What the tasks of a gang of others' programs are told of one another, and when such a gang has done its work.
//!
//! Its work is done when its chief has ended well, or without a chief all its workers. Parameter servers never end by
//! themselves, and neither do workers that serve a chief together with them: they are ended then. Who else is left, an
//! evaluator that judges the last checkpoint or a worker that still writes, has some time to end by itself; how it ends
//! no longer matters.
//!
//! Invariant: pure, as all of the book. Nothing that the job file says in `env` is overwritten.

use super::job::{Job, Phase};
use super::{Command, Framework};
use jobs::train::Strategy;
use jobs::{Distributed, Gang, JobBody, Member, Resources, Restart, TaskState};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use streaming::control::Order;

/// The environment of task `at` besides what its file says. All tasks of the generation have their places.
pub fn environment(job: &Job, gang: &Gang, at: usize, offered: &Resources) -> BTreeMap<String, String> {
    let mut said = match gang.distributed {
        Distributed::Tensorflow => tensorflow(job, gang, at),
        Distributed::Torch => torch(job, at, offered),
    };
    // Both take every core of the machine otherwise, in every task.
    let threads = (offered.cores().floor() as u64).max(1).to_string();
    let hints: &[&str] = match gang.distributed {
        Distributed::Tensorflow => &["OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"],
        Distributed::Torch => &["OMP_NUM_THREADS"],
    };
    said.extend(hints.iter().map(|name| (name.to_string(), threads.clone())));
    said
}

/// As TensorFlow's cluster resolver reads it: an evaluator has a task and no place in the cluster, so no other task waits
/// for it.
fn tensorflow(job: &Job, gang: &Gang, at: usize) -> BTreeMap<String, String> {
    let mut cluster: Map<String, Value> = Map::new();
    let mut own = Value::Null;
    for (index, task) in job.record.tasks.iter().enumerate() {
        let Some((role, place)) = gang.place_of(task.index) else { continue };
        if index == at {
            own = json!({ "type": role.member.as_str(), "index": place });
        }
        if role.member != Member::Evaluator {
            let of_role = cluster.entry(role.member.as_str()).or_insert_with(|| json!([]));
            if let Value::Array(addresses) = of_role {
                addresses.push(json!(address(&task.host, task.port)));
            }
        }
    }
    let config = json!({ "cluster": cluster, "task": own });
    let mut said = BTreeMap::from([("TF_CONFIG".to_string(), config.to_string())]);
    if gang.has(Member::Ps) {
        // A call to a server that has just gone fails instead of waiting for it for ever.
        said.insert("GRPC_FAIL_FAST".to_string(), "use_caller".to_string());
    }
    said
}

/// As `init_method='env://'` reads it, and with `PET_` before their names the arguments of `torchrun`. Each task is a node of
/// its own: it sees its own GPUs alone, numbered from 0.
fn torch(job: &Job, at: usize, offered: &Resources) -> BTreeMap<String, String> {
    let (host, port) = match job.record.tasks.first() {
        Some(first) => (first.host.clone(), first.port.unwrap_or_default().to_string()),
        None => return BTreeMap::new(),
    };
    let (rank, world) = (at.to_string(), job.record.tasks.len().to_string());
    let processes = offered.gpus().count().max(1).to_string();
    let said = [
        ("MASTER_ADDR", host.clone()),
        ("MASTER_PORT", port.clone()),
        ("RANK", rank.clone()),
        ("WORLD_SIZE", world.clone()),
        ("LOCAL_RANK", "0".to_string()),
        ("LOCAL_WORLD_SIZE", "1".to_string()),
        ("GROUP_RANK", rank.clone()),
        ("TORCHELASTIC_RESTART_COUNT", job.record.restarts.to_string()),
        ("PET_NNODES", world),
        ("PET_NPROC_PER_NODE", processes),
        ("PET_NODE_RANK", rank),
        ("PET_MASTER_ADDR", host),
        ("PET_MASTER_PORT", port),
    ];
    said.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

fn address(host: &str, port: Option<u16>) -> String {
    let port = port.unwrap_or_default();
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl Job {
    /// What task `index` is in its gang, or in a training with servers or an evaluator: `worker 1`.
    pub fn member(&self, index: u32) -> Option<String> {
        let spec = &self.record.spec;
        if let JobBody::Train(_) = &spec.body {
            let (servers, evaluator) = (self.n_servers(), self.evaluator());
            return match index.checked_sub(self.n_workers().saturating_sub(self.n_fewer())) {
                _ if evaluator == Some(index) => Some("evaluator".to_string()),
                Some(server) => Some(format!("server {server}")),
                None if servers > 0 || evaluator.is_some() => Some(format!("worker {index}")),
                None => None,
            };
        }
        let (role, place) = spec.body.gang()?.place_of(index)?;
        Some(format!("{} {place}", role.member))
    }

    fn n_servers(&self) -> u32 {
        match &self.record.spec.body {
            JobBody::Train(body) => match body.strategy {
                Strategy::ParameterServer { servers, .. } => servers,
                Strategy::AllReduce => 0,
            },
            JobBody::Stream(_) | JobBody::Command(_) | JobBody::Service(_) => 0,
        }
    }

    /// That a training is to have.
    pub(super) fn n_workers(&self) -> u32 {
        let others = self.n_servers() + u32::from(self.evaluator().is_some());
        self.record.spec.parallelism.saturating_sub(others)
    }

    fn is(&self, index: u32, member: Member) -> bool {
        let place = self.record.spec.body.gang().and_then(|gang| gang.place_of(index));
        place.is_some_and(|(role, _)| role.member == member)
    }

    /// A task of a gang has ended well.
    pub(super) fn gang_task_finished(&mut self, now_ms: u64, gang: &Gang, commands: &mut Vec<Command>) {
        let decides = if gang.has(Member::Chief) { Member::Chief } else { Member::Worker };
        let at_work = matches!(self.record.phase, Phase::Launching | Phase::Running);
        let mut deciding = self.record.tasks.iter().filter(|task| self.is(task.index, decides));
        if at_work && deciding.all(|task| task.state == TaskState::Finished) {
            self.record.phase = Phase::Ending { until_ms: now_ms.saturating_add(gang.wind_down_ms) };
            self.note(now_ms, "info", "its work is done");
        }
        self.end_what_is_left(now_ms, commands);
    }

    /// Whether something changed while its work was done and not all of its tasks had ended.
    pub(super) fn end_what_is_left(&mut self, now_ms: u64, commands: &mut Vec<Command>) -> bool {
        let Phase::Ending { until_ms } = self.record.phase else { return false };
        if self.no_task_left() {
            if self.record.spec.restart == Restart::Always && self.record.spec.body.gang().is_some() {
                self.restart(now_ms, "the command ended");
            } else {
                self.record.phase = Phase::Finished;
                self.note(now_ms, "info", self.record.phase.as_str());
            }
            return true;
        }
        let gang = self.record.spec.body.gang();
        let serves = gang.is_some_and(|gang| gang.has(Member::Ps));
        let waits = |index: u32| now_ms < until_ms && (self.is(index, Member::Evaluator) || !serves);
        let tasks = self.record.tasks.iter().zip(&self.live).enumerate();
        let ends: Vec<usize> = tasks
            .filter(|(_, (task, live))| !task.state.is_terminal() && !live.kill_sent && !waits(task.index))
            .map(|(at, _)| at)
            .collect();
        let (framework, grace_ms) = (Framework::of(&self.record.spec), self.record.spec.kill_grace_ms);
        for at in &ends {
            self.live[*at].kill_sent = true;
            let task = self.record.tasks[*at].id.clone();
            commands.push(Command::Order { task: task.clone(), order: Order::Stop });
            commands.push(Command::Kill { framework: framework.clone(), task, grace_ms });
        }
        !ends.is_empty()
    }
}
