//! `smack task`: one task of a job, as an agent starts it. Reads its plan, does it, reports to its runner.
//!
//! Exit codes: 0 the work is done, 1 it failed and trying again may help, 2 trying again cannot help.

mod link;
mod stream;
mod train;

use anyhow::Context;
use daemon::door::Token;
use jobs::{TaskBody, TaskPlan};
use std::path::Path;

/// Why a task ended before its work was done.
#[derive(Debug)]
pub enum Failure {
    /// A new generation may do better.
    Passing(String),
    /// The job, or what it reads, is wrong; every generation would end the same way.
    Fatal(String),
}

/// Runs the plan; the code to exit with.
pub fn task(plan: &Path) -> anyhow::Result<i32> {
    let text = std::fs::read(plan).with_context(|| format!("failed to read the task's plan {}", plan.display()))?;
    let plan: TaskPlan =
        serde_json::from_slice(&text).with_context(|| format!("failed to understand the plan {}", plan.display()))?;
    let token = match std::env::var_os("SMACK_TOKEN_FILE") {
        Some(path) => Some(Token::read(Path::new(&path)).context("failed to start the task")?),
        None => None,
    };
    let (orders_sender, orders) = crossbeam_channel::bounded(ORDERS_MAX);
    let link = link::start(&plan, token.clone(), orders_sender).context("failed to start the control stream")?;
    let result = match &plan.body {
        TaskBody::Stream(body) => stream::run(&plan, body, token.as_ref(), orders, &link),
        TaskBody::Train(body) => train::run(&plan, body, token.as_ref(), &orders, &link),
        TaskBody::Command(_) => Err(Failure::Fatal("a command is started by the agent itself".to_string())),
    };
    let code = match result {
        Ok(()) => 0,
        Err(Failure::Passing(error)) => told(&link, &error, 1),
        Err(Failure::Fatal(error)) => told(&link, &error, crate::book::EXIT_FATAL),
    };
    link.end();
    Ok(code)
}

/// Orders that wait for the task: at most a barrier, a commit and a stop are under way, and a few said twice.
const ORDERS_MAX: usize = 64;

fn told(link: &link::Link, error: &str, code: i32) -> i32 {
    eprintln!("failed to {error}");
    link.notice("error", format!("failed to {error}"));
    code
}
