//! Every kind of operator, wrapped and with hardly any memory, against itself in memory: random rows, watermarks, passes,
//! snapshots, and restores at another number of slices.

use super::{Paged, Spec};
use crate::dataflow::{Dataflow, Operator};
use crate::functions::Functions;
use crate::runtime::exchange::partition::partition;
use crate::runtime::operators::plan;
use crate::runtime::operators::stateful::{Output, Stateful, When};
use crate::runtime::operators::testing::{Chain, add_up, restore_chains};
use crate::sql::{self, StatementBody};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rows::Random;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

mod living;
mod rows;

const TABLES: &str = "
CREATE TABLE t (k BIGINT, v BIGINT, s VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'datagen');
CREATE TABLE u (k BIGINT, v BIGINT, s VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'datagen');
CREATE TABLE versions (
  k BIGINT PRIMARY KEY, v BIGINT, s VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts
) WITH (connector = 'datagen');
CREATE TABLE late (k BIGINT, v BIGINT, s VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (
  connector = 'datagen', allowed_lateness = '4 seconds'
);
CREATE TABLE kept (k BIGINT, n BIGINT, PRIMARY KEY (n) NOT ENFORCED);
CREATE TABLE told (k BIGINT PRIMARY KEY, v BIGINT) WITH (connector = 'files', path = 'told', changelog = 'debezium');
CREATE TABLE told_at (k BIGINT PRIMARY KEY, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (
  connector = 'files', path = 'told', changelog = 'debezium'
);
";

/// Many rows of few keys; at `Settled` everything must have been said.
#[derive(Clone, Debug)]
enum Step {
    Rows { input: usize, seed: u64, n_rows: usize },
    Watermark(i64),
    Ended(usize),
    Flush,
    Pass,
    Settled,
    Snapshot,
    Rescale(u32),
}

fn histories() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_usize..2, any::<u64>(), 1_usize..60).prop_map(|(input, seed, n_rows)| Step::Rows { input, seed, n_rows }),
        4 => (0_i64..9).prop_map(Step::Watermark),
        2 => Just(Step::Flush),
        2 => Just(Step::Pass),
        2 => Just(Step::Settled),
        1 => Just(Step::Snapshot),
        1 => (1_u32..4).prop_map(Step::Rescale),
    ];
    let end = (0_usize..40, 0_usize..2);
    (proptest::collection::vec(step, 1..40), proptest::option::of(end)).prop_map(|(mut steps, end)| {
        if let Some((at, input)) = end.filter(|(at, _)| *at < steps.len()) {
            steps.insert(at, Step::Ended(input));
        }
        steps
    })
}

/// One operator of a query.
struct Planned {
    dataflow: Dataflow,
    at: usize,
    keys: Vec<Vec<usize>>,
}

impl Planned {
    fn make(&self, slot: u32) -> Box<dyn Stateful> {
        plan::make(&self.dataflow, self.at, slot).expect("it is made").expect("it has state")
    }

    /// What was said, as it adds up; of rows before a table written by key, as the table holds them.
    fn told(&self, told: &mut BTreeMap<String, i64>, out: &Output) {
        let node = &self.dataflow.nodes[self.at];
        for batch in &out.batches {
            let changes = node.changes || batch.num_columns() > node.schema.fields().len();
            match &node.operator {
                Operator::Upsert { keys } => rows::put(told, batch, keys),
                _ => add_up(told, batch, changes),
            }
        }
    }
}

/// The operator on some slices, in memory or paged.
struct Slices {
    planned: Arc<Planned>,
    folder: Option<PathBuf>,
    budget: usize,
    slices: Vec<Box<dyn Stateful>>,
    /// By slice.
    chains: Vec<Chain>,
    watermark_us: i64,
    ended: Vec<usize>,
    told: BTreeMap<String, i64>,
    n_late: u64,
    n_timeless: u64,
    spilled: u64,
}

impl Slices {
    fn new(planned: &Arc<Planned>, folder: Option<&Path>, budget: usize) -> Self {
        let mut this = Self {
            planned: Arc::clone(planned),
            folder: folder.map(Path::to_path_buf),
            budget,
            slices: Vec::new(),
            chains: vec![Chain::default()],
            watermark_us: i64::MIN,
            ended: Vec::new(),
            told: BTreeMap::new(),
            n_late: 0,
            n_timeless: 0,
            spilled: 0,
        };
        this.slices = this.made(1);
        this
    }

