//! The machines that decide about groups and transactions.
//!
//! Pure: they are given a request and a time and give back answers and facts to write down; they read no clock, no
//! random source and no socket. The hands are in [`crate::server`].

pub(crate) mod groups;
pub(crate) mod member;
pub(crate) mod offsets;
pub(crate) mod transactions;

#[cfg(test)]
mod tests;
