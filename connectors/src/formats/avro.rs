//! Avro: records written by one schema read into the columns of a table, and rows written by a schema.
//!
//! The writer's schema, the reader's (where the table names one) and the wanted columns are compiled once to a plan; by
//! it the bytes of a record go straight into the columns, and what is not wanted is passed over. Two other ways were
//! weighed. A value tree for each record costs several times as much. `arrow-avro` decodes columns too, but a record that
//! is cut short leaves its columns unevenly long, with no way back, and each change of the schema ends its batch.
//!
//! Invariant: bytes are read by the writer's schema only; columns and the reader's schema decide what becomes of them.

mod columns;
mod container;
mod decode;
mod derive;
mod encode;
mod plan;
mod schema;

pub use columns::columns;
pub use container::{Blocks, Codec, Container, Unread};
pub use decode::{pass_record, read_next, read_record};
pub use derive::schema_of;
pub use encode::Writing;
pub use plan::{Reading, Root};
pub use schema::Schema;

#[cfg(test)]
mod tests;
