//! `smack`: one binary for all parts of a cluster and for the people who use it.

mod bench;
mod book;
mod caret;
mod cli;
mod client;
mod demo;
mod dev;
mod functions;
mod models;
mod predict;
mod run;
mod server;
mod settle;
mod signal;
mod target;
mod task;
mod training_data;
mod view;

fn main() -> std::process::ExitCode {
    cli::main()
}
