//! Waiting for something to become true.

use std::time::{Duration, Instant};

/// Long enough for anything that is not broken, on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(120);

const LOOK_EVERY: Duration = Duration::from_millis(30);

/// Looks until there is an answer; an error says what was seen instead, and the last one is told when patience ends.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > until => panic!("no {what} within {PATIENCE:?}; last seen: {seen}"),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}
