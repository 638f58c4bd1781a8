//! Sweeps in a world where trials end in their own time, some never, and runners die between any two words.

use super::super::sweeps::Sweep;
use super::super::{TrainReport, sweeps::Standing};
use super::runs::train;
use super::*;
use crate::view::SweepDetail;
use training::sweep::settings::Settings;
use training::sweep::{self as course, rungs};

/// Trials of one task each, by a batch size of its own.
fn sweep(trials: usize, parallel: usize) -> Sweep {
    let base = JobSpec { parallelism: 1, ..spec("m", train()) };
    let JobBody::Train(body) = &base.body else { panic!("{base:?}") };
    let settings = (1..=trials)
        .map(|batch| {
            let own = jobs::TrainBody { batch, ..body.as_ref().clone() };
            Settings::of(BTreeMap::from([("train.batch".to_string(), batch.to_string())]), body, &own)
                .expect("settings")
        })
        .collect();
    Sweep {
        name: "g".to_string(),
        submission: "sub".to_string(),
        file: "m.toml".to_string(),
        algorithm: "asha".to_string(),
        began_ms: 1_000_000,
        ended_ms: None,
        parallel,
        settings,
        course: course::Sweep::new(trials, rungs(1, 3, 3), 3, false),
        phase: Standing::Searching,
        spec: base,
    }
}

/// A world with this sweep, and what the store has of it.
struct Swept {
    world: World,
    kept: Sweep,
    /// Each with the trial and where it is to come to.
    running: Vec<(TaskId, usize, Option<u64>)>,
    offers: u64,
}

impl Swept {
    fn begin(sweep: Sweep) -> Self {
        let mut world = World::new();
        let (_, commands) = world.book.begin_sweep(world.now_ms, sweep.clone()).expect("a sweep");
        world.carry(commands);
        let mut swept = Self { world, kept: sweep, running: Vec::new(), offers: 0 };
        swept.look();
        swept
    }

    /// Keeps what is to be kept, and places whatever waits for offers.
    fn look(&mut self) {
        loop {
            self.offers += 1;
            let mut seen = self.world.seen();
            self.world.offer(training(), &format!("o{}", self.offers), "a1");
            self.world.apply(Event::Tick);
            seen.extend(self.world.seen());
            let mut any = false;
            for command in seen {
                match command {
                    Command::PersistSweep(sweep) => self.kept = *sweep,
                    Command::Accept { launch, .. } => {
                        any = true;
                        launch.into_iter().for_each(|launch| self.launched(launch));
                    }
                    _ => {}
                }
            }
            if !any {
                return;
            }
        }
    }

    fn launched(&mut self, launch: Launch) {
        let Payload::Plan(plan) = launch.payload else { panic!("{launch:?}") };
        let jobs::TaskBody::Train(body) = &plan.body else { panic!("{plan:?}") };
        let trial = plan.trial.expect("a trial");
        assert_eq!(plan.job.as_str(), format!("g/trial-{}", body.batch), "each has its own settings");
        assert_eq!(trial.rows_dir, "/nowhere/jobs/g/.rows/sub", "all have the same rows");
        assert_eq!(plan.checkpoint_dir, format!("/nowhere/jobs/g/trial-{}/sub/checkpoints", body.batch));
        self.running.push((launch.task, body.batch - 1, trial.pause_after));
    }

    fn ends(&mut self, task: &TaskId, exit_code: i32) {
        let state = if exit_code == 0 { TaskState::Finished } else { TaskState::Failed };
        let status = Status {
            task: task.clone(),
            agent: "a1".into(),
            state,
            reason: Reason::Exited,
            message: String::new(),
            uuid: "u".to_string(),
            exit_code,
        };
        self.world.apply(Event::Update { framework: training(), status });
        self.look();
    }

    fn says(&mut self, task: &TaskId, report: TrainReport) {
        self.world.apply(Event::TrainReport { task: task.clone(), report });
    }

    /// The trial that runs comes to where it was to come to; the epoch.
    fn pauses(&mut self, trial: usize, metric: f64) -> u64 {
        let (task, epochs) = self.take(trial);
        let epoch = epochs.expect("a trial that searches");
        self.says(&task, TrainReport::Paused { epoch, metric, metric_name: "rmse".to_string() });
        self.ends(&task, 0);
        epoch
    }

    fn take(&mut self, trial: usize) -> (TaskId, Option<u64>) {
        let at =
            self.running.iter().position(|(_, of, _)| *of == trial).unwrap_or_else(|| panic!("{trial} does not run"));
        let (task, _, epochs) = self.running.remove(at);
        (task, epochs)
    }

