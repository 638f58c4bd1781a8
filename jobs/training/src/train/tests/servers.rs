//! Whole runs with parameter servers: against an all-reduce, interrupted, stopped, and with workers at different steps.

use super::*;
use jobs::train::{Clip, Combine, EarlyStop, Input, Preprocess, Strategy};

fn with_servers(servers: u32, staleness: u64) -> TrainBody {
    TrainBody { strategy: Strategy::ParameterServer { servers, staleness }, ..job() }
}

fn gang(world: usize, folder: &Path, body: &TrainBody) -> Vec<Outcome> {
    run_gang(world, folder, body, rows(130), |_, _, _| {}).into_iter().map(Result::unwrap).collect()
}

#[test]
fn without_staleness_the_weights_are_those_of_an_all_reduce() {
    let together = folder();
    let expect = run_gang(2, together.path(), &job(), rows(130), |_, _, _| {}).remove(0).unwrap();
    let expect_weights = final_weights(together.path());
    for servers in [1, 2] {
        let apart = folder();
        let outcomes = gang(2 + servers as usize, apart.path(), &with_servers(servers, 0));
        assert_eq!(final_weights(apart.path()), expect_weights, "{servers} servers");
        assert_eq!((outcomes[0].steps, outcomes[0].metric), (expect.steps, expect.metric));
        for (rank, outcome) in outcomes.iter().enumerate() {
            assert_eq!((outcome.version.is_some(), outcome.stopped), (rank == 0, false), "task {rank}");
            assert_eq!(outcome.steps, expect.steps, "task {rank}");
        }
    }
}

/// Two columns of whole numbers look up one table; AdamW moves all of its rows in every step, also those that no batch reads.
#[test]
fn of_tables_only_rows_travel_and_the_weights_are_the_same() {
    let rows = |_: usize| {
        let ids = |factor: i64, of: i64| Arc::new(Int64Array::from_iter_values((0..130).map(|row| row * factor % of)));
        let label = Int64Array::from_iter_values((0..130).map(|row| i64::from(row * 7 % 23 < 9)));
        let named: [(&str, ArrayRef); 3] = [("u", ids(7, 23)), ("v", ids(3, 31)), ("y", Arc::new(label))];
        Data { train: vec![batch(&named)], test: None }
    };
    let mut body = job();
    body.time_column = None;
    let input = Input {
        name: "who".into(),
        columns: vec!["u".into(), "v".into()],
        step: Preprocess::Hash { buckets: 97 },
        dims: Vec::new(),
    };
    body.inputs = vec![input];
    let embedding = Layer::Embedding { vocabulary: 97, units: 4, combine: Combine::None };
    body.layers = chain([embedding, Layer::Flatten, Layer::dense(6, Activation::Relu)]);
    let together = folder();
    let expect = run_gang(2, together.path(), &body, rows, |_, _, _| {}).remove(0).unwrap();
    for servers in [1, 2] {
        let apart = folder();
        body.strategy = Strategy::ParameterServer { servers, staleness: 0 };
        let outcome = run_gang(2 + servers as usize, apart.path(), &body, rows, |_, _, _| {}).remove(0).unwrap();
        assert_eq!(final_weights(apart.path()), final_weights(together.path()), "{servers} servers");
        assert_eq!((outcome.metric, outcome.weights_digest), (expect.metric, expect.weights_digest));
    }
}

#[test]
fn workers_at_different_steps_make_the_same_number_of_updates_and_learn() {
    let folder = folder();
    let mut body = with_servers(2, 3);
    (body.epochs, body.batch) = (40, 32);
    let slow = |rank: usize, report: &Report, _: &AtomicBool| {
        if rank == 1 && matches!(report, Report::Metrics { .. }) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    };
    let outcomes = run_gang(4, folder.path(), &body, rows(1500), slow);
    let outcome = outcomes.into_iter().map(Result::unwrap).next().unwrap();
    assert_eq!(outcome.steps, 40 * (outcome.rows.div_ceil(32)));
    assert!(outcome.metric.unwrap() > 0.93, "{outcome:?}");
}

