//! The Kafka and Cassandra connectors, and formats with a schema registry, against real servers.
//!
//! Run with `tests/live/run`, which starts the servers for the time of the run; or give the addresses of running ones
//! as SMACK_KAFKA, SMACK_CASSANDRA and SMACK_REGISTRY, a Python with `requirements.txt` as SMACK_LIVE_PYTHON, and run
//! `cargo test -p connectors --features live --test live`.
//! Without addresses every test fails: a live test that was left out must not look like one that passed.

mod cassandra;
mod cassandra_nested;
mod kafka_changelog;
mod kafka_exactly_once;
mod kafka_secure;
mod kafka_source;
mod kafka_topics;
mod lookups;
mod schemas;
mod standstill;
mod support;