    fn made(&self, n_slots: u32) -> Vec<Box<dyn Stateful>> {
        let make = |slot: u32| -> Box<dyn Stateful> {
            let Some(folder) = &self.folder else { return self.planned.make(slot) };
            let planned = Arc::clone(&self.planned);
            let spec = Spec {
                make: Box::new(move || Ok(planned.make(slot))),
                keys: self.planned.keys.clone(),
                folder: folder.clone(),
                bytes: self.budget,
            };
            Box::new(Paged::new(spec).expect("it has keys"))
        };
        (0..n_slots).map(make).collect()
    }

    fn hear(&mut self, out: &Output) {
        self.planned.told(&mut self.told, out);
        self.n_late += out.n_late;
        self.n_timeless += out.n_timeless;
    }

    fn each(&mut self, mut act: impl FnMut(&mut dyn Stateful, &mut Output)) {
        let mut out = Output::default();
        self.slices.iter_mut().for_each(|slice| act(slice.as_mut(), &mut out));
        self.hear(&out);
    }

    fn step(&mut self, step: &Step, clock: i64) {
        match step {
            Step::Rows { input, seed, n_rows } => {
                let inputs = &self.planned.dataflow.nodes[self.planned.at].inputs;
                let input = input % inputs.len();
                if self.ended.contains(&input) {
                    return;
                }
                let from = &self.planned.dataflow.nodes[inputs[input]];
                let batch = rows::batch(&from.schema, from.changes, clock, *n_rows, &mut Random::new(*seed));
                let mut out = Output::default();
                let parts = partition(&batch, &self.planned.keys[input], self.slices.len() as u32);
                for (slot, part) in parts.expect("dealt") {
                    self.slices[slot as usize].process(input, &part, &mut out).expect("processed");
                }
                self.hear(&out);
                let budget = self.budget;
                self.each(|slice, out| slice.fit(budget, out).expect("it fits"));
                self.spilled += self.slices.iter().map(|slice| slice.spilled_bytes()).sum::<u64>();
            }
            Step::Watermark(_) => {
                self.watermark_us = rows::time(clock);
                let watermark_us = self.watermark_us;
                self.each(|slice, out| slice.advance(watermark_us, out).expect("advanced"));
            }
            Step::Ended(input) => {
                let input = input % self.planned.keys.len();
                self.ended.push(input);
                self.each(|slice, _| slice.input_ended(input).expect("ended"));
            }
            Step::Flush => self.each(|slice, out| slice.flush(out).expect("flushed")),
            Step::Pass => self.each(|slice, out| {
                slice.catch_up(When::Worthwhile, out).expect("caught up");
            }),
            Step::Settled => self.settle(),
            Step::Snapshot => self.snapshot(),
            Step::Rescale(n_slots) => {
                self.snapshot();
                let n_before = self.slices.len();
                self.slices = self.made(*n_slots);
                for (slot, slice) in self.slices.iter_mut().enumerate() {
                    restore_chains(slice.as_mut(), &self.chains, slot as u32, *n_slots).expect("restored");
                    self.ended.iter().for_each(|input| slice.input_ended(*input).expect("ended"));
                }
                if self.slices.len() != n_before {
                    self.chains = vec![Chain::default(); self.slices.len()];
                }
            }
        }
    }

    fn settle(&mut self) {
        self.each(|slice, out| {
            slice.flush(out).expect("flushed");
            while !slice.catch_up(When::Now, out).expect("caught up") {}
        });
    }

    fn snapshot(&mut self) {
        let (n_slots, watermark_us) = (self.slices.len() as u32, self.watermark_us);
        let mut out = Output::default();
        for (slot, (slice, chain)) in self.slices.iter_mut().zip(&mut self.chains).enumerate() {
            chain.save(slice.as_mut(), watermark_us, (slot as u32, n_slots), &mut out).expect("a snapshot");
        }
        self.hear(&out);
    }

    fn end(&mut self) {
        for input in 0..self.planned.keys.len() {
            self.each(|slice, _| slice.input_ended(input).expect("ended"));
        }
        self.watermark_us = i64::MAX;
        self.each(|slice, out| slice.advance(i64::MAX, out).expect("advanced"));
        self.settle();
    }

    fn output_watermark_us(&self) -> i64 {
        self.slices.iter().map(|slice| slice.output_watermark_us()).min().unwrap_or(i64::MAX)
    }
}

