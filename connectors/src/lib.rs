//! The only doors to the outside: Kafka, Cassandra, files, generators, the table store, and the formats they speak.
//!
//! Invariant: knows nothing of SQL, plans or schedulers. A connector is a [`Connector`] in [`registry`]; a task opens
//! [`SourceReader`]s and [`Sink`]s from a [`TableDef`].
//! Invariant: everything here blocks its caller's thread; the runtime decides which threads those are.

mod api;
mod blackhole;
mod cassandra;
mod changes;
pub mod failpoint;
mod files;
pub mod formats;
pub mod generators;
mod http;
mod kafka;
mod kept;
mod options;
mod registry;
pub mod secrets;
mod sse;
mod stdout;
mod table;
#[cfg(test)]
mod testing;
mod values;

pub use api::*;
pub use changes::{gives, refuses_changes};
pub use kafka::usual as usual_brokers;
pub use options::Options;
pub use registry::{add, check_table, columns, find, registry};
pub use values::values;
