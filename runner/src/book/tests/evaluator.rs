//! A training with an evaluator, whose processes come and go while the others train.

use super::super::{Evaluated, TrainReport};
use super::runs::train;
use super::*;
use crate::runs::Note;

/// Two workers and an evaluator.
fn judged() -> JobSpec {
    let JobBody::Train(mut body) = train() else { panic!("a training") };
    body.evaluator = true;
    JobSpec { parallelism: 3, ..spec("t", JobBody::Train(body)) }
}

/// A world in which all of its tasks run.
fn running() -> (World, Vec<TaskId>) {
    let mut world = World::new();
    world.submit(vec![judged()]);
    let tasks = placed(&mut world, 3);
    for task in &tasks {
        ready(&mut world, task);
    }
    assert_eq!(world.job("t").state, "running");
    world.seen();
    (world, tasks)
}

/// Offers so many agents; what is launched on them.
fn placed(world: &mut World, offers: usize) -> Vec<TaskId> {
    world.seen();
    let now_ms = world.now_ms;
    for at in 0..offers {
        world.offer(training(), &format!("o{now_ms}-{at}"), &format!("a{at}"));
    }
    world.pass(200);
    world.launched().into_iter().map(|launch| launch.task).collect()
}

fn ready(world: &mut World, task: &TaskId) {
    update(world, task, TaskState::Running, 0);
    world.hello("t", task);
    world.apply(Event::TrainReport { task: task.clone(), report: TrainReport::Ready });
}

fn update(world: &mut World, task: &TaskId, state: TaskState, exit_code: i32) {
    let status = Status {
        task: task.clone(),
        agent: "a1".into(),
        state,
        reason: Reason::Exited,
        message: String::new(),
        uuid: "u".to_string(),
        exit_code,
    };
    world.apply(Event::Update { framework: training(), status });
}

fn stops(commands: &[Command]) -> Vec<&TaskId> {
    let orders = commands.iter().filter_map(|command| match command {
        Command::Order { task, order: Order::Stop } => Some(task),
        _ => None,
    });
    orders.collect()
}

#[test]
fn a_killed_evaluator_is_replaced_and_nobody_else_is_touched() {
    let (mut world, tasks) = running();
    let members: Vec<String> = world.job("t").tasks.into_iter().map(|task| task.member).collect();
    assert_eq!(members, ["worker 0", "worker 1", "evaluator"]);
    update(&mut world, &tasks[2], TaskState::Failed, -9);
    let seen = world.seen();
    assert_eq!((kills(&seen), demands(&seen, training())), (vec![], vec![1]), "one is asked for, nobody is ended");
    let job = world.job("t");
    assert_eq!((job.state.as_str(), job.generation), ("running", 1));
    assert!(job.why.starts_with("runs: 2 of 3 tasks; its evaluator starts again; needs 1 task"), "{}", job.why);
    let again = placed(&mut world, 1);
    assert!(again.len() == 1 && again[0] != tasks[2], "an id is never used again: {again:?}");
    ready(&mut world, &again[0]);
    let job = world.job("t");
    assert_eq!((job.state.as_str(), job.generation, job.tasks[2].state.as_str()), ("running", 1, "running"));
    // What it cannot do ends nothing either, and one that is not heard is not waited for.
    update(&mut world, &again[0], TaskState::Failed, 2);
    world.pass(1_000);
    let again = placed(&mut world, 1);
    update(&mut world, &again[0], TaskState::Unreachable, 0);
    assert_eq!((world.job("t").state.as_str(), world.job("t").generation), ("running", 1));
    world.pass(1_000);
    world.seen();
    world.offer(training(), "last", "a1");
    world.pass(200);
    assert_eq!(kills(&world.seen()), [&again[0]], "should it come back, nobody wants it");

    // A worker ends the generation, as ever.
    update(&mut world, &tasks[0], TaskState::Failed, -9);
    assert_eq!(world.job("t").state, "restarting");
}

