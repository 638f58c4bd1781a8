//! One librdkafka producer that blocks when its queue is full.
//!
//! Invariant: no queue of our own; what waits is in librdkafka's, whose bound [`Settings::producer`] sets.

use super::cluster::{self, Watch};
use super::record::Record;
use super::settings::Settings;
use crate::api::Result;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::time::{Duration, Instant};

/// Delivery reports (of failures only) are asked for once in this many records.
const POLL_EVERY: u32 = 4096;
/// How often it is looked whether all is acknowledged. The library's own wait looks ten times a second, and whoever flushes
/// holds rows up meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(1);

pub struct Producer {
    pub inner: BaseProducer<Watch>,
    topic: String,
    sent: u32,
}

impl Producer {
    pub fn open(settings: &Settings, config: &ClientConfig, topic: &str) -> Result<Self> {
        let inner: BaseProducer<Watch> =
            config.create_with_context(Watch::default()).map_err(|error| cluster::unmade(settings, &error))?;
        Ok(Self { inner, topic: topic.to_owned(), sent: 0 })
    }

    pub fn watch(&self) -> &Watch {
        self.inner.client().context()
    }

    /// Hands one record over. `QueueFull` after `wait` means that the brokers do not take what they are given.
    pub fn send(&mut self, record: &Record<'_>, wait: Duration) -> std::result::Result<(), KafkaError> {
        let place = &record.place;
        let mut full_since = None;
        loop {
            let mut sent: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(place.topic.unwrap_or(&self.topic));
            sent.key = record.key;
            sent.payload = record.value;
            sent.partition = place.partition;
            sent.timestamp = place.timestamp_ms;
            if !place.headers.is_empty() {
                let headers = OwnedHeaders::new_with_capacity(place.headers.len());
                let insert = |headers: OwnedHeaders, (key, value): &(&str, Option<&[u8]>)| {
                    headers.insert(Header { key, value: *value })
                };
                sent.headers = Some(place.headers.iter().fold(headers, insert));
            }
            match self.inner.send(sent) {
                Ok(()) => break,
                Err((full @ KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    let now = Instant::now();
                    if now.duration_since(*full_since.get_or_insert(now)) >= wait {
                        return Err(full);
                    }
                    self.inner.poll(Duration::from_millis(10));
                    if let Some(error) = self.watch().take_undelivered() {
                        return Err(error);
                    }
                }
                Err((error, _)) => return Err(error),
            }
        }
        self.sent = self.sent.wrapping_add(1);
        if self.sent.is_multiple_of(POLL_EVERY) {
            self.inner.poll(Duration::ZERO);
            if let Some(error) = self.watch().take_undelivered() {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits until all records are acknowledged.
    pub fn flush(&mut self, wait: Duration) -> std::result::Result<(), KafkaError> {
        let until = Instant::now() + wait;
        let mut flushed = self.inner.flush(LOOK_EVERY);
        while let Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) = flushed
            && Instant::now() < until
        {
            flushed = self.inner.flush(LOOK_EVERY);
        }
        match self.watch().take_undelivered() {
            Some(error) => Err(error),
            None => flushed,
        }
    }

    pub fn waiting(&self) -> usize {
        usize::try_from(self.inner.in_flight_count()).unwrap_or_default()
    }
}
