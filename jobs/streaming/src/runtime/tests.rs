//! Whole jobs in this process: several tasks over loopback, several slices, kills, restarts at another parallelism.

mod flaky;
mod silent;
mod stalled;
mod world;

use super::*;
use crate::control::{Level, Order, Report};
use crate::dataflow::{Dataflow, Lookup, Node, Operator, Watermark, Window};
use crate::runtime::local::{LocalConfig, LocalRun, Status, run};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::Operator as Op;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{binary, col, lit};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use world::{Row, World};

const WIDTH_US: i64 = 1_000;

/// Five splits of different length and speed (one is empty), each in order of time.
fn rows(n_rows: usize) -> Vec<Vec<Row>> {
    let split = |split: usize| {
        let n_rows = if split == 4 { 0 } else { n_rows / (split + 1) };
        let row = move |at: usize| ((at * (7 + 5 * split)) as i64, (at * 31 % 17) as i64, (at % 100) as i64 - 10);
        (0..n_rows).map(row).collect()
    };
    (0..5).map(split).collect()
}

fn world(rows: Vec<Vec<Row>>) -> World {
    World { rows, batch_rows: 7, gate: AtomicU64::new(u64::MAX), ..World::default() }
}

/// What a batch computation over all rows gives: those with a value of at least 0, per key and window.
fn expected(rows: &[Vec<Row>]) -> Vec<String> {
    let mut groups: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for (time, key, value) in rows.iter().flatten().filter(|row| row.2 >= 0) {
        let group = groups.entry((*key, time.div_euclid(WIDTH_US))).or_default();
        *group = (group.0 + value, group.1 + 1);
    }
    let line = |((key, window), (sum, count)): ((i64, i64), (i64, i64))| format!("{key} {window} {sum} {count}");
    let mut lines: Vec<String> = groups.into_iter().map(line).collect();
    lines.sort();
    lines
}

/// replay -> filter -> exchange by value -> project -> exchange by key -> window -> project -> kept (or collect).
fn dataflow(name: &str, idle_ms: Option<u64>, collect: bool) -> Dataflow {
    let input = world::schema();
    let column = |name: &str, schema: &SchemaRef| col(name, schema).expect("column");
    let aggregate = |function, name: &str| {
        let builder = AggregateExprBuilder::new(function, vec![column("value", &input)]);
        Arc::new(builder.schema(Arc::clone(&input)).alias(name).build().expect("aggregate"))
    };
    let aggregates = vec![aggregate(sum_udaf(), "sum"), aggregate(count_udaf(), "count")];
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    let windowed: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("start", time.clone(), false),
        Field::new("end", time, false),
        Field::new("sum", DataType::Int64, true),
        Field::new("count", DataType::Int64, true),
    ]));
    let number: Arc<dyn PhysicalExpr> = Arc::new(datafusion::physical_expr::expressions::CastExpr::new(
        column("start", &windowed),
        DataType::Int64,
        None,
    ));
    let number = binary(number, Op::Divide, lit(WIDTH_US), &windowed).expect("expression");
    let result = ["key", "window", "sum", "count"].map(|name| Field::new(name, DataType::Int64, true));
    let result: SchemaRef = Arc::new(Schema::new(result.to_vec()));
    let all = ["time", "key", "value"].map(|name| column(name, &input)).to_vec();
    let watermark = Watermark { time: column("time", &input), watermark: column("time", &input), idle_ms };
    let source = Operator::Source {
        table: world::table("replay", name, Arc::clone(&input)),
        projection: vec![0, 1, 2],
        watermark: Some(watermark),
    };
    let positive = binary(column("value", &input), Op::GtEq, lit(0_i64), &input).expect("predicate");
    let window = Operator::WindowAggregate {
        window: Window::Tumble { width_us: WIDTH_US, offset_us: 0 },
        time: 0,
        keys: vec![1],
        filters: vec![None; aggregates.len()],
        aggregates,
        lateness_us: 0,
        partial: false,
    };
    let out = vec![column("key", &windowed), number, column("sum", &windowed), column("count", &windowed)];
    let sink = match collect {
        true => Operator::Collect,
        false => Operator::Sink { table: world::table("kept", name, Arc::clone(&result)) },
    };
    let operators = [
        ("source", source, &input),
        ("filter", Operator::Filter { predicate: positive }, &input),
        ("exchange-value", Operator::Exchange { keys: vec![2] }, &input),
        ("project", Operator::Project { exprs: all }, &input),
        ("exchange-key", Operator::Exchange { keys: vec![1] }, &input),
        ("window", window, &windowed),
        ("numbers", Operator::Project { exprs: out }, &result),
        ("sink", sink, &result),
    ];
    let node = |(at, (id, operator, schema)): (usize, (&str, Operator, &SchemaRef))| Node {
        id: id.to_string(),
        inputs: at.checked_sub(1).into_iter().collect(),
        operator,
        schema: Arc::clone(schema),
        changes: false,
        lifetime: None,
        spans: Vec::new(),
    };
    Dataflow { nodes: operators.into_iter().enumerate().map(node).collect() }
}

