//! `smack keep`: what starts the tasks of an agent and stays with each of them to its end, whatever becomes of the agent.
//!
//! An agent starts one *zygote*, a process that is small because it is begun before anything else is set up. For each
//! task the zygote forks a *supervisor*, which shares its memory: that is the parent of the task. It waits for its end,
//! ends what the task left behind, writes down how it ended and goes. So an agent may die or be replaced, and the next
//! one of its directory finds the supervisors and learns what happened meanwhile.
//!
//! Invariant: a task lives no longer than its supervisor; a supervisor whose agent does not come back within the recovery
//! timeout ends its task.
//! Invariant: one thread only, in both, so that forking is safe.

mod frames;
pub(super) mod identity;
mod limits;
mod lock;
mod supervisor;
pub(super) mod zygote;

pub(super) use frames::{Cgroup, Hello, Kept, Start, ended_at, has_begun, read_end, read_kept};
pub(super) use lock::Held;

use std::io;
use std::process::ExitCode;

/// The first word of this program's command line that makes it a zygote.
pub const VERB: &str = "keep";

/// Serves the agent at the other end of standard input. Must be called before this process has started a thread.
pub fn main() -> ExitCode {
    match zygote::serve() {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(supervisor)) => supervisor.run(),
        // Nobody is left to tell but the log that standard error goes to.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed to serve the agent: {error}");
            ExitCode::FAILURE
        }
    }
}
