//! A training job on a cluster: a gang placed together, and one that goes on where its chief was killed.

use crate::cluster::{Cluster, Job};
use crate::program::example;
use std::fs;

const JOB: &str = "digits/digits";

#[test]
fn the_shipped_example_learns_the_digits() {
    let cluster = Cluster::start();
    assert_eq!(cluster.submit_file(&example("digits.toml")), [JOB]);
    let job = cluster.wait_until(JOB, "finished");
    assert_eq!(job.tasks.len(), 2, "a chief and a worker");
    assert_eq!(job.metrics.metric_name, "accuracy");
    assert!(job.metrics.metric >= Some(0.96), "{:?}", job.metrics);
    assert_eq!(job.metrics.model_version, Some(1));
}

/// The shipped file with more to do, so that there is a middle to be killed in.
fn longer(strategy: &str) -> String {
    let text = fs::read_to_string(example("digits.toml")).expect("the example");
    let data = example("../jobs/training/data/digits.csv");
    let longer = text
        .replace("../jobs/training/data/digits.csv", data.to_str().expect("a plain name"))
        .replace("epochs = 30", &format!("epochs = 200\ncheckpoint_steps = 100\n{strategy}"));
    // Room for three tasks on a machine of two cores.
    let longer = format!("{longer}\n[job]\ncpus = 0.5\n");
    assert!(longer.contains("epochs = 200"), "the example says 30 epochs");
    longer
}

/// Trains twice with the same seed, the second time with the deed in the middle, and compares the weights.
fn learns_the_same(deed: impl FnOnce(&mut Cluster, &Job)) -> (Job, u64) {
    learns_the_same_by("", deed)
}

fn learns_the_same_by(strategy: &str, deed: impl FnOnce(&mut Cluster, &Job)) -> (Job, u64) {
    learns_the_same_on(Cluster::start(), &longer(strategy), deed)
}

fn learns_the_same_on(mut cluster: Cluster, text: &str, deed: impl FnOnce(&mut Cluster, &Job)) -> (Job, u64) {
    cluster.submit("digits.toml", text);
    let undisturbed = cluster.wait_until(JOB, "finished");
    assert_eq!((undisturbed.restarts, undisturbed.metrics.model_version), (0, Some(1)));

    cluster.submit("digits.toml", text);
    let total = undisturbed.metrics.steps_total;
    let before = cluster.wait_for(JOB, "middle", |job| job.metrics.step > total / 4);
    assert!(before.metrics.step < total * 3 / 4, "too late to disturb it: {:?}", before.metrics);
    deed(&mut cluster, &before);
    let job = cluster.wait_until(JOB, "finished");
    assert_eq!(job.metrics.model_version, Some(2));
    assert!(weights(&cluster, 1) == weights(&cluster, 2), "the same seed gives the same bits, disturbed or not");
    (job, total)
}