#[test]
fn a_killed_run_goes_on_with_the_same_bits_whatever_the_number_of_servers() {
    let whole = folder();
    let expect = gang(3, whole.path(), &with_servers(1, 0)).remove(0);
    let expect_weights = final_weights(whole.path());
    let killed = folder();
    let killed_after = expect.steps / 2 + 1;
    gang(3, killed.path(), &TrainBody { checkpoint_steps: killed_after, ..with_servers(1, 0) });
    // What a kill right after that checkpoint leaves behind: no later file and no model.
    fs::remove_file(killed.path().join(format!("checkpoints/step-{:012}.safetensors", expect.steps))).unwrap();
    fs::remove_dir_all(killed.path().join("models")).unwrap();
    let notices = std::sync::Mutex::new(Vec::new());
    let keep = |rank: usize, report: &Report, _: &AtomicBool| {
        if let (0, Report::Notice(notice)) = (rank, report) {
            notices.lock().unwrap().push(notice.clone());
        }
    };
    let resumed = run_gang(4, killed.path(), &with_servers(2, 0), rows(130), keep).remove(0).unwrap();
    assert_eq!(notices.into_inner().unwrap(), [format!("resumed at step {killed_after} of {}", expect.steps)]);
    assert_eq!((resumed.steps, resumed.metric), (expect.steps, expect.metric));
    assert_eq!(final_weights(killed.path()), expect_weights);
    // Once more after the end, without servers: nothing is trained and nothing published twice.
    let again = run_gang(2, killed.path(), &job(), rows(130), |_, _, _| {}).remove(0).unwrap();
    assert_eq!((again.version, again.weights_digest), (resumed.version, resumed.weights_digest));
    let again = gang(3, killed.path(), &with_servers(1, 0)).remove(0);
    assert_eq!((again.version, again.weights_digest), (resumed.version, resumed.weights_digest));
}

#[test]
fn one_told_worker_stops_all_and_the_gang_resumes() {
    let (whole, stopped) = (folder(), folder());
    let mut body = with_servers(1, 0);
    body.epochs = 100;
    gang(3, whole.path(), &body);
    let tell = |rank: usize, report: &Report, stop: &AtomicBool| {
        if rank == 1 && *report == Report::Ready {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let outcomes = run_gang(3, stopped.path(), &body, rows(130), tell);
    let outcomes: Vec<Outcome> = outcomes.into_iter().map(Result::unwrap).collect();
    assert!(outcomes.iter().all(|outcome| outcome.steps == outcomes[0].steps && outcome.stopped), "{outcomes:?}");
    gang(3, stopped.path(), &body);
    assert_eq!(final_weights(stopped.path()), final_weights(whole.path()));
}

#[test]
fn what_servers_cannot_do_is_refused() {
    let folder = folder();
    let mut body = with_servers(2, 0);
    body.clip = Clip::Norm { limit: 1.0 };
    (body.early_stop, body.keep_best) = (Some(EarlyStop { patience: 1, least: 0.0 }), true);
    let wrong = check(&body);
    for word in ["clip by norm", "patience", "keep_best"] {
        assert!(wrong.iter().any(|sentence| sentence.contains(word)), "{word}: {wrong:?}");
    }
    assert_eq!(check(&with_servers(0, 0)), ["servers is 0; it must be at least 1"]);
    body = with_servers(1, 0);
    body.clip = Clip::Norm { limit: 1.0 };
    assert_eq!(check(&body), Vec::<String>::new(), "one server sees all gradients");
    let peers = vec![Peer { host: "127.0.0.1".into(), port: 1 }, Peer { host: "127.0.0.1".into(), port: 2 }];
    let error = train(
        &with_servers(2, 0),
        Data { train: vec![clouds(9)], test: None },
        &task(folder.path(), 0, &peers),
        &mut |_| {},
        &AtomicBool::new(false),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "start training: 2 of 2 tasks are parameter servers, which leaves no worker"
    );
}
