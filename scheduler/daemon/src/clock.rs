//! What time it is, for machines that must not ask.
//!
//! Invariant: milliseconds since 1970 that never go back, whatever is done to the system's clock after the start.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    start_ms: u64,
}

impl Clock {
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX / 2) }
    }

    pub fn now_ms(&self) -> u64 {
        self.start_ms + u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }

    /// Ready when `at_ms` is reached; never, if there is nothing to wait for.
    pub async fn reached(&self, at_ms: Option<u64>) {
        match at_ms {
            Some(at_ms) => tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(self.now_ms()))).await,
            None => std::future::pending().await,
        }
    }
}
