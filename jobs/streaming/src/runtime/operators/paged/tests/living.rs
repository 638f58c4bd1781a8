//! Every operator with a time to live, against a naive one: a key, or a row of a join, has an operator of its own, which is
//! thrown away when its time has run out. With flushes, snapshots, and restores at another number of slices; and paged
//! against in memory.

use super::rows::{self, Random};
use super::*;
use crate::dataflow::Lifetime;
use crate::runtime::operators::expiring::rounded_us;
use crate::state::hash;
use arrow::array::{
    Array, ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int8Type, TimestampMicrosecondType};
use datafusion::common::JoinType;

const SECOND: i64 = 1_000_000;
const SET: &str = "SET state.ttl = '6 seconds'";

/// Watermarks that go on by more than in other histories, so that much is forgotten.
fn long_histories() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_usize..2, any::<u64>(), 1_usize..30).prop_map(|(input, seed, n_rows)| Step::Rows { input, seed, n_rows }),
        6 => prop_oneof![3 => 0_i64..4, 1 => 4_i64..14].prop_map(Step::Watermark),
        2 => Just(Step::Flush),
        2 => Just(Step::Settled),
        1 => Just(Step::Snapshot),
        1 => (1_u32..4).prop_map(Step::Rescale),
    ];
    proptest::collection::vec(step, 1..50)
}

/// The moment at which what is touched is forgotten.
#[derive(Clone, Copy, Debug)]
struct Moment {
    touched_us: i64,
    /// No watermark has come since.
    is_open: bool,
}

impl Moment {
    const NONE: Self = Self { touched_us: i64::MIN, is_open: false };

    fn touch(&mut self, time_us: Option<i64>, watermark_us: i64) {
        match time_us {
            Some(time_us) => self.touched_us = self.touched_us.max(time_us).max(watermark_us),
            None => self.is_open = true,
        }
    }

    fn has_passed(&mut self, watermark_us: i64, ttl_us: i64) -> bool {
        if std::mem::take(&mut self.is_open) {
            self.touched_us = self.touched_us.max(watermark_us);
        }
        rounded_us(self.touched_us, ttl_us) + ttl_us <= watermark_us
    }
}

/// The latest of a row's event times.
fn time_of(batch: &RecordBatch, columns: &[usize], row: usize) -> Option<i64> {
    let of = |column: &usize| {
        let times = batch.column(*column).as_primitive::<TimestampMicrosecondType>();
        times.is_valid(row).then(|| times.value(row))
    };
    columns.iter().filter_map(of).max()
}

fn weight_of(batch: &RecordBatch, changes: bool, row: usize) -> i64 {
    let weights = || batch.columns().last().expect("a weight").as_primitive::<Int8Type>();
    if changes { i64::from(weights().value(row)) } else { 1 }
}

fn keys_of(batch: &RecordBatch, keys: &[usize]) -> Vec<u64> {
    let keys: Vec<ArrayRef> = keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
    hash::hash_rows(&keys, batch.num_rows()).expect("hashed")
}

/// What the operator is held against.
trait Naive {
    fn row(&mut self, input: usize, row: &RecordBatch);
    fn advance(&mut self, watermark_us: i64);
    /// What was said so far, and how many rows were late.
    fn told(&mut self) -> (BTreeMap<String, i64>, u64);
}

struct OfKey {
    operator: Box<dyn Stateful>,
    moment: Moment,
    n_rows: i64,
}

/// An operator for each key.
struct ByKey {
    /// Without a time to live.
    planned: Planned,
    lifetime: Lifetime,
    watermark_us: i64,
    keys: BTreeMap<u64, OfKey>,
    told: BTreeMap<String, i64>,
    n_late: u64,
}

impl ByKey {
    fn new(planned: &Planned) -> Self {
        let mut dataflow = planned.dataflow.clone();
        let lifetime = dataflow.nodes[planned.at].lifetime.take().expect("a time to live");
        let planned = Planned { dataflow, at: planned.at, keys: planned.keys.clone() };
        let (keys, told) = (BTreeMap::new(), BTreeMap::new());
        Self { planned, lifetime, watermark_us: i64::MIN, keys, told, n_late: 0 }
    }

    fn hear(&mut self, out: &Output) {
        self.planned.told(&mut self.told, out);
        self.n_late += out.n_late;
    }
}