/// The same with a lookup behind the filter, which finds the key of every row and adds nothing.
fn looked_up(name: &str) -> Dataflow {
    let mut dataflow = dataflow(name, None, false);
    let input = world::schema();
    let key: SchemaRef = Arc::new(input.project(&[1]).expect("the key"));
    let lookup = Lookup {
        table: world::table("known", name, key),
        table_keys: vec![0],
        input_keys: vec![1],
        projection: vec![0],
        exprs: Vec::new(),
        outer: false,
        residual: None,
        cache: None,
    };
    dataflow.nodes.iter_mut().skip(2).flat_map(|node| &mut node.inputs).for_each(|input| *input += 1);
    let operator = Operator::Lookup(Box::new(lookup));
    let node = Node {
        id: "lookup".to_string(),
        inputs: vec![1],
        operator,
        schema: input,
        changes: false,
        lifetime: None,
        spans: Vec::new(),
    };
    dataflow.nodes.insert(2, node);
    dataflow
}

fn config(dir: &Path, tasks: u32, slices: u32) -> LocalConfig {
    LocalConfig {
        tasks,
        slices,
        checkpoints: Some(Folder::local(&dir.join("checkpoints")).expect("folder")),
        checkpoint_interval_ms: 20,
        connectors: world::find,
        ..LocalConfig::new("demo/count", dir.to_path_buf(), dir.join("dead"))
    }
}

fn until(run: &LocalRun, what: &str, reached: impl Fn(&Status) -> bool) {
    // Waits for an event, not for a time; the bound only turns a hang into a failure.
    for _ in 0..60_000 {
        if reached(&run.status()) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("never came to {what}: {:?}, {:?}", run.status(), run.notices.try_iter().collect::<Vec<_>>());
}

#[test]
fn the_same_answer_at_every_parallelism() {
    for (tasks, slices) in [(1, 1), (1, 3), (3, 1), (2, 2)] {
        let dir = tempfile::tempdir().expect("temporary folder");
        let name = format!("parallel_{tasks}_{slices}");
        let rows = rows(6_000);
        let world = world::create(&name, world(rows.clone()));
        let job = run(dataflow(&name, None, false), config(dir.path(), tasks, slices)).expect("start");
        let status = Arc::clone(&job.status);
        assert_eq!(job.wait().expect("run"), Outcome::Finished);
        assert_eq!(world.visible(), expected(&rows), "{tasks} tasks of {slices} slices");
        let metrics = status.lock().expect("lock").metrics.clone();
        assert_eq!(metrics.rows_in, rows.iter().map(|rows| rows.len() as u64).sum::<u64>());
        assert_eq!((metrics.rows_late, metrics.rows_bad), (0, 0));
        assert_eq!(metrics.rows_out, expected(&rows).len() as u64);
        let [first, .., last] = metrics.operators.as_slice() else { panic!("operators are measured: {metrics:?}") };
        assert_eq!((first.rows_out, last.rows_in), (metrics.rows_in, metrics.rows_out));
        for operator in &metrics.operators {
            assert!(operator.busy_us + operator.blocked_us + operator.idle_us <= operator.total_us, "{operator:?}");
        }
    }
}

#[test]
fn goes_on_after_a_kill_at_another_parallelism() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let rows = rows(3_000);
    let world = world::create("kill", World { gate: AtomicU64::new(500), ..world(rows.clone()) });
    let gated = |gate: u64| rows.iter().map(|rows| gate.min(rows.len() as u64)).sum::<u64>();
    let start = |tasks, slices| run(dataflow("kill", None, false), config(dir.path(), tasks, slices)).expect("start");

    let job = start(1, 2);
    until(&job, "the first gate", |status| status.metrics.rows_in == gated(500));
    let epoch = job.status().view.epoch;
    until(&job, "a checkpoint", |status| status.view.epoch > epoch.map(|epoch| epoch + 1).or(Some(1)));
    job.stop();
    assert_eq!(job.wait().expect("run"), Outcome::Stopped);

    // What comes after the last checkpoint is read again, by other slices.
    world.gate.store(900, SeqCst);
    let job = start(2, 2);
    until(&job, "the second gate", |status| status.metrics.rows_in >= gated(900) - gated(500));
    job.drain();
    assert_eq!(job.wait().expect("run"), Outcome::Drained);
    assert!(world.visible().len() < expected(&rows).len(), "windows still open are kept as state");

    world.gate.store(u64::MAX, SeqCst);
    let job = start(3, 1);
    let (outcome, metrics) = job.wait_measured().expect("run");
    assert_eq!(outcome, Outcome::Finished);
    assert_eq!(world.visible(), expected(&rows));
    assert!(metrics.restore_bytes > 0 && metrics.restored_bytes == metrics.restore_bytes, "{metrics:?}");

    // All is done: another run finds nothing more to do.
    let job = start(1, 1);
    assert_eq!(job.wait().expect("run"), Outcome::Finished);
    assert_eq!(world.visible(), expected(&rows));
}

