//! Job files that are submitted by the clock.
//!
//! Each schedule has a cron expression in a time zone, and says what becomes of times at which nobody was there to submit
//! (catch-up) and of a time at which the run before is still going on (overlap).
//!
//! Invariant: pure, as the rest of the book: the time is an argument, and whether a submission went well is told as an event. A
//! schedule has at most one submission under way and a bounded number of times waiting; every time that was due stands in the
//! history, once, with what became of it, as far back as that goes.

use super::{Book, Command};
use crate::view::{FiredView, ScheduleView};
use jobs::cron::Cron;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use utoipa::ToSchema;

/// A time that is noticed later than this was missed.
const LATE_MS: i64 = 60_000;
/// Times of one schedule that wait to be caught up with; the oldest go first.
const WAITING_MAX: usize = 100;
const HISTORY_MAX: usize = 100;
/// Times that are looked at in one go after a long absence; what lies before the newest of them is passed over.
const DUE_MAX: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// Missed times are passed over.
    None,
    /// One run for all of them.
    Last,
    /// One run for each, one after another.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The time is passed over.
    Skip,
    /// It waits until the run before is over; one waits at most.
    Queue,
    /// The run before is stopped.
    Replace,
}

/// What is kept of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    pub name: String,
    pub cron: String,
    pub zone: String,
    pub catch_up: CatchUp,
    pub overlap: Overlap,
    /// The file's text and name, and the folder in which it lies.
    pub text: String,
    pub file: String,
    pub base_dir: String,
    /// Of its jobs.
    pub group: String,
    /// When it is due next.
    pub next_ms: Option<i64>,
    /// Due, and not submitted yet.
    pub waiting: VecDeque<Due>,
    /// Handed over to be submitted; of what came of it nothing was heard yet.
    pub under_way: Option<Due>,
    pub history: VecDeque<Fired>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    pub planned_ms: i64,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    Time,
    CatchUp,
    Hand,
}

/// What became of a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fired {
    pub due: Due,
    pub at_ms: i64,
    /// "running", "finished", "stopped", "failed", "skipped" or "missed".
    pub outcome: String,
    pub text: String,
}

impl Schedule {
    fn note(&mut self, due: Due, at_ms: i64, outcome: &str, text: impl Into<String>) {
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(Fired { due, at_ms, outcome: outcome.to_string(), text: text.into() });
    }

    /// Takes the times that are due by now; whether there were any.
    fn look_at_clock(&mut self, now_ms: i64, cron: &Cron, busy: bool) -> bool {
        let mut due = VecDeque::new();
        while let Some(planned_ms) = self.next_ms.filter(|next| *next <= now_ms) {
            due.push_back(planned_ms);
            if due.len() > DUE_MAX {
                due.pop_front();
            }
            self.next_ms = cron.next_after(planned_ms);
        }
        let any = !due.is_empty();
        let on_time = due.back().copied().filter(|planned| now_ms - planned <= LATE_MS);
        if on_time.is_some() {
            due.pop_back();
        }
        self.missed(now_ms, due, on_time.is_some());
        if let Some(planned_ms) = on_time {
            self.on_time(now_ms, Due { planned_ms, why: Why::Time }, busy);
        }
        any
    }

    fn missed(&mut self, now_ms: i64, missed: VecDeque<i64>, is_on_time: bool) {
        let n = missed.len();
        let kept = match self.catch_up {
            CatchUp::None => 0,
            // The one that is due now stands for them all.
            CatchUp::Last => usize::from(!is_on_time),
            CatchUp::All => WAITING_MAX,
        };
        for (at, planned_ms) in missed.into_iter().enumerate() {
            let due = Due { planned_ms, why: Why::CatchUp };
            if n - at <= kept {
                self.waiting.push_back(due);
            } else if n - at <= HISTORY_MAX {
                self.note(due, now_ms, "missed", "nobody was there to submit it");
            }
        }
        while self.waiting.len() > WAITING_MAX {
            if let Some(due) = self.waiting.pop_front() {
                self.note(due, now_ms, "missed", format!("{WAITING_MAX} later ones wait already"));
            }
        }
    }

