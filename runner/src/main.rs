//! `smack`: one binary for all parts of a cluster and for the people who use it.

mod bench;
mod book;
mod caret;
mod cli;
mod client;
mod continuous;
mod demo;
mod dev;
mod functions;
mod models;
mod predict;
mod run;
mod runs;
mod server;
mod settle;
mod signal;
mod status;
mod target;
mod task;
mod traces;
mod training_data;
mod view;

/// Batches are made by one thread and let go by another, all the time: that is what it is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Verbs whose processes move rows.
const MOVE_ROWS: [&str; 4] = ["task", "run", "bench", "bench-rank"];

fn main() -> std::process::ExitCode {
    let verb = std::env::args_os().nth(1).unwrap_or_default();
    use_large_pages(MOVE_ROWS.iter().any(|moves| verb == *moves));
    // What starts an agent's tasks stays small and has one thread, so it begins before anything else does.
    if verb == daemon::agent::keep::VERB {
        return daemon::agent::keep::main();
    }
    cli::main()
}

/// Large pages make a batch cheaper, and a process that does little twice as large. What is said here holds for the
/// processes that this one starts, too, unless they say otherwise; a kernel that does not know it has small pages.
fn use_large_pages(wanted: bool) {
    let _ = nix::sys::prctl::set_thp_disable(!wanted);
}
