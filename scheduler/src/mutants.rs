//! Bugs that are here on purpose, behind the feature `mutants`, so that the tests can show that they catch such bugs.
//!
//! Invariant: without the feature none of them can be switched on, and what asks for them costs nothing. With it they are
//! switched on by thread, one at a time.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The master launches again what an agent that registers anew has not started yet, and the agent starts what it has.
    LaunchedAgain,
    /// The agent sends an update, which may be acknowledged then, before it is persisted.
    SentBeforePersisted,
    /// An accept launches those of its tasks whose offers still stand.
    HalfAGang,
}

impl Mutant {
    pub const ALL: [Self; 3] = [Self::LaunchedAgain, Self::SentBeforePersisted, Self::HalfAGang];
}

#[cfg(feature = "mutants")]
thread_local! {
    static ON: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// On this thread, from now on.
#[cfg(feature = "mutants")]
pub fn switch(to: Option<Mutant>) {
    ON.set(to);
}

#[cfg(feature = "mutants")]
pub(crate) fn is_on(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

#[cfg(not(feature = "mutants"))]
pub(crate) const fn is_on(_: Mutant) -> bool {
    false
}
