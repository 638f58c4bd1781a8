//! An evaluator beside a training: it judges what is there, changes nothing, and ends with the last checkpoint.

use super::*;
use crate::evaluator::{Evaluation, evaluate};
use std::sync::Mutex;

/// Trains with so many ranks while another thread judges; the evaluations, and what the chief ended with.
fn judged(world: usize, folder: &Path, body: &TrainBody) -> (Vec<Evaluation>, Outcome) {
    let (evaluations, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let checkpoints = folder.join("checkpoints");
    let outcome = std::thread::scope(|scope| {
        let judge = scope.spawn(|| {
            let mut keep = |evaluation| evaluations.lock().unwrap().push(evaluation);
            evaluate(body, rows(130)(0), &checkpoints, &mut keep, &stop).unwrap()
        });
        let metrics = |_: usize, report: &Report, _: &AtomicBool| {
            if let Report::Metrics { metric, .. } = report {
                assert_eq!(*metric, None, "the chief does not stop to judge");
            }
        };
        let outcome =
            run_gang_with(TrainTask { has_evaluator: true, ..task(folder, 0, &[]) }, world, body, rows(130), metrics);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(judge.join().unwrap(), evaluations.lock().unwrap().len() as u64);
        outcome.into_iter().next().unwrap().unwrap()
    });
    (evaluations.into_inner().unwrap(), outcome)
}

#[test]
fn an_evaluator_judges_the_last_checkpoint_as_the_chief_would_and_changes_no_bit() {
    let servers = TrainBody { strategy: Strategy::ParameterServer { servers: 1, staleness: 0 }, ..job() };
    for (world, mut body) in [(1, job()), (2, job()), (3, servers)] {
        (body.epochs, body.checkpoint_steps) = (30, 5);
        let alone = folder();
        let expect = run_gang(world, alone.path(), &body, rows(130), |_, _, _| {}).remove(0).unwrap();
        let beside = folder();
        let (evaluations, outcome) = judged(world, beside.path(), &body);
        assert_eq!(outcome, expect, "{world} ranks");
        assert_eq!(final_weights(beside.path()), final_weights(alone.path()));
        assert!(evaluations.is_sorted_by(|one, next| one.step < next.step), "{evaluations:?}");
        let last = evaluations.last().unwrap();
        assert_eq!((last.step, last.epoch, last.metric_name), (expect.steps, 30, "auc"));
        assert_eq!(last.metrics.get("auc").copied(), expect.metric);
        assert!(last.metrics.contains_key("log_loss"), "{last:?}");
        // Another evaluator of the same run says the same of the same checkpoint, and needs no training beside it.
        let mut again = Vec::new();
        let told = AtomicBool::new(true);
        evaluate(&body, rows(130)(0), &beside.path().join("checkpoints"), &mut |one| again.push(one), &told).unwrap();
        assert_eq!(again, std::slice::from_ref(last));
    }
}

#[test]
fn an_evaluator_without_a_checkpoint_ends_when_it_is_told_to() {
    let folder = folder();
    let mut none = |evaluation: Evaluation| panic!("{evaluation:?}");
    let told = AtomicBool::new(true);
    assert_eq!(evaluate(&job(), rows(130)(0), folder.path(), &mut none, &told).unwrap(), 0);
    // One that cannot be read is as good as none.
    fs::write(folder.path().join("step-000000000007.safetensors"), "damaged").unwrap();
    assert_eq!(evaluate(&job(), rows(130)(0), folder.path(), &mut none, &told).unwrap(), 0);
    let wrong = check(&TrainBody { evaluator: true, test_fraction: 0.0, ..job() });
    assert_eq!(
        wrong,
        ["an evaluator judges by rows that are held out, and there are none; give test_fraction or a test query"]
    );
}