impl Naive for ByKey {
    fn row(&mut self, input: usize, row: &RecordBatch) {
        let node = &self.planned.dataflow.nodes[self.planned.at];
        let changes = self.planned.dataflow.nodes[node.inputs[input]].changes;
        let weight = match node.operator {
            Operator::Normalize { .. } => 0,
            _ => weight_of(row, changes, 0) * i64::from(changes),
        };
        let waits_for = match &node.operator {
            Operator::Over { time, .. } | Operator::TopN { time, .. } => *time,
            Operator::Temporal(join) => Some(if input == 0 { join.left_time } else { join.right_time }),
            _ => None,
        };
        let times: Vec<usize> = self.lifetime.times[input].iter().copied().chain(waits_for).collect();
        let hash = keys_of(row, &self.planned.keys[input])[0];
        if !self.keys.contains_key(&hash) {
            if weight < 0 {
                self.n_late += 1;
                return;
            }
            let mut operator = self.planned.make(0);
            operator.restore(self.watermark_us, BTreeMap::new()).expect("nothing is restored");
            self.keys.insert(hash, OfKey { operator, moment: Moment::NONE, n_rows: 0 });
        }
        let of_key = self.keys.get_mut(&hash).expect("it is there");
        if of_key.n_rows + weight < 0 {
            self.n_late += 1;
            return;
        }
        of_key.n_rows += weight;
        of_key.moment.touch(time_of(row, &times, 0), self.watermark_us);
        let mut out = Output::default();
        of_key.operator.process(input, row, &mut out).expect("processed");
        self.hear(&out);
    }

    fn advance(&mut self, watermark_us: i64) {
        if watermark_us <= self.watermark_us {
            return;
        }
        self.watermark_us = watermark_us;
        let mut out = Output::default();
        for of_key in self.keys.values_mut() {
            of_key.operator.advance(watermark_us, &mut out).expect("advanced");
        }
        let ttl_us = self.lifetime.ttl_us;
        self.keys.retain(|_, of_key| {
            let passed = of_key.moment.has_passed(watermark_us, ttl_us);
            if passed {
                of_key.operator.flush(&mut out).expect("flushed");
            }
            !passed
        });
        self.hear(&out);
    }

    fn told(&mut self) -> (BTreeMap<String, i64>, u64) {
        let mut out = Output::default();
        self.keys.values_mut().for_each(|of_key| of_key.operator.flush(&mut out).expect("flushed"));
        self.hear(&out);
        (self.told.clone(), self.n_late)
    }
}

/// A row of one side of a join; equal ones are one.
struct Kept {
    key: u64,
    text: String,
    weight: i64,
    matches: i64,
    moment: Moment,
}

/// Inner and left joins.
struct Joined {
    join: crate::dataflow::Join,
    lifetime: Lifetime,
    /// By side.
    changes: [bool; 2],
    n_columns: [usize; 2],
    kept: [Vec<Kept>; 2],
    watermark_us: i64,
    told: BTreeMap<String, i64>,
    n_late: u64,
}

impl Joined {
    fn new(planned: &Planned) -> Self {
        let node = &planned.dataflow.nodes[planned.at];
        let Operator::Join(join) = &node.operator else { panic!("{} is no join", node.id) };
        let from = |side: usize| &planned.dataflow.nodes[node.inputs[side]];
        let changes = [0, 1].map(|side| from(side).changes);
        Self {
            join: join.clone(),
            lifetime: node.lifetime.clone().expect("a time to live"),
            changes,
            n_columns: [0, 1].map(|side| from(side).schema.fields().len() - usize::from(changes[side])),
            kept: [Vec::new(), Vec::new()],
            watermark_us: i64::MIN,
            told: BTreeMap::new(),
            n_late: 0,
        }
    }

    fn say(&mut self, text: String, weight: i64) {
        let sum = self.told.entry(text.clone()).or_insert(0);
        *sum += weight;
        if *sum == 0 {
            self.told.remove(&text);
        }
    }

    fn alone(&mut self, text: &str, weight: i64) {
        let nulls = vec!["NULL"; self.n_columns[1]].join(" ");
        self.say(format!("{text} {nulls}"), weight);
    }
}

