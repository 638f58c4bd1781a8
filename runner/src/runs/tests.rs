//! Runs written, read again, thinned and compared.

use super::events::testing;
use super::*;
use jobs::train::{Activation, Layer, chain as layers};

fn began(learning_rate: &str) -> Began {
    Began {
        at_ms: 1_000,
        job: "digits/digits".to_string(),
        model: "digits".to_string(),
        submission: "aa".to_string(),
        workers: 2,
        settings: BTreeMap::from([
            ("optimizer.learning_rate".to_string(), learning_rate.to_string()),
            ("batch".to_string(), "64".to_string()),
        ]),
    }
}

fn point(step: u64, loss: f64) -> PointView {
    PointView {
        at_ms: 1_000 + step * 100,
        step,
        steps_total: 100,
        epoch: 1,
        loss: Some(loss),
        metric: None,
        metric_name: "accuracy".to_string(),
        learning_rate: Some(0.01),
        rows_per_second: 640.0,
    }
}

fn steps(runs_dir: &Path, id: &str) -> Vec<u64> {
    find(runs_dir, id).unwrap().points.iter().map(|point| point.step).collect()
}

/// The steps of the losses in all files of events of a run, in the order of their names.
fn told_steps(runs_dir: &Path, id: &str) -> Vec<i64> {
    let entries = fs::read_dir(runs_dir.join(id)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().contains("tfevents")).collect();
    files.sort();
    let events = files.iter().flat_map(|path| testing::read(&fs::read(path).unwrap()));
    let is_loss = |event: &events::Event| {
        event.summary.iter().flat_map(|summary| &summary.value).any(|value| value.tag == "loss")
    };
    events.filter(is_loss).map(|event| event.step).collect()
}

#[test]
fn a_run_is_found_again_after_its_writer_has_died() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert_eq!(list(folder).unwrap(), []);
    let mut recorder = Recorder::begin(folder, "digits-aa", &began("0.01")).unwrap();
    for step in [10, 20, 30] {
        recorder.point(point(step, 1.0 / step as f64)).unwrap();
    }
    drop(recorder);
    // The process died in the middle of a line.
    let path = folder.join("digits-aa/points.jsonl");
    fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"at_ms\": 12").unwrap();
    assert_eq!(steps(folder, "digits-aa"), [10, 20, 30]);

    // The gang goes on from the checkpoint of step 20.
    let mut recorder = Recorder::begin(folder, "digits-aa", &began("0.01")).unwrap();
    recorder.point(point(25, 0.5)).unwrap();
    recorder.point(PointView { metric: Some(0.9), ..point(35, 0.25) }).unwrap();
    recorder.model_written(5_000, 3).unwrap();
    recorder.model_written(5_000, 3).unwrap();
    recorder.end(6_000, "finished", None).unwrap();
    recorder.end(9_000, "failed", Some("late".to_string())).unwrap();
    assert_eq!(steps(folder, "aa"), [10, 20, 25, 35]);
    assert_eq!(told_steps(folder, "digits-aa"), [10, 20, 30, 25, 35], "TensorBoard knows what a step back is");
    let [run] = &list(folder).unwrap()[..] else { panic!("one run") };
    assert_eq!((run.started_ms, run.ended_ms, run.outcome.as_str()), (1_000, Some(6_000), "finished"));
    assert_eq!((run.versions.as_slice(), run.last.metric, run.last.step), (&[3][..], Some(0.9), 35));
    let error = find(folder, "digits-ab").unwrap_err();
    assert!(error.contains("did you mean 'digits-aa'?"), "{error}");
}

#[test]
fn a_long_run_keeps_a_bounded_number_of_points_evenly_spread() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::begin(folder.path(), "long-aa", &began("0.01")).unwrap();
    for step in 1..=20_000 {
        recorder.point(PointView { at_ms: 1_000, ..point(step, 1.0) }).unwrap();
    }
    recorder.end(2_000, "stopped", None).unwrap();
    let kept = steps(folder.path(), "long-aa");
    assert!((2_048..4_096).contains(&kept.len()), "{}", kept.len());
    let gaps: std::collections::BTreeSet<u64> = kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(find(folder.path(), "long").unwrap().run.last.step, 20_000, "the last report is never passed over");
    let goes_on = Recorder::open(folder.path(), "long-aa", 3_000).unwrap();
    drop(goes_on);
    assert_eq!(steps(folder.path(), "long-aa"), kept);
}

