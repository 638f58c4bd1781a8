//! Joins against nested loops: random rows and retractions, batches, watermarks, and restores at another number of
//! slices.

use super::*;
use crate::dataflow;
use crate::runtime::exchange::partition::partition;
use crate::runtime::operators::changes::weight_field;
use crate::runtime::operators::testing::{Chain, add_up, restore, restore_chains, snapshot};
use crate::runtime::operators::window::BATCH_ROWS;
use arrow::array::{Array, ArrayRef, AsArray, Int8Array, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Int8Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::JoinType;
use datafusion::logical_expr::Operator as Op;
use datafusion::physical_expr::expressions::{Column, binary};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    key: Option<i64>,
    value: i64,
    time: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Config {
    kind: JoinType,
    keyed: bool,
    nulls_equal: bool,
    /// Left value <= right value.
    residual: bool,
    changes: [bool; 2],
    bounds: Option<(i64, i64)>,
    /// What times, watermarks and bounds are multiples of.
    unit: i64,
}

#[derive(Clone, Debug)]
enum Step {
    Rows(usize, Vec<(Row, i8)>),
    Watermark(i64),
    Snapshot,
    /// Snapshot, and go on from it with this many slices.
    Rescale(u32),
}

fn fields(side: usize) -> Vec<Field> {
    let name = |name: &str| format!("{}_{name}", ["left", "right"][side]);
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    vec![
        Field::new(name("key"), DataType::Int64, true),
        Field::new(name("value"), DataType::Int64, true),
        Field::new(name("time"), time, true),
    ]
}

fn schema(mut fields: Vec<Field>, changes: bool) -> SchemaRef {
    fields.extend(changes.then(weight_field));
    Arc::new(Schema::new(fields))
}

impl Config {
    fn semi(&self) -> bool {
        matches!(self.kind, JoinType::LeftSemi | JoinType::LeftAnti)
    }

    fn keys(&self) -> Vec<usize> {
        if self.keyed { vec![0] } else { vec![] }
    }

    fn join(&self) -> dataflow::Join {
        let both = Schema::new([fields(LEFT), fields(RIGHT)].concat());
        let column = |name: &str, at| Arc::new(Column::new(name, at));
        let residual = self
            .residual
            .then(|| binary(column("left_value", 1), Op::LtEq, column("right_value", 4), &both).expect("predicate"));
        let bounds = self.bounds.map(|(lower_us, upper_us)| dataflow::Bounds {
            left_time: 2,
            right_time: 2,
            lower_us,
            upper_us,
        });
        let (left_keys, right_keys) = (self.keys(), self.keys());
        dataflow::Join { kind: self.kind, left_keys, right_keys, nulls_equal: self.nulls_equal, residual, bounds }
    }

    fn changes(&self) -> bool {
        self.join().gives_changes(self.changes[LEFT], self.changes[RIGHT])
    }

    fn operator(&self) -> Join {
        let side = |side: usize| Side { schema: schema(fields(side), self.changes[side]), changes: self.changes[side] };
        let columns = if self.semi() { fields(LEFT) } else { [fields(LEFT), fields(RIGHT)].concat() };
        let changes = self.changes();
        let output = schema(columns, changes);
        Join::new(Spec { join: self.join(), left: side(LEFT), right: side(RIGHT), output, changes, lifetime: None })
            .expect("operator")
    }

    fn batch(&self, side: usize, rows: &[(Row, i8)]) -> RecordBatch {
        let times: TimestampMicrosecondArray = rows.iter().map(|(row, _)| row.time).collect();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|(row, _)| row.key).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|(row, _)| Some(row.value)).collect::<Int64Array>()),
            Arc::new(times.with_timezone("+00:00")),
        ];
        if self.changes[side] {
            columns.push(Arc::new(Int8Array::from_iter_values(rows.iter().map(|(_, weight)| *weight))));
        }
        RecordBatch::try_new(schema(fields(side), self.changes[side]), columns).expect("columns fit")
    }

    /// How far behind the watermark a row may be.
    fn lag(&self, side: usize) -> i64 {
        match self.bounds {
            Some((lower, upper)) if self.changes != [false; 2] => [upper, lower.saturating_neg()][side].max(0),
            _ => 0,
        }
    }

    fn meet(&self, left: &Row, right: &Row) -> bool {
        let equal = match (left.key, right.key) {
            (None, None) => self.nulls_equal,
            (left, right) => left == right,
        };
        let near = self.bounds.is_none_or(|(lower, upper)| match (left.time, right.time) {
            (Some(left), Some(right)) => lower <= right - left && right - left <= upper,
            _ => false,
        });
        (equal || !self.keyed) && near && (!self.residual || left.value <= right.value)
    }

    /// What was said is behind the rows that came, until they expire.
    fn waits(&self) -> bool {
        self.bounds.is_some() && !self.changes() && !matches!(self.kind, JoinType::Inner | JoinType::LeftSemi)
    }
}