impl Naive for Joined {
    fn row(&mut self, side: usize, row: &RecordBatch) {
        let (weight, is_left) = (weight_of(row, self.changes[side], 0), self.join.kind == JoinType::Left);
        let columns: Vec<usize> = (0..self.n_columns[side]).collect();
        let mut sum = BTreeMap::new();
        add_up(&mut sum, &row.project(&columns).expect("columns"), false);
        let text = sum.into_keys().next().expect("a row");
        let keys = if side == 0 { &self.join.left_keys } else { &self.join.right_keys };
        if keys.iter().any(|key| row.column(*key).is_null(0)) {
            if side == 0 && is_left {
                self.alone(&text, weight);
            }
            return;
        }
        let key = keys_of(row, keys)[0];
        let at = match self.changes[side] {
            true => self.kept[side].iter().position(|kept| kept.text == text),
            false => None,
        };
        if weight < 0 && at.is_none_or(|at| self.kept[side][at].weight + weight < 0) {
            self.n_late += 1;
            return;
        }
        let others: Vec<usize> =
            (0..self.kept[1 - side].len()).filter(|other| self.kept[1 - side][*other].key == key).collect();
        let mut matches = 0;
        for other in others {
            let met = &mut self.kept[1 - side][other];
            matches += met.weight;
            let pair = if side == 0 { format!("{text} {}", met.text) } else { format!("{} {text}", met.text) };
            let product = met.weight * weight;
            let before = met.matches;
            met.matches += weight;
            let (after, its_text, its_weight) = (met.matches, met.text.clone(), met.weight);
            self.say(pair, product);
            if side == 1 && is_left && (before > 0) != (after > 0) {
                self.alone(&its_text, if after > 0 { -its_weight } else { its_weight });
            }
        }
        let matches = at.map_or(matches, |at| self.kept[side][at].matches);
        if side == 0 && is_left && matches <= 0 {
            self.alone(&text, weight);
        }
        let time_us = time_of(row, &self.lifetime.times[side], 0);
        let at = at.unwrap_or_else(|| {
            self.kept[side].push(Kept { key, text, weight: 0, matches, moment: Moment::NONE });
            self.kept[side].len() - 1
        });
        let kept = &mut self.kept[side][at];
        kept.weight += weight;
        if weight > 0 {
            kept.moment.touch(time_us, self.watermark_us);
        }
        self.kept[side].retain(|kept| kept.weight != 0);
    }

    fn advance(&mut self, watermark_us: i64) {
        if watermark_us > self.watermark_us {
            self.watermark_us = watermark_us;
            let ttl_us = self.lifetime.ttl_us;
            self.kept.iter_mut().for_each(|kept| kept.retain_mut(|kept| !kept.moment.has_passed(watermark_us, ttl_us)));
        }
    }

    fn told(&mut self) -> (BTreeMap<String, i64>, u64) {
        (self.told.clone(), self.n_late)
    }
}

fn hold_against(planned: &Arc<Planned>, steps: &[Step]) -> Result<(), TestCaseError> {
    let node = &planned.dataflow.nodes[planned.at];
    let mut naive: Box<dyn Naive> = match node.operator {
        Operator::Join(_) => Box::new(Joined::new(planned)),
        _ => Box::new(ByKey::new(planned)),
    };
    let mut slices = Slices::new(planned, None, 0);
    let mut clock = 100;
    for step in steps.iter().chain([&Step::Settled]) {
        if let Step::Watermark(by) = step {
            clock += by;
        }
        slices.step(step, clock);
        match step {
            Step::Rows { input, seed, n_rows } => {
                let input = input % node.inputs.len();
                let from = &planned.dataflow.nodes[node.inputs[input]];
                let batch = rows::batch(&from.schema, from.changes, clock, *n_rows, &mut Random::new(*seed));
                (0..*n_rows).for_each(|row| naive.row(input, &batch.slice(row, 1)));
            }
            Step::Watermark(_) => naive.advance(rows::time(clock)),
            Step::Settled => {
                let (told, late) = naive.told();
                prop_assert_eq!(&slices.told, &told);
                prop_assert_eq!(slices.n_late, late);
            }
            _ => {}
        }
    }
    Ok(())
}

/// The last operator of this kind in the query.
#[track_caller]
fn check_living(sql: &str, kind: &str) {
    let dataflow = planned(&format!("{SET}; {sql}"));
    let is_kind = |at: &usize| dataflow.nodes[*at].lifetime.is_some() && dataflow.nodes[*at].id.starts_with(kind);
    let at = (0..dataflow.nodes.len()).rev().find(is_kind).unwrap_or_else(|| panic!("no {kind} lives in {sql}"));
    let keys = plan::keys(&dataflow, at).expect("keys");
    let planned = Arc::new(Planned { dataflow, at, keys });
    let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
    let result = runner.run(&long_histories(), |steps| hold_against(&planned, &steps));
    result.unwrap_or_else(|wrong| panic!("{} of {sql}: {wrong}", planned.dataflow.nodes[at].id));
}

/// The same, and on disk as in memory.
#[track_caller]
fn check_living_paged(sql: &str, kind: &str) {
    check_living(sql, kind);
    check(&format!("{SET}; {sql}"), &[kind]);
}

const CHANGES: &str = "(SELECT k, s, count(*) AS n, sum(v) AS v, max(ts) AS ts FROM t GROUP BY k, s)";