#[test]
fn the_oldest_runs_that_are_over_make_room() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..5_u64 {
        let began = Began { at_ms: n, ..began("0.01") };
        let mut recorder = Recorder::begin(folder.path(), &format!("run-{n}"), &began).unwrap();
        if n > 0 {
            recorder.end(n, "finished", None).unwrap();
        }
    }
    prune(folder.path(), 2).unwrap();
    let left: Vec<String> = list(folder.path()).unwrap().into_iter().map(|run| run.id).collect();
    assert_eq!(left, ["run-4", "run-3", "run-0"], "the first one runs still");
    let error = find(folder.path(), "run").unwrap_err();
    assert!(error.contains("may be any of run-4, run-3, run-0"), "{error}");
}

#[test]
fn runs_are_compared_by_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    for (id, rate, losses) in [("a-1", "0.01", [1.0, 0.5, 0.0]), ("a-2", "0.1", [1.0, 1.0, 0.5])] {
        let mut recorder = Recorder::begin(folder.path(), id, &began(rate)).unwrap();
        for (step, loss) in (1..).zip(losses) {
            recorder.point(point(step, loss)).unwrap();
        }
    }
    let found = ["a-1", "a-2"].map(|id| find(folder.path(), id).unwrap());
    let compared = compare(found.to_vec());
    assert_eq!(compared.curves, ["█▅▁", "██▅"]);
    let [setting] = &compared.settings[..] else { panic!("{:?}", compared.settings) };
    assert_eq!(setting.name, "optimizer.learning_rate");
    assert_eq!(setting.values, [Some("0.01".to_string()), Some("0.1".to_string())]);
}

#[test]
fn settings_are_named_by_their_path() {
    let body = TrainBody { layers: layers([Layer::dense(8, Activation::Relu)]), ..body() };
    let settings = settings(&body);
    assert_eq!(settings["optimizer.kind"], "sgd");
    assert_eq!(settings["batch"], "16");
    assert!(settings["layers.0"].contains("\"units\":8"), "{settings:?}");
    assert!(!settings.contains_key("sql") && !settings.contains_key("test_query"), "{settings:?}");
}

fn body() -> TrainBody {
    serde_json::from_value(serde_json::json!({
        "model": "m", "sql": "CREATE …", "base_dir": "/", "train_query": "SELECT 1", "test_query": null,
        "test_fraction": 0.2, "label": "y", "ignore": [], "time_column": null, "min_rows": 1, "layers": [],
        "loss": "mean_squared_error", "optimizer": {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9},
        "batch": 16, "epochs": 3, "seed": 1, "normalize": true, "checkpoint_steps": 100,
    }))
    .unwrap()
}

#[test]
fn evaluations_come_behind_and_are_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let evaluation = |step: u64, accuracy: f64| EvaluationView {
        at_ms: 9_000,
        step,
        epoch: step / 10,
        metrics: BTreeMap::from([("accuracy".to_string(), accuracy)]),
    };
    let evaluated = |of: &RunDetail| of.evaluations.iter().map(|one| one.step).collect::<Vec<u64>>();
    let mut recorder = Recorder::begin(folder, "digits-aa", &began("0.01")).unwrap();
    recorder.point(point(30, 0.5)).unwrap();
    for (step, accuracy) in [(10, 0.5), (20, 0.75)] {
        recorder.evaluated(evaluation(step, accuracy)).unwrap();
    }
    drop(recorder);
    let mut recorder = Recorder::open(folder, "digits-aa", 9_000).unwrap();
    // The generation before had come farther than its last checkpoint.
    recorder.evaluated(evaluation(20, 0.875)).unwrap();
    let found = find(folder, "aa").unwrap();
    assert_eq!((evaluated(&found), steps(folder, "aa")), (vec![10, 20], vec![30]), "no point is lost for it");
    assert_eq!(found.evaluations[1].metrics["accuracy"], 0.875);
    assert_eq!(found.run.evaluation.as_ref().map(|last| last.step), Some(20));
    let files = fs::read_dir(folder.join("digits-aa")).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.to_string_lossy().contains("tfevents"));
    let tags: Vec<(String, i64)> = files
        .flat_map(|path| testing::read(&fs::read(path).unwrap()))
        .flat_map(|event| {
            let step = event.step;
            event.summary.into_iter().flat_map(|summary| summary.value).map(move |value| (value.tag, step))
        })
        .filter(|(tag, _)| tag.starts_with("evaluation/"))
        .collect();
    let mut steps: Vec<i64> = tags.iter().map(|(_, step)| *step).collect();
    steps.sort_unstable();
    assert_eq!(steps, [10, 20, 20], "{tags:?}");
}
