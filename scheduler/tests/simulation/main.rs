//! Seeded simulation of whole clusters: the real master and agent machines, frameworks of several characters, and a
//! network and machines that fail in every way that is promised to be survived.
//!
//! `SMACK_SEEDS=n` runs n seeds (200 without it), `SMACK_SEED=n` repeats one. A seed that fails prints the command
//! that repeats it, and `SMACK_TRACE=word` then prints all that happens in whose text the word occurs. A run prints how
//! often each fault and each state was hit, and fails if one never was. With the feature `mutants` it also shows that bugs
//! which are there on purpose are caught.

mod client;
mod faults;
mod hits;
mod host;
mod hungry;
mod invariants;
mod machines;
#[cfg(feature = "mutants")]
mod mutants;
mod network;
mod tenants;
mod world;

use hits::Hits;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use world::World;

const DEFAULT_SEEDS: u64 = 200;

/// Fewer say little about a cluster's life.
const MIN_EVENTS: u64 = 2_000;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// The whole life of one cluster. Panics when a promise is broken.
fn live(seed: u64) -> Hits {
    let mut world = World::new(seed);
    world.live_with_faults(MIN_EVENTS);
    world.live_in_peace();
    world.finish()
}

fn run(seed: u64) -> Hits {
    let outcome = catch_unwind(AssertUnwindSafe(|| live(seed)));
    outcome.unwrap_or_else(|panic| {
        eprintln!("seed {seed} failed; to repeat it: SMACK_SEED={seed} cargo test -p scheduler --test simulation");
        resume_unwind(panic)
    })
}

#[test]
fn clusters_keep_their_promises_under_faults() {
    if let Some(seed) = from_environment("SMACK_SEED") {
        println!("{}", run(seed));
        return;
    }
    let n_seeds = from_environment("SMACK_SEEDS").unwrap_or(DEFAULT_SEEDS);
    let next = AtomicU64::new(0);
    let all = Mutex::new(Hits::default());
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= n_seeds {
                        return;
                    }
                    let hits = run(seed);
                    all.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).add(&hits);
                }
            });
        }
    });
    let all = all.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    println!("{n_seeds} seeds\n{all}");
    let never = all.never();
    assert!(never.is_empty(), "never hit in {n_seeds} seeds: {}", never.join(", "));
}
