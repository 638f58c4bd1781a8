//! Servers that stop answering for a while and come back, as in a long pause or a cut cable.
//!
//! Each test starts a server of its own, because a stopped one would hold up the others.

use crate::lookups;
use crate::support::{PATIENCE, connector, context, fresh, read, table};
use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use connectors::{Error, Polled, SplitStart, TableDef};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than the connectors' patience with one request, shorter than the runtime's with a job.
const STILL: Duration = Duration::from_secs(12);

struct Server {
    dir: tempfile::TempDir,
    name: &'static str,
    address: String,
}

impl Server {
    fn start(name: &'static str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut command = script();
        let output = command.args(["start"]).arg(dir.path()).arg(name).output().expect("servers.sh");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let address = told.lines().next().and_then(|line| line.split_once('=')).map(|(_, address)| address.to_owned());
        let address = address.expect("an address");
        Self { dir, name, address }
    }

    fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.dir.path().join(format!("{}.pid", self.name))).expect("a process id");
        assert!(Command::new("kill").args([signal, pid.trim()]).status().expect("kill").success());
    }

    /// Runs `work` while the server stands still, and lets it go on before the work is done.
    fn while_still<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.while_still_for(STILL, work)
    }

    fn while_still_for<T: Send>(&self, still: Duration, work: impl FnOnce() -> T + Send) -> T {
        self.signal("-STOP");
        std::thread::scope(|scope| {
            let working = scope.spawn(work);
            std::thread::sleep(still);
            self.signal("-CONT");
            working.join().expect("the work did not panic")
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal("-CONT");
        let stopped = script().arg("stop").arg(self.dir.path()).status();
        assert!(stopped.is_ok_and(|status| status.success()), "{} was not stopped", self.name);
    }
}

fn script() -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/servers/servers.sh"));
    for given in ["SMACK_KAFKA", "SMACK_CASSANDRA", "SMACK_S3", "SMACK_REGISTRY"] {
        command.env_remove(given);
    }
    command
}

/// What the runtime does with a transient error.
fn until_done<T>(mut work: impl FnMut() -> connectors::Result<T>) -> T {
    let until = Instant::now() + 2 * PATIENCE;
    loop {
        match work() {
            Ok(done) => return done,
            Err(Error::Transient(why)) => {
                eprintln!("tried again: {why}");
                assert!(Instant::now() < until, "{why}");
            }
            Err(Error::Fatal(why)) => panic!("{why}"),
        }
    }
}

fn batch(numbers: std::ops::Range<i64>) -> RecordBatch {
    let column: Arc<dyn Array> = Arc::new(Int64Array::from_iter_values(numbers));
    RecordBatch::try_from_iter([("n", column)]).expect("a batch")
}

fn numbers(table: &TableDef) -> Vec<i64> {
    let all = read(table, &[0], &BTreeMap::new()).expect("read").all();
    let mut numbers = all.column(0).as_primitive::<Int64Type>().values().to_vec();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_broker_that_stands_still_costs_time_and_no_rows() {
    let server = Server::start("kafka");
    let declared = |delivery, bounded| {
        let topic = format!("still_{delivery}");
        let options = [
            ("connector", "kafka"),
            ("topic", topic.as_str()),
            ("bootstrap.servers", server.address.as_str()),
            ("create_topic", "true"),
            ("partitions", "2"),
            ("delivery", delivery),
            ("scan.bounded", bounded),
            // So short that a standstill outlasts the transaction: the broker aborts it.
            ("transaction.timeout", "4s"),
        ];
        table("still", &[("n", DataType::Int64)], 1, &options)
    };

    let once = declared("exactly_once", "latest");
    let mut sink = connector("kafka").open_sink(&once, &context(0)).expect("a sink");
    sink.write(&batch(0..100)).expect("written");
    sink.prepare(1).expect("prepared");
    sink.commit(1).expect("committed");
    sink.write(&batch(100..200)).expect("written");
    let state = sink.prepare(2).expect("prepared");
    let outcome = server.while_still(|| {
        // Transient errors are tried again; being fenced by the broker's own abort ends this generation.
        loop {
            match sink.commit(2) {
                Err(Error::Transient(why)) => eprintln!("tried again: {why}"),
                other => return other,
            }
        }
    });
    if let Err(why) = outcome {
        eprintln!("the next generation takes over: {why}");
        let mut next = connector("kafka").open_sink(&once, &context(0)).expect("a sink");
        until_done(|| next.restore(2, vec![state.clone()]));
    }
    assert_eq!(numbers(&once), (0..200).collect::<Vec<i64>>());

    let plain = declared("at_least_once", "latest");
    let mut sink = connector("kafka").open_sink(&plain, &context(0)).expect("a sink");
    sink.write(&batch(0..100)).expect("written");
    server.while_still(|| until_done(|| sink.prepare(1)));
    assert_eq!(numbers(&plain), (0..100).collect::<Vec<i64>>());

    let unbounded = declared("at_least_once", "none");
    let starts: Vec<SplitStart> =
        ["0", "1"].iter().map(|split| SplitStart { split: (*split).to_owned(), from: None }).collect();
    let mut reader = connector("kafka").open_source(&unbounded, &[0], &starts, &context(0)).expect("a reader");
    let mut seen = 0;
    let mut take = |wanted: usize| {
        while seen < wanted {
            if let Polled::Batch { batch, .. } = until_done(|| reader.poll(Duration::from_millis(100))) {
                seen += batch.num_rows();
            }
        }
    };
    take(100);
    sink.write(&batch(100..200)).expect("written");
    server.while_still(|| {
        until_done(|| sink.prepare(2));
        take(200);
    });
}

#[test]
fn a_node_that_stands_still_costs_time_and_no_rows() {
    let server = Server::start("cassandra");
    let name = fresh("still");
    let options = [
        ("connector", "cassandra"),
        ("contact_points", server.address.as_str()),
        ("keyspace", "smack_live"),
        ("table", name.as_str()),
        ("create_keyspace", "true"),
        ("create_table", "true"),
    ];
    let table = table("still", &[("n", DataType::Int64)], 1, &options);
    let mut sink = connector("cassandra").open_sink(&table, &context(0)).expect("a sink");
    sink.write(&batch(0..100)).expect("written");
    server.while_still(|| {
        until_done(|| sink.write(&batch(100..1000)));
        until_done(|| sink.prepare(1));
    });
    assert_eq!(numbers(&table), (0..1000).collect::<Vec<i64>>());
}

#[test]
fn lookups_wait_for_a_node_that_stands_still() {
    let server = Server::start("cassandra");
    let table = lookups::sales(&server.address, &fresh("sales"));
    lookups::fill(&table, 100_000);
    let mut lookup = connector("cassandra").open_lookup(&table, &[0, 1], &[2], &context(0)).expect("a lookup");
    let keys = lookups::keys(0..10_000, Some(0));
    let found = server.while_still_for(Duration::from_secs(30), || until_done(|| lookup.get(&keys)));
    let wanted: Vec<(u32, String)> = (0..10_000).map(|shop| (shop, format!("n{}", shop * 2))).collect();
    assert_eq!(lookups::notes(&found), wanted);
}
