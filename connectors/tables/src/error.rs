//! Why the store refused or failed.

/// Cloneable, because one failed transaction can be the answer to several commits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the table store '{path}' cannot be opened: {why}")]
    Open { path: String, why: String },
    #[error("the table store has no table '{name}'{known}")]
    NoSuchTable { name: String, known: String },
    #[error("table '{name}' exists as {have}, not as {want}; drop it or choose another name")]
    DifferentSchema { name: String, have: String, want: String },
    #[error("column '{column}' of table '{table}' has type {kind}, which the table store cannot hold")]
    Unsupported { table: String, column: String, kind: String },
    #[error("rows for table '{table}' do not fit: {why}")]
    Unfit { table: String, why: String },
    #[error(
        "generation {generation} of job '{job}' is stale: generation {highest} has already written to table '{table}'"
    )]
    Stale { table: String, job: String, generation: u64, highest: u64 },
    #[error("{0}")]
    Invalid(String),
    #[error("a commit must be at most {most} bytes; send it in more parts")]
    TooLarge { most: usize },
    #[error("the table store failed: {0}")]
    Storage(String),
    #[error("the table store holds unreadable bytes: {0}")]
    Corrupt(String),
}

/// All of redb's error kinds, each of which tells of itself.
macro_rules! storage_errors {
    ($($kind:ty),+) => {
        $(impl From<$kind> for Error {
            fn from(why: $kind) -> Self {
                Error::Storage(why.to_string())
            }
        })+
    };
}

storage_errors!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);