    fn trials(&self) -> Vec<(usize, Option<u64>)> {
        let mut trials: Vec<(usize, Option<u64>)> =
            self.running.iter().map(|(_, trial, epochs)| (*trial, *epochs)).collect();
        trials.sort_unstable();
        trials
    }

    fn view(&self) -> SweepDetail {
        self.world.book.sweep("g").expect("the sweep")
    }

    /// The runner dies and another takes its place, with the sweep as it was kept then.
    fn restarted(mut self, kept: Sweep) -> Self {
        self.world = self.world.restarted(None);
        let book = std::mem::replace(&mut self.world.book, Book::new(config(), BTreeMap::new(), Vec::new()));
        self.world.book = book.with_sweeps(vec![kept.clone()]);
        self.kept = kept;
        self.look();
        self
    }
}

#[test]
fn so_many_trials_run_at_once_and_the_best_is_published() {
    let mut swept = Swept::begin(sweep(4, 2));
    assert_eq!(swept.trials(), [(0, Some(1)), (1, Some(1))]);
    assert_eq!(swept.pauses(0, 0.5), 1);
    assert_eq!(swept.trials(), [(1, Some(1)), (2, Some(1))], "another begins");
    let view = swept.view();
    let states: Vec<&str> = view.trials.iter().map(|trial| trial.state.as_str()).collect();
    assert_eq!(states, ["paused", "launching", "launching", "waiting"]);
    assert_eq!(
        (view.trials[0].metric, view.trials[0].rung, &view.trials[0].settings["train.batch"][..]),
        (Some(0.5), Some(1), "1")
    );
    assert_eq!(swept.world.job("trial-1").state, "paused");
    swept.pauses(1, 0.2);
    // Three have come to the rung: the best of them goes on, before the last begins.
    swept.pauses(2, 0.9);
    assert_eq!(swept.trials(), [(1, Some(3)), (3, Some(1))]);
    assert_eq!(swept.world.job("trial-2").generation, 2, "the next generation of the same submission");
    // A loss that is no number ends a trial for good.
    let (task, _) = swept.take(3);
    swept.ends(&task, 2);
    assert_eq!(swept.trials(), [(1, Some(3))]);
    assert_eq!(swept.view().trials[3].state, "failed");
    swept.pauses(1, 0.15);
    assert_eq!(swept.trials(), [(1, None)], "the best goes to its end and publishes");
    assert_eq!(
        (swept.kept.phase.clone(), swept.view().trials[1].state.as_str()),
        (Standing::Publishing { trial: 1 }, "publishing")
    );
    let why = swept.world.book.why(swept.world.now_ms, "g").expect("a group").sentence;
    assert!(why.starts_with("publishing: trial 2 has the best rmse, 0.1500 after epoch 3"), "{why}");
    let (task, _) = swept.take(1);
    let written = TrainReport::ModelWritten { version: 7, metric: 0.15, metric_name: "rmse".to_string() };
    swept.says(&task, written);
    swept.ends(&task, 0);
    assert_eq!(swept.kept.phase, Standing::Finished { trial: 1, version: 7 });
    let view = swept.view().sweep;
    assert_eq!(
        (view.state.as_str(), view.version, view.n_done, view.n_failed, view.n_paused),
        ("finished", Some(7), 1, 1, 2)
    );
    assert_eq!(view.best.map(|best| best.number), Some(2));
    let why = swept.world.book.why(swept.world.now_ms, "g").expect("a group").sentence;
    assert_eq!(why, "finished: trial 2 has the best rmse, 0.1500 after epoch 3, and is version 7 of m");
}

