//! Trainings that go on with fewer workers and become more again.

use super::super::TrainReport;
use super::runs::train;
use super::*;
use jobs::train::{Elastic, Strategy};

const GROW_AFTER_MS: u64 = 60_000;

/// Four workers, or two where there is no room for more.
fn elastic() -> JobSpec {
    let JobBody::Train(mut body) = train() else { panic!("a training") };
    body.elastic = Some(Elastic { min_workers: 2, grow_after_ms: GROW_AFTER_MS });
    JobSpec { parallelism: 4, ..spec("t", JobBody::Train(body)) }
}

impl World {
    /// Offers of one core each.
    fn offers(&mut self, n: usize) {
        let now_ms = self.now_ms;
        (0..n).for_each(|at| self.offer(training(), &format!("o{now_ms}-{at}"), &format!("a{at}")));
    }

    /// Begins what was launched since the last look.
    fn begins(&mut self) -> Vec<TaskId> {
        let tasks: Vec<TaskId> = self.launched().into_iter().map(|launch| launch.task).collect();
        for task in &tasks {
            self.update(task, TaskState::Running);
            self.hello("t", task);
            self.apply(Event::TrainReport { task: task.clone(), report: TrainReport::Ready });
        }
        tasks
    }

    fn told_of_it(&self) -> Vec<String> {
        self.job("t").events.into_iter().map(|event| event.text).collect()
    }
}

fn returned(commands: &[Command]) -> usize {
    let given = commands.iter().filter_map(|command| match command {
        Command::Decline { offers, .. } => Some(offers.len()),
        _ => None,
    });
    given.sum()
}

#[test]
fn fewer_workers_begin_after_a_while_and_become_all_once_there_is_room() {
    let mut world = World::new();
    world.submit(vec![elastic()]);
    assert_eq!(demands(&world.seen(), training()), [4]);
    world.offers(3);
    world.pass(1_900);
    assert!(world.launched().is_empty(), "it waits for the fourth for a while");
    world.pass(100);
    let three = world.begins();
    assert_eq!(three.len(), 3);
    let job = world.job("t");
    assert_eq!((job.state.as_str(), job.parallelism, job.tasks.len()), ("running", 4, 3));
    assert!(job.why.contains("with 3 of 4 workers"), "{}", job.why);
    assert!(world.told_of_it().iter().any(|text| text.ends_with("with 3 of 4 workers, as there was no room for more")));
    world.seen();

    // Not at once: each change costs a moment of training.
    world.pass(GROW_AFTER_MS - 1);
    assert_eq!(demands(&world.seen(), training()), [] as [u32; 0]);
    world.pass(1);
    assert_eq!(demands(&world.seen(), training()), [1]);
    assert!(world.job("t").why.contains("for more it needs 1 task"), "{}", world.job("t").why);
    world.offers(1);
    world.pass(1_000);
    let seen = world.seen();
    assert_eq!(kills(&seen), three.iter().collect::<Vec<_>>(), "all end with a checkpoint");
    assert_eq!(returned(&seen), 0, "what was found is kept");
    let said = "there is room for one more worker: takes a checkpoint, and goes on with 4";
    assert_eq!(world.told_of_it().last().map(String::as_str), Some(said));
    // They end well, and that is not the end of the training.
    for task in &three {
        world.update(task, TaskState::Finished);
    }
    let job = world.job("t");
    assert_eq!((job.state.as_str(), job.generation, job.restarts), ("placing", 2, 0), "nothing failed");
    let seen = world.seen();
    assert_eq!((demands(&seen, training()), returned(&seen)), (vec![4], 0));
    world.offers(3);
    let four = world.begins();
    assert_eq!(four.len(), 4);
    assert_eq!(world.job("t").why, "runs: 4 of 4 tasks, step 0 of 0");
    world.pass(10 * GROW_AFTER_MS);
    assert!(demands(&world.seen(), training()).iter().all(|wanted| *wanted == 0), "there is nothing more to have");
    assert_eq!(world.job("t").generation, 2);
}