#[test]
fn aggregates() {
    check_living_paged(
        "SELECT k, count(*) AS n, sum(v) AS s, avg(v) AS a, min(s) AS m, max(v) AS x FROM t GROUP BY k",
        "group",
    );
    check_living(
        "SELECT k, max(ts) AS at, count(DISTINCT v) AS n, array_agg(v ORDER BY v) AS a FROM t GROUP BY k",
        "group",
    );
    check_living(
        &format!(
            "SELECT n, count(*), max(v), count(DISTINCT s), sum(CAST(v AS DOUBLE)), min(s) FROM {CHANGES} GROUP BY n"
        ),
        "group",
    );
    check_living("SELECT DISTINCT k, s FROM t", "group");
}

#[test]
fn joined_streams() {
    for kind in ["JOIN", "LEFT JOIN"] {
        check_living(&format!("SELECT t.k, t.v, u.v AS w FROM t {kind} u ON t.k = u.k AND t.s = u.s"), "join");
        check_living(
            &format!("SELECT t.k, t.ts, u.v AS w, u.ts AS at FROM t {kind} u ON t.k = u.k AND t.s = u.s"),
            "join",
        );
        check_living(&format!("SELECT a.n, a.v, u.v AS w FROM {CHANGES} AS a {kind} u ON a.n = u.k"), "join");
        check_living(
            &format!("SELECT a.n, a.v, b.v AS w FROM {CHANGES} AS a {kind} {CHANGES} AS b ON a.n = b.n"),
            "join",
        );
    }
    // Held against itself on disk alone.
    check(&format!("{SET}; SELECT t.k, t.ts, u.v AS w FROM t FULL JOIN u ON t.k = u.k"), &["join"]);
}

/// A match that is forgotten stays counted only as long as the row does: whether one that goes and comes back finds it does
/// not depend on where a batch ends.
#[test]
fn a_row_that_went_within_a_batch_comes_as_a_new_one() {
    let sql = format!("{SET}; SELECT a.n, a.v, b.v AS w FROM {CHANGES} AS a LEFT JOIN {CHANGES} AS b ON a.n = b.n");
    let dataflow = planned(&sql);
    let at = dataflow.nodes.iter().position(|node| node.id.starts_with("join")).expect("a join");
    let input = |side: usize| &dataflow.nodes[dataflow.nodes[at].inputs[side]].schema;
    let batch = |side: usize, second: i64, weights: &[i8]| {
        let schema = input(side);
        let one = rows::batch(schema, true, second, 1, &mut Random::new(8));
        let row = UInt32Array::from(vec![0; weights.len()]);
        let mut columns: Vec<ArrayRef> =
            one.columns().iter().map(|column| take(column, &row, None).expect("repeated")).collect();
        columns.iter_mut().for_each(|column| match column.data_type() {
            DataType::Int64 => *column = Arc::new(Int64Array::from(vec![7; weights.len()])),
            DataType::Timestamp(_, zone) => {
                let times = TimestampMicrosecondArray::from(vec![rows::time(second); weights.len()]);
                *column = Arc::new(times.with_timezone_opt(zone.clone()));
            }
            _ => {}
        });
        *columns.last_mut().expect("a weight") = Arc::new(Int8Array::from(weights.to_vec()));
        RecordBatch::try_new(Arc::clone(schema), columns).expect("a batch")
    };
    let told = |parts: &[&[i8]]| {
        let mut join = plan::make(&dataflow, at, 0).expect("it is made").expect("it has state");
        let (mut told, mut out) = (BTreeMap::new(), Output::default());
        join.process(1, &batch(1, 0, &[1]), &mut out).expect("processed");
        join.process(0, &batch(0, 20, &[1]), &mut out).expect("processed");
        join.advance(rows::time(15), &mut out).expect("the match is forgotten");
        parts.iter().for_each(|part| join.process(0, &batch(0, 20, part), &mut out).expect("processed"));
        join.process(0, &batch(0, 20, &[1]), &mut out).expect("processed");
        out.batches.iter().for_each(|batch| add_up(&mut told, batch, true));
        told
    };
    assert_eq!(told(&[&[-1, 1]]), told(&[&[-1], &[1]]));
    assert_eq!(told(&[&[1, -1, -1, 1]]), told(&[&[1], &[-1], &[-1], &[1]]));
    assert_eq!(told(&[&[1, -1]]), told(&[&[1], &[-1]]));
}

#[test]
fn joined_versions() {
    let join = "LEFT JOIN versions FOR SYSTEM_TIME AS OF t.ts AS u ON t.k = u.k";
    check_living_paged(&format!("SELECT t.k, t.v, u.v AS w FROM t {join}"), "temporal");
}

