//! Streams that score with models, of which newer versions appear.

use super::*;

fn m(version: u64) -> Versions {
    Versions::from([("m".to_string(), version)])
}

fn scores(keeps_versions: bool) -> JobSpec {
    let JobBody::Stream(body) = stream() else { panic!("a stream") };
    spec("s", JobBody::Stream(StreamBody { models: vec!["m".to_string()], keeps_versions, ..body }))
}

/// Launches both tasks, where the registry says `version`, and gives what they are told.
fn placed(world: &mut World, version: u64, latest: Option<Manifest>) -> Vec<Launch> {
    let generation = world.job("s").generation;
    let result = Ok(Prepared { claimed_us: generation as i64, latest, versions: m(version) });
    world.apply(Event::Prepared { job: JobId::of("g", "s"), generation, result });
    world.offer(streams(), &format!("o1-{generation}"), "a1");
    world.offer(streams(), &format!("o2-{generation}"), "a2");
    world.launched()
}

fn told(launched: &[Launch]) -> Vec<Versions> {
    let versions = |launch: &Launch| match &launch.payload {
        Payload::Plan(plan) => plan.versions.clone(),
        Payload::Command { .. } => panic!("{launch:?}"),
    };
    launched.iter().map(versions).collect()
}

fn run(world: &mut World, launched: &[Launch]) {
    for launch in launched {
        world.update(&launch.task, TaskState::Running);
        world.hello("s", &launch.task);
        world.report(&launch.task, Report::Ready);
    }
    assert_eq!(world.job("s").state, "running");
}

fn looks_up(commands: &[Command]) -> Option<Versions> {
    commands.iter().find_map(|command| match command {
        Command::LookUpModels { in_use, .. } => Some(in_use.clone()),
        _ => None,
    })
}

#[test]
fn a_newer_version_goes_to_all_tasks_with_the_next_barrier() {
    let mut world = World::new();
    world.submit(vec![scores(false)]);
    let models = world.seen().into_iter().find_map(|command| match command {
        Command::Prepare { models, .. } => Some(models),
        _ => None,
    });
    assert_eq!(models, Some(vec!["m".to_string()]));
    let launched = placed(&mut world, 1, None);
    assert_eq!(told(&launched), [m(1), m(1)]);
    run(&mut world, &launched);
    world.seen();
    world.now_ms += 100;
    world.apply(Event::Tick);
    assert_eq!(looks_up(&world.seen()), Some(m(1)));
    world.now_ms += 100;
    world.apply(Event::Tick);
    assert_eq!(looks_up(&world.seen()), None, "not all the time");
    let stays = vec!["model 'm' stays at version 1: version 2 is damaged".to_string()];
    for _ in 0..2 {
        world.apply(Event::Models { job: JobId::of("g", "s"), versions: m(1), stays: stays.clone() });
    }
    let damaged = |job: &JobView| job.events.iter().filter(|event| event.text.contains("is damaged")).count();
    assert_eq!(damaged(&world.job("s")), 1, "told once");
    world.seen();
    world.apply(Event::Models { job: JobId::of("g", "s"), versions: m(3), stays: Vec::new() });
    let barriers: Vec<Versions> = world
        .seen()
        .into_iter()
        .filter_map(|command| match command {
            Command::Order { order: Order::Barrier { versions, .. }, .. } => Some(versions),
            _ => None,
        })
        .collect();
    assert_eq!(barriers, [m(3), m(3)]);
    let job = world.job("s");
    assert_eq!(job.models, m(3));
    assert!(job.events.iter().any(|event| event.text == "scores with model m version 3 from the next checkpoint on"));
    // Another runner finds tasks that begun with version 1, and no checkpoint that says otherwise.
    assert_eq!(world.restarted(None).job("s").models, m(1));
}

#[test]
fn a_generation_begins_with_what_its_checkpoint_says() {
    let mut world = World::new();
    world.submit(vec![scores(false)]);
    let launched = placed(&mut world, 5, Some(Manifest { versions: m(4), ..manifest(7) }));
    assert_eq!(told(&launched), [m(4), m(4)], "not with the newest one");
    assert_eq!(world.job("s").models, m(4));
    // A query that names another model than the one before it.
    let mut world = World::new();
    world.submit(vec![scores(false)]);
    let launched = placed(&mut world, 5, Some(manifest(7)));
    assert_eq!(told(&launched), [m(5), m(5)]);
}

#[test]
fn a_job_that_takes_rows_back_never_asks() {
    let mut world = World::new();
    world.submit(vec![scores(true)]);
    let launched = placed(&mut world, 1, None);
    run(&mut world, &launched);
    world.seen();
    world.now_ms += 5_000;
    world.apply(Event::Tick);
    assert_eq!(looks_up(&world.seen()), None);
}