/// Splits that come into being are read by some slice, also by one that had nothing to read, their positions are in the
/// checkpoint, and another parallelism goes on from there.
#[test]
fn splits_that_come_into_being_are_read_once_also_after_a_kill() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut rows = rows(3_000);
    // What comes later is not late.
    rows[1..].iter_mut().flatten().for_each(|row| row.0 += 1_000_000);
    let grown = Some(AtomicUsize::new(1));
    let world = world::create("grown", World { gate: AtomicU64::new(500), grown, ..world(rows.clone()) });
    let there = |n: usize| world.grown.as_ref().expect("it grows").store(n, SeqCst);
    let gated = |n: usize, gate: usize| rows[..n].iter().map(|rows| gate.min(rows.len()) as u64).sum::<u64>();
    let start = |tasks, slices| run(dataflow("grown", None, false), config(dir.path(), tasks, slices)).expect("start");

    let job = start(1, 3);
    until(&job, "the one split's gate", |status| status.metrics.rows_in == gated(1, 500));
    there(3);
    until(&job, "those of two more", |status| status.metrics.rows_in == gated(3, 500));
    let epoch = job.status().view.epoch;
    until(&job, "a checkpoint", |status| status.view.epoch > epoch.map(|epoch| epoch + 1).or(Some(1)));
    job.stop();
    assert_eq!(job.wait().expect("run"), Outcome::Stopped);

    // One came while nobody read, one comes later; slices that have none wait for it.
    there(4);
    world.gate.store(700, SeqCst);
    let job = start(2, 3);
    until(&job, "all gates", |status| status.metrics.rows_in >= gated(4, 700) - gated(3, 500));
    there(5);
    world.gate.store(u64::MAX, SeqCst);
    let status = Arc::clone(&job.status);
    assert_eq!(job.wait().expect("run"), Outcome::Finished);
    assert_eq!(world.visible(), expected(&rows));
    assert_eq!(status.lock().expect("lock").metrics.rows_late, 0);
}

#[test]
fn a_lookup_is_answered_when_input_pauses_and_event_time_follows_it() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let rows = rows(3_000);
    let failing = AtomicU32::new(3);
    let world = World { gate: AtomicU64::new(500), lookups_fail: failing, ..world(rows.clone()) };
    let world = world::create("looked_up", world);
    let job = run(looked_up("looked_up"), config(dir.path(), 1, 2)).expect("start");
    // The slowest split has come to 3,493 µs: three windows are over.
    let over: Vec<String> = expected(&rows)
        .into_iter()
        .filter(|line| ["0", "1", "2"].contains(&line.split(' ').nth(1).unwrap_or("")))
        .collect();
    until(&job, "the windows before the gate", |_| world.visible().len() >= over.len());
    assert_eq!(world.visible(), over);
    let told: Vec<String> = job.notices.try_iter().map(|(_, text)| text).collect();
    assert!(told.iter().any(|text| text.contains("to look up in it")), "{told:?}");
    assert!(told.iter().any(|text| text.contains("could look up in it at attempt")), "{told:?}");
    world.gate.store(u64::MAX, SeqCst);
    assert_eq!(job.wait().expect("run"), Outcome::Finished);
    assert_eq!(world.visible(), expected(&rows));
}