/// Whatever was kept last of the sweep and of its jobs, the next runner goes on with both.
#[test]
fn a_sweep_goes_on_with_the_next_runner() {
    let mut swept = Swept::begin(sweep(3, 1));
    swept.pauses(0, 0.1);
    let before = swept.kept.clone();
    assert_eq!(swept.trials(), [(1, Some(1))]);
    swept = swept.restarted(before.clone());
    assert_eq!(swept.trials(), [(1, Some(1))], "what runs goes on");
    swept.pauses(1, 0.2);
    assert_eq!(swept.trials(), [(2, Some(1))]);
    // The sweep is of before the last word, the job of after it: it says the same again.
    swept = swept.restarted(before);
    assert_eq!(swept.kept.course.trials()[1].reached, [Some(0.2)]);
    assert_eq!(swept.trials(), [(2, Some(1))], "and is not begun twice");
    swept.pauses(2, 0.3);
    assert_eq!(swept.trials(), [(0, Some(3))]);
    // The sweep was kept and the job was not: it is still where it paused before.
    let mut records = swept.world.records.clone();
    let job = records.get_mut(&JobId::of("g", "trial-1")).expect("the job");
    job.phase = crate::book::job::Phase::Finished;
    job.trial = Some(crate::book::job::Trial {
        pause_after: Some(1),
        paused: Some(crate::book::job::Paused { epoch: 1, metric: Some(0.1) }),
    });
    swept.world.records = records;
    swept.running.clear();
    let kept = swept.kept.clone();
    swept = swept.restarted(kept);
    assert_eq!(swept.trials(), [(0, Some(3))], "what it said of the first rung is not taken for the next");
    assert_eq!(swept.kept.course.trials()[0].reached, [Some(0.1)]);
    // A task whose last word nobody heard is asked again; nothing is trained anew.
    let (task, _) = swept.take(0);
    swept.ends(&task, 0);
    assert_eq!(swept.trials(), [(0, Some(3))]);
    swept.pauses(0, 0.05);
    assert_eq!(swept.trials(), [(0, None)]);
    let (task, _) = swept.take(0);
    swept.ends(&task, 0);
    assert_eq!(swept.trials(), [(0, None)], "it is not known which version it wrote");
    let (task, _) = swept.take(0);
    swept.says(&task, TrainReport::ModelWritten { version: 1, metric: 0.05, metric_name: "rmse".to_string() });
    swept.ends(&task, 0);
    assert_eq!(swept.kept.phase, Standing::Finished { trial: 0, version: 1 });
}

#[test]
fn a_stopped_sweep_begins_nothing_and_is_resumed() {
    let mut swept = Swept::begin(sweep(5, 2));
    swept.pauses(0, 0.5);
    let stop = |swept: &mut Swept| {
        let (_, commands) = swept.world.book.stop(swept.world.now_ms, "g").expect("a group");
        swept.world.carry(commands);
        swept.look();
    };
    stop(&mut swept);
    assert_eq!(swept.kept.phase, Standing::Stopped);
    let early = swept.world.book.resume_sweep(swept.world.now_ms, "g").unwrap_err();
    assert!(early.contains("is still stopping"), "{early}");
    for trial in [1, 2] {
        let (task, _) = swept.take(trial);
        swept.ends(&task, 0);
    }
    assert_eq!(swept.trials(), [], "nothing begins");
    let text = swept.view().sweep.text;
    assert!(text.starts_with("was stopped, `smack sweep resume g` goes on with it"), "{text}");
    let (_, commands) = swept.world.book.resume_sweep(swept.world.now_ms, "g").expect("a stopped sweep");
    swept.world.carry(commands);
    swept.look();
    assert_eq!(swept.trials(), [(1, Some(1)), (2, Some(1))], "those that were at work go on");
    assert!(swept.world.book.resume_sweep(swept.world.now_ms, "g").unwrap_err().contains("is searching, not stopped"));
    assert!(swept.world.book.resume_sweep(swept.world.now_ms, "h").unwrap_err().contains("there is no sweep 'h'"));

    // One trial that a person stops is out of the search.
    let (_, commands) = swept.world.book.stop(swept.world.now_ms, "g/trial-2").expect("a job");
    swept.world.carry(commands);
    let (task, _) = swept.take(1);
    swept.ends(&task, 0);
    assert_eq!(swept.view().trials[1].error.as_deref(), Some("it was stopped"));
    assert_eq!(swept.trials(), [(2, Some(1)), (3, Some(1))]);
}

#[test]
fn a_group_is_one_sweep_or_one_file_at_a_time() {
    let mut swept = Swept::begin(sweep(2, 1));
    let now_ms = swept.world.now_ms;
    let refused = swept.world.book.begin_sweep(now_ms, sweep(2, 1)).unwrap_err();
    assert!(refused.contains("its sweep is searching; stop it first with `smack stop g`"), "{refused}");
    let refused = swept.world.book.submit(now_ms, vec![spec("t", train())], "other", Resume::Anew).unwrap_err();
    assert!(refused.contains("its sweep is searching"), "{refused}");
    for trial in [0, 1] {
        let (task, _) = swept.take(trial);
        swept.ends(&task, 2);
    }
    assert_eq!(swept.view().sweep.text, "failed: none of 2 trials has a metric to go by");
    let submitted = swept.world.book.submit(now_ms, vec![spec("t", train())], "other", Resume::Anew);
    let (_, commands) = submitted.expect("the sweep is over");
    let forgotten = commands.iter().filter(|command| matches!(command, Command::Forget(_) | Command::ForgetSweep(_)));
    assert_eq!(forgotten.count(), 3, "two trials and what they shared");
    assert!(swept.world.book.sweep_views().is_empty());
}
