//! Protobuf: messages read into the columns of a table, and rows written as messages.
//!
//! A message's descriptor comes from `.proto` text or its compiled form, through crates in Rust alone; the descriptor and
//! the wanted columns are compiled once to a plan, by which a message's bytes go straight into the columns.
//!
//! Invariant: a field that is not there is null where the schema can tell (`optional`, messages, members of a `oneof`),
//! else the type's default; a list or map without items is empty.

mod columns;
mod decode;
mod derive;
mod descriptor;
mod encode;
mod plan;

pub use columns::columns;
pub use decode::read_message;
pub use derive::proto_of;
pub use descriptor::{Source, base64_of, message_at, place_of, pool_of};
pub use encode::Writing;
pub use plan::{Message, message_of};

#[cfg(test)]
mod tests;
