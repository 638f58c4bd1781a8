//! Records as librdkafka has fetched them, taken many at a time and without a copy.
//!
//! How: each partition's queue is led into one of our own before the partition is assigned, so that nothing but records
//! and the ends of partitions comes through it, and those can be taken in batches. Everything else (errors of
//! connections, logs, commits) stays in the consumer's queue and is heard by [`Fetched::listen`].
//!
//! Invariant: a record that was taken is destroyed once, and before its consumer.
//! Invariant: a partition is assigned only by [`Fetched::assign`], so no record can go the other way.

use super::cluster::Watch;
use rdkafka::TopicPartitionList;
use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use std::ffi::{CStr, CString, c_void};
use std::ptr::{NonNull, null, null_mut};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

const EVENTS_AT_ONCE: usize = 16;
/// Records taken at once.
const AT_ONCE: usize = 1024;

pub struct Fetched {
    /// Taken and not yet given on.
    taken: Vec<NonNull<native::rd_kafka_message_t>>,
    given: usize,
    queue: Queue,
    /// After the queue, which is of this client.
    consumer: Arc<BaseConsumer<Watch>>,
}

// SAFETY: the pointers are to what librdkafka made for this client alone; its calls may be made from any thread, and
// `&mut self` sees to it that only one at a time uses them.
unsafe impl Send for Fetched {}

struct Queue(NonNull<native::rd_kafka_queue_t>);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: was made by a call that hands it over, and is destroyed here only.
        unsafe { native::rd_kafka_queue_destroy(self.0.as_ptr()) };
    }
}

impl Fetched {
    pub fn new(consumer: Arc<BaseConsumer<Watch>>) -> Result<Self, KafkaError> {
        // SAFETY: the client lives as long as `consumer`.
        let queue = unsafe { native::rd_kafka_queue_new(consumer.client().native_ptr()) };
        let Some(queue) = NonNull::new(queue) else {
            return Err(KafkaError::ClientCreation("a queue for records cannot be had".to_owned()));
        };
        Ok(Self { taken: Vec::with_capacity(AT_ONCE), given: 0, queue: Queue(queue), consumer })
    }

    pub fn consumer(&self) -> &Arc<BaseConsumer<Watch>> {
        &self.consumer
    }

    /// Reads these partitions too, from the offsets given.
    pub fn assign(&self, partitions: &TopicPartitionList) -> Result<(), KafkaError> {
        for element in partitions.elements() {
            let unknown = || KafkaError::Subscription(format!("no queue for {}", element.topic()));
            let topic = CString::new(element.topic()).map_err(|_| unknown())?;
            // SAFETY: the client lives, and the name ends with a zero; what is got is ours to destroy.
            let of_partition = unsafe {
                native::rd_kafka_queue_get_partition(
                    self.consumer.client().native_ptr(),
                    topic.as_ptr(),
                    element.partition(),
                )
            };
            let of_partition = Queue(NonNull::new(of_partition).ok_or_else(unknown)?);
            // SAFETY: both queues live; librdkafka counts who refers to them.
            unsafe { native::rd_kafka_queue_forward(of_partition.0.as_ptr(), self.queue.0.as_ptr()) };
        }
        self.consumer.incremental_assign(partitions)
    }

    /// The end of a partition as the last fetch told it; asks nobody.
    pub fn high_mark(&self, topic: &str, partition: i32) -> Option<u64> {
        let topic = CString::new(topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client lives, the name ends with a zero, and both numbers can be written.
        let told = unsafe {
            let client = self.consumer.client().native_ptr();
            native::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &mut low, &mut high)
        };
        (told == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| u64::try_from(high).ok())?
    }