fn weights(cluster: &Cluster, version: u64) -> Vec<u8> {
    let path = cluster.path(&format!(".smack/runner/models/digits/{version}/model.safetensors"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// It does not begin anew: some task said from which step it went on.
#[track_caller]
fn assert_resumed(job: &Job, total: u64) {
    assert!(job.restarts >= 1, "{job:?}");
    assert_goes_on(job, total);
}

#[track_caller]
fn assert_goes_on(job: &Job, total: u64) {
    assert!(job.generation >= 2, "{job:?}");
    let step = job.events.iter().find_map(|event| resumed_at(&event.text)).expect("a resumption");
    assert!((1..=total).contains(&step), "resumed at step {step}");
}

fn resumed_at(text: &str) -> Option<u64> {
    text.split_once("resumed at step ")?.1.split(' ').next()?.parse().ok()
}

#[test]
fn a_killed_chief_resumes_and_learns_the_same() {
    let (job, total) = learns_the_same(|cluster, job| cluster.task(&job.tasks[0].id).kill());
    assert_resumed(&job, total);
}

#[test]
fn an_agent_is_killed_and_the_gang_goes_on() {
    let (job, _) = learns_the_same(|cluster, job| {
        let tasks = cluster.tasks_of(job);
        cluster.kill_agent_of(&job.tasks[1]);
        assert_eq!(cluster.tasks_of(job), tasks, "the same processes");
    });
    assert_eq!((job.restarts, job.generation), (0, 1), "{job:?}");
}

/// It has to leave for a command that needs the whole cluster, and goes on when that one has ended.
#[test]
fn a_training_makes_room_and_learns_the_same() {
    let cluster = Cluster::start_as(&["--cpus", "1"], &[("SMACK_PREEMPT_MIN_RUN", "0s")]);
    let text = longer("").replace("epochs = 200", "epochs = 300");
    let (job, total) = learns_the_same_on(cluster, &text, |cluster, _| {
        let urgent = "kind = \"command\"\nargv = [\"sleep\", \"0.5\"]\n\
                      [job]\npriority = 5\nparallelism = 2\ncpus = 1\nmem = 16\n";
        let urgent = cluster.submit("urgent.toml", urgent).remove(0);
        cluster.wait_until(&urgent, "finished");
    });
    assert!(job.told().contains("has to leave for urgent/urgent of role default"), "{}", job.told());
    assert_eq!(job.restarts, 0, "nothing failed");
    assert_goes_on(&job, total);
}

/// Its place for one of two workers is taken for a while.
#[test]
fn a_training_goes_on_with_fewer_workers_and_becomes_more_again() {
    let cluster = Cluster::start_as(&["--cpus", "1"], &[("SMACK_PREEMPT_MIN_RUN", "0s")]);
    let text = longer("min_workers = 1\ngrow_after = \"500ms\"").replace("cpus = 0.5", "cpus = 1");
    // It is ended once all is seen.
    let text = text.replace("epochs = 200", "epochs = 1000000");
    cluster.submit("digits.toml", &text);
    let before =
        cluster.wait_for(JOB, "both", |job| job.state == "running" && job.tasks.len() == 2 && job.metrics.step > 0);
    let urgent = "kind = \"service\"\nargv = [\"sleep\", \"600\"]\n[job]\npriority = 5\ncpus = 1\nmem = 16\n";
    let urgent = cluster.submit("urgent.toml", urgent).remove(0);
    cluster.wait_until(&urgent, "running");
    let one = cluster.wait_for(JOB, "one alone", |job| job.state == "running" && job.tasks.len() == 1);
    assert_eq!((one.restarts, one.generation), (0, 2), "{}", one.told());
    assert!(one.told().contains("with 1 of 2 workers"), "{}", one.told());
    let alone = cluster.wait_for(JOB, "its steps", |job| job.metrics.step > one.metrics.step);
    let why = cluster.smack(&["why", JOB]).expect(0).out;
    assert!(why.contains("with 1 of 2 workers"), "{why}");

    cluster.smack(&["stop", "urgent"]).expect(0);
    let two = cluster.wait_for(JOB, "both again", |job| {
        job.state == "running" && job.tasks.len() == 2 && job.told().lines().filter_map(resumed_at).count() == 2
    });
    assert_eq!((two.restarts, two.generation), (0, 3), "{}", two.told());
    assert!(two.told().contains("there is room for one more worker"), "{}", two.told());
    cluster.smack(&["stop", "digits"]).expect(0);
    cluster.wait_until(JOB, "stopped");
    // Whatever a generation had told, the next one went on from there or later: no step was taken twice.
    let resumed: Vec<u64> = two.told().lines().filter_map(resumed_at).collect();
    let [second, third] = resumed[..] else { panic!("{}", two.told()) };
    assert!(before.metrics.step <= second && alone.metrics.step <= third, "{before:?} {alone:?} {}", two.told());
}

/// The gang does not need it while it trains.
#[test]
fn the_runner_is_killed_and_the_gang_goes_on() {
    let (job, _) = learns_the_same(|cluster, _| {
        let runner = cluster.member("runner");
        runner.kill();
        cluster.wait_for_new("runner", &runner);
    });
    assert_eq!((job.restarts, job.generation), (0, 1), "{job:?}");
}

/// Two workers, and one server that holds the weights.
#[test]
fn a_killed_server_goes_on_from_the_checkpoint_and_learns_the_same() {
    let (job, total) = learns_the_same_by("strategy = \"parameter_server\"", |cluster, job| {
        assert_eq!(job.tasks.len(), 3);
        let tasks = cluster.smack(&["ps", "digits", "--tasks"]).expect(0);
        assert!(tasks.out.contains("train server 0") && tasks.out.contains("train worker 1"), "{}", tasks.out);
        cluster.task(&job.tasks[2].id).kill();
    });
    assert_resumed(&job, total);
}

/// It judges what the worker learns, which neither waits for it nor learns anything else because of it.
#[test]
fn a_killed_evaluator_is_replaced_beside_the_training() {
    let cluster = Cluster::start();
    let alone = longer("").replace("workers = 2", "workers = 1");
    cluster.submit("digits.toml", &alone);
    let undisturbed = cluster.wait_until(JOB, "finished");
    cluster.submit("digits.toml", &alone.replace("workers = 1", "workers = 1\nevaluator = true"));
    let total = undisturbed.metrics.steps_total;
    let before = cluster.wait_for(JOB, "middle", |job| job.metrics.step > total / 4 && job.metrics.metric.is_some());
    assert!(before.metrics.step < total * 3 / 4, "too late to disturb it: {:?}", before.metrics);
    assert_eq!(before.tasks.len(), 2);
    let tasks = cluster.smack(&["ps", "digits", "--tasks"]).expect(0);
    assert!(tasks.out.contains("train evaluator") && tasks.out.contains("train worker 0"), "{}", tasks.out);
    let worker = cluster.task(&before.tasks[0].id);
    cluster.task(&before.tasks[1].id).kill();
    let after = cluster.wait_for(JOB, "other evaluator", |job| {
        job.tasks[1].id != before.tasks[1].id && job.told().contains("task 1 of 2 runs again")
    });
    assert_eq!(after.generation, 1, "{}", after.told());
    assert_eq!(cluster.task(&after.tasks[0].id).pid, worker.pid, "the same process");

    let job = cluster.wait_until(JOB, "finished");
    assert_eq!((job.generation, job.metrics.model_version), (1, Some(2)), "{}", job.told());
    assert!(weights(&cluster, 1) == weights(&cluster, 2), "an evaluator changes no bit");
    let runs = cluster.smack(&["runs", "ls", "digits", "-o", "json"]).expect(0).json();
    let run = runs["runs"][0]["id"].as_str().expect("a run").to_string();
    let shown = cluster.smack(&["runs", "show", &run, "-o", "json"]).expect(0).json();
    let evaluations = shown["evaluations"].as_array().expect("evaluations");
    let steps: Vec<u64> = evaluations.iter().map(|one| one["step"].as_u64().expect("a step")).collect();
    assert!(steps.len() > 1 && steps.is_sorted_by(|one, next| one < next), "{steps:?}");
    let last = evaluations.last().expect("one");
    assert_eq!(last["step"], total, "the last checkpoint is judged before the job ends");
    let expect = undisturbed.metrics.metric.expect("an accuracy");
    let accuracy = last["metrics"]["accuracy"].as_f64().expect("an accuracy");
    assert!((accuracy - expect).abs() < 1e-9, "{accuracy} is what the worker alone found: {expect}");
    let text = cluster.smack(&["runs", "show", &run]).expect(0).out;
    assert!(text.contains("evaluated") && text.contains(&format!("last at step {total}: accuracy")), "{text}");
}

/// Each role in turn, by both strategies, whose weights are the same here, each time at another moment; SMACK_KILLS says how
/// often.
#[test]
fn whoever_is_killed_whenever_the_weights_are_the_same() {
    let kills = std::env::var("SMACK_KILLS").map_or(4, |kills| kills.parse().expect("SMACK_KILLS is a number"));
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    println!("seed {seed}");
    let cluster = Cluster::start();
    cluster.submit("digits.toml", &longer(""));
    let total = cluster.wait_until(JOB, "finished").metrics.steps_total;
    let expect = weights(&cluster, 1);
    let mut random = seed;
    for kill in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = total / 10 + (random >> 33) % (total * 6 / 10);
        let roles = ["chief", "worker", "server", "agent", "runner", "master"];
        let role = roles[kill % roles.len()];
        let strategy = if role == "server" || kill % 4 == 3 { "strategy = \"parameter_server\"" } else { "" };
        cluster.submit("digits.toml", &longer(strategy));
        let before = cluster.wait_for(JOB, "middle", |job| job.metrics.step >= moment);
        println!("kill {kill}: {role} at step {} of {total} {strategy}", before.metrics.step);
        match role {
            "chief" => cluster.task(&before.tasks[0].id).kill(),
            "worker" => cluster.task(&before.tasks[1].id).kill(),
            "server" => cluster.task(&before.tasks[2].id).kill(),
            "agent" => cluster.kill_agent_of(&before.tasks[1]),
            member => {
                let member = cluster.member(member);
                member.kill();
                cluster.wait_for_new(role, &member);
            }
        }
        let job = cluster.wait_until(JOB, "finished");
        let version = kill as u64 + 2;
        assert_eq!(job.metrics.model_version, Some(version), "{job:?}");
        assert!(weights(&cluster, version) == expect, "kill {kill}: {role} at step {}", before.metrics.step);
    }
}
