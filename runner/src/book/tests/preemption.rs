//! Jobs that make room for what comes before them, and the frameworks of their roles.

use super::*;
use crate::book::frameworks::Kind;

fn told(world: &World, name: &str) -> Vec<String> {
    world.job(name).events.into_iter().map(|event| event.text).collect()
}

fn preempted(framework: Framework, task: &TaskId) -> Event {
    let message = "has to leave for g/urgent of role default: its priority is 5".to_string();
    Event::Preempted { framework, tasks: vec![task.clone()], ends_in_ms: 30_000, message }
}

/// A command of two tasks that run.
fn running_command(world: &mut World, restart: Restart) -> Vec<TaskId> {
    world.submit(vec![JobSpec { restart, ..spec("c", command()) }]);
    world.offer(training(), "o1", "a1");
    world.offer(training(), "o2", "a2");
    let tasks: Vec<TaskId> = world.launched().into_iter().map(|launch| launch.task).collect();
    tasks.iter().for_each(|task| world.update(task, TaskState::Running));
    assert_eq!(world.job("c").state, "running");
    tasks
}

#[test]
fn a_role_that_a_job_names_has_a_framework_of_its_own() {
    let mut world = World::new();
    let ml = Framework { kind: Kind::Training, role: "ml".into() };
    let usual = spec("usual", command());
    world.submit(vec![usual, JobSpec { role: "ml".into(), priority: 7, ..spec("of-ml", command()) }]);
    let seen = world.seen();
    assert!(seen.contains(&Command::Subscribe { framework: ml.clone() }), "{seen:?}");
    assert_eq!((demands(&seen, training()), demands(&seen, ml.clone())), (vec![2], vec![]));
    world.apply(Event::Subscribed { framework: ml.clone(), id: "f-ml".into() });
    let seen = world.seen();
    assert!(seen.contains(&Command::PersistFramework { framework: ml.clone(), id: "f-ml".into() }), "{seen:?}");
    let asked = seen.iter().find_map(|command| match command {
        Command::Demand { framework, demands } if *framework == ml => demands.first(),
        _ => None,
    });
    let asked = asked.expect("demand is posted");
    assert_eq!((asked.priority, asked.group.as_str(), asked.count), (7, "g/of-ml", 2));
    // What is offered to one role is of no use to the jobs of another.
    world.offer(training(), "o1", "a1");
    world.offer(training(), "o2", "a2");
    let launched = world.launched();
    assert!(launched.len() == 2 && launched.iter().all(|launch| launch.group == "g/usual"), "{launched:?}");
    world.offer(ml.clone(), "o3", "a1");
    world.offer(ml, "o4", "a2");
    let launched = world.launched();
    assert!(launched.iter().all(|launch| launch.group == "g/of-ml" && launch.priority == 7), "{launched:?}");
    assert_eq!(launched.len(), 2);
}

#[test]
fn what_is_more_urgent_is_placed_first() {
    let mut world = World::new();
    world.submit(vec![spec("usual", command()), JobSpec { priority: 1, ..spec("urgent", command()) }]);
    world.offer(training(), "o1", "a1");
    world.offer(training(), "o2", "a2");
    let launched = world.launched();
    assert!(launched.len() == 2 && launched.iter().all(|launch| launch.group == "g/urgent"), "{launched:?}");
}

#[test]
fn a_stream_that_has_to_leave_takes_a_last_checkpoint_and_has_not_failed() {
    let mut world = World::new();
    world.submit(vec![spec("s", stream())]);
    let tasks = world.running("s");
    world.seen();
    world.apply(preempted(training(), &tasks[0]));
    assert_eq!(world.job("s").state, "running", "none of that framework's");
    world.apply(preempted(streams(), &tasks[0]));
    let seen = world.seen();
    let is_last =
        |command: &Command| matches!(command, Command::Order { order: Order::Barrier { last: true, .. }, .. });
    assert_eq!(seen.iter().filter(|command| is_last(command)).count(), 2, "{seen:?}");
    world.apply(preempted(streams(), &tasks[0]));
    for task in &tasks {
        world.update(task, TaskState::Finished);
    }
    let job = world.job("s");
    assert_eq!((job.state.as_str(), job.generation, job.restarts), ("placing", 2, 0), "{job:?}");
    let told = told(&world, "s");
    assert!(told.iter().any(|text| text == "made room for others, and waits for room"), "{told:?}");
    assert_eq!(world.placed("s", Some(manifest(3))).len(), 2);
}

#[test]
fn a_stream_that_is_ended_before_its_last_checkpoint_goes_on_from_the_one_before() {
    let mut world = World::new();
    world.submit(vec![spec("s", stream())]);
    let tasks = world.running("s");
    world.apply(preempted(streams(), &tasks[0]));
    for task in &tasks {
        world.update(task, TaskState::Killed);
    }
    let job = world.job("s");
    assert_eq!((job.state.as_str(), job.generation, job.restarts), ("placing", 2, 0), "{job:?}");
}

#[test]
fn a_command_has_its_time_and_waits_for_room_afterwards() {
    let mut world = World::new();
    let tasks = running_command(&mut world, Restart::OnFailure);
    world.apply(preempted(training(), &tasks[0]));
    assert_eq!((world.job("c").state.as_str(), kills(&world.seen()).len()), ("running", 0));
    world.update(&tasks[0], TaskState::Killed);
    assert_eq!(kills(&world.seen()), [&tasks[1]], "one alone is of no use");
    world.update(&tasks[1], TaskState::Killed);
    let job = world.job("c");
    assert_eq!((job.state.as_str(), job.generation, job.restarts), ("placing", 2, 0), "{job:?}");
}

#[test]
fn a_command_that_must_not_run_twice_has_failed() {
    let mut world = World::new();
    let tasks = running_command(&mut world, Restart::Never);
    world.apply(preempted(training(), &tasks[0]));
    world.update(&tasks[0], TaskState::Killed);
    assert_eq!(world.job("c").state, "failed");
    let told = told(&world, "c");
    assert!(told.iter().any(|text| text.contains("has to leave for g/urgent")), "{told:?}");
}

#[test]
fn a_word_that_came_to_nothing_excuses_no_later_failure() {
    let mut world = World::new();
    let tasks = running_command(&mut world, Restart::OnFailure);
    world.apply(preempted(training(), &tasks[0]));
    world.pass(100_000);
    world.update_with(&tasks[0], TaskState::Failed, 1);
    world.update(&tasks[1], TaskState::Killed);
    assert_eq!(world.job("c").restarts, 1);
}

#[test]
fn what_finds_no_room_in_time_has_failed() {
    let mut world = World::new();
    let hurried = JobSpec { start_within_ms: 60_000, ..spec("hurried", command()) };
    world.submit(vec![hurried, spec("patient", command())]);
    let within = |commands: &[Command]| -> Vec<Option<u64>> {
        let posted = commands.iter().rev().find_map(|command| match command {
            Command::Demand { demands, .. } => Some(demands.iter().map(|demand| demand.within_ms).collect()),
            _ => None,
        });
        posted.expect("demand is posted")
    };
    assert_eq!(within(&world.seen()), [Some(60_000), None]);
    world.apply(Event::Expired { framework: training(), names: vec!["g/hurried".into(), "g/patient".into()] });
    let job = world.job("hurried");
    assert_eq!((job.state.as_str(), world.job("patient").state.as_str()), ("failed", "placing"));
    assert!(told(&world, "hurried").iter().any(|text| text.starts_with("there was no room for it within 60 s")));
    assert_eq!(within(&world.seen()), [None], "it is wanted no longer");
}
