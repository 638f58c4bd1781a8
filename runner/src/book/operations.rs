//! What a person asks of a stream that is there: a checkpoint now, another number of tasks, or to go on after a stop.
//!
//! Invariant: none of them loses or doubles a row. A stream changes its tasks, or its query, between a last checkpoint
//! that is committed and the first row after it.

use super::job::{Job, Phase, Record};
use super::{Book, Command, Framework, checkpoint_folder};
use jobs::{AgentId, JobBody, JobId, JobSpec};
use std::collections::BTreeMap;
use streaming::coordinator;

impl Book {
    /// Takes a checkpoint of every stream that `subject` means, without waiting for the next one to be due.
    pub fn checkpoint(&mut self, now_ms: u64, subject: &str) -> Result<(Vec<String>, Vec<Command>), String> {
        let mut commands = Vec::new();
        let ids = self.streams(subject)?;
        let mut told = Vec::new();
        for id in &ids {
            let Some(job) = self.jobs.get_mut(id) else { continue };
            let Some(coordinator) = job.coordinator.as_mut().filter(|_| job.record.phase == Phase::Running) else {
                continue;
            };
            let asked = coordinator.apply(now_ms, coordinator::Event::CheckpointRequested);
            self.coordinated(now_ms, id, asked, &mut commands);
            told.push(id.to_string());
        }
        match told.is_empty() {
            true => Err(format!("no stream of '{subject}' runs; `smack why {subject}` says why")),
            false => Ok((told, commands)),
        }
    }

    /// Gives every stream that `subject` means another number of tasks: the present ones take a last checkpoint, the new
    /// ones go on from it.
    pub fn scale(
        &mut self,
        now_ms: u64,
        subject: &str,
        parallelism: u32,
    ) -> Result<(Vec<String>, Vec<Command>), String> {
        let mut commands = Vec::new();
        let mut told = Vec::new();
        for id in self.streams(subject)? {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            if job.record.phase.is_over() || (job.record.phase == Phase::Stopping && job.record.rescale.is_none()) {
                continue;
            }
            told.push(id.to_string());
            if job.record.spec.parallelism == parallelism && job.record.rescale.is_none() {
                continue;
            }
            job.note(now_ms, "info", format!("is to have {parallelism} tasks"));
            match job.record.phase {
                Phase::Running | Phase::Launching | Phase::Stopping => {
                    job.record.rescale = Some(parallelism);
                    commands.push(Command::Persist(Box::new(job.record.clone())));
                    if job.record.phase != Phase::Stopping {
                        self.stop_job(now_ms, &id, &mut commands);
                    }
                }
                _ => {
                    job.record.spec.parallelism = parallelism;
                    commands.push(Command::Persist(Box::new(job.record.clone())));
                }
            }
        }
        if told.is_empty() {
            return Err(format!("no stream of '{subject}' is at work; submit it with SET job.parallelism"));
        }
        self.advance(now_ms, &mut commands);
        Ok((told, commands))
    }

    /// Moves what runs on an agent that is to be empty: a stream takes a last checkpoint and goes on from it elsewhere, what
    /// trains or serves is started again elsewhere. A command has until then to come to its end.
    pub(super) fn leave(
        &mut self,
        now_ms: u64,
        framework: &Framework,
        agent: &AgentId,
        ends_in_ms: u64,
        commands: &mut Vec<Command>,
    ) {
        let is_there = |job: &Job| {
            framework.has(job)
                && !job.stop_asked
                && matches!(job.record.phase, Phase::Launching | Phase::Running)
                && job.record.tasks.iter().any(|task| task.agent == *agent && !task.state.is_terminal())
        };
        let ids: Vec<JobId> =
            self.jobs.values().filter(|job| is_there(job)).map(|job| job.record.spec.id.clone()).collect();
        for id in ids {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            match (&job.record.spec.body, &job.record.phase) {
                (JobBody::Command(_), _) => {
                    let text = format!("agent {agent} is drained; what is left there ends in {ends_in_ms} ms");
                    job.note(now_ms, "warning", text);
                }
                (JobBody::Stream(_), Phase::Running) => {
                    job.note(now_ms, "info", format!("agent {agent} is drained; its tasks move"));
                    job.record.rescale = Some(job.record.spec.parallelism);
                    commands.push(Command::Persist(Box::new(job.record.clone())));
                    self.stop_job(now_ms, &id, commands);
                }
                _ => {
                    job.kill_tasks(job.record.spec.kill_grace_ms, commands);
                    job.restart(now_ms, &format!("agent {agent} is drained"));
                    commands.push(Command::Persist(Box::new(job.record.clone())));
                }
            }
        }
    }

    /// The folder of each stream's checkpoints, by job.
    pub fn checkpoint_folders(&self) -> BTreeMap<JobId, String> {
        let streams = self.jobs.values().filter(|job| job.is_stream());
        streams.map(|job| (job.record.spec.id.clone(), checkpoint_folder(&self.config, &job.record))).collect()
    }

    /// The folder of the checkpoints of each stream that `subject` means.
    pub fn checkpoint_folders_of(&self, subject: &str) -> Result<BTreeMap<JobId, String>, String> {
        let folder = |id: JobId| (id.clone(), checkpoint_folder(&self.config, &self.jobs[&id].record));
        Ok(self.streams(subject)?.into_iter().map(folder).collect())
    }

    /// What of an earlier submission these jobs go on from: streams from their last checkpoint, or from the one that is
    /// named, and a model that was trained on the same is there already.
    pub(super) fn goes_on(&self, specs: &[JobSpec], from: Option<String>) -> Result<BTreeMap<JobId, Record>, String> {
        let mut found = BTreeMap::new();
        for spec in specs {
            let Some(job) = self.jobs.get(&spec.id) else { continue };
            let earlier = &job.record;
            match (&earlier.spec.body, &spec.body) {
                (JobBody::Stream(_), JobBody::Stream(_)) => {
                    let record = Record {
                        spec: spec.clone(),
                        phase: Phase::Waiting,
                        restarts: 0,
                        tasks: Vec::new(),
                        rescale: None,
                        resume_from: from.clone(),
                        earlier: job.totals(),
                        ..earlier.clone()
                    };
                    let (before, now) =
                        (checkpoint_folder(&self.config, earlier), checkpoint_folder(&self.config, &record));
                    if before != now {
                        return Err(format!(
                            "{} kept its checkpoints in {} and the file now says {}; set checkpoint.dir back, or submit \
                             it anew",
                            spec.id, before, now
                        ));
                    }
                    found.insert(spec.id.clone(), record);
                }
                (JobBody::Train(before), JobBody::Train(now)) if before == now && earlier.model_version.is_some() => {
                    found.insert(spec.id.clone(), Record { spec: spec.clone(), ..earlier.clone() });
                }
                _ => {}
            }
        }
        let any = specs.iter().any(|spec| matches!(spec.body, JobBody::Stream(_)) && found.contains_key(&spec.id));
        match (any, specs.first()) {
            (false, Some(spec)) => Err(format!(
                "there is no stream of group '{}' to go on from; leave --resume out to begin anew",
                spec.group
            )),
            _ => Ok(found),
        }
    }

    fn streams(&self, subject: &str) -> Result<Vec<JobId>, String> {
        let mut ids = self.find(subject);
        if ids.is_empty() {
            return Err(self.unknown(subject));
        }
        ids.retain(|id| self.jobs[id].is_stream());
        match ids.is_empty() {
            true => Err(format!("'{subject}' has no stream; only streams take checkpoints and change their tasks")),
            false => Ok(ids),
        }
    }
}
