//! Schedules in a world where the clock jumps, the runner is away, and runs take longer than the time between them.

use super::super::schedules::{CatchUp, Due, Overlap, Schedule};
use super::*;
use crate::view::ScheduleView;
use chrono::DateTime;

fn ms(time: &str) -> u64 {
    DateTime::parse_from_rfc3339(time).expect("a time").timestamp_millis() as u64
}

fn schedule(cron: &str, catch_up: CatchUp, overlap: Overlap) -> Schedule {
    Schedule {
        name: "nightly".to_string(),
        cron: cron.to_string(),
        zone: "Europe/Berlin".to_string(),
        catch_up,
        overlap,
        text: "the text".to_string(),
        file: "g.sql".to_string(),
        base_dir: "/".to_string(),
        group: "g".to_string(),
        next_ms: None,
        waiting: Default::default(),
        under_way: None,
        history: Default::default(),
    }
}

/// A world with this schedule at this time, and what the store has of it.
struct Scheduled {
    world: World,
    kept: Option<Schedule>,
    fired: Vec<Due>,
}

impl Scheduled {
    fn new(at: &str, schedule: Schedule) -> Self {
        let mut world = World::new();
        world.now_ms = ms(at);
        let commands = world.book.schedule(world.now_ms, schedule).expect("a schedule");
        world.carry(commands);
        let mut scheduled = Self { world, kept: None, fired: Vec::new() };
        scheduled.look();
        scheduled
    }

    /// Keeps what is to be kept, and the times at which something is to be submitted.
    fn look(&mut self) {
        for command in self.world.seen() {
            match command {
                Command::PersistSchedule(schedule) => self.kept = Some(*schedule),
                Command::Fire { due, .. } => {
                    assert_eq!(
                        self.kept.as_ref().and_then(|kept| kept.under_way),
                        Some(due),
                        "kept before it is carried out"
                    );
                    self.fired.push(due);
                }
                _ => {}
            }
        }
    }

    fn at(&mut self, time: &str) -> Vec<Due> {
        self.world.now_ms = ms(time);
        self.world.apply(Event::Tick);
        self.look();
        std::mem::take(&mut self.fired)
    }

    /// The hands have submitted a job, which runs.
    fn submitted(&mut self, due: Due) {
        let job = JobSpec { parallelism: 1, ..spec("c", command()) };
        let submitted = self.world.book.submit(self.world.now_ms, vec![job], &due.submission(), Resume::Anew);
        let result = submitted.map(|(jobs, commands)| {
            self.world.carry(commands);
            jobs
        });
        self.world.apply(Event::Fired { schedule: "nightly".to_string(), due, result });
        self.look();
    }

    fn job_over(&mut self) {
        let (_, commands) = self.world.book.stop(self.world.now_ms, "g").expect("it is there");
        self.world.carry(commands);
        self.world.apply(Event::Tick);
        self.look();
    }

    /// The runner dies, and another one takes its place at this time.
    fn restarted(self, at: &str) -> Self {
        let kept = self.kept.expect("it was kept");
        let mut world = self.world.restarted(None);
        world.now_ms = ms(at);
        world.book = std::mem::replace(&mut world.book, Book::new(config(), BTreeMap::new(), Vec::new()))
            .with_schedules(world.now_ms, vec![kept.clone()]);
        Self { world, kept: Some(kept), fired: Vec::new() }
    }

    fn view(&self) -> ScheduleView {
        self.world.book.schedule_views().remove(0)
    }

    fn outcomes(&self) -> Vec<(String, String)> {
        self.view().history.into_iter().map(|fired| (fired.why, fired.outcome)).collect()
    }
}

fn outcome(why: &str, outcome: &str) -> (String, String) {
    (why.to_string(), outcome.to_string())
}

