//! The Kafka and Cassandra connectors against real servers.
//!
//! Run with `tests/live/run`, which starts both servers for the time of the run; or give the addresses of running ones
//! as SMACK_KAFKA and SMACK_CASSANDRA and run `cargo test -p connectors --features live --test live`.
//! Without addresses every test fails: a live test that was left out must not look like one that passed.

mod cassandra;
mod kafka_brokers;
mod kafka_changelog;
mod kafka_exactly_once;
mod kafka_secure;
mod kafka_source;
mod kafka_topics;
mod lookups;
mod standstill;
mod support;
