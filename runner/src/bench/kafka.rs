//! Suite `kafka`: rows out of Kafka and into it, beside loops over the same client that do nothing else.
//!
//! Reading: 200-byte JSON records of 8 columns from 4 partitions; the bare loop takes the same records from librdkafka in
//! batches and looks at none. Writing: the same rows; the bare loop is a producer that is given records made beforehand.
//!
//! Invariant: what is compared has the same records, brokers and client settings, and each is measured several times, in
//! turn.

use super::nexmark::told;
use super::{Figure, median};
use anyhow::{Context as _, bail};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use connectors::{Connector, Polled, SplitStart, TableDef};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::bindings as native;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::ptr::null_mut;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const ROWS: u64 = 2_000_000;
const RUNS: usize = 3;
const PARTITIONS: i32 = 4;
const BATCH_ROWS: u64 = 8192;
const PATIENCE: Duration = Duration::from_secs(60);
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
const COLUMNS: &str =
    "id BIGINT, \"user\" VARCHAR, ts TIMESTAMP, amount DOUBLE, shop VARCHAR, ok BOOLEAN, n INT, note VARCHAR";

pub async fn measure(brokers: Option<String>, rows: u64) -> anyhow::Result<Vec<Figure>> {
    let folder = std::env::temp_dir().join(format!("smack-bench-kafka-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let here = folder.clone();
    let result = tokio::task::spawn_blocking(move || measure_in(&here, brokers, rows)).await?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    result
}

fn measure_in(folder: &Path, brokers: Option<String>, rows: u64) -> anyhow::Result<Vec<Figure>> {
    let own = match &brokers {
        Some(_) => None,
        None => Some(OwnBroker::start(folder)?),
    };
    let brokers = brokers.or(own.as_ref().map(|own| own.address.clone())).context("failed to find a broker")?;
    let work = Work { brokers, rows, batches: batches(rows)? };
    let topic = format!("smack-bench-read-{}", std::process::id());
    work.create(&topic)?;
    work.write(&topic, "at_least_once")?;
    let (mut reading, mut bare_reading) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        bare_reading.push(work.consume(&topic)?);
        reading.push(work.read(&topic)?);
    }
    work.remove(&topic)?;
    let (mut least, mut once, mut bare_writing) = (Vec::new(), Vec::new(), Vec::new());
    let records = work.records()?;
    for run in 0..RUNS {
        let topic = format!("smack-bench-write-{}-{run}", std::process::id());
        work.create(&topic)?;
        bare_writing.push(work.produce(&topic, &records)?);
        least.push(work.write(&topic, "at_least_once")?);
        once.push(work.write(&topic, "exactly_once")?);
        work.remove(&topic)?;
    }
    let figure = |name: &str, values: Vec<f64>, bare: &[f64], part: f64, peer: &str| {
        let bare = median(bare.to_vec());
        Figure::higher("kafka", name, median(values), "rows/s", Some((part * bare).round())).beside(peer, bare)
    };
    Ok(vec![
        figure("rows of 200 bytes read, 8 columns", reading, &bare_reading, 0.80, "bare batch loop"),
        figure("rows written at least once", least, &bare_writing, 0.85, "bare producer"),
        figure("rows written exactly once, every second", once, &bare_writing, 0.75, "bare producer"),
    ])
}

/// Our broker in a process of its own, as a real one would be.
struct OwnBroker {
    child: Child,
    address: String,
}

impl OwnBroker {
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("failed to find this program")?;
        let data: PathBuf = folder.join("broker");
        let mut child = Command::new(program)
            .args(["broker", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data)
            .env("SMACK_LOG", "info")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("failed to start the broker")?;
        let stderr = child.stderr.take().context("failed to hear the broker")?;
        let mut lines = BufReader::new(stderr).lines();
        for line in lines.by_ref() {
            let line = line.context("failed to hear the broker")?;
            // Colours may stand between.
            let address = line.split("127.0.0.1:").nth(1).map(|rest| rest.chars().take_while(char::is_ascii_digit));
            if let Some(port) = address.map(String::from_iter).filter(|port| !port.is_empty()) {
                // What else it says goes nowhere, and must not fill the pipe.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Self { child, address: format!("127.0.0.1:{port}") });
            }
        }
        let _ = child.kill();
        bail!("failed to start the broker: it told no address")
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Work {
    brokers: String,
    rows: u64,
    batches: Vec<RecordBatch>,
}

fn batches(rows: u64) -> anyhow::Result<Vec<RecordBatch>> {
    let note = "n".repeat(32);
    let schema = declared("", "", &[])?.schema;
    let of = |from: u64| {
        let ids = from..rows.min(from + BATCH_ROWS);
        let int = |id: u64| id as i64;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(ids.clone().map(int))),
            Arc::new(StringArray::from_iter_values(ids.clone().map(|id| format!("user-{:06}", id * 7919 % 100_000)))),
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(
                    ids.clone().map(|id| 1_767_225_600_000_000 + int(id) * 1000),
                )
                .with_timezone("UTC"),
            ),
            Arc::new(Float64Array::from_iter_values(ids.clone().map(|id| (id * 31 % 4000) as f64 * 0.25))),
            Arc::new(StringArray::from_iter_values(ids.clone().map(|id| format!("shop-{:04}", id % 5000)))),
            Arc::new(BooleanArray::from_iter(ids.clone().map(|id| Some(id % 3 == 0)))),
            Arc::new(Int32Array::from_iter_values(ids.clone().map(|id| (id % 1000) as i32))),
            Arc::new(StringArray::from_iter_values(ids.map(|_| note.as_str()))),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
    };
    (0..rows).step_by(BATCH_ROWS as usize).map(of).collect()
}

fn declared(brokers: &str, topic: &str, options: &[(&str, &str)]) -> anyhow::Result<TableDef> {
    let (brokers, topic) = if topic.is_empty() { ("localhost:9092", "none") } else { (brokers, topic) };
    let more: String = options.iter().map(|(key, value)| format!(", {key} = '{value}'")).collect();
    let text = format!(
        "CREATE TABLE events ({COLUMNS}) WITH (connector = 'kafka', bootstrap.servers = '{brokers}', topic = '{topic}'{more})"
    );
    let script = streaming::sql::parse(&text).map_err(told)?;
    Ok(script.table("events").context("failed to declare the events")?.def.clone())
}

fn kafka() -> anyhow::Result<&'static dyn Connector> {
    connectors::find("kafka").context("failed to find connector 'kafka'")
}

