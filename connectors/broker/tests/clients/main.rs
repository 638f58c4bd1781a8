//! The broker as Kafka's C client sees it. Each test has a broker of its own, on a port of its own.

mod admin;
mod durable;
mod groups;
mod records;
mod transactions;
mod world;
