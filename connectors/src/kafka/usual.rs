//! The brokers of tables that name none.
//!
//! `smack dev` gives the address of its own broker to all its processes, tasks included, as an environment variable; so a
//! job file that names no brokers runs there, and is planned alike in each process. A program of one process may have a
//! broker made when the first such table is looked at. Elsewhere there are none, and such a table is refused.

use std::sync::OnceLock;

/// Brokers, host:port, separated by commas.
pub const VARIABLE: &str = "SMACK_BROKERS";

type Make = Box<dyn Fn() -> Option<String> + Send + Sync>;

static SAID: OnceLock<Option<String>> = OnceLock::new();
static MAKE: OnceLock<Make> = OnceLock::new();

/// Says which they are in this process, unless the environment does. Before the first table is looked at.
pub fn say(brokers: String) {
    // Said twice, the first word stands: tables may have been planned by it.
    let _ = SAID.set(Some(brokers));
}

/// Says who makes one, when somebody first asks and nobody has said any.
pub fn make_with(make: impl Fn() -> Option<String> + Send + Sync + 'static) {
    let _ = MAKE.set(Box::new(make));
}

pub fn brokers() -> Option<String> {
    let set =
        std::env::var(VARIABLE).ok().map(|brokers| brokers.trim().to_owned()).filter(|brokers| !brokers.is_empty());
    set.or_else(|| match MAKE.get() {
        Some(make) => SAID.get_or_init(make).clone(),
        None => SAID.get().cloned().flatten(),
    })
}