    fn on_time(&mut self, now_ms: i64, due: Due, busy: bool) {
        let busy = busy || self.under_way.is_some() || !self.waiting.is_empty();
        match self.overlap {
            _ if !busy => self.waiting.push_back(due),
            Overlap::Skip => self.note(due, now_ms, "skipped", "the run before was still going on"),
            Overlap::Queue | Overlap::Replace => {
                // What is to be caught up with comes first, and stays.
                let waits = self.waiting.back().copied().filter(|waits| waits.why == Why::Time);
                if let Some(before) = waits {
                    self.waiting.pop_back();
                    self.note(before, now_ms, "skipped", "a later one was due before it could begin");
                }
                self.waiting.push_back(due);
            }
        }
    }
}

impl Due {
    /// Name of its submission, by which a later runner knows it again.
    pub fn submission(&self) -> String {
        format!("s{:x}", self.planned_ms)
    }
}

impl Book {
    /// The schedules that an earlier runner kept. One whose submission was under way may have been submitted or not.
    pub fn with_schedules(mut self, now_ms: u64, schedules: Vec<Schedule>) -> Self {
        for mut schedule in schedules {
            if let Some(due) = schedule.under_way.take() {
                let mut jobs = self.jobs.values().map(|job| &job.record);
                let is_of =
                    |job: &super::job::Record| job.spec.group == schedule.group && job.submission == due.submission();
                match jobs.any(is_of) {
                    true => schedule.note(due, now_ms as i64, "running", "submitted"),
                    false => schedule.waiting.push_front(due),
                }
            }
            self.schedules.insert(schedule.name.clone(), schedule);
        }
        self
    }

    /// Adds a schedule, or puts another one in the place of that name, whose history stays.
    pub fn schedule(&mut self, now_ms: u64, mut schedule: Schedule) -> Result<Vec<Command>, String> {
        let cron = Cron::parse(&schedule.cron, &schedule.zone)?;
        let other = self.schedules.values().find(|of| of.group == schedule.group && of.name != schedule.name);
        if let Some(other) = other {
            return Err(format!(
                "schedule '{}' submits group '{}' already; give this one's job another name",
                other.name, schedule.group
            ));
        }
        schedule.next_ms = cron.next_after(now_ms as i64);
        if let Some(before) = self.schedules.remove(&schedule.name) {
            (schedule.history, schedule.under_way) = (before.history, before.under_way);
        }
        let kept = Command::PersistSchedule(Box::new(schedule.clone()));
        self.schedules.insert(schedule.name.clone(), schedule);
        Ok(vec![kept])
    }

    pub fn unschedule(&mut self, name: &str) -> Result<Vec<Command>, String> {
        match self.schedules.remove(name) {
            Some(_) => Ok(vec![Command::ForgetSchedule { name: name.to_string() }]),
            None => Err(self.no_schedule(name)),
        }
    }

    /// Submits it now, or as soon as the run before is over.
    pub fn run_now(&mut self, now_ms: u64, name: &str) -> Result<Vec<Command>, String> {
        let unknown = self.no_schedule(name);
        let schedule = self.schedules.get_mut(name).ok_or(unknown)?;
        if schedule.waiting.iter().any(|due| due.why == Why::Hand) {
            return Err(format!("schedule '{name}' waits already for the run before, to begin by hand"));
        }
        schedule.waiting.push_front(Due { planned_ms: now_ms as i64, why: Why::Hand });
        let mut commands = vec![Command::PersistSchedule(Box::new(schedule.clone()))];
        self.advance(now_ms, &mut commands);
        Ok(commands)
    }

    fn no_schedule(&self, name: &str) -> String {
        match jobs::text::nearest(name, self.schedules.keys().map(String::as_str)) {
            Some(near) => format!("there is no schedule '{name}'; did you mean '{near}'?"),
            None => format!("there is no schedule '{name}'; `smack schedule ls` lists them"),
        }
    }

