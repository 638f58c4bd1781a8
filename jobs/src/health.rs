//! How it is found out whether a service does its work.

use serde::{Deserialize, Serialize};

/// Asked by the agent, on the machine where the task runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub probe: Probe,
    /// Between two answers.
    pub interval_ms: u64,
    /// No answer within this is a failure.
    pub timeout_ms: u64,
    /// Failures before the first success do not count for this long after the start.
    pub grace_ms: u64,
    /// So many in a row end the task.
    pub failures: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Run in the task's sandbox; healthy if its exit code is 0.
    Command { argv: Vec<String> },
    /// Healthy if it takes a connection on this port of 127.0.0.1.
    Tcp { port: u16 },
    /// Healthy if it answers a GET there with a status from 200 to 399.
    Http { port: u16, path: String },
    /// Healthy if it says `SERVING` there by the protocol of gRPC (`grpc.health.v1.Health/Check`), of this service or, where
    /// that is empty, of all of it.
    Grpc { port: u16, service: String },
}
