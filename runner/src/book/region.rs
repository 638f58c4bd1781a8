//! One task begins again while the others of its job go on: a stream between whose tasks no rows pass.
//!
//! The tasks that an exchange connects are a region, and a region begins again as a whole; here each task is one of its
//! own. The coordinator says from which epoch the lost task begins, or that all must.
//!
//! Invariant: no two lives of a task run at a time. Only one whose process is known to have ended is replaced; one that
//! cannot be heard is not, and then the whole job begins a new generation, which fences it.
//! Invariant: what an earlier life said and what arrives late is not taken for the new one's, which has an id of its own.

use super::job::{Again, Job, Phase, TaskLive};
use super::placement::Placement;
use super::tasks::{EXIT_FATAL, launch, placed};
use super::{Book, Command, Config, Launch, Status};
use jobs::{JobBody, JobId, Reason, Restart, TaskId, TaskState};
use streaming::coordinator;

impl Book {
    /// The process of one task has ended, and the others go on.
    pub(super) fn task_lost_alone(
        &mut self,
        now_ms: u64,
        id: &JobId,
        what: String,
        task: &TaskId,
        commands: &mut Vec<Command>,
    ) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let what = match job.last_error.take() {
            Some(error) => format!("{what} ({error})"),
            None => what,
        };
        let Some((record, live)) = job.task_mut(task) else { return };
        let index = record.index;
        let counted =
            std::mem::replace(live, TaskLive { again: Some(Again { what, from: None }), ..TaskLive::default() });
        job.record.earlier.add(&counted.metrics);
        let Some(coordinator) = &mut job.coordinator else { return };
        let asked = coordinator.apply(now_ms, coordinator::Event::TaskLost { index });
        self.coordinated(now_ms, id, asked, commands);
    }
}

impl Job {
    /// Whether this end of a task leaves the others as they are.
    pub(super) fn goes_on_without(&self, status: &Status) -> bool {
        let ended = match (status.state, status.reason) {
            (TaskState::Failed, Reason::Exited | Reason::LaunchFailed | Reason::FetchFailed) => {
                status.exit_code != EXIT_FATAL
            }
            // Its offer was gone: it never ran.
            (TaskState::Dropped, _) => true,
            _ => false,
        };
        let JobBody::Stream(body) = &self.record.spec.body else { return false };
        let mut others = self.record.tasks.iter().zip(&self.live).filter(|(task, _)| task.id != status.task);
        ended
            && !body.exchanges
            // Where it would have to be depends on where the others are.
            && !self.record.spec.rules.bind_tasks()
            && self.record.tasks.len() > 1
            && self.record.phase == Phase::Running
            && self.record.spec.restart != Restart::Never
            && !self.stop_asked
            && self.coordinator.is_some()
            && others.all(|(task, live)| live.again.is_some() || is_there(task.state))
    }

    /// The coordinator knows from where a lost task begins again.
    pub(super) fn begin_again(&mut self, now_ms: u64, index: u32, epoch: u64) {
        let at = index as usize;
        let Some(what) = self.live.get(at).and_then(|task| task.again.as_ref()).map(|again| again.what.clone()) else {
            return;
        };
        let wait_ms = self.back_off(now_ms);
        self.live[at].again = Some(Again { what: what.clone(), from: Some((epoch, now_ms + wait_ms)) });
        let n_tasks = self.live.len();
        let others = match self.live.iter().filter(|task| task.again.is_none()).count() {
            0 => String::new(),
            1 => "; the other one goes on".to_string(),
            others => format!("; the other {others} go on"),
        };
        self.note(now_ms, "warning", what);
        let when = if wait_ms == 0 { String::new() } else { format!(" in {wait_ms} ms") };
        self.note(
            now_ms,
            "info",
            format!("task {index} of {n_tasks} starts again from checkpoint {epoch}{when}{others}"),
        );
    }

    /// A task that was lost cannot begin again by itself.
    pub(super) fn all_again(&mut self, now_ms: u64, commands: &mut Vec<Command>) {
        let what = self.live.iter().find_map(|task| task.again.as_ref()).map(|again| again.what.clone());
        self.kill_tasks(0, commands);
        self.restart(now_ms, &what.unwrap_or_default());
    }

    /// Gives the tasks that begin again their new places; what is to be launched.
    pub(super) fn place_again(&mut self, now_ms: u64, config: &Config, placements: &[Placement]) -> Vec<Launch> {
        let due = self.due_again(now_ms);
        for ((at, _), placement) in due.iter().zip(placements) {
            let before = &self.record.tasks[*at];
            self.record.tasks[*at] = placed(self, before.index, before.life + 1, placement);
            self.live[*at].again = None;
        }
        // Larger than that of every life before, also when the clock stepped back.
        self.record.begun_us = (now_ms as i64 * 1000).max(self.record.begun_us.max(self.record.claimed_us) + 1);
        let launches = due.iter().zip(placements);
        launches.map(|((at, epoch), placement)| launch(config, self, *at, Some(*epoch), placement)).collect()
    }

    /// A later life of a task is ready.
    pub(super) fn is_back(&mut self, now_ms: u64, at: usize) {
        let (index, life) = (self.record.tasks[at].index, self.record.tasks[at].life);
        if self.record.phase == Phase::Running && life > 0 {
            self.running_since_ms = now_ms;
            self.warning = None;
            self.note(now_ms, "info", format!("task {index} of {} runs again", self.live.len()));
        }
    }

    /// What is to be said of tasks that begin again.
    pub(super) fn beginning_again(&self) -> Option<String> {
        let tasks = self.record.tasks.iter().zip(&self.live);
        let said = tasks.filter_map(|(task, live)| match &live.again {
            Some(_) if self.evaluator() == Some(task.index) => Some("its evaluator starts again".to_string()),
            Some(Again { from: Some((epoch, _)), .. }) => {
                Some(format!("task {} starts again from checkpoint {epoch}", task.index))
            }
            Some(Again { from: None, what }) => {
                Some(format!("{what}; it starts again once the checkpoint that is being written is durable"))
            }
            None if task.life > 0 && !live.ready => Some(format!("task {} is being started again", task.index)),
            None => None,
        });
        let said: Vec<String> = said.collect();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

/// Whether a task runs, or will, as far as its agent has said.
fn is_there(state: TaskState) -> bool {
    matches!(state, TaskState::Staging | TaskState::Starting | TaskState::Running)
}
