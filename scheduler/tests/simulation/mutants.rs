//! Bugs on purpose: each has to break a promise, and the one that it is about, within few seeds.

use crate::live;
use scheduler::mutants::{Mutant, switch};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// More seeds than any of them needs.
const SEEDS: u64 = 60;

/// What the promise that a bug breaks says about it.
fn accusation(mutant: Mutant) -> &'static str {
    match mutant {
        Mutant::LaunchedAgain => "was started on agent",
        Mutant::SentBeforePersisted => "was never persisted",
        Mutant::HalfAGang => "an accept of",
    }
}

/// The first seed in which it is caught, and how.
fn caught(mutant: Mutant) -> Option<(u64, String)> {
    (0..SEEDS).find_map(|seed| {
        switch(Some(mutant));
        let outcome = catch_unwind(AssertUnwindSafe(|| live(seed)));
        switch(None);
        let panic = outcome.err()?;
        let text = panic.downcast_ref::<String>().cloned();
        Some((seed, text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string())).unwrap_or_default()))
    })
}

#[test]
fn bugs_on_purpose_are_caught() {
    for mutant in Mutant::ALL {
        let (seed, how) = caught(mutant).unwrap_or_else(|| panic!("{mutant:?} was not caught in {SEEDS} seeds"));
        println!("{mutant:?} is caught in seed {seed}: {}", how.split(": ").next().unwrap_or_default());
        assert!(how.contains(accusation(mutant)), "{mutant:?} broke another promise: {how}");
    }
}
