//! The embedded keyed table store: where tables without a connector live on one machine.
//!
//! The process that hosts a [`Store`] owns its file; tasks reach it through [`router`]. A commit is one transaction: the
//! rows, and the note that this writer's epoch is applied, become durable together, so that sending a commit again
//! changes nothing.
//!
//! Invariant: rows are kept in an encoding of our own (see [`codec`]), never in one that changes with a library.
//! It does not know SQL, jobs or checkpoints: a writer is a name, an epoch a rising number.

pub mod codec;
mod commit;
mod error;
mod http;
mod lookup;
mod scan;
mod schema;
mod store;

pub use commit::{Applied, Commit};
pub use error::Error;
pub use http::{document, router};
pub use lookup::Lookup;
pub use scan::Scan;
pub use schema::TableInfo;
pub use store::Store;

pub type Result<T> = std::result::Result<T, Error>;