fn context() -> connectors::Context {
    connectors::Context {
        job: "bench/kafka".to_string(),
        generation: 1,
        claimed_us: 0,
        slot: 0,
        n_slots: 1,
        base_dir: PathBuf::new(),
        tables_endpoint: None,
        token: None,
    }
}

impl Work {
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    fn admin<T>(
        &self,
        work: impl AsyncFnOnce(AdminClient<DefaultClientContext>) -> Result<T, KafkaError>,
    ) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let admin = self.client().create()?;
        runtime.block_on(work(admin)).with_context(|| format!("failed to ask Kafka at {}", self.brokers))
    }

    fn create(&self, topic: &str) -> anyhow::Result<()> {
        let made = self.admin(async |admin| {
            let topic = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
            admin.create_topics([&topic], &AdminOptions::new()).await
        })?;
        match made.into_iter().next() {
            Some(Err((topic, code))) => bail!("failed to create topic {topic} at {}: {code}", self.brokers),
            _ => Ok(()),
        }
    }

    fn remove(&self, topic: &str) -> anyhow::Result<()> {
        self.admin(async |admin| admin.delete_topics(&[topic], &AdminOptions::new()).await).map(drop)
    }

    /// Our source, all columns.
    fn read(&self, topic: &str) -> anyhow::Result<f64> {
        let table = declared(&self.brokers, topic, &[("scan.bounded", "latest")])?;
        let kafka = kafka()?;
        let starts: Vec<SplitStart> =
            kafka.splits(&table, &context())?.into_iter().map(|split| SplitStart { split, from: None }).collect();
        let columns: Vec<usize> = (0..table.schema.fields().len()).collect();
        let started = Instant::now();
        let mut reader = kafka.open_source(&table, &columns, &starts, &context())?;
        let (mut rows, mut seconds) = (0, 0.0);
        loop {
            match reader.poll(PATIENCE)? {
                Polled::Batch { batch, bad, .. } => {
                    rows += batch.num_rows() as u64;
                    seconds = started.elapsed().as_secs_f64();
                    if !bad.is_empty() {
                        bail!("failed to decode {} records, the first because of: {}", bad.len(), bad[0].error);
                    }
                }
                Polled::SplitEnd { .. } => {}
                Polled::End => break,
                Polled::Idle => bail!("failed to read: nothing came for {} s", PATIENCE.as_secs()),
            }
        }
        if rows != self.rows {
            bail!("failed to read all: {rows} of {} rows came", self.rows);
        }
        Ok(rows as f64 / seconds)
    }

    /// librdkafka's records in batches, looked at by nobody.
    fn consume(&self, topic: &str) -> anyhow::Result<f64> {
        const AT_ONCE: usize = 1024;
        let mut config = self.client();
        config.set("group.id", "smack-bench").set("enable.auto.commit", "false");
        config.set("queued.max.messages.kbytes", "65536").set("fetch.queue.backoff.ms", "10");
        let consumer: BaseConsumer = config.create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, PARTITIONS - 1);
        list.set_all_offsets(Offset::Beginning)?;
        // SAFETY: the client lives to the end of this function; the queue is destroyed before it.
        let queue = unsafe { native::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        let started = Instant::now();
        consumer.assign(&list)?;
        let mut left = self.rows;
        let mut room = [null_mut(); AT_ONCE];
        let until = started + PATIENCE;
        while left > 0 && Instant::now() < until {
            let most = AT_ONCE.min(left as usize);
            // SAFETY: there is room for `most` pointers; each that is filled in is destroyed once.
            let n = unsafe { native::rd_kafka_consume_batch_queue(queue, 100, room.as_mut_ptr(), most) };
            for message in &room[..usize::try_from(n).unwrap_or(0)] {
                // SAFETY: as above.
                unsafe { native::rd_kafka_message_destroy(*message) };
            }
            left -= u64::try_from(n).unwrap_or(0);
        }
        let seconds = started.elapsed().as_secs_f64();
        // SAFETY: was got above and is used no more.
        unsafe { native::rd_kafka_queue_destroy(queue) };
        if left > 0 {
            bail!("failed to read: {left} records are missing after {} s", PATIENCE.as_secs());
        }
        Ok(self.rows as f64 / seconds)
    }

    /// Our sink; exactly once with a checkpoint each second.
    fn write(&self, topic: &str, delivery: &str) -> anyhow::Result<f64> {
        let options = [("delivery", delivery), ("buffer.memory", "1GiB")];
        let table = declared(&self.brokers, topic, &options)?;
        let mut sink = kafka()?.open_sink(&table, &context())?;
        let started = Instant::now();
        let (mut epoch, mut begun) = (1, Instant::now());
        for batch in &self.batches {
            sink.write(batch)?;
            if delivery == "exactly_once" && begun.elapsed() >= CHECKPOINT_EVERY {
                begun = Instant::now();
                sink.prepare(epoch)?;
                sink.commit(epoch)?;
                epoch += 1;
            }
        }
        sink.prepare(epoch)?;
        sink.commit(epoch)?;
        Ok(self.rows as f64 / started.elapsed().as_secs_f64())
    }

    /// The records that our sink would write, made beforehand.
    fn records(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let table = declared("", "", &[])?;
        let encoder = connectors::formats::Encoder::new(&table).map_err(|wrong| told(vec![wrong]))?;
        let mut records = Vec::with_capacity(self.rows as usize);
        for batch in &self.batches {
            records.extend(encoder.encode_rows(batch)?);
        }
        Ok(records)
    }

    /// A producer with our sink's settings.
    fn produce(&self, topic: &str, records: &[Vec<u8>]) -> anyhow::Result<f64> {
        let mut config = self.client();
        config.set("enable.idempotence", "true").set("delivery.report.only.error", "true");
        config.set("queue.buffering.max.messages", "1000000").set("queue.buffering.max.kbytes", "65536");
        let producer: BaseProducer = config.create()?;
        let started = Instant::now();
        for (at, value) in records.iter().enumerate() {
            loop {
                match producer.send(BaseRecord::<(), [u8]>::to(topic).payload(value)) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                        producer.poll(Duration::from_millis(1));
                    }
                    Err((error, _)) => return Err(error.into()),
                }
            }
            if at % 4096 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        producer.flush(PATIENCE)?;
        Ok(records.len() as f64 / started.elapsed().as_secs_f64())
    }
}