    /// What is not a record: told to the client's context, and an error also here.
    pub fn listen(&self) -> Result<(), KafkaError> {
        // One call serves one event, and does not say whether there are more.
        for _ in 0..EVENTS_AT_ONCE {
            match self.consumer.poll(Duration::ZERO) {
                None => {}
                Some(Err(error)) => return Err(error),
                Some(Ok(_)) => {
                    return Err(KafkaError::Subscription("a record came by another queue than its own".to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Takes what is there, or waits for one record. False: nothing came.
    pub fn fill(&mut self, wait: Duration) -> bool {
        debug_assert!(self.given == self.taken.len(), "records are left");
        self.taken.clear();
        self.given = 0;
        self.take(AT_ONCE, Duration::ZERO);
        if self.taken.is_empty() && !wait.is_zero() {
            // librdkafka waits until it has as many as it was asked for.
            self.take(1, wait);
        }
        !self.taken.is_empty()
    }

    fn take(&mut self, most: usize, wait: Duration) {
        let mut room = [null_mut(); AT_ONCE];
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: there is room for `most` pointers; each that is filled in is ours to destroy.
        let n = unsafe {
            native::rd_kafka_consume_batch_queue(self.queue.0.as_ptr(), wait_ms, room.as_mut_ptr(), most.min(AT_ONCE))
        };
        let n = usize::try_from(n).unwrap_or(0);
        self.taken.extend(room[..n].iter().copied().filter_map(NonNull::new));
    }

    /// The next of what was taken.
    pub fn next(&mut self) -> Option<Fetch> {
        let message = *self.taken.get(self.given)?;
        self.given += 1;
        Some(Fetch { message })
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        while self.next().is_some() {}
    }
}

/// One record, or what is to be said of a partition instead.
pub struct Fetch {
    message: NonNull<native::rd_kafka_message_t>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        // SAFETY: given by librdkafka once, and destroyed here only.
        unsafe { native::rd_kafka_message_destroy(self.message.as_ptr()) };
    }
}

impl Fetch {
    fn message(&self) -> &native::rd_kafka_message_t {
        // SAFETY: lives until it is destroyed, which `drop` does.
        unsafe { self.message.as_ref() }
    }

    /// Absent for a record.
    pub fn error(&self) -> Option<RDKafkaErrorCode> {
        let code = self.message().err;
        (code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| RDKafkaErrorCode::from(code))
    }

    /// The same for all records of a topic, as long as any of its partitions is assigned.
    pub fn topic_id(&self) -> usize {
        self.message().rkt as usize
    }

    pub fn topic(&self) -> &str {
        if self.message().rkt.is_null() {
            return "";
        }
        // SAFETY: a record holds on to its topic, whose name ends with a zero.
        let name = unsafe { CStr::from_ptr(native::rd_kafka_topic_name(self.message().rkt)) };
        // Names are letters, digits and a few signs.
        name.to_str().unwrap_or_default()
    }

    pub fn partition(&self) -> i32 {
        self.message().partition
    }

    pub fn offset(&self) -> i64 {
        self.message().offset
    }

    pub fn payload(&self) -> Option<&[u8]> {
        self.bytes(self.message().payload, self.message().len)
    }

    pub fn key(&self) -> Option<&[u8]> {
        self.bytes(self.message().key, self.message().key_len)
    }

    fn bytes(&self, at: *const c_void, len: usize) -> Option<&[u8]> {
        // SAFETY: so many bytes lie there as long as the record does.
        (!at.is_null()).then(|| unsafe { slice::from_raw_parts(at.cast::<u8>(), len) })
    }

    /// Milliseconds since 1970, and whether it is the time at which the broker took the record.
    pub fn timestamp(&self) -> Option<(i64, bool)> {
        use native::rd_kafka_timestamp_type_t as Kind;
        let mut kind = Kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the record lives, and `kind` is written before it is read.
        let ms = unsafe { native::rd_kafka_message_timestamp(self.message.as_ptr(), &mut kind) };
        match kind {
            _ if ms < 0 => None,
            Kind::RD_KAFKA_TIMESTAMP_CREATE_TIME => Some((ms, false)),
            Kind::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => Some((ms, true)),
            Kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => None,
        }
    }

    /// Calls `each` with name and value of every header, in order.
    pub fn headers<'a>(&'a self, mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) {
        let mut headers = null_mut();
        // SAFETY: the record lives; where there are headers, they are the record's own and live as long.
        let told = unsafe { native::rd_kafka_message_headers(self.message.as_ptr(), &mut headers) };
        if told != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for at in 0.. {
            let (mut name, mut value, mut len) = (null(), null(), 0);
            // SAFETY: as above; past the last one librdkafka says so and writes nothing.
            let told = unsafe { native::rd_kafka_header_get_all(headers, at, &mut name, &mut value, &mut len) };
            if told != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
                return;
            }
            // SAFETY: a name ends with a zero and lives as long as the record.
            let name = unsafe { CStr::from_ptr(name) };
            each(name.to_bytes(), self.bytes(value, len));
        }
    }
}