fn compare(planned: &Arc<Planned>, steps: &[Step], budget: usize, spilled: &AtomicU64) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut wanted = Slices::new(planned, None, 0);
    let mut found = Slices::new(planned, Some(folder.path()), budget);
    let mut clock = 100;
    // Pages that were restored to disk do not know what they hold until event time goes on.
    let mut knows_time = true;
    for step in steps {
        if let Step::Watermark(by) = step {
            clock += by;
        }
        wanted.step(step, clock);
        found.step(step, clock);
        match step {
            Step::Rescale(_) => knows_time = false,
            Step::Watermark(by) if *by > 0 => knows_time = true,
            _ => {}
        }
        if matches!(step, Step::Settled) {
            prop_assert_eq!(&found.told, &wanted.told);
            prop_assert_eq!((found.n_late, found.n_timeless), (wanted.n_late, wanted.n_timeless));
            let (has, most) = (found.output_watermark_us(), wanted.output_watermark_us());
            let fits = if knows_time { has == most } else { has <= most };
            prop_assert!(fits, "output at {} and in memory at {}", has, most);
        }
    }
    wanted.end();
    found.end();
    prop_assert_eq!(&found.told, &wanted.told);
    prop_assert_eq!((found.n_late, found.n_timeless), (wanted.n_late, wanted.n_timeless));
    prop_assert_eq!(found.output_watermark_us(), wanted.output_watermark_us());
    spilled.fetch_add(found.spilled, Relaxed);
    Ok(())
}

fn planned(sql: &str) -> Dataflow {
    let script = sql::parse(&format!("{TABLES};{sql}")).unwrap_or_else(|wrong| panic!("{sql}: {wrong:?}"));
    let is_run = |at: &usize| matches!(script.statements[*at].body, StatementBody::Query(_) | StatementBody::Insert(_));
    let statements: Vec<usize> = (0..script.statements.len()).filter(is_run).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let planned = runtime.block_on(sql::plan(&script, &statements, &Functions::new()));
    planned.unwrap_or_else(|wrong| panic!("{sql}: {wrong:?}"))
}

/// All operators of the query that have keys; `kinds`: those that must be among them.
#[track_caller]
fn check(sql: &str, kinds: &[&str]) {
    let dataflow = planned(sql);
    let paged: Vec<(usize, Vec<Vec<usize>>)> =
        (0..dataflow.nodes.len()).filter_map(|at| Some((at, plan::keys(&dataflow, at)?))).collect();
    for kind in kinds {
        let is_kind = |(at, _): &(usize, Vec<Vec<usize>>)| dataflow.nodes[*at].id.starts_with(kind);
        assert!(paged.iter().any(is_kind), "{kind} is not in {:?}", paged);
    }
    for (at, keys) in paged {
        let planned = Arc::new(Planned { dataflow: dataflow.clone(), at, keys });
        let spilled = AtomicU64::new(0);
        let budgets = prop_oneof![Just(0_usize), Just(3_000), Just(30_000)];
        let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
        let result = runner.run(&(histories(), budgets), |(steps, budget)| compare(&planned, &steps, budget, &spilled));
        result.unwrap_or_else(|wrong| panic!("{} of {sql}: {wrong}", planned.dataflow.nodes[at].id));
        assert!(spilled.load(Relaxed) > 0, "{} of {sql} never went to disk", planned.dataflow.nodes[at].id);
    }
}

#[test]
fn windows() {
    let of = |window: &str| {
        format!(
            "SELECT k, window_end, count(*) AS n, sum(v) AS v, count(DISTINCT s) AS s FROM TABLE({window}) \
             GROUP BY k, window_start, window_end"
        )
    };
    check(&of("TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '4' SECOND)"), &["window"]);
    check(&of("HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '6' SECOND)"), &["window"]);
    check(&of("CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '6' SECOND)"), &["window"]);
    check(&of("SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '3' SECOND)"), &["window"]);
    for table in ["t", "late"] {
        let sessions = "count(*) AS n, sum(v) AS v, max(m) AS m";
        check(
            &format!(
                "SELECT k, {sessions} FROM (SELECT k, ts, max(v) AS v, count(*) AS m FROM {table} GROUP BY k, ts) \
                 GROUP BY k, session(INTERVAL '3' SECOND)"
            ),
            &["group", "window"],
        );
    }
}

#[test]
fn aggregates_of_all_rows() {
    check(
        "SELECT k, count(*) AS n, sum(v) AS v, min(v) AS least, count(DISTINCT s) AS s FROM t GROUP BY k",
        &["group"],
    );
    check(
        "SELECT n, s, count(*) AS m, max(v) AS v FROM (SELECT k, s, count(*) AS n, sum(v) AS v FROM t GROUP BY k, s) \
         GROUP BY n, s",
        &["group"],
    );
    check("SELECT DISTINCT k, s FROM t", &["group"]);
}