    pub(super) fn look_at_schedules(&mut self, now_ms: u64, commands: &mut Vec<Command>) {
        for name in self.schedules.keys().cloned().collect::<Vec<_>>() {
            let Some(mut schedule) = self.schedules.remove(&name) else { continue };
            if self.look_at(now_ms, &mut schedule, commands) {
                commands.push(Command::PersistSchedule(Box::new(schedule.clone())));
                if let Some(due) = schedule.under_way {
                    commands.push(Command::Fire { schedule: Box::new(schedule.clone()), due });
                }
            }
            self.schedules.insert(name, schedule);
        }
    }

    /// Whether something has changed that is to be kept.
    fn look_at(&mut self, now_ms: u64, schedule: &mut Schedule, commands: &mut Vec<Command>) -> bool {
        let now = now_ms as i64;
        let of_group = self.jobs.values().filter(|job| job.record.spec.group == schedule.group);
        let (mut busy, mut ended) = (false, "finished");
        for job in of_group {
            busy |= !job.record.phase.is_over();
            match job.record.phase.as_str() {
                "failed" => ended = "failed",
                "stopped" if ended != "failed" => ended = "stopped",
                _ => {}
            }
        }
        let mut changed = false;
        if let Some(last) = schedule.history.iter_mut().rev().find(|fired| fired.outcome == "running")
            && !busy
            && schedule.under_way.is_none()
        {
            last.outcome = ended.to_string();
            changed = true;
        }
        if schedule.next_ms.is_some_and(|next| next <= now)
            && let Ok(cron) = Cron::parse(&schedule.cron, &schedule.zone)
        {
            changed |= schedule.look_at_clock(now, &cron, busy);
        }
        let replaces =
            schedule.overlap == Overlap::Replace && schedule.waiting.front().is_some_and(|due| due.why == Why::Time);
        if busy && replaces && schedule.under_way.is_none() {
            let ids: Vec<_> = self.find(&schedule.group);
            for id in ids {
                if self.jobs.get(&id).is_some_and(|job| !job.stop_asked && !job.record.phase.is_over()) {
                    self.stop_job(now_ms, &id, commands);
                }
            }
        }
        if !busy
            && schedule.under_way.is_none()
            && let Some(due) = schedule.waiting.pop_front()
        {
            schedule.under_way = Some(due);
            changed = true;
        }
        changed
    }

    /// What came of a submission: its jobs, or why there are none.
    pub(super) fn fired(
        &mut self,
        now_ms: u64,
        name: &str,
        due: Due,
        result: Result<Vec<String>, String>,
        commands: &mut Vec<Command>,
    ) {
        let Some(schedule) = self.schedules.get_mut(name).filter(|schedule| schedule.under_way == Some(due)) else {
            return;
        };
        schedule.under_way = None;
        match result {
            Ok(jobs) => schedule.note(due, now_ms as i64, "running", jobs.join(", ")),
            Err(error) => schedule.note(due, now_ms as i64, "failed", error),
        }
        commands.push(Command::PersistSchedule(Box::new(schedule.clone())));
    }

    pub fn schedule_views(&self) -> Vec<ScheduleView> {
        let fired = |fired: &Fired| FiredView {
            planned_ms: fired.due.planned_ms,
            at_ms: fired.at_ms,
            why: match fired.due.why {
                Why::Time => "time",
                Why::CatchUp => "catch-up",
                Why::Hand => "by hand",
            }
            .to_string(),
            outcome: fired.outcome.clone(),
            text: fired.text.clone(),
        };
        let view = |schedule: &Schedule| ScheduleView {
            name: schedule.name.clone(),
            cron: schedule.cron.clone(),
            zone: schedule.zone.clone(),
            catch_up: format!("{:?}", schedule.catch_up).to_lowercase(),
            overlap: format!("{:?}", schedule.overlap).to_lowercase(),
            file: schedule.file.clone(),
            group: schedule.group.clone(),
            next_ms: schedule.next_ms,
            n_waiting: schedule.waiting.len() as u64,
            history: schedule.history.iter().map(fired).collect(),
        };
        self.schedules.values().map(view).collect()
    }
}
