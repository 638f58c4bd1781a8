//! Waiting for something to become true.

use std::time::{Duration, Instant};

/// Long enough for anything that is not broken, on a machine that does other things too; a proof over more rows sets the
/// variable, in seconds.
pub fn patience() -> Duration {
    let said = std::env::var("SMACK_PATIENCE").ok();
    Duration::from_secs(said.map_or(120, |seconds| seconds.parse().expect("SMACK_PATIENCE is a number of seconds")))
}

const LOOK_EVERY: Duration = Duration::from_millis(30);

/// Looks until there is an answer; an error says what was seen instead, and the last one is told when patience ends.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + patience();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > until => panic!("no {what} within {:?}; last seen: {seen}", patience()),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}