#[test]
fn joins() {
    for kind in ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"] {
        check(&format!("SELECT t.k, t.v, u.v AS w FROM t {kind} u ON t.k = u.k AND t.v <> u.v"), &["join"]);
    }
    for kind in ["EXISTS", "NOT EXISTS"] {
        check(&format!("SELECT k, v FROM t WHERE {kind} (SELECT 1 FROM u WHERE u.k = t.k)"), &["join"]);
    }
    check("SELECT k, s FROM t INTERSECT SELECT k, s FROM u", &["join"]);
}

#[test]
fn joins_with_versions() {
    for kind in ["JOIN", "LEFT JOIN"] {
        let join = format!("{kind} versions FOR SYSTEM_TIME AS OF t.ts AS u ON t.k = u.k");
        check(&format!("SELECT t.k, t.v, u.v AS w FROM t {join}"), &["temporal"]);
        check(&format!("SELECT t.k, t.v, u.s FROM t {join} AND t.v < u.v"), &["temporal"]);
    }
}

#[test]
fn joins_within_bounds_of_time() {
    for kind in ["JOIN", "LEFT JOIN", "FULL JOIN"] {
        check(
            &format!(
                "SELECT t.k, t.v, u.v AS w FROM t {kind} u ON t.k = u.k \
                 AND u.ts BETWEEN t.ts - INTERVAL '2' SECOND AND t.ts + INTERVAL '5' SECOND"
            ),
            &["join"],
        );
    }
}

#[test]
fn joins_of_changes() {
    check(
        "SELECT a.k, a.n, u.v FROM (SELECT k, count(*) AS n FROM t GROUP BY k) AS a LEFT JOIN u ON a.n = u.k",
        &["group", "join"],
    );
}

#[test]
fn first_rows() {
    let first = "(SELECT k, v, s, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC) AS r FROM t)";
    check(&format!("SELECT * FROM {first} WHERE r <= 3"), &["top"]);
    check(
        "SELECT * FROM (SELECT n, v, ROW_NUMBER() OVER (PARTITION BY n ORDER BY v) AS r \
         FROM (SELECT k, s, count(*) AS n, sum(v) AS v FROM t GROUP BY k, s)) WHERE r <= 2",
        &["top"],
    );
}

#[test]
fn first_rows_that_are_said_once() {
    for (order, limit) in [("ts", 1), ("ts, v DESC", 3)] {
        check(
            &format!(
                "SELECT k, sum(v) AS v, max(r) AS r \
                 FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY {order}) AS r FROM t) WHERE r <= {limit} \
                 GROUP BY k, tumble(INTERVAL '4' SECOND)"
            ),
            &["top", "window"],
        );
    }
}

#[test]
fn functions_over_rows() {
    check("SELECT k, v, sum(v) OVER (PARTITION BY k ORDER BY ts) AS total FROM t", &["over"]);
    check(
        "SELECT k, v, count(*) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '4' SECOND PRECEDING AND CURRENT \
         ROW) AS n FROM t",
        &["over"],
    );
    check("SELECT k, v, lag(v) OVER (PARTITION BY k ORDER BY v DESC) AS w FROM t", &["over"]);
}

#[test]
fn latest_rows_by_key() {
    check("INSERT INTO kept SELECT k, count(*) AS n FROM t GROUP BY k", &["upsert"]);
}

#[test]
fn upserts_that_are_read() {
    check("SELECT k, v FROM told", &["normalize"]);
}

#[test]
fn a_disk_that_takes_nothing_is_an_error_with_folder_and_setting() {
    let dataflow = planned("SELECT k, count(*) AS n FROM t GROUP BY k");
    let at = (0..dataflow.nodes.len()).find(|at| plan::keys(&dataflow, *at).is_some()).expect("a node with keys");
    let keys = plan::keys(&dataflow, at).expect("keys");
    let planned = Arc::new(Planned { dataflow, at, keys });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("taken");
    std::fs::write(&file, "by a file").expect("a file");
    let mut paged = Slices::new(&planned, Some(&file), 0).slices.remove(0);
    let input = &planned.dataflow.nodes[planned.dataflow.nodes[at].inputs[0]];
    let batch = rows::batch(&input.schema, input.changes, 0, 50, &mut Random::new(1));
    let mut out = Output::default();
    paged.process(0, &batch, &mut out).expect("processed");
    let error = paged.fit(0, &mut out).expect_err("there is nowhere to write");
    let text = error.to_string();
    assert!(text.contains("taken") && text.contains("state.memory"), "{text}");
}