#[test]
fn it_is_due_at_its_time_of_day_also_where_clocks_are_changed() {
    let mut nightly = Scheduled::new("2026-03-27T12:00:00Z", schedule("30 2 * * *", CatchUp::Last, Overlap::Skip));
    assert_eq!(nightly.at("2026-03-28T01:29:59Z"), []);
    let [due] = nightly.at("2026-03-28T01:30:00Z")[..] else { panic!("half past two, an hour before UTC") };
    nightly.submitted(due);
    nightly.job_over();
    // On the 29th there is no half past two: it is due when the clocks are put on to three.
    let [due] = nightly.at("2026-03-29T01:00:00Z")[..] else { panic!("at the end of the gap") };
    nightly.submitted(due);
    nightly.job_over();
    assert_eq!(nightly.at("2026-03-29T01:30:10Z"), []);
    let [due] = nightly.at("2026-03-30T00:30:00Z")[..] else { panic!("two hours before UTC from now on") };
    nightly.submitted(due);
    assert_eq!(
        nightly.outcomes(),
        [outcome("time", "stopped"), outcome("time", "stopped"), outcome("time", "running")]
    );
    assert_eq!(nightly.view().next_ms, Some(ms("2026-03-31T00:30:00Z") as i64));
}

#[test]
fn what_was_missed_is_caught_up_with_as_the_schedule_says() {
    let away = |catch_up| {
        let hourly = Scheduled::new("2026-11-25T09:30:00Z", schedule("0 * * * *", catch_up, Overlap::Skip));
        // 10, 11 and 12 o'clock passed without a runner.
        hourly.restarted("2026-11-25T12:20:00Z")
    };
    let mut none = away(CatchUp::None);
    assert_eq!(none.at("2026-11-25T12:20:00Z"), []);
    assert_eq!(none.outcomes(), vec![outcome("catch-up", "missed"); 3]);
    assert_eq!(none.at("2026-11-25T13:00:00Z").len(), 1);

    let mut last = away(CatchUp::Last);
    let [due] = last.at("2026-11-25T12:20:00Z")[..] else { panic!("one for all") };
    assert_eq!(due.planned_ms, ms("2026-11-25T12:00:00Z") as i64);
    last.submitted(due);
    assert_eq!(
        last.outcomes(),
        [outcome("catch-up", "missed"), outcome("catch-up", "missed"), outcome("catch-up", "running")]
    );

    let mut all = away(CatchUp::All);
    for hour in [10, 11, 12] {
        let [due] = all.at("2026-11-25T12:20:00Z")[..] else { panic!("{hour} o'clock, one at a time") };
        assert_eq!(due.planned_ms, ms(&format!("2026-11-25T{hour}:00:00Z")) as i64);
        all.submitted(due);
        all.job_over();
    }
    assert_eq!(all.at("2026-11-25T12:21:00Z"), []);

    // On time again: what is due now stands for what was missed.
    let mut last = Scheduled::new("2026-11-25T09:30:00Z", schedule("0 * * * *", CatchUp::Last, Overlap::Skip))
        .restarted("2026-11-25T12:00:10Z");
    assert_eq!(last.at("2026-11-25T12:00:10Z").len(), 1);
    assert_eq!(last.outcomes(), vec![outcome("catch-up", "missed"); 2]);
}