#[test]
fn ranked_rows() {
    let first = "(SELECT k, v, s, ts, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC) AS r FROM t)";
    check_living_paged(&format!("SELECT * FROM {first} WHERE r <= 3"), "top");
    check_living_paged(
        "SELECT k, sum(v) AS v, max(r) AS r \
         FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts) AS r FROM t) WHERE r <= 2 \
         GROUP BY k, tumble(INTERVAL '4' SECOND)",
        "top",
    );
    check_living(
        &format!(
            "SELECT * FROM (SELECT n, v, ROW_NUMBER() OVER (PARTITION BY n ORDER BY v) AS r FROM {CHANGES}) WHERE r <= 2"
        ),
        "top",
    );
}

#[test]
fn functions_over_living_rows() {
    check_living_paged("SELECT k, v, sum(v) OVER (PARTITION BY k ORDER BY ts) AS total FROM t", "over");
    check_living("SELECT k, v, lag(v) OVER (PARTITION BY k ORDER BY v DESC) AS w FROM t", "over");
}

#[test]
fn rows_by_key() {
    check_living("INSERT INTO kept SELECT k, count(*) AS n FROM t GROUP BY k", "upsert");
    check_living_paged("SELECT k, v FROM told_at", "normalize");
}

/// What is not touched goes from memory, as the meter sees it, and not only from what is said.
#[test]
fn state_gets_smaller() {
    for sql in [
        "SELECT v, count(*) AS n, count(DISTINCT s) AS d, max(s) AS m FROM t GROUP BY v",
        "SELECT t.v, u.v AS w FROM t JOIN u ON t.v = u.v",
        "SELECT * FROM (SELECT v, s, ROW_NUMBER() OVER (PARTITION BY v ORDER BY s) AS r FROM t) WHERE r <= 3",
        "SELECT v, s, lag(s) OVER (PARTITION BY v ORDER BY s) AS w FROM t",
    ] {
        let dataflow = planned(&format!("{SET}; {sql}"));
        let at = (0..dataflow.nodes.len()).find(|at| dataflow.nodes[*at].lifetime.is_some()).expect("a time to live");
        let from = &dataflow.nodes[dataflow.nodes[at].inputs[0]].schema;
        let value = from.fields().iter().position(|field| field.name().starts_with('v')).expect("a key");
        let mut operator = plan::make(&dataflow, at, 0).expect("it is made").expect("it has state");
        let (mut out, mut most) = (Output::default(), 0);
        let mut fill = |operator: &mut dyn Stateful, round: i64, n_rows: i64| {
            let batch = rows::batch(from, false, 100 + round, n_rows as usize, &mut Random::new(7));
            let mut columns = batch.columns().to_vec();
            columns[value] = Arc::new((0..n_rows).map(|row| round * 1_000_000 + row).collect::<Int64Array>());
            let batch = RecordBatch::try_new(Arc::clone(from), columns).expect("a batch");
            operator.process(0, &batch, &mut out).expect("processed");
            operator.flush(&mut out).expect("flushed");
            operator.advance(rows::time(100 + round), &mut out).expect("advanced");
            out.batches.clear();
        };
        for round in 0..60 {
            fill(operator.as_mut(), round, 3000);
            if round < 12 {
                most = most.max(operator.memory_bytes());
            }
            // Twice as many may be there before those that are gone are cleared away.
            assert!(operator.memory_bytes() <= 3 * most, "{sql}: {} after {most}", operator.memory_bytes());
        }
        let full = operator.memory_bytes();
        for round in 60..80 {
            fill(operator.as_mut(), round, 1);
        }
        assert!(operator.memory_bytes() < full / 4, "{sql}: {} of {full} are left", operator.memory_bytes());
        let left: usize = operator
            .snapshot(crate::runtime::operators::stateful::Scope::All)
            .expect("a snapshot")
            .tables
            .iter()
            .flat_map(|table| &table.batches)
            .map(RecordBatch::num_rows)
            .sum();
        assert!(left <= 40, "{sql}: {left} rows are left");
    }
}

#[test]
fn a_moment_is_rounded_up() {
    assert_eq!(rounded_us(0, 16 * SECOND), 0);
    assert_eq!(rounded_us(1, 16 * SECOND), SECOND);
    assert_eq!(rounded_us(-1, 16 * SECOND), 0);
    assert_eq!(rounded_us(5, 3), 5);
    assert_eq!(rounded_us(i64::MAX - 1, 16 * SECOND), i64::MAX);
}