#[test]
fn an_epoch_that_was_prepared_is_committed_after_a_crash() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let rows = rows(500);
    let world = world::create("commit", World { commits_fail: AtomicBool::new(true), ..world(rows.clone()) });
    let mut config = config(dir.path(), 1, 2);
    config.checkpoint_interval_ms = 0;
    let job = run(dataflow("commit", None, false), config.clone()).expect("start");
    let text = job.wait().expect_err("the commit fails").to_string();
    assert!(text.contains("commit to table commit_kept") && text.contains("the other end is gone"), "{text}");
    assert_eq!(world.visible(), Vec::<String>::new());
    // The manifest was durable, so the rows are, too: a restart shows them before it reads anything.
    world.commits_fail.store(false, SeqCst);
    world.gate.store(0, SeqCst);
    let job = run(dataflow("commit", None, false), config).expect("start");
    assert_eq!(job.wait().expect("run"), Outcome::Finished);
    assert_eq!(world.visible(), expected(&rows));
}

#[test]
fn results_of_a_bare_select_come_to_the_caller() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let rows = rows(2_000);
    world::create("select", world(rows.clone()));
    let job = run(dataflow("select", None, true), config(dir.path(), 1, 3)).expect("start");
    let mut lines: Vec<String> = job.results.iter().flat_map(|batch| world::lines(&batch)).collect();
    lines.sort();
    assert_eq!(lines, expected(&rows));
    assert_eq!(job.wait().expect("run"), Outcome::Finished);
}

#[test]
fn bad_records_are_kept_and_refusals_are_told() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let rows = rows(300);
    let n_bad = rows.iter().flatten().filter(|row| row.2 == 42).count();
    let refusals = AtomicU32::new(2);
    world::create("bad", World { bad_at: Some(42), refusals, ..world(rows.clone()) });
    let job = run(dataflow("bad", None, false), config(dir.path(), 1, 1)).expect("start");
    let status = Arc::clone(&job.status);
    let notices = job.notices.clone();
    assert_eq!(job.wait().expect("run"), Outcome::Finished);
    let text = std::fs::read_to_string(dir.path().join("dead/bad_replay.jsonl")).expect("dead letters");
    assert_eq!(text.lines().count(), n_bad);
    assert_eq!(status.lock().expect("lock").metrics.rows_bad, n_bad as u64);
    let notices: Vec<(Level, String)> = notices.try_iter().collect();
    assert!(notices[0].1.contains("10.0.0.1:9") && notices[0].1.contains("attempt 1"), "{notices:?}");
    assert!(notices.iter().any(|(level, text)| *level == Level::Info && text.contains("answers again")), "{notices:?}");
}

/// Epochs fail because state cannot be written, some of it after it was written; the job is killed amid that and goes on.
#[test]
fn what_could_not_be_written_breaks_no_chain() {
    for seed in 0..2 {
        let dir = tempfile::tempdir().expect("temporary folder");
        let rows = rows(6_000);
        let name = format!("flaky_{seed}");
        let world = world::create(&name, World { gate: AtomicU64::new(100), ..world(rows.clone()) });
        let flaky = flaky::Flaky::new(seed, 2);
        let store: Arc<dyn object_store::ObjectStore> = Arc::clone(&flaky) as _;
        let folder = Folder { store, prefix: object_store::path::Path::default() };
        let start = |tasks, slices| {
            let checkpoints = Some(folder.clone());
            let quick = LocalConfig {
                checkpoints,
                checkpoint_interval_ms: 5,
                checkpoint_timeout_ms: 100,
                ..config(dir.path(), tasks, slices)
            };
            run(dataflow(&name, None, false), quick).expect("start")
        };
        // The second life goes on with the chains of the first, the third begins others.
        for (life, (tasks, slices)) in [(1, 2), (2, 1), (1, 3)].into_iter().enumerate() {
            let job = start(tasks, slices);
            let end = 500 * (life as u64 + 1);
            let epochs = |status: &Status| status.view.epoch.unwrap_or(0);
            for gate in (end - 400..=end).step_by(100) {
                world.gate.store(gate, SeqCst);
                let before = epochs(&job.status());
                until(&job, "two checkpoints", |status| status.ready && epochs(status) >= before + 2);
            }
            job.stop();
            assert_eq!(job.wait().expect("run"), Outcome::Stopped);
        }
        world.gate.store(u64::MAX, SeqCst);
        assert_eq!(start(1, 3).wait().expect("run"), Outcome::Finished);
        assert_eq!(world.visible(), expected(&rows), "seed {seed}");
        assert!(flaky.failures.load(SeqCst) < 6, "nothing failed");
    }
}