#[test]
fn runs_that_take_too_long_are_skipped_waited_for_or_replaced() {
    let busy = |overlap| {
        let mut hourly = Scheduled::new("2026-11-25T09:30:00Z", schedule("0 * * * *", CatchUp::Last, overlap));
        let [due] = hourly.at("2026-11-25T10:00:00Z")[..] else { panic!("it is time") };
        assert_eq!(hourly.at("2026-11-25T10:00:01Z"), [], "nothing was heard of it yet");
        hourly.submitted(due);
        hourly
    };
    let mut skip = busy(Overlap::Skip);
    assert_eq!(skip.at("2026-11-25T11:00:00Z"), []);
    skip.job_over();
    assert_eq!(skip.at("2026-11-25T11:01:00Z"), []);
    assert_eq!(skip.outcomes(), [outcome("time", "stopped"), outcome("time", "skipped")]);

    let mut queue = busy(Overlap::Queue);
    assert_eq!(queue.at("2026-11-25T11:00:00Z"), []);
    assert_eq!(queue.at("2026-11-25T12:00:00Z"), []);
    assert_eq!(queue.view().n_waiting, 1);
    queue.job_over();
    let [due] = queue.fired[..] else { panic!("the one that waited: {:?}", queue.fired) };
    assert_eq!(due.planned_ms, ms("2026-11-25T12:00:00Z") as i64, "the later of two");

    let mut replace = busy(Overlap::Replace);
    let stopped = replace.at("2026-11-25T11:00:00Z");
    let over = replace.at("2026-11-25T11:00:01Z");
    assert_eq!([stopped, over].concat().len(), 1, "the run before has made room: {:?}", replace.view());
}

#[test]
fn it_runs_by_hand_and_a_submission_is_not_made_twice() {
    let mut yearly = Scheduled::new("2026-11-25T09:30:00Z", schedule("0 0 1 1 *", CatchUp::Last, Overlap::Skip));
    assert!(yearly.world.book.run_now(yearly.world.now_ms, "nigthly").unwrap_err().contains("did you mean 'nightly'?"));
    let commands = yearly.world.book.run_now(yearly.world.now_ms, "nightly").expect("it is there");
    yearly.world.carry(commands);
    yearly.look();
    let [due] = yearly.fired[..] else { panic!("at once") };
    // It was submitted, and the runner died before it heard so.
    let job = JobSpec { parallelism: 1, ..spec("c", command()) };
    let (_, commands) =
        yearly.world.book.submit(yearly.world.now_ms, vec![job], &due.submission(), Resume::Anew).expect("it is free");
    yearly.world.carry(commands);
    yearly.look();
    yearly.fired.clear();
    let mut next = yearly.restarted("2026-11-25T09:31:00Z");
    assert_eq!(next.at("2026-11-25T09:31:00Z"), []);
    assert_eq!(next.outcomes(), [outcome("by hand", "running")]);

    // And one that was not is made by the next runner.
    let mut yearly = Scheduled::new("2026-11-25T09:30:00Z", schedule("0 0 1 1 *", CatchUp::Last, Overlap::Skip));
    let commands = yearly.world.book.run_now(yearly.world.now_ms, "nightly").expect("it is there");
    yearly.world.carry(commands);
    yearly.look();
    assert_eq!(yearly.restarted("2026-11-25T09:31:00Z").at("2026-11-25T09:31:00Z"), [due]);
}

#[test]
fn what_cannot_be_submitted_any_more_is_told_and_the_next_time_is_tried() {
    let mut hourly = Scheduled::new("2026-11-25T09:30:00Z", schedule("0 * * * *", CatchUp::Last, Overlap::Skip));
    let [due] = hourly.at("2026-11-25T10:00:00Z")[..] else { panic!("it is time") };
    let result = Err("g.sql cannot be submitted any more: there is no file 'x'".to_string());
    hourly.world.apply(Event::Fired { schedule: "nightly".to_string(), due, result });
    assert_eq!(hourly.outcomes(), [outcome("time", "failed")]);
    assert_eq!(hourly.at("2026-11-25T11:00:00Z").len(), 1);
    let wrong = schedule("0 0 30 2 *", CatchUp::Last, Overlap::Skip);
    assert!(hourly.world.book.schedule(0, wrong).unwrap_err().contains("never due"));
    let other = Schedule { name: "other".to_string(), ..schedule("0 * * * *", CatchUp::Last, Overlap::Skip) };
    assert!(hourly.world.book.schedule(0, other).unwrap_err().contains("schedule 'nightly' submits group 'g' already"));
}
