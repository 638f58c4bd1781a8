//! Runs that pause after some epochs and go on later: by any number of ranks, with servers, and where they stop early.

use super::*;
use jobs::train::Strategy;

/// Epoch and metric of the pause, and what each rank ended with.
fn until(epochs: u64, world: usize, folder: &Path, body: &TrainBody) -> ((u64, Option<f64>), Vec<Outcome>) {
    let paused = std::sync::Mutex::new(Vec::new());
    let keep = |rank: usize, report: &Report, _: &AtomicBool| match report {
        Report::Paused { epoch, metric, .. } => {
            assert_eq!(rank, 0, "the chief alone knows how good the weights are");
            paused.lock().unwrap().push((*epoch, *metric));
        }
        Report::ModelWritten { .. } => panic!("a run that pauses publishes nothing"),
        _ => {}
    };
    let told = TrainTask { pause_after: Some(epochs), ..task(folder, 0, &[]) };
    let outcomes = run_gang_with(told, world, body, rows(130), keep);
    let paused = paused.into_inner().unwrap();
    assert_eq!(paused.len(), 1, "{paused:?}");
    (paused[0], outcomes.into_iter().map(Result::unwrap).collect())
}

/// The metric after each epoch of an undisturbed run, and its outcome.
fn undisturbed(world: usize, folder: &Path, body: &TrainBody) -> (Vec<f64>, Outcome) {
    let metrics = std::sync::Mutex::new(std::collections::BTreeMap::new());
    let keep = |rank: usize, report: &Report, _: &AtomicBool| {
        if let (0, Report::Metrics { epoch, step, metric: Some(metric), .. }) = (rank, report)
            && step.is_multiple_of(7)
        {
            metrics.lock().unwrap().insert(*epoch, *metric);
        }
    };
    let outcome = run_gang(world, folder, body, rows(130), keep).remove(0).unwrap();
    (metrics.into_inner().unwrap().into_values().collect(), outcome)
}

#[test]
fn a_run_that_pauses_goes_on_to_the_same_bits() {
    let servers = TrainBody { strategy: Strategy::ParameterServer { servers: 1, staleness: 0 }, ..job() };
    for (world, mut body) in [(1, job()), (2, job()), (3, servers)] {
        body.epochs = 6;
        let whole = folder();
        let (metrics, expect) = undisturbed(world, whole.path(), &body);
        assert_eq!((expect.steps, metrics.len()), (42, 6));
        let paused = folder();
        for epochs in [1, 3, 3, 6] {
            let (at, outcomes) = until(epochs, world, paused.path(), &body);
            assert_eq!(at, (epochs, Some(metrics[epochs as usize - 1])), "{world} ranks");
            for outcome in &outcomes {
                assert_eq!(
                    (outcome.steps, outcome.stopped, outcome.version),
                    (7 * epochs, false, None),
                    "{world} ranks"
                );
            }
        }
        assert!(!paused.path().join("models").exists());
        // More epochs than there are end at the end; then it is published, once.
        assert_eq!(until(99, world, paused.path(), &body).0, (6, Some(metrics[5])));
        for _ in 0..2 {
            let outcome = run_gang(world, paused.path(), &body, rows(130), |_, _, _| {}).remove(0).unwrap();
            assert_eq!(outcome, expect, "{world} ranks");
        }
        assert_eq!(final_weights(paused.path()), final_weights(whole.path()));
    }
}

#[test]
fn a_run_that_stopped_early_has_come_as_far_as_any_pause() {
    let mut body = job();
    body.epochs = 60;
    body.early_stop = Some(EarlyStop { patience: 3, least: 0.0 });
    body.keep_best = true;
    body.optimizer = Optimizer::Sgd { learning_rate: 0.5, momentum: 0.9, nesterov: false };
    let whole = folder();
    let (metrics, expect) = undisturbed(1, whole.path(), &body);
    let stopped_after = expect.steps / 7;
    let paused = folder();
    let best = |until: u64| metrics[..until as usize].iter().copied().fold(0.0, f64::max);
    let ((epoch, metric), _) = until(2, 1, paused.path(), &body);
    assert_eq!((epoch, metric), (2, Some(best(2))), "of the weights that would be published");
    for epochs in [59, 60] {
        let ((epoch, metric), outcomes) = until(epochs, 1, paused.path(), &body);
        assert_eq!((epoch, metric, outcomes[0].steps), (stopped_after, expect.metric, expect.steps));
    }
    assert_eq!(run(paused.path(), &body), expect);
    assert_eq!(final_weights(paused.path()), final_weights(whole.path()));
}
