//! A training job on a cluster: a gang placed together, and one that goes on where its chief was killed.

use crate::cluster::Cluster;
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
fn longer() -> String {
    let text = fs::read_to_string(example("digits.toml")).expect("the example");
    let data = example("../jobs/training/data/digits.csv");
    let longer = text
        .replace("../jobs/training/data/digits.csv", data.to_str().expect("a plain name"))
        .replace("epochs = 30", "epochs = 200\ncheckpoint_steps = 100");
    assert!(longer.contains("epochs = 200"), "the example says 30 epochs");
    longer
}

#[test]
fn a_killed_chief_resumes_and_learns_the_same() {
    let cluster = Cluster::start();
    let weights = |version: u64| {
        let path = cluster.path(&format!(".smack/runner/models/digits/{version}/model.safetensors"));
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    cluster.submit("digits.toml", &longer());
    let undisturbed = cluster.wait_until(JOB, "finished");
    assert_eq!((undisturbed.restarts, undisturbed.metrics.model_version), (0, Some(1)));

    cluster.submit("digits.toml", &longer());
    let total = undisturbed.metrics.steps_total;
    let before = cluster.wait_for(JOB, "middle", |job| job.metrics.step > total / 4);
    assert!(before.metrics.step < total * 3 / 4, "too late to disturb it: {:?}", before.metrics);
    let chief = before.tasks.iter().find(|task| task.id.contains(".1.0.")).expect("a chief");
    cluster.task(&chief.id).kill();
    let job = cluster.wait_until(JOB, "finished");
    assert!(job.restarts >= 1 && job.generation >= 2, "{job:?}");
    let resumed =
        job.events.iter().find_map(|event| event.text.strip_prefix("resumed at step ")).expect("a resumption");
    let step: u64 = resumed.split(' ').next().and_then(|step| step.parse().ok()).expect("a step");
    assert!((1..=total).contains(&step), "resumed at step {resumed}");
    assert_eq!(job.metrics.model_version, Some(2));
    assert!(weights(1) == weights(2), "the same seed gives the same bits, disturbed or not");
}
