//! Tries again what the outside refuses for now, and says so.

use crate::control::Level;
use crate::runtime::Error;
use crate::runtime::shared::Shared;
use std::time::{Duration, Instant};

const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Long enough not to add to the trouble of a server that is down, short enough to be forgiven when it is back.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const LOOK_UP_EVERY: Duration = Duration::from_millis(50);

/// Calls `attempt` until it succeeds or fails for good. `doing` completes "failed to … table T".
pub fn until_done<T>(
    shared: &Shared,
    table: &str,
    doing: &'static str,
    mut attempt: impl FnMut() -> connectors::Result<T>,
) -> Result<T, Error> {
    let mut wait = FIRST_WAIT;
    for n_attempts in 1.. {
        match attempt() {
            Ok(value) if n_attempts == 1 => return Ok(value),
            Ok(value) => {
                let text = format!("table {table} answers again: could {doing} it at attempt {n_attempts}");
                shared.notice(Level::Info, text);
                return Ok(value);
            }
            Err(connectors::Error::Fatal(text)) => {
                let job = shared.config.job.clone();
                return Err(Error::Connector { job, table: table.to_string(), doing, text });
            }
            Err(connectors::Error::Transient(text)) => {
                let text = format!("table {table}: {text} (attempt {n_attempts} to {doing} it)");
                shared.notice(Level::Warning, text);
                sleep(shared, wait)?;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
    Err(Error::Stopped)
}

fn sleep(shared: &Shared, wait: Duration) -> Result<(), Error> {
    let until = Instant::now() + wait;
    while Instant::now() < until {
        if shared.stopped() {
            return Err(Error::Stopped);
        }
        std::thread::sleep(LOOK_UP_EVERY.min(wait));
    }
    Ok(())
}