type Rows = BTreeMap<Row, i64>;
/// Rows of the output, by column, each with the sum of its weights.
type Said = BTreeMap<Vec<Option<i64>>, i64>;

fn add<K: Ord>(sum: &mut BTreeMap<K, i64>, key: K, weight: i64) {
    match sum.entry(key) {
        std::collections::btree_map::Entry::Occupied(mut entry) => {
            *entry.get_mut() += weight;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        std::collections::btree_map::Entry::Vacant(entry) if weight != 0 => {
            entry.insert(weight);
        }
        std::collections::btree_map::Entry::Vacant(_) => {}
    }
}

fn naive(config: &Config, rows: &[Rows; 2]) -> Said {
    let mut said = Said::new();
    let columns = |row: Option<&Row>| match row {
        Some(row) => vec![row.key, Some(row.value), row.time],
        None => vec![None; 3],
    };
    let [left, right] = rows;
    let mut matches = [BTreeMap::new(), BTreeMap::new()];
    for (one, weight) in left {
        for (other, other_weight) in right.iter().filter(|(other, _)| config.meet(one, other)) {
            add(&mut matches[LEFT], *one, *other_weight);
            add(&mut matches[RIGHT], *other, *weight);
            if !config.semi() {
                add(&mut said, [columns(Some(one)), columns(Some(other))].concat(), weight * other_weight);
            }
        }
    }
    let matched = |side: usize, row: &Row| matches[side].get(row).is_some_and(|matches| *matches > 0);
    for (row, weight) in left {
        match config.kind {
            JoinType::Left | JoinType::Full if !matched(LEFT, row) => {
                add(&mut said, [columns(Some(row)), columns(None)].concat(), *weight);
            }
            JoinType::LeftSemi if matched(LEFT, row) => add(&mut said, columns(Some(row)), *weight),
            JoinType::LeftAnti if !matched(LEFT, row) => add(&mut said, columns(Some(row)), *weight),
            _ => {}
        }
    }
    for (row, weight) in right.iter().filter(|(row, _)| !matched(RIGHT, row)) {
        if matches!(config.kind, JoinType::Right | JoinType::Full) {
            add(&mut said, [columns(None), columns(Some(row))].concat(), *weight);
        }
    }
    said
}

fn columns(batch: &RecordBatch, row: usize) -> Vec<Option<i64>> {
    let value = |column: &ArrayRef| match column.as_primitive_opt::<Int64Type>() {
        Some(values) => (!values.is_null(row)).then(|| values.value(row)),
        None => {
            let times = column.as_primitive::<TimestampMicrosecondType>();
            (!times.is_null(row)).then(|| times.value(row))
        }
    };
    batch.columns().iter().filter(|column| column.data_type() != &DataType::Int8).map(value).collect()
}

/// A run of the operator beside a naive one.
struct Run {
    config: Config,
    slices: Vec<Join>,
    /// By slice.
    chains: Vec<Chain>,
    out: Output,
    said: Said,
    /// By side: the rows that were not late.
    rows: [Rows; 2],
    watermark: i64,
    n_late: u64,
}

impl Run {
    fn new(config: Config) -> Self {
        Self {
            config,
            slices: vec![config.operator()],
            chains: vec![Chain::default()],
            out: Output::default(),
            said: Said::new(),
            rows: [Rows::new(), Rows::new()],
            watermark: i64::MIN,
            n_late: 0,
        }
    }

    /// Takes what the operator said; none of it may be before `promised`.
    fn hear(&mut self, promised: i64) {
        for batch in std::mem::take(&mut self.out.batches) {
            assert!(batch.num_rows() > 0 && batch.num_rows() <= BATCH_ROWS, "a batch of {} rows", batch.num_rows());
            let weights = self
                .config
                .changes()
                .then(|| batch.columns().last().expect("a weight").as_primitive::<Int8Type>().values().to_vec());
            for row in 0..batch.num_rows() {
                let columns = columns(&batch, row);
                if self.config.bounds.is_some() {
                    for time in columns.iter().skip(2).step_by(3).flatten() {
                        assert!(*time >= promised, "{columns:?} after {promised} was promised to be over");
                    }
                }
                add(&mut self.said, columns, weights.as_ref().map_or(1, |weights| i64::from(weights[row])));
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let n_slots = self.slices.len() as u32;
        match step {
            Step::Rows(side, rows) => {
                for (row, weight) in rows {
                    // A row without a time meets none, and is never late.
                    if let (Some(time), true) = (row.time, self.config.bounds.is_some())
                        && time.saturating_add(self.config.lag(*side)) < self.watermark
                    {
                        self.n_late += 1;
                        continue;
                    }
                    add(&mut self.rows[*side], *row, i64::from(*weight));
                }
                let batch = self.config.batch(*side, rows);
                for (slot, part) in partition(&batch, &self.config.keys(), n_slots).expect("partition") {
                    let promised = self.slices[slot as usize].output_watermark_us();
                    self.slices[slot as usize].process(*side, &part, &mut self.out).expect("process");
                    self.hear(promised);
                }
            }
            Step::Watermark(next) => {
                self.watermark = self.watermark.max(*next);
                for at in 0..self.slices.len() {
                    let promised = self.slices[at].output_watermark_us();
                    self.slices[at].advance(*next, &mut self.out).expect("advance");
                    assert!(self.slices[at].output_watermark_us() >= promised);
                    self.hear(promised);
                }
            }
            Step::Snapshot => self.snapshot(),
            Step::Rescale(n_after) => {
                self.snapshot();
                self.slices = (0..*n_after).map(|_| self.config.operator()).collect();
                for (slot, slice) in self.slices.iter_mut().enumerate() {
                    restore_chains(slice, &self.chains, slot as u32, *n_after).expect("restore");
                }
                if *n_after != n_slots {
                    self.chains = vec![Chain::default(); *n_after as usize];
                }
            }
        }
        if !self.config.waits() {
            assert_eq!(self.said, naive(&self.config, &self.rows), "after {step:?}");
        }
    }

    fn snapshot(&mut self) {
        let n_slots = self.slices.len() as u32;
        for (slot, (slice, chain)) in self.slices.iter_mut().zip(&mut self.chains).enumerate() {
            chain.save(slice, self.watermark, (slot as u32, n_slots), &mut self.out).expect("snapshot");
        }
        assert!(self.out.batches.is_empty(), "something was pending");
    }

    fn end(mut self) {
        self.step(&Step::Watermark(i64::MAX));
        assert_eq!(self.said, naive(&self.config, &self.rows));
        assert_eq!((self.out.n_late, self.out.n_timeless), (self.n_late, 0));
        if self.config.bounds.is_some() {
            for slice in &mut self.slices {
                // What was touched is told once more, then it is forgotten.
                slice.snapshot(Scope::All).expect("snapshot");
                assert_eq!(slice.stores.iter().map(Store::n_rows).sum::<usize>(), 0);
                assert_eq!(slice.memory_bytes(), self.config.operator().memory_bytes());
            }
        }
    }
}

fn config() -> impl Strategy<Value = Config> {
    let kind = prop_oneof![
        Just(JoinType::Inner),
        Just(JoinType::Left),
        Just(JoinType::Right),
        Just(JoinType::Full),
        Just(JoinType::LeftSemi),
        Just(JoinType::LeftAnti),
    ];
    let bounds = prop_oneof![
        Just((0, 0)),
        Just((-3, 5)),
        Just((2, 6)),
        Just((-6, -2)),
        Just((-4, 0)),
        Just((i64::MIN, 4)),
        Just((-4, i64::MAX)),
        Just((3, 1)),
    ];
    let flag = proptest::bool::ANY;
    // Of the second one, a bucket of expiry holds some three.
    let unit = prop_oneof![Just(1), Just(20_000)];
    let changes = prop_oneof![Just([false; 2]), Just([true, false]), Just([false, true]), Just([true; 2])];
    (kind, proptest::bool::weighted(0.85), flag, flag, changes, proptest::option::weighted(0.7, bounds), unit).prop_map(
        |(kind, keyed, nulls_equal, residual, changes, bounds, unit)| {
            let bounds =
                bounds.map(|(lower, upper): (i64, i64)| (lower.saturating_mul(unit), upper.saturating_mul(unit)));
            Config { kind, keyed, nulls_equal, residual, changes, bounds, unit }
        },
    )
}

/// Rows come, and some go, at moments between 0 and 100, which serve as the clock too.
#[derive(Clone, Debug)]
struct Life {
    side: usize,
    key: Option<i64>,
    value: i64,
    /// How much later than it comes a row happened.
    time: Option<i64>,
    comes: i64,
    goes: Option<i64>,
    copies: usize,
}

fn life() -> impl Strategy<Value = Life> {
    let key = proptest::option::weighted(0.9, 0_i64..4);
    let time = proptest::option::weighted(0.95, -8_i64..8);
    (0_usize..2, key, 0_i64..3, time, 0_i64..100, proptest::option::of(0_i64..100), 1_usize..3)
        .prop_map(|(side, key, value, time, comes, goes, copies)| Life { side, key, value, time, comes, goes, copies })
}

fn steps(config: &Config, lives: &[Life], controls: &[(i64, Step)]) -> Vec<Step> {
    let mut moments: Vec<(i64, Step)> = controls.to_vec();
    for life in lives {
        // Without bounds times need not rise, and more rows are equal.
        let time = life.time.map(|time| if config.bounds.is_some() { life.comes + time } else { time / 4 });
        let time = time.map(|time| time * config.unit);
        let row = Row { key: life.key, value: life.value, time };
        moments.push((life.comes, Step::Rows(life.side, vec![(row, 1); life.copies])));
        if let Some(goes) = life.goes.filter(|_| config.changes[life.side]) {
            // With bounds, not long after it came or before it comes, as a rule.
            let goes = if config.bounds.is_some() && goes % 5 > 0 { life.comes + goes % 9 - 4 } else { goes };
            moments.push((goes, Step::Rows(life.side, vec![(row, -1); life.copies])));
        }
    }
    moments.sort_by_key(|(at, _)| *at);
    let mut steps: Vec<Step> = Vec::new();
    for (at, step) in moments {
        match (steps.last_mut(), step) {
            (Some(Step::Rows(side, rows)), Step::Rows(next_side, next)) if *side == next_side && at % 4 > 0 => {
                rows.extend(next);
            }
            (_, Step::Watermark(behind)) => steps.push(Step::Watermark((at - behind) * config.unit)),
            (_, step) => steps.push(step),
        }
    }
    steps
}

fn controls() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let control = prop_oneof![
        8 => (-3_i64..6).prop_map(Step::Watermark),
        2 => Just(Step::Snapshot),
        2 => (1_u32..4).prop_map(Step::Rescale),
    ];
    proptest::collection::vec((0_i64..100, control), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn equals_nested_loops(
        config in config(),
        lives in proptest::collection::vec(life(), 1..80),
        controls in controls(),
    ) {
        let mut run = Run::new(config);
        for step in steps(&config, &lives, &controls) {
            run.step(&step);
        }
        run.end();
    }
}

const INNER: Config = Config {
    kind: JoinType::Inner,
    keyed: true,
    nulls_equal: false,
    residual: false,
    changes: [false; 2],
    bounds: None,
    unit: 1,
};

fn row(key: i64, value: i64, time: i64) -> (Row, i8) {
    (Row { key: Some(key), value, time: Some(time) }, 1)
}

#[test]
fn many_pairs_come_in_batches_of_bounded_length() {
    let mut join = INNER.operator();
    let mut out = Output::default();
    let left: Vec<(Row, i8)> = (0..20_000).map(|value| row(1, value, 0)).collect();
    join.process(LEFT, &INNER.batch(LEFT, &left), &mut out).expect("process");
    assert!(out.batches.is_empty());
    join.process(RIGHT, &INNER.batch(RIGHT, &[row(1, 0, 0)]), &mut out).expect("process");
    let lengths: Vec<usize> = out.batches.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(lengths, [BATCH_ROWS, BATCH_ROWS, 20_000 - 2 * BATCH_ROWS]);
}

#[test]
fn what_is_taken_back_is_freed() {
    let config = Config { kind: JoinType::Full, changes: [true, false], ..INNER };
    let mut join = config.operator();
    let mut out = Output::default();
    join.process(RIGHT, &config.batch(RIGHT, &[row(-1, 0, 0)]), &mut out).expect("process");
    let mut give = |join: &mut Join, values: std::ops::Range<i64>, weight: i8| {
        for from in values.clone().step_by(128) {
            let rows = from..values.end.min(from + 128);
            let rows: Vec<(Row, i8)> = rows.map(|value| (row(value, value, 0).0, weight)).collect();
            join.process(LEFT, &config.batch(LEFT, &rows), &mut out).expect("process");
        }
    };
    let before = join.memory_bytes();
    give(&mut join, 0..20_000, 1);
    let full = join.memory_bytes();
    give(&mut join, 0..19_500, -1);
    assert!(join.memory_bytes() < full / 5, "{} of {full} bytes are left", join.memory_bytes());
    give(&mut join, 19_500..20_000, -1);
    assert_eq!(join.stores[LEFT].n_rows(), 0);
    assert!(join.memory_bytes() < before + full / 10, "{} of {full} bytes are left", join.memory_bytes());
}

#[test]
fn windows_that_have_passed_are_freed() {
    let config = Config { bounds: Some((0, 0)), kind: JoinType::Left, ..INNER };
    let mut join = config.operator();
    let mut out = Output::default();
    let mut bytes = Vec::new();
    for window in 0..40 {
        let (from, time) = (window * 1500, window * 1_000_000);
        let left: Vec<(Row, i8)> = (from..from + 1500).map(|key| row(key, 0, time)).collect();
        let right: Vec<(Row, i8)> = (from..from + 500).map(|key| row(key, 0, time)).collect();
        join.process(LEFT, &config.batch(LEFT, &left), &mut out).expect("process");
        join.process(RIGHT, &config.batch(RIGHT, &right), &mut out).expect("process");
        // The rows of this window and of the one before stay.
        join.advance(time, &mut out).expect("advance");
        bytes.push(join.memory_bytes());
    }
    let n_out: usize = out.batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(n_out, 40 * 500 + 39 * 1000);
    let (early, late) = (bytes[..20].iter().max(), bytes[20..].iter().max());
    assert!(late <= early, "{bytes:?}");
}

#[test]
fn a_matched_row_of_a_semi_join_is_not_kept() {
    let config = Config { kind: JoinType::LeftSemi, ..INNER };
    assert!(!config.changes());
    let mut join = config.operator();
    let mut out = Output::default();
    join.process(LEFT, &config.batch(LEFT, &[row(1, 0, 0), row(2, 0, 0)]), &mut out).expect("process");
    join.process(RIGHT, &config.batch(RIGHT, &[row(1, 5, 0), row(1, 6, 0)]), &mut out).expect("process");
    join.process(LEFT, &config.batch(LEFT, &[row(1, 7, 0)]), &mut out).expect("process");
    assert_eq!(join.stores[LEFT].n_rows(), 1);
    assert_eq!(out.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
}

/// A stream that is joined with a table: once the table is read to its end, the stream's rows are answered and forgotten.
#[test]
fn rows_are_not_kept_for_an_input_that_has_ended() {
    for (kind, n_out) in [(JoinType::Inner, 3), (JoinType::Left, 5), (JoinType::LeftSemi, 2), (JoinType::LeftAnti, 2)] {
        let config = Config { kind, ..INNER };
        let mut join = config.operator();
        let mut out = Output::default();
        join.process(LEFT, &config.batch(LEFT, &[row(1, 0, 0), row(2, 1, 0)]), &mut out).expect("process");
        join.process(RIGHT, &config.batch(RIGHT, &[row(1, 5, 0), row(3, 6, 0), row(3, 7, 0)]), &mut out)
            .expect("process");
        let kept = join.stores[LEFT].n_rows();
        assert!(kept > 0 && join.stores[RIGHT].n_rows() > 0, "{kind}");
        join.input_ended(RIGHT).expect("it ends");
        assert_eq!(join.stores[LEFT].n_rows(), 0, "{kind}");
        join.process(LEFT, &config.batch(LEFT, &[row(3, 2, 0), row(4, 3, 0)]), &mut out).expect("process");
        assert_eq!((join.stores[LEFT].n_rows(), join.stores[RIGHT].n_rows()), (0, 3), "{kind}");
        let mut sum = BTreeMap::new();
        out.batches.iter().for_each(|batch| add_up(&mut sum, batch, config.changes()));
        assert_eq!(sum.values().sum::<i64>(), n_out, "{kind}: {sum:?}");
    }
}

#[test]
fn what_is_not_possible_is_refused() {
    let refused = |change: &dyn Fn(&mut Spec)| {
        let side = |side| Side { schema: schema(fields(side), false), changes: false };
        let output = schema([fields(LEFT), fields(RIGHT)].concat(), false);
        let mut spec =
            Spec { join: INNER.join(), left: side(LEFT), right: side(RIGHT), output, changes: false, lifetime: None };
        change(&mut spec);
        Join::new(spec).expect_err("an impossible join").to_string()
    };
    let text = refused(&|spec| spec.join.kind = JoinType::RightSemi);
    assert!(text.contains("swap its inputs"), "{text}");
    let text = refused(&|spec| spec.join.right_keys = vec![2]);
    assert!(text.contains("cast both to one type"), "{text}");
    let text = refused(&|spec| {
        spec.join.bounds = Some(dataflow::Bounds { left_time: 0, right_time: 2, lower_us: 0, upper_us: 0 });
    });
    assert!(text.contains("event time left_key is of type Int64"), "{text}");
    let text = refused(&|spec| spec.changes = true);
    assert!(text.contains("wrong kind of output"), "{text}");
}

#[test]
fn state_with_other_columns_is_refused() {
    let mut out = Output::default();
    let mut before = INNER.operator();
    before.process(LEFT, &INNER.batch(LEFT, &[row(1, 1, 1)]), &mut out).expect("process");
    let files = snapshot(&mut before, 0, 0, 1, &mut out).expect("snapshot");
    let mut other = Config { kind: JoinType::Left, ..INNER }.operator();
    let text = restore(&mut other, &files, 0, 1).expect_err("other columns").to_string();
    assert!(text.contains("start without this checkpoint"), "{text}");
}
