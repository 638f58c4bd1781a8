//! Groups and transactions against their invariants, under random requests and the passing of time.

mod groups;
mod transactions;