#[test]
fn a_runner_that_was_away_replaces_the_evaluator_alone() {
    let (mut world, tasks) = running();
    update(&mut world, &tasks[2], TaskState::Failed, -9);
    let mut world = world.restarted(None);
    assert_eq!((world.job("t").state.as_str(), world.job("t").generation), ("running", 1));
    let again = placed(&mut world, 1);
    assert_eq!(again.len(), 1);
}

#[test]
fn evaluations_are_told_and_the_last_one_is_waited_for() {
    let (mut world, tasks) = running();
    let evaluated = |step| {
        let metrics = BTreeMap::from([("rmse".to_string(), 0.5 / step as f64), ("mae".to_string(), 0.25)]);
        TrainReport::Evaluated(Evaluated { step, epoch: 1, metrics, metric_name: "rmse".to_string() })
    };
    let evaluations = |world: &mut World| {
        let notes = world.seen().into_iter().filter_map(|command| match command {
            Command::Run { note: Note::Evaluated(evaluation), .. } => {
                Some((evaluation.step, evaluation.metrics["mae"]))
            }
            _ => None,
        });
        notes.collect::<Vec<(u64, f64)>>()
    };
    world.apply(Event::TrainReport { task: tasks[2].clone(), report: evaluated(5) });
    world.apply(Event::TrainReport { task: tasks[0].clone(), report: evaluated(6) });
    assert_eq!(evaluations(&mut world), [(5, 0.25)], "nobody else judges");
    assert_eq!(world.job("t").metrics.metric, Some(0.1));

    update(&mut world, &tasks[1], TaskState::Finished, 0);
    assert_eq!(stops(&world.seen()), [] as [&TaskId; 0]);
    update(&mut world, &tasks[0], TaskState::Finished, 0);
    let seen = world.seen();
    assert_eq!((stops(&seen), kills(&seen)), (vec![&tasks[2]], vec![]), "it is told that nothing follows");
    let job = world.job("t");
    assert!(job.state == "stopping" && job.why.ends_with("to end by itself: evaluator"), "{}", job.why);
    // It was not connected just then.
    world.hello("t", &tasks[2]);
    assert_eq!(stops(&world.seen()), [&tasks[2]]);
    world.apply(Event::TrainReport { task: tasks[2].clone(), report: evaluated(10) });
    assert_eq!(evaluations(&mut world), [(10, 0.25)]);
    update(&mut world, &tasks[2], TaskState::Finished, 0);
    assert_eq!(world.job("t").state, "finished");
}

#[test]
fn an_evaluator_that_is_too_slow_or_ends_badly_delays_no_end_for_long() {
    let (mut world, tasks) = running();
    for task in &tasks[..2] {
        update(&mut world, task, TaskState::Finished, 0);
    }
    world.seen();
    world.pass(59_000);
    assert_eq!(kills(&world.seen()), [] as [&TaskId; 0]);
    world.pass(1_500);
    assert_eq!(kills(&world.seen()), [&tasks[2]]);
    update(&mut world, &tasks[2], TaskState::Killed, 0);
    assert_eq!(world.job("t").state, "finished");

    // It was being replaced when the training ended: there is nobody to wait for.
    let (mut world, tasks) = running();
    update(&mut world, &tasks[2], TaskState::Failed, -9);
    for task in &tasks[..2] {
        update(&mut world, task, TaskState::Finished, 0);
    }
    assert_eq!(world.job("t").state, "finished");
    assert_eq!(demands(&world.seen(), training()).last(), Some(&0), "and nobody is asked for");

    // A person stops it all.
    let (mut world, tasks) = running();
    let (_, commands) = world.book.stop(world.now_ms, "g/t").expect("a job");
    world.carry(commands);
    assert_eq!(stops(&world.seen()).len(), 3);
    for task in &tasks {
        update(&mut world, task, TaskState::Finished, 0);
    }
    assert_eq!(world.job("t").state, "stopped");
}
