//! Sweeps of trials that end in any order, some of them never; and the order of the paper where one after another is run.

use super::*;
use crate::random::{self, Purpose};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

#[test]
fn rungs_multiply_up_to_the_end() {
    assert_eq!(rungs(1, 3, 27), [1, 3, 9, 27]);
    assert_eq!(rungs(2, 4, 20), [2, 8, 20]);
    assert_eq!(rungs(5, 3, 5), [5]);
    assert_eq!(rungs(9, 3, 5), [5], "none is longer than all of it");
    assert_eq!(rungs(u64::MAX / 2, 3, u64::MAX), [u64::MAX / 2, u64::MAX]);
}

/// Runs one trial after another; the metric of each is the same at every rung. In which order they went where.
fn serial(sweep: &mut Sweep, metrics: &[f64]) -> Vec<(usize, u64)> {
    let mut went = Vec::new();
    while let Some((trial, epochs)) = sweep.next_trial() {
        went.push((trial, epochs));
        sweep.paused(trial, Some(metrics[trial]));
    }
    assert!(sweep.is_over());
    went
}

/// A third of each rung goes on; whoever is of the best third so far goes at once.
#[test]
fn the_best_third_goes_on_at_once() {
    let mut sweep = Sweep::new(9, rungs(1, 3, 9), 3, true);
    let went = serial(&mut sweep, &[0.9, 0.1, 0.2, 0.8, 0.3, 0.4, 0.7, 0.5, 0.6]);
    let first = [(0, 1), (1, 1), (2, 1), (0, 3), (3, 1), (4, 1), (5, 1), (3, 3)];
    let rest = [(6, 1), (7, 1), (8, 1), (6, 3), (0, 9)];
    assert_eq!(went, [first.as_slice(), rest.as_slice()].concat());
    assert_eq!(sweep.best(), Some(0));

    // Where each is better than all before it, each is of the best third when it comes: what the paper gives for not waiting.
    let mut sweep = Sweep::new(9, rungs(1, 3, 9), 3, true);
    let went = serial(&mut sweep, &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]);
    assert_eq!(went.iter().filter(|(_, epochs)| *epochs == 3).count(), 7);
    assert_eq!(sweep.best(), Some(8));
}

#[test]
fn small_metrics_may_be_the_better_ones() {
    let mut sweep = Sweep::new(3, rungs(1, 3, 3), 3, false);
    assert_eq!(serial(&mut sweep, &[0.3, 0.1, 0.2]), [(0, 1), (1, 1), (2, 1), (1, 3)]);
    assert_eq!(sweep.best(), Some(1));
}

#[test]
fn a_single_rung_is_a_search_without_promotions() {
    let mut sweep = Sweep::new(4, vec![20], 3, true);
    assert_eq!(serial(&mut sweep, &[0.3, 0.4, 0.4, 0.2]), [(0, 20), (1, 20), (2, 20), (3, 20)]);
    assert_eq!(sweep.best(), Some(1), "of equal ones the first");
}

#[test]
fn a_sweep_of_few_trials_ends_with_one_that_came_to_the_end() {
    let mut sweep = Sweep::new(2, rungs(1, 3, 9), 3, true);
    assert_eq!(serial(&mut sweep, &[0.5, 0.7]), [(0, 1), (1, 1), (1, 3), (1, 9)]);
    // The best fails on its way: the next best takes its place.
    let mut sweep = Sweep::new(2, rungs(1, 3, 3), 3, true);
    for metric in [0.5, 0.7] {
        let (trial, _) = sweep.next_trial().unwrap();
        sweep.paused(trial, Some(metric));
    }
    assert_eq!(sweep.next_trial(), Some((1, 3)));
    sweep.failed(1);
    assert_eq!(sweep.next_trial(), Some((0, 3)));
    sweep.paused(0, Some(0.6));
    assert_eq!((sweep.next_trial(), sweep.is_over(), sweep.best()), (None, true, Some(0)));
}

#[test]
fn what_fails_or_has_no_metric_is_the_worst() {
    let mut sweep = Sweep::new(3, rungs(1, 3, 3), 3, true);
    assert_eq!(
        [sweep.next_trial(), sweep.next_trial(), sweep.next_trial()],
        [Some((0, 1)), Some((1, 1)), Some((2, 1))]
    );
    assert_eq!(sweep.next_trial(), None, "all are on their way");
    sweep.failed(0);
    sweep.paused(1, Some(f64::NAN));
    assert_eq!((sweep.next_trial(), sweep.best()), (None, None));
    sweep.paused(2, Some(0.1));
    assert_eq!(sweep.next_trial(), Some((2, 3)), "the best of three that were tried");
    // What is told twice, or of a trial that is not on its way, changes nothing.
    sweep.paused(1, Some(0.9));
    sweep.failed(1);
    sweep.paused(99, None);
    assert_eq!(sweep.trials()[1], Trial { state: State::Paused, reached: vec![None] });

    let mut sweep = Sweep::new(2, rungs(1, 3, 3), 3, true);
    while let Some((trial, _)) = sweep.next_trial() {
        sweep.failed(trial);
    }
    assert_eq!((sweep.is_over(), sweep.best()), (true, None));
}

