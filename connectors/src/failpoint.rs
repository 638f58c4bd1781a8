//! Places at which a test may end the process, to see what is made of the pieces.
//!
//! A test names a folder as `SMACK_FAILPOINTS` and arms a place by putting an empty file of its name into it. Whoever
//! reaches the place takes the file away and ends the process at once, as SIGKILL would: nothing is flushed or closed. So
//! each arming ends one process, once.
//!
//! Invariant: only debug builds know of this; in a release build [`reached`] is nothing.

/// A sink's share of an epoch is prepared, and nobody was told yet: no manifest can name it.
pub const PREPARED: &str = "snapshot.prepared";
/// The manifest of an epoch is durable, and nothing of it was committed.
pub const BEFORE_COMMIT: &str = "commit.before";
/// All records of an epoch were sent in a transaction that is not committed.
pub const SENT: &str = "kafka.commit.sent";
/// The transaction is committed, and nobody was told yet.
pub const BEFORE_ACK: &str = "kafka.commit.before_ack";

#[cfg(debug_assertions)]
pub fn reached(place: &str) {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(folder) = FOLDER.get_or_init(|| std::env::var_os("SMACK_FAILPOINTS").map(PathBuf::from)) else { return };
    if std::fs::remove_file(folder.join(place)).is_ok() {
        eprintln!("the process is ended at failpoint {place}");
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reached(_place: &str) {}
