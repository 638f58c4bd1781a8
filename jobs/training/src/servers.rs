//! Parameter servers: the weights lie on servers, workers push gradients and pull weights.
//!
//! Each server holds whole parameters ([`shards`]) and moves them itself. Every worker takes its slice of each step's batch, as
//! with an all-reduce; a server makes one update of the gradients of all workers for a step, added in order of rank. What
//! `staleness` loosens is when a worker may go on: at step `t` it has seen all updates before step `t - staleness` ([`clock`]).
//! So updates are the same in number, order and size whatever the staleness, a checkpoint is a cut through all workers at one
//! step, and with staleness 0 the weights are those of an all-reduce, bit for bit where that sums directly.
//!
//! Of a table only rows travel: a worker pushes the gradients of those that its batch touched, and asks for those that its next
//! one will ([`message`]).

mod client;
mod clock;
mod message;
mod server;
mod shard;
mod shards;
#[cfg(test)]
mod tests;

use jobs::TrainBody;
use jobs::train::{Clip, Strategy};

pub use client::{Client, Whole};
pub use message::{News, Wants};
pub use server::Server;
pub use shard::Shard;
pub use shards::assign;

/// What of this job parameter servers cannot do, a sentence each.
pub fn refusals(body: &TrainBody) -> Vec<String> {
    let Strategy::ParameterServer { servers, .. } = body.strategy else { return Vec::new() };
    let mut refused = Vec::new();
    if servers == 0 {
        refused.push("servers is 0; it must be at least 1".to_string());
    }
    if servers > 1 && matches!(body.clip, Clip::Norm { .. }) {
        let text = "clip by norm does not go with several parameter servers, none of which sees all gradients; have one \
                    server, or clip by value";
        refused.push(text.to_string());
    }
    for (name, is_said) in [("patience", body.early_stop.is_some()), ("keep_best", body.keep_best)] {
        if is_said {
            refused.push(format!("{name} does not go with parameter servers, where workers are at different steps"));
        }
    }
    refused
}
