//! The brokers of tables that name none.
//!
//! `smack dev` gives the address of its own broker to all its processes, tasks included, as an environment variable; so a
//! job file that names no brokers runs there, and is planned alike in each process. Elsewhere there are none, and such a
//! table is refused.

use std::sync::OnceLock;

/// Brokers, host:port, separated by commas.
pub const VARIABLE: &str = "SMACK_BROKERS";

static SAID: OnceLock<String> = OnceLock::new();

/// Says which they are in this process, unless the environment does. Before the first table is looked at.
pub fn say(brokers: String) {
    // Said twice, the first word stands: tables may have been planned by it.
    let _ = SAID.set(brokers);
}

pub fn brokers() -> Option<String> {
    let set =
        std::env::var(VARIABLE).ok().map(|brokers| brokers.trim().to_owned()).filter(|brokers| !brokers.is_empty());
    set.or_else(|| SAID.get().cloned())
}
