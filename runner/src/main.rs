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
mod target;
mod task;
mod training_data;
mod view;

/// Batches are made by one thread and let go by another, all the time: that is what it is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // What starts an agent's tasks stays small and has one thread, so it begins before anything else does.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == daemon::agent::keep::VERB) {
        return daemon::agent::keep::main();
    }
    cli::main()
}
