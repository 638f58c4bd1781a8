//! A sweep on a cluster: trials that pause and go on, with the runner killed among them; the best is what training it alone gives.

use crate::cluster::Cluster;
use crate::program::example;
use crate::wait::wait_for;
use serde_json::Value;
use std::fs;

const SWEEP: &str = "
[job]
cpus = 0.4

[sweep]
algorithm = \"asha\"
trials = 6
parallel = 2
min_epochs = 3
seed = 2

[sweep.space.optimizer]
learning_rate = { log_uniform = [0.00003, 0.03] }
[sweep.space.train]
batch = [16, 64]
";

/// The shipped digits, trained alone.
fn digits(learning_rate: &str, batch: &str) -> String {
    let text = fs::read_to_string(example("digits.toml")).expect("the example");
    let data = example("../jobs/training/data/digits.csv");
    let text = text
        .replace("../jobs/training/data/digits.csv", data.to_str().expect("a plain name"))
        .replace("epochs = 30", "epochs = 27")
        .replace("workers = 2", "workers = 1")
        .replace("learning_rate = 0.002", &format!("learning_rate = {learning_rate}"))
        .replace("batch = 32", &format!("batch = {batch}"));
    assert!(text.contains("epochs = 27") && text.contains("workers = 1"), "the example says 30 epochs and 2 workers");
    text
}

fn show(cluster: &Cluster) -> Result<Value, String> {
    let shown = cluster.smack(&["sweep", "show", "digits", "-o", "json"]);
    if shown.code == Some(0) { Ok(shown.json()) } else { Err(shown.err) }
}

/// The sweep as soon as `right` says so.
#[track_caller]
fn wait_for_sweep(cluster: &Cluster, what: &str, right: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, || {
        let shown = show(cluster)?;
        if right(&shown["sweep"]) {
            return Ok(shown);
        }
        let state = &shown["sweep"]["state"];
        assert!(state == "searching" || state == "publishing", "no {what}: {shown:#}");
        Err(format!("{:#}", shown["sweep"]))
    })
}

fn count(sweep: &Value, name: &str) -> u64 {
    sweep[name].as_u64().unwrap_or_else(|| panic!("no {name} in {sweep}"))
}

fn weights(cluster: &Cluster, version: u64) -> Vec<u8> {
    let path = cluster.path(&format!(".smack/runner/models/digits/{version}/model.safetensors"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_sweep_whose_runner_is_killed_publishes_what_its_best_trial_gives_alone() {
    let cluster = Cluster::start();
    let file = format!("{}{SWEEP}", digits("0.002", "32"));
    cluster.write("digits.toml", &file);
    let checked = cluster.smack(&["check", "digits.toml"]).expect(0);
    assert!(
        checked.out.contains("6 trials for `smack sweep`, asha by epochs 3, 9, 27, 2 at a time"),
        "{}",
        checked.out
    );
    for refusing in [["submit", "digits.toml"], ["run", "digits.toml"]] {
        let refused = cluster.smack(&refusing);
        assert!(refused.code != Some(0) && refused.err.contains("describes a sweep"), "{}", refused.err);
    }
    cluster.smack(&["sweep", "digits.toml"]).expect(0);
    let early = cluster.smack(&["sweep", "promote", "digits"]).expect(1);
    assert!(early.err.contains("nothing of sweep 'digits' is published"), "{}", early.err);
    wait_for_sweep(&cluster, "trial that has paused", |sweep| {
        count(sweep, "n_paused") > 0 && count(sweep, "n_running") > 0
    });

    let runner = cluster.member("runner");
    runner.kill();
    cluster.wait_for_new("runner", &runner);
    wait_for("the runner's API", || show(&cluster));
    // Somebody stops it, and goes on with it.
    cluster.smack(&["stop", "digits"]).expect(0);
    wait_for("trials that have ended", || {
        let resumed = cluster.smack(&["sweep", "resume", "digits"]);
        if resumed.code == Some(0) { Ok(()) } else { Err(resumed.err) }
    });

    let shown = wait_for_sweep(&cluster, "sweep that has ended", |sweep| sweep["state"] == "finished");
    let (sweep, trials) = (&shown["sweep"], shown["trials"].as_array().expect("trials"));
    assert_eq!(
        (trials.len(), count(sweep, "n_failed"), count(sweep, "n_waiting"), count(sweep, "version")),
        (6, 0, 0, 1)
    );
    assert!(count(sweep, "n_done") >= 1 && count(sweep, "n_paused") >= 3, "{sweep:#}");
    let best = &sweep["best"];
    assert_eq!(best["rung"], 27);
    assert!(best["metric"].as_f64() > Some(0.95), "{best:#}");
    // From each rung it went on as another generation, and once more to publish.
    assert!(count(best, "generation") >= 4, "{best:#}");
    let job = cluster.look(best["job"].as_str().expect("a job")).expect("the best trial's job");
    assert_eq!((job.state.as_str(), job.metrics.model_version), ("finished", Some(1)));
    let rows = cluster.path(".smack/runner/jobs/digits/.rows");
    assert_eq!(fs::read_dir(&rows).expect("a folder").count(), 1, "all trials have the same rows");
    let run = best["run"].as_str().expect("a run");
    let points = cluster.smack(&["runs", "show", run, "-o", "json"]).expect(0).json();
    let steps: Vec<u64> =
        points["points"].as_array().expect("points").iter().map(|point| count(point, "step")).collect();
    assert!(steps.is_sorted_by(|one, next| one < next), "its history is one: {steps:?}");

    let listed = cluster.smack(&["sweep", "ls"]).expect(0).out;
    assert!(listed.contains("digits") && listed.contains("asha") && listed.contains("finished"), "{listed}");
    let promoted = cluster.smack(&["sweep", "promote", "digits", "--alias", "champion"]).expect(0).out;
    assert_eq!(promoted, "champion of digits is version 1\n");

    let tried = |name: &str| best["settings"][name].as_str().expect("a setting").to_string();
    let alone = digits(&tried("optimizer.learning_rate"), &tried("train.batch"));
    cluster.submit("digits.toml", &format!("{alone}\n[job]\ncpus = 0.4\n"));
    cluster.wait_until("digits/digits", "finished");
    assert!(weights(&cluster, 1) == weights(&cluster, 2), "pauses, kills and stops change no bit");
    assert!(
        !rows.exists() || fs::read_dir(&rows).expect("a folder").count() == 0,
        "what a replaced sweep kept is gone"
    );
}