#[test]
fn a_panic_is_an_error_with_the_name_of_its_thread() {
    let dir = tempfile::tempdir().expect("temporary folder");
    world::create("panic", World { panics_at: Some(13), ..world(rows(100)) });
    let job = run(dataflow("panic", None, false), config(dir.path(), 1, 2)).expect("start");
    let text = job.wait().expect_err("panics").to_string();
    assert!(text.contains("read-panic_replay") && text.contains("no test survives"), "{text}");
}

#[test]
fn a_lost_task_is_named_by_the_others() {
    let dir = tempfile::tempdir().expect("temporary folder");
    world::create("lost", World { gate: AtomicU64::new(5), ..world(rows(100)) });
    let listeners: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let port = |listener: &TcpListener| listener.local_addr().expect("bound").port();
    let peers: Vec<Peer> =
        listeners.iter().map(|listener| Peer { host: "127.0.0.1".into(), port: port(listener) }).collect();
    let checkpoints = Folder::memory();
    let mut tasks = Vec::new();
    for (index, listener) in listeners.into_iter().enumerate() {
        let config = TaskConfig {
            job: "demo/count".into(),
            generation: 1,
            claimed_us: 1,
            life: 0,
            begun_us: 1,
            index: index as u32,
            slices: 1,
            peers: peers.clone(),
            listener: Some(listener),
            checkpoints: checkpoints.clone(),
            restore: None,
            base_dir: dir.path().to_path_buf(),
            tables_endpoint: None,
            token: None,
            dead_letter_dir: dir.path().join("dead"),
            state_memory: 1 << 20,
            spill_dir: dir.path().join("spill"),
            connectors: world::find,
        };
        let (orders, take_orders) = crossbeam_channel::unbounded();
        let (send_reports, reports) = crossbeam_channel::unbounded();
        let dataflow = dataflow("lost", None, false);
        let thread = std::thread::spawn(|| run_task(dataflow, config, take_orders, send_reports, None));
        tasks.push((orders, reports, thread));
    }
    for (_, reports, _) in &tasks {
        assert!(reports.iter().any(|report| report == Report::Ready));
    }
    tasks[0].0.send(Order::Stop).expect("it runs");
    let ends: Vec<_> = tasks.into_iter().map(|(_, _, thread)| thread.join().expect("no panic")).collect();
    assert_eq!(ends[0].as_ref().ok(), Some(&Outcome::Stopped), "{ends:?}");
    let text = ends[1].as_ref().expect_err("the other one is gone").to_string();
    assert!(text.contains(&format!("task 0 at 127.0.0.1:{}", peers[0].port)), "{text}");
}

mod connections {
    use crate::runtime::exchange::connect::{Error, Plan, connect};
    use jobs::Peer;
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    #[test]
    fn another_generation_or_token_is_refused() {
        let listeners: Vec<TcpListener> =
            (0..2).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let port = |listener: &TcpListener| listener.local_addr().expect("bound").port();
        let peers: Vec<Peer> =
            listeners.iter().map(|listener| Peer { host: "127.0.0.1".into(), port: port(listener) }).collect();
        let plan = |index, generation, token| Plan {
            job: "demo/count",
            generation,
            token,
            tls: None,
            index,
            slices: 1,
            peers: &peers,
            nodes: &[3],
        };
        let over = AtomicBool::new(false);
        let mut listeners = listeners.into_iter();
        std::thread::scope(|scope| {
            let listener = listeners.next();
            let newer = plan(0, 2, Some("secret"));
            let newer = scope.spawn(|| connect(&{ newer }, listener, || over.load(SeqCst), drop));
            let listener = listeners.next().expect("two");
            let again = listener.try_clone().expect("clone");
            let last = listener.try_clone().expect("clone");
            let refused = connect(&plan(1, 1, Some("secret")), Some(listener), || false, drop);
            assert!(matches!(refused, Err(Error::Superseded { task: 0, theirs: 2, ours: 1, .. })), "{refused:?}");
            let mut attempts = 0;
            let stop = || {
                attempts += 1;
                attempts > 5
            };
            let refused = connect(&plan(1, 2, Some("guess")), Some(again), stop, drop);
            assert!(matches!(refused, Err(Error::Stopped)), "{refused:?}");
            let joined = connect(&plan(1, 2, Some("secret")), Some(last), || false, drop).expect("connected");
            assert_eq!((joined.outgoing.len(), joined.incoming.len()), (1, 1));
            over.store(true, SeqCst);
            let newer = newer.join().expect("no panic").expect("connected");
            assert_eq!((newer.outgoing.len(), newer.incoming.len()), (1, 1));
        });
    }
}
