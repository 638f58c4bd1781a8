//! Whole runs: gangs against one rank, interrupted against undisturbed, and the digits.

mod evaluations;
mod pauses;
mod servers;

use super::*;
use crate::data::Data;
use crate::predictor::Predictor;
use crate::random::{self, Purpose};
use crate::test_support::{batch, body};
use arrow::array::{
    ArrayRef, AsArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array, RecordBatch,
    TimestampMicrosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use jobs::train::{
    Activation, Clip, Combine, EarlyStop, Input, Layer, Loss, Node, Optimizer, Preprocess, Schedule, chain,
};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tempfile::TempDir;

/// Two clouds in five dimensions that a network can tell apart and a straight line cannot.
fn clouds(rows: usize) -> RecordBatch {
    let mut rng = random::stream(8, Purpose::Shuffle, 0, 0);
    let columns: Vec<Vec<f64>> =
        (0..5).map(|_| (0..rows).map(|_| f64::from(random::uniform(&mut rng))).collect()).collect();
    let label: Vec<i64> =
        (0..rows).map(|row| i64::from(columns[0][row] * columns[1][row] + 0.1 * columns[2][row] > 0.0)).collect();
    let names = ["a", "b", "c", "d", "e"];
    let mut named: Vec<(&str, ArrayRef)> = Vec::new();
    for (name, column) in names.into_iter().zip(columns) {
        named.push((name, Arc::new(Float64Array::from(column))));
    }
    named.push(("y", Arc::new(Int64Array::from(label))));
    let times: Vec<i64> = (0..rows as i64).map(|row| row * 7 % 1000).collect();
    named.push(("at", Arc::new(TimestampMicrosecondArray::from(times))));
    batch(&named)
}

fn job() -> TrainBody {
    let mut body = body("y", Loss::BinaryCrossEntropy);
    body.time_column = Some("at".to_string());
    body.test_fraction = 0.2;
    body.layers =
        chain([Layer::dense(12, Activation::Gelu), Layer::Dropout { rate: 0.2 }, Layer::dense(6, Activation::Relu)]);
    body.optimizer =
        Optimizer::AdamW { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
    body
}

/// A table, rows of which few batches name, beside numbers; two batches to a step.
fn job_with_a_table() -> TrainBody {
    let columns = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let input = |name: &str, names: &[&str], step| Input {
        name: name.to_string(),
        columns: columns(names),
        step,
        dims: Vec::new(),
    };
    let node = |name: &str, inputs: &[&str], layer| Node { name: name.to_string(), inputs: columns(inputs), layer };
    let table = Layer::Embedding { vocabulary: 40, units: 3, combine: Combine::Sum };
    TrainBody {
        inputs: vec![
            input("places", &["a", "b"], Preprocess::Buckets { count: 30 }),
            input("numbers", &["c", "d", "e"], Preprocess::Normalize),
        ],
        layers: vec![
            node("table", &["places"], table),
            node("both", &["table", "numbers"], Layer::Concat),
            node("hidden", &[], Layer::dense(6, Activation::Tanh)),
            node("dropout", &[], Layer::Dropout { rate: 0.1 }),
        ],
        optimizer: Optimizer::Adam { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-6, lazy: true },
        schedule: Schedule::Cosine { warm_up: 3, floor: 0.1 },
        clip: Clip::Norm { limit: 0.2 },
        accumulate: 2,
        ..job()
    }
}

fn task(folder: &Path, rank: usize, peers: &[Peer]) -> TrainTask {
    TrainTask {
        job: "j".to_string(),
        submission: String::new(),
        generation: 1,
        rank: rank as u32,
        world: peers.len().max(1) as u32,
        peers: peers.to_vec(),
        checkpoint_dir: folder.join("checkpoints"),
        model_dir: folder.join("models"),
        pause_after: None,
        has_evaluator: false,
    }
}

/// One run of a whole gang, each rank in its own thread. `data` gives each rank its rows.
fn run_gang(
    world: usize,
    folder: &Path,
    body: &TrainBody,
    data: impl Fn(usize) -> Data + Sync,
    on_report: impl Fn(usize, &Report, &AtomicBool) + Sync,
) -> Vec<Result<Outcome, Error>> {
    run_gang_with(task(folder, 0, &[]), world, body, data, on_report)
}

/// As [`run_gang`], of which each is told what `told` says but for its place.
fn run_gang_with(
    told: TrainTask,
    world: usize,
    body: &TrainBody,
    data: impl Fn(usize) -> Data + Sync,
    on_report: impl Fn(usize, &Report, &AtomicBool) + Sync,
) -> Vec<Result<Outcome, Error>> {
    let listeners: Vec<TcpListener> = (0..world).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let peers: Vec<Peer> =
        listeners.iter().map(|listener| Peer { host: "127.0.0.1".to_string(), port: port(listener) }).collect();
    let (peers, data, on_report, told) = (&peers, &data, &on_report, &told);
    std::thread::scope(|scope| {
        let ranks: Vec<_> = listeners
            .into_iter()
            .enumerate()
            .map(|(rank, listener)| {
                scope.spawn(move || {
                    let stop = AtomicBool::new(false);
                    let listener = (world > 1).then_some(listener);
                    let peers = if world > 1 { peers.clone() } else { Vec::new() };
                    let task = TrainTask { rank: rank as u32, world: world as u32, peers, ..told.clone() };
                    train_on(listener, body, data(rank), &task, &mut |r| on_report(rank, &r, &stop), &stop)
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn rows(count: usize) -> impl Fn(usize) -> Data + Sync {
    move |_| Data { train: vec![clouds(count)], test: None }
}

fn run(folder: &Path, body: &TrainBody) -> Outcome {
    run_gang(1, folder, body, rows(130), |_, _, _| {}).remove(0).unwrap()
}

fn final_weights(folder: &Path) -> Vec<f32> {
    let models = folder.join("models");
    let version = registry::latest(&models, "m").unwrap().unwrap();
    registry::load(&models, "m", version).unwrap().1.weights().to_vec()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn learns_reports_publishes_and_scores() {
    let folder = folder();
    let mut body = job();
    body.epochs = 40;
    body.batch = 32;
    let reports = std::sync::Mutex::new(Vec::new());
    let keep = |_: usize, report: &Report, _: &AtomicBool| reports.lock().unwrap().push(report.clone());
    let outcome = run_gang(1, folder.path(), &body, rows(1500), keep).remove(0).unwrap();
    assert_eq!((outcome.version, outcome.metric_name, outcome.stopped), (Some(1), "auc", false));
    assert!(outcome.metric.unwrap() > 0.95, "{outcome:?}");
    let reports = reports.into_inner().unwrap();
    let ready = reports.iter().position(|report| *report == Report::Ready).unwrap();
    let metrics = reports.iter().position(|report| matches!(report, Report::Metrics { .. })).unwrap();
    assert!(ready < metrics, "{reports:?}");
    let written = Report::ModelWritten { version: 1, metric: outcome.metric, metric_name: "auc" };
    assert_eq!(reports.last(), Some(&written));
    let predictor = Predictor::load(&folder.path().join("models"), "m", 1).unwrap();
    let manifest = predictor.manifest();
    assert_eq!(manifest.features, ["a", "b", "c", "d", "e"]);
    assert_eq!((manifest.trained_through_us, manifest.steps), (Some(999), outcome.steps));
    assert_eq!(manifest.rows + manifest.rows_held_out, 1500);
    let fresh = clouds(1500);
    let scores = predictor.predict(&fresh.columns()[..5]).unwrap();
    let labels: Vec<f32> =
        fresh.column(5).as_any().downcast_ref::<Int64Array>().unwrap().values().iter().map(|y| *y as f32).collect();
    let scores: Vec<f32> = scores.values().iter().map(|score| *score as f32).collect();
    assert!(crate::auc(&scores, &labels).unwrap() > 0.95);
}

/// Also where it ends in the middle of an epoch, or of the first one.
#[test]
fn what_is_told_is_of_the_weights_that_are_published() {
    let fresh = clouds(300);
    let labels: Vec<f32> =
        fresh.column(5).as_any().downcast_ref::<Int64Array>().unwrap().values().iter().map(|y| *y as f32).collect();
    for steps in [1, 3, 7, 9] {
        let folder = folder();
        let body = TrainBody { steps: Some(steps), ..job() };
        let data = |_: usize| Data { train: vec![clouds(130)], test: Some(vec![fresh.clone()]) };
        let outcome = run_gang(1, folder.path(), &body, data, |_, _, _| {}).remove(0).unwrap();
        assert_eq!(outcome.steps, steps);
        let predictor = Predictor::load(&folder.path().join("models"), "m", 1).unwrap();
        let scores = predictor.predict(&fresh.columns()[..5]).unwrap();
        let scores: Vec<f32> = scores.values().iter().map(|score| *score as f32).collect();
        let found = crate::auc(&scores, &labels).unwrap();
        assert!((outcome.metric.unwrap() - found).abs() < 1e-9, "{steps} steps: told {:?}, {found}", outcome.metric);
    }
}

#[test]
fn any_number_of_ranks_trains_the_same_model() {
    for body in [job(), job_with_a_table()] {
        let alone = folder();
        run(alone.path(), &body);
        let expect = final_weights(alone.path());
        for world in [2, 3] {
            let together = folder();
            let outcomes = run_gang(world, together.path(), &body, rows(130), |_, _, _| {});
            let outcomes: Vec<Outcome> = outcomes.into_iter().map(Result::unwrap).collect();
            for (rank, outcome) in outcomes.iter().enumerate() {
                assert_eq!(outcome.weights_digest, outcomes[0].weights_digest, "W {world} rank {rank}");
                assert_eq!(outcome.version.is_some(), rank == 0, "only the chief publishes");
            }
            for (index, (got, expect)) in final_weights(together.path()).iter().zip(&expect).enumerate() {
                // Adam divides by the root of a second moment that may be tiny, which enlarges the rounding of a sum.
                assert!((got - expect).abs() < 2e-4, "W {world} weight {index}: {got}, alone {expect}");
            }
        }
    }
}

/// With three ranks, then with one, then with two: each goes on where the ones before it ended, in the middle of the run.
#[test]
fn the_number_of_ranks_may_change_on_the_way() {
    for body in [job(), job_with_a_table()] {
        let alone = folder();
        let expect = run(alone.path(), &body);
        let changed = folder();
        let mut begun = Vec::new();
        for (world, pause_after) in [(3, Some(1)), (1, Some(2)), (2, None)] {
            let heard = std::sync::Mutex::new(None);
            let hear = |rank: usize, report: &Report, _: &AtomicBool| match report {
                Report::Metrics { step, .. } if rank == 0 => {
                    heard.lock().unwrap().get_or_insert(*step);
                }
                _ => {}
            };
            let told = TrainTask { pause_after, ..task(changed.path(), 0, &[]) };
            let outcomes = run_gang_with(told, world, &body, rows(130), hear);
            let outcome = outcomes.into_iter().map(Result::unwrap).next().unwrap();
            assert_eq!(outcome.version.is_some(), pause_after.is_none());
            let per_epoch = expect.steps / u64::from(body.epochs);
            assert_eq!(outcome.steps, pause_after.map_or(expect.steps, |epochs| epochs * per_epoch));
            begun.extend(heard.into_inner().unwrap());
        }
        assert!(begun.is_sorted_by(|before, after| before < after), "a step was taken twice: {begun:?}");
        for (got, expect) in final_weights(changed.path()).iter().zip(final_weights(alone.path())) {
            assert!((got - expect).abs() < 2e-4, "{got}, alone {expect}");
        }
    }
}

#[test]
fn ranks_with_other_rows_take_the_chiefs() {
    let (apart, same) = (folder(), folder());
    let body = job();
    let notices = std::sync::Mutex::new(Vec::new());
    let keep = |rank: usize, report: &Report, _: &AtomicBool| {
        if let Report::Notice(notice) = report {
            notices.lock().unwrap().push((rank, notice.clone()));
        }
    };
    let data = |rank: usize| Data { train: vec![clouds(130 + 9 * (rank % 2))], test: None };
    let got = run_gang(3, apart.path(), &body, data, keep).remove(0).unwrap();
    let expect = run_gang(3, same.path(), &body, rows(130), |_, _, _| {}).remove(0).unwrap();
    assert_eq!(got.weights_digest, expect.weights_digest);
    let notices = notices.into_inner().unwrap();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].0 == 1 && notices[0].1.contains("other rows than the chief's"), "{notices:?}");
}

#[test]
fn a_killed_run_ends_with_the_same_bits() {
    // 7 steps an epoch, or 4, the last of them short.
    killed_and_undisturbed(job());
    let mut body = job_with_a_table();
    let normal = Node {
        name: "normal".to_string(),
        inputs: Vec::new(),
        layer: Layer::BatchNorm { momentum: 0.9, epsilon: 1e-5 },
    };
    body.layers.push(normal);
    killed_and_undisturbed(body);
}

fn killed_and_undisturbed(mut body: TrainBody) {
    let whole = folder();
    let expect = run(whole.path(), &body);
    assert_eq!(expect.steps % 3, 0);
    for killed_after in [expect.steps / 2 + 1, expect.steps * 2 / 3, expect.steps - 1] {
        let killed = folder();
        body.checkpoint_steps = killed_after;
        run(killed.path(), &body);
        // What a kill right after that checkpoint leaves behind: no later file and no model.
        fs::remove_file(killed.path().join(format!("checkpoints/step-{:012}.safetensors", expect.steps))).unwrap();
        fs::remove_dir_all(killed.path().join("models")).unwrap();
        let notices = std::sync::Mutex::new(Vec::new());
        let keep = |_: usize, report: &Report, _: &AtomicBool| {
            if let Report::Notice(notice) = report {
                notices.lock().unwrap().push(notice.clone());
            }
        };
        let resumed = run_gang(1, killed.path(), &body, rows(130), keep).remove(0).unwrap();
        assert_eq!(resumed, expect, "killed after step {killed_after}");
        let notices = notices.into_inner().unwrap();
        assert_eq!(notices, [format!("resumed at step {killed_after} of {}", expect.steps)]);
        // Started once more after the end, nothing is trained and nothing published twice.
        let again = run(killed.path(), &body);
        assert_eq!((again.version, again.weights_digest), (Some(1), expect.weights_digest));
    }
}

/// The best epoch's weights are published, whether or not the run was killed on the way, by any number of ranks.
#[test]
fn training_stops_early_with_the_best_weights() {
    let mut body = job();
    body.epochs = 60;
    body.early_stop = Some(EarlyStop { patience: 3, least: 0.0 });
    body.keep_best = true;
    body.optimizer = Optimizer::Sgd { learning_rate: 0.5, momentum: 0.9, nesterov: false };
    let whole = folder();
    let metrics = std::sync::Mutex::new(Vec::new());
    let keep = |_: usize, report: &Report, _: &AtomicBool| {
        if let Report::Metrics { step, metric: Some(metric), .. } = report {
            metrics.lock().unwrap().push((*step, *metric));
        }
    };
    let expect = run_gang(1, whole.path(), &body, rows(130), keep).remove(0).unwrap();
    let metrics = metrics.into_inner().unwrap();
    let best = metrics.iter().map(|(_, metric)| *metric).fold(0.0, f64::max);
    assert_eq!(expect.metric, Some(best), "{metrics:?}");
    let steps_of_epoch = 7;
    assert!(expect.steps < 60 * steps_of_epoch && expect.steps.is_multiple_of(steps_of_epoch), "{expect:?}");
    let manifest = registry::manifest(&whole.path().join("models"), "m", 1).unwrap();
    assert_eq!(manifest.metrics["auc"], best);
    assert!(manifest.metrics.contains_key("f1") && manifest.metrics.contains_key("log_loss"), "{:?}", manifest.metrics);

    let killed = folder();
    body.checkpoint_steps = expect.steps - 9;
    run(killed.path(), &body);
    fs::remove_file(killed.path().join(format!("checkpoints/step-{:012}.safetensors", expect.steps))).unwrap();
    fs::remove_dir_all(killed.path().join("models")).unwrap();
    assert_eq!(run(killed.path(), &body), expect);
    assert_eq!(final_weights(killed.path()), final_weights(whole.path()));
    let again = run(killed.path(), &body);
    assert_eq!((again.version, again.steps), (Some(1), expect.steps), "a run that stopped early is at its end");

    let together = folder();
    let outcomes = run_gang(2, together.path(), &body, rows(130), |_, _, _| {});
    let outcomes: Vec<Outcome> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes[0].steps, outcomes[1].steps);
    assert_eq!(outcomes[0].weights_digest, outcomes[1].weights_digest);
}

#[test]
fn one_told_rank_stops_all_and_the_gang_resumes() {
    let (whole, stopped) = (folder(), folder());
    let mut body = job();
    body.epochs = 100;
    let expect = run_gang(2, whole.path(), &body, rows(130), |_, _, _| {}).remove(0).unwrap();
    let tell = |rank: usize, report: &Report, stop: &AtomicBool| {
        if rank == 1 && *report == Report::Ready {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let outcomes = run_gang(2, stopped.path(), &body, rows(130), tell);
    let steps = outcomes.iter().map(|outcome| outcome.as_ref().unwrap().steps).collect::<Vec<u64>>();
    assert_eq!(steps[0], steps[1], "both stop at the same step");
    let resumed = run_gang(2, stopped.path(), &body, rows(130), |_, _, _| {}).remove(0).unwrap();
    assert_eq!(resumed, expect);
}

#[test]
fn a_checkpoint_of_another_job_or_data_is_not_misused() {
    let folder = folder();
    let mut body = job();
    let first = run(folder.path(), &body);
    let grown = run_gang(1, folder.path(), &body, rows(170), |_, _, _| {}).remove(0).unwrap();
    assert_eq!(grown.weights_digest, first.weights_digest, "all epochs were done");
    body.layers.pop();
    let error = run_gang(1, folder.path(), &body, rows(130), |_, _, _| {}).remove(0).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(error.to_string().contains("remove the folder to start anew"), "{error}");
    assert!(source.contains("output.weight") && source.contains("[6, 1]") && source.contains("[12, 1]"), "{source}");
    body = job();
    body.batch = 17;
    let error = run_gang(1, folder.path(), &body, rows(130), |_, _, _| {}).remove(0).unwrap_err().to_string();
    assert!(error.contains("batch 16, the job says 17"), "{error}");
}

#[test]
fn a_loss_that_runs_away_names_its_step() {
    let folder = folder();
    let mut body = job();
    body.loss = Loss::MeanSquaredError;
    body.optimizer = Optimizer::Sgd { learning_rate: 1e20, momentum: 0.0, nesterov: false };
    let error = run_gang(1, folder.path(), &body, rows(130), |_, _, _| {}).remove(0).unwrap_err();
    assert!(matches!(error, Error::NotFinite { step: 1..=3, epoch: 1, .. }), "{error}");
    assert!(error.to_string().contains("lower learning_rate"), "{error}");
    body.epochs = 0;
    let error = run_gang(1, folder.path(), &body, rows(130), |_, _, _| {}).remove(0).unwrap_err();
    assert_eq!(error.to_string(), "start training: epochs is 0; it must be at least 1");
}

fn digits() -> (RecordBatch, RecordBatch) {
    let mut fields: Vec<Field> =
        (0..64).map(|pixel| Field::new(format!("p{pixel}"), DataType::Float64, true)).collect();
    fields.push(Field::new("label", DataType::Int64, true));
    fields.push(Field::new("split", DataType::Utf8, true));
    let file = fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/data/digits.csv")).unwrap();
    let reader = arrow::csv::ReaderBuilder::new(Arc::new(Schema::new(fields))).with_header(true).with_batch_size(4096);
    let all = reader.build(file).unwrap().next().unwrap().unwrap();
    let split = all.column(65).as_any().downcast_ref::<arrow::array::StringArray>().unwrap();
    let test = split.iter().map(|split| Some(split == Some("test"))).collect();
    let train = split.iter().map(|split| Some(split == Some("train"))).collect();
    (filter_record_batch(&all, &train).unwrap(), filter_record_batch(&all, &test).unwrap())
}

/// The settings of `examples/digits.toml`.
#[test]
fn handwritten_digits_are_read_by_the_median_of_five_seeds() {
    let (train, test) = digits();
    assert_eq!((train.num_rows(), test.num_rows()), (1438, 359));
    let mut accuracies = Vec::new();
    for seed in 1..=5 {
        let folder = folder();
        let mut body = body("label", Loss::CrossEntropy);
        body.ignore = vec!["split".to_string()];
        body.test_query = Some(String::new());
        body.layers = chain([Layer::dense(128, Activation::Relu)]);
        body.optimizer =
            Optimizer::AdamW { learning_rate: 0.002, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
        body.batch = 32;
        body.epochs = 30;
        body.seed = seed;
        let data = |_: usize| Data { train: vec![train.clone()], test: Some(vec![test.clone()]) };
        let outcome = run_gang(1, folder.path(), &body, data, |_, _, _| {}).remove(0).unwrap();
        accuracies.push(outcome.metric.unwrap());
    }
    accuracies.sort_by(f64::total_cmp);
    println!("accuracies {accuracies:?}");
    assert!(accuracies[2] >= 0.97, "{accuracies:?}");
}

/// A model of another program scores rows, and training goes on from it.
#[test]
fn training_goes_on_from_a_version() {
    let folder = tempfile::tempdir().unwrap();
    let rows = 40;
    let values = (0..rows * 18).map(|at| ((at * at * 7 + at * 3) % 23) as f32 / 8.0 - 1.4).collect::<Float32Array>();
    let field = Arc::new(Field::new("item", DataType::Float32, true));
    let x: ArrayRef = Arc::new(FixedSizeListArray::new(field, 18, Arc::new(values), None));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/exchange/torch_residual_dynamo.onnx");
    let network = crate::exchange::read(&path, None, None).unwrap();
    let settings = crate::exchange::Settings { model: "m".to_string(), ..Default::default() };
    let package = network.model(&settings).unwrap();
    assert_eq!(package.publish(&folder.path().join("models"), "m").unwrap(), 1);
    let score = |version| {
        Predictor::load(&folder.path().join("models"), "m", version).unwrap().predict(std::slice::from_ref(&x)).unwrap()
    };
    let before = score(1);

    // The opposite of what the model says.
    let label: ArrayRef = Arc::new(before.values().iter().map(|class| 1 - *class as i64).collect::<Int64Array>());
    let named = [("x", x.clone()), ("y", label.clone())];
    let mut body = body("y", Loss::CrossEntropy);
    (body.model, body.init, body.layers) = ("m".to_string(), Some("m@1".to_string()), Vec::new());
    let task = |name: &str| TrainTask {
        job: "g/m".to_string(),
        submission: String::new(),
        generation: 1,
        rank: 0,
        world: 1,
        peers: Vec::new(),
        checkpoint_dir: folder.path().join(name),
        model_dir: folder.path().join("models"),
        pause_after: None,
        has_evaluator: false,
    };
    let run = |body: &TrainBody, name: &str| {
        let data = Data { train: vec![batch(&named)], test: None };
        train(body, data, &task(name), &mut |_| (), &AtomicBool::new(false))
    };
    // One step that moves nothing leaves the model as it was.
    body.optimizer = Optimizer::Sgd { learning_rate: 1e-12, momentum: 0.0, nesterov: false };
    (body.batch, body.steps) = (rows, Some(1));
    let outcome = run(&body, "still").unwrap();
    assert_eq!(outcome.version, Some(2));
    assert_eq!(score(2), before);
    let lineage = registry::manifest(&folder.path().join("models"), "m", 2).unwrap().lineage;
    assert_eq!(lineage.init.as_deref(), Some("m@1"));

    body.optimizer = Optimizer::Adam { learning_rate: 0.02, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, lazy: false };
    (body.batch, body.steps) = (10, Some(300));
    run(&body, "moved").unwrap();
    let after = score(3);
    let right = |scores: &Float64Array| {
        let labels = label.as_primitive::<Int64Type>();
        scores.values().iter().zip(labels.values()).filter(|(score, label)| **score == **label as f64).count()
    };
    assert!(right(&before) == 0 && right(&after) > rows * 9 / 10, "{} of {rows}", right(&after));

    body.init = Some("m@9".to_string());
    let error = run(&body, "none").unwrap_err();
    assert!(error.to_string().contains("begin with model 'm@9'"), "{error}");
    (body.init, body.loss) = (Some("m@1".to_string()), Loss::MeanSquaredError);
    let error = run(&body, "other").unwrap_err().to_string();
    assert!(error.contains("2 outputs, learned by CrossEntropy; MeanSquaredError does not fit"), "{error}");
    body.init = Some("m".to_string());
    let error = run(&body, "which").unwrap_err().to_string();
    assert!(error.contains("name a version by its number"), "{error}");
}
