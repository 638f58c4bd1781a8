//! When a daemon is to end: SIGTERM, SIGINT, or the word of whoever started it.

use std::io;
use tokio::signal::unix::{SignalKind, signal};

/// Ready when this process is asked to end; the name of the signal. Both signals are caught from the call on, not only
/// while the future is polled.
pub fn signals() -> io::Result<impl Future<Output = &'static str>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
