//! Jobs that make room for what comes before them.
//!
//! Invariant: a job that makes room has not failed. It waits for offers again in its order, and goes on from its last
//! checkpoint.

use super::job::{Job, Phase};
use super::{Book, Command, Framework};
use jobs::{JobBody, JobId, TaskId};

/// How late the end of a task may be heard of that was killed in time.
const LATE_MS: u64 = 30_000;

impl Book {
    /// The master says which tasks have to leave, and until when. A stream takes a last checkpoint, what trains or serves
    /// ends; a command has until then to come to its end.
    pub(super) fn make_room(
        &mut self,
        now_ms: u64,
        framework: &Framework,
        tasks: &[TaskId],
        ends_in_ms: u64,
        message: &str,
        commands: &mut Vec<Command>,
    ) {
        let has_one =
            |job: &Job| job.record.tasks.iter().any(|task| tasks.contains(&task.id) && !task.state.is_terminal());
        let is_at_work = |job: &Job| {
            !job.stop_asked && matches!(job.record.phase, Phase::Launching | Phase::Running) && has_one(job)
        };
        let jobs = self.jobs.values().filter(|job| framework.has(job) && is_at_work(job));
        let ids: Vec<JobId> = jobs.map(|job| job.record.spec.id.clone()).collect();
        for id in ids {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            job.leaves_by_ms = Some(now_ms + ends_in_ms + job.record.spec.kill_grace_ms + LATE_MS);
            match (&job.record.spec.body, &job.record.phase) {
                (JobBody::Command(_), _) => {
                    let left_s = ends_in_ms as f64 / 1000.0;
                    job.note(now_ms, "warning", format!("{message}; what is left of it ends in {left_s:.0} s"));
                }
                (JobBody::Stream(_), Phase::Running) => {
                    job.note(now_ms, "warning", format!("{message}; its last checkpoint is taken"));
                    // As many tasks as before, once there is room.
                    job.record.rescale = Some(job.record.spec.parallelism);
                    commands.push(Command::Persist(Box::new(job.record.clone())));
                    self.stop_job(now_ms, &id, commands);
                }
                _ => {
                    job.note(now_ms, "warning", message);
                    job.kill_tasks(job.record.spec.kill_grace_ms, commands);
                    job.wait_for_room(now_ms);
                    commands.push(Command::Persist(Box::new(job.record.clone())));
                }
            }
        }
    }
}

impl Job {
    /// It goes on as soon as its tasks have left and it is placed again.
    pub(super) fn wait_for_room(&mut self, now_ms: u64) {
        self.leaves_by_ms = None;
        self.record.phase = Phase::Restarting { until_ms: now_ms };
    }
}