fn below(random: &mut ChaCha8Rng, bound: usize) -> usize {
    (random.next_u64() % bound as u64) as usize
}

/// One sweep with some trials at a time that end in any order, kept as text and read again now and then.
fn simulate(seed: u64) {
    let mut random = random::stream(seed, Purpose::Sweep, 0, 0);
    let (n_trials, parallel) = (1 + below(&mut random, 60), 1 + below(&mut random, 6));
    let reduction = 2 + below(&mut random, 3);
    let larger_is_better = below(&mut random, 2) == 0;
    let rungs = rungs(1 + below(&mut random, 2) as u64, reduction as u64, 1 + below(&mut random, 40) as u64);
    let fails = below(&mut random, 3);
    let mut sweep = Sweep::new(n_trials, rungs.clone(), reduction, larger_is_better);
    let mut running: Vec<(usize, u64)> = Vec::new();
    let mut trained = vec![0_u64; n_trials];
    let mut first_time = 0;
    loop {
        while running.len() < parallel {
            let before = sweep.clone();
            let Some((trial, epochs)) = sweep.next_trial() else { break };
            assert_eq!(before.clone().next_trial(), Some((trial, epochs)), "seed {seed}: the same again");
            assert!(running.iter().all(|(other, _)| *other != trial), "seed {seed}: {trial} runs twice");
            assert!(epochs > trained[trial], "seed {seed}: {trial} was trained to {} already", trained[trial]);
            let rung = rungs.iter().position(|rung| *rung == epochs).unwrap();
            let from = rung.checked_sub(1).map_or(0, |before| rungs[before]);
            assert_eq!(trained[trial], from, "seed {seed}: a trial goes from rung to rung");
            if rung == 0 {
                assert_eq!(trial, first_time, "seed {seed}: trials begin in their order");
                first_time += 1;
            } else if before.promotable() == Some(trial) {
                let of_rung = before.ranked(rung - 1);
                let place = of_rung.iter().position(|other| *other == trial).unwrap();
                let failed = |trial: &&Trial| trial.state == State::Failed && trial.reached.len() == rung - 1;
                let tried = of_rung.len() + before.trials.iter().filter(failed).count();
                assert!(place < tried / reduction, "seed {seed}: {trial} is {place} of {tried}");
            } else {
                assert!(running.is_empty() && first_time == n_trials, "seed {seed}: others come first");
            }
            running.push((trial, epochs));
        }
        let told: Vec<(usize, u64)> = sweep.running().collect();
        let mut expected = running.clone();
        expected.sort_unstable();
        assert_eq!(told, expected, "seed {seed}");
        if running.is_empty() {
            break;
        }
        let (trial, epochs) = running.swap_remove(below(&mut random, running.len()));
        if below(&mut random, 20) < fails {
            sweep.failed(trial);
        } else {
            trained[trial] = epochs;
            let metric = (below(&mut random, 25) > 0).then(|| below(&mut random, 1000) as f64 / 8.0);
            sweep.paused(trial, metric);
        }
        if below(&mut random, 3) == 0 {
            sweep = serde_json::from_str(&serde_json::to_string(&sweep).unwrap()).unwrap();
        }
    }
    assert!(sweep.is_over() && sweep.next_trial().is_none(), "seed {seed}");
    assert!(sweep.trials.iter().all(|trial| matches!(trial.state, State::Paused | State::Failed)), "seed {seed}");
    for rung in 0..rungs.len() - 1 {
        // Whoever is of the best has gone on.
        let of_rung = sweep.ranked(rung);
        for trial in of_rung.iter().take(of_rung.len() / reduction) {
            assert!(!sweep.waits_at(*trial, rung), "seed {seed}: {trial} was left behind");
        }
    }
    if let Some(best) = sweep.best() {
        let any_left =
            sweep.trials.iter().any(|trial| trial.state == State::Paused && trial.reached.iter().all(Option::is_some));
        assert!(sweep.is_done(best) || !any_left, "seed {seed}: none came to the end");
    }
}

#[test]
fn trials_that_end_in_any_order_are_halved() {
    for seed in 0..400 {
        simulate(seed);
    }
}