#[test]
fn a_lost_worker_is_done_without_and_too_few_are_waited_for() {
    let mut world = World::new();
    world.submit(vec![elastic()]);
    world.offers(4);
    let tasks = world.begins();
    assert_eq!(tasks.len(), 4);
    // Its agent is gone, and another one with it.
    tasks.iter().for_each(|task| world.update(task, TaskState::Failed));
    assert_eq!(world.job("t").state, "placing");
    world.seen();
    world.offers(1);
    world.pass(2_900);
    assert!(world.launched().is_empty(), "two are the fewest");
    world.offers(1);
    world.pass(100);
    let tasks = world.begins();
    assert_eq!(tasks.len(), 2);
    let Some(job) = world.book.jobs.get(&JobId::of("g", "t")) else { panic!("the job") };
    assert_eq!(job.record.n_tasks(), 2);
    // The next runner knows how many there are, and that more are wanted.
    let mut world = world.restarted(None);
    world.pass(GROW_AFTER_MS);
    let job = world.job("t");
    assert_eq!(job.tasks.len(), 2);
    assert!(job.why.contains("for more it needs 2 tasks"), "{}", job.why);
}

#[test]
fn all_that_there_is_room_for_is_taken_at_once() {
    let mut world = World::new();
    world.submit(vec![elastic()]);
    world.offers(2);
    world.pass(2_000);
    let two = world.begins();
    assert_eq!(two.len(), 2);
    world.pass(GROW_AFTER_MS);
    world.seen();
    world.offers(1);
    world.pass(500);
    assert_eq!(kills(&world.seen()), [] as [&TaskId; 0], "another one may follow");
    world.offers(1);
    assert_eq!(kills(&world.seen()).len(), 2);
    assert!(world.told_of_it().last().is_some_and(|text| text.ends_with("goes on with 4")), "{:?}", world.told_of_it());
    // The room is taken by others meanwhile: it goes on as before.
    world.apply(Event::Disconnected { framework: training() });
    world.apply(Event::Subscribed { framework: training(), id: "smack-training".into() });
    two.iter().for_each(|task| world.update(task, TaskState::Killed));
    world.offers(2);
    world.pass(2_000);
    assert_eq!(world.begins().len(), 2);
    assert_eq!(world.job("t").restarts, 0);
}

#[test]
fn who_runs_already_comes_after_who_does_not() {
    let mut world = World::new();
    world.submit(vec![elastic()]);
    world.offers(2);
    world.pass(2_000);
    world.begins();
    world.pass(GROW_AFTER_MS);
    let other = JobSpec { id: JobId::of("h", "c"), group: "h".into(), ..spec("c", command()) };
    world.submit(vec![other]);
    world.seen();
    world.offers(2);
    world.pass(1_000);
    let launched = world.launched();
    assert_eq!(launched.len(), 2);
    assert!(launched.iter().all(|launch| launch.group == "h/c"), "{launched:?}");
}

#[test]
fn servers_and_the_evaluator_are_always_there() {
    let mut spec = elastic();
    let JobBody::Train(body) = &mut spec.body else { panic!("a training") };
    body.strategy = Strategy::ParameterServer { servers: 1, staleness: 0 };
    body.evaluator = true;
    spec.parallelism = 6;
    let mut world = World::new();
    world.submit(vec![spec]);
    world.offers(3);
    world.pass(2_500);
    assert!(world.launched().is_empty(), "one worker is too few");
    world.offers(1);
    assert_eq!(world.begins().len(), 4);
    let members: Vec<String> = world.job("t").tasks.into_iter().map(|task| task.member).collect();
    assert_eq!(members, ["worker 0", "worker 1", "server 0", "evaluator"]);
    assert!(world.job("t").why.contains("with 2 of 4 workers"), "{}", world.job("t").why);
}

#[test]
fn without_the_setting_all_are_waited_for() {
    let mut world = World::new();
    let mut all = elastic();
    let JobBody::Train(body) = &mut all.body else { panic!("a training") };
    body.elastic = None;
    world.submit(vec![all]);
    world.offers(3);
    world.pass(2_500);
    world.pass(2_500);
    assert!(world.launched().is_empty());
}
