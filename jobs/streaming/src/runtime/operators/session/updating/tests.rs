//! Sessions whose rows may be taken back, against a naive recomputation after every step.

use super::super::tests::{Out, outs, result, spec};
use super::*;
use crate::runtime::operators::testing::slices::{KEY, Row, Slices, Step, batch, timed_histories};
use proptest::prelude::*;

#[derive(Default)]
struct OfNaive {
    /// By time and row, how often; never zero.
    rows: BTreeMap<(i64, Row), i64>,
    open_from: Option<i64>,
}

#[derive(Default)]
struct Naive {
    by_key: BTreeMap<Option<i64>, OfNaive>,
    /// Answers that nothing changes any more.
    settled: BTreeSet<Out>,
    late: u64,
    timeless: u64,
}

/// First and last time, and the rows, of the sessions of one key.
fn sessions(rows: &BTreeMap<(i64, Row), i64>, gap_us: i64) -> Vec<(i64, i64, Vec<Row>)> {
    let mut sessions: Vec<(i64, i64, Vec<Row>)> = Vec::new();
    for ((time, row), count) in rows {
        for _ in 0..*count {
            match sessions.last_mut().filter(|(_, last, _)| time - *last < gap_us) {
                Some((_, last, rows)) => {
                    *last = *time;
                    rows.push(row.clone());
                }
                None => sessions.push((*time, *time, vec![row.clone()])),
            }
        }
    }
    sessions
}

impl Naive {
    fn take(&mut self, (row, weight): &(Row, i8), keyed: bool, gap_us: i64, settled_us: i64) {
        let Some(time) = row.time else {
            self.timeless += 1;
            return;
        };
        let own = self.by_key.entry(row.key.filter(|_| keyed)).or_default();
        if time + gap_us <= settled_us && own.open_from.is_none_or(|from| time < from) {
            self.late += 1;
            return;
        }
        *own.rows.entry((time, row.clone())).or_default() += i64::from(*weight);
        own.rows.retain(|_, count| *count != 0);
    }

    fn advance(&mut self, gap_us: i64, settled_us: i64) {
        for (key, own) in &mut self.by_key {
            let all = sessions(&own.rows, gap_us);
            let (gone, kept): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|(_, last, _)| last.saturating_add(gap_us) <= settled_us);
            self.settled.extend(gone.iter().map(|(.., rows)| result(*key, rows, gap_us)));
            own.open_from = kept.first().map(|(first, ..)| *first);
            let from = own.open_from.unwrap_or(i64::MAX);
            own.rows.retain(|(time, _), _| *time >= from || time.saturating_add(gap_us) > settled_us);
        }
    }

    /// What is answered at this watermark.
    fn answers(&self, gap_us: i64, watermark_us: i64) -> BTreeMap<Out, i64> {
        let mut all: BTreeMap<Out, i64> = self.settled.iter().map(|out| (*out, 1)).collect();
        for (key, own) in &self.by_key {
            for (_, last, rows) in sessions(&own.rows, gap_us) {
                if last.saturating_add(gap_us) <= watermark_us {
                    *all.entry(result(*key, &rows, gap_us)).or_default() += 1;
                }
            }
        }
        all
    }
}

/// Rows with an even value are taken back when rows come next, some while after they are settled, sometimes before they
/// come; and those with value 3 become another one at once.
fn taking_back(steps: Vec<Step>) -> Vec<Step> {
    let mut owed: Vec<(Row, i8)> = Vec::new();
    let take = |step| match step {
        Step::Rows(mut rows) => {
            let came = rows.clone();
            rows.extend(std::mem::take(&mut owed));
            for (at, (row, _)) in came.into_iter().enumerate() {
                match row.value {
                    Some(3) => {
                        let other = Row { value: Some(5), ..row.clone() };
                        let halves = [(row, -1), (other, 1)];
                        halves.into_iter().for_each(|half| rows.insert(at % rows.len(), half));
                    }
                    Some(value) if value % 2 == 0 => owed.push((row, -1)),
                    _ => {}
                }
            }
            Step::Rows(rows)
        }
        step => step,
    };
    steps.into_iter().map(take).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn equals_a_naive_recomputation(
        steps in timed_histories().prop_map(taking_back),
        keyed in proptest::bool::weighted(0.8),
        gap_us in 1_i64..14,
        lateness_us in prop_oneof![Just(0_i64), 1_i64..20],
    ) {
        let keys = if keyed { vec![KEY] } else { vec![] };
        let make = move || UpdatingSessions::new(spec(gap_us, keyed, lateness_us, true)).expect("operator");
        let mut slices = Slices::new(keys, make);
        let (mut naive, mut said, mut counted) = (Naive::default(), BTreeMap::<Out, i64>::new(), (0, 0));
        let last = [Step::Flush, Step::Watermark(i64::MAX)];
        for (at, step) in steps.iter().chain(&last).enumerate() {
            let before_us = slices.output_us();
            let watermark_us = slices.watermark_us;
            let settled_us = watermark_us.saturating_sub(lateness_us);
            if let Step::Rows(rows) = step {
                rows.iter().for_each(|row| naive.take(row, keyed, gap_us, settled_us));
            }
            slices.step(step, true);
            // What a flush has to say it says at the latest now.
            if !matches!(step, Step::Rows(_)) {
                slices.flush();
            }
            if slices.watermark_us > watermark_us {
                let settled_us = match slices.watermark_us {
                    i64::MAX => i64::MAX,
                    watermark_us => watermark_us.saturating_sub(lateness_us),
                };
                naive.advance(gap_us, settled_us);
            }
            let out = slices.take();
            counted = (counted.0 + out.n_late, counted.1 + out.n_timeless);
            for batch in &out.batches {
                let weights = changes::weights(batch).expect("weights").values().to_vec();
                for (out, weight) in outs(batch, keyed).into_iter().zip(weights) {
                    prop_assert!(weight == 1 || lateness_us > 0, "taken back without lateness");
                    prop_assert!(out.1 >= before_us, "{:?} after {} was promised", out, before_us);
                    *said.entry(out).or_default() += i64::from(weight);
                }
            }
            said.retain(|_, count| *count != 0);
            prop_assert_eq!(counted, (naive.late, naive.timeless), "after step {}", at);
            if !matches!(step, Step::Rows(_)) {
                let wanted = match lateness_us {
                    0 => naive.settled.iter().map(|out| (*out, 1)).collect(),
                    _ => naive.answers(gap_us, slices.watermark_us),
                };
                prop_assert_eq!(&said, &wanted, "after step {}", at);
            }
        }
        for slice in &slices.slices {
            prop_assert_eq!((slice.by_key.len(), slice.bytes), (0, 0), "something is left");
            prop_assert!(slice.checks.is_empty() && slice.open_from.is_empty());
        }
    }
}

#[test]
fn a_row_that_goes_cuts_its_session_in_two() {
    let mut operator = UpdatingSessions::new(spec(6, true, 0, true)).expect("operator");
    let row = |time, weight| (Row { key: Some(1), time: Some(time), value: Some(time), text: None }, weight);
    let mut out = Output::default();
    operator.process(0, &batch(&[row(0, 1), row(5, 1), row(10, 1)], true), &mut out).expect("process");
    operator.advance(12, &mut out).expect("advance");
    assert!(out.batches.is_empty(), "it goes on until 16");
    operator.process(0, &batch(&[row(5, -1)], true), &mut out).expect("process");
    operator.advance(13, &mut out).expect("advance");
    let said: Vec<Out> = out.batches.iter().flat_map(|batch| outs(batch, true)).collect();
    assert_eq!(said, [(Some(1), 0, 6, Some(0), 0, 1, Some(0))]);
    assert_eq!(operator.output_watermark_us(), 8);
    operator.advance(16, &mut out).expect("advance");
    let said: Vec<Out> = out.batches.iter().flat_map(|batch| outs(batch, true)).collect();
    assert_eq!(said[1], (Some(1), 10, 16, Some(10), 0, 1, Some(10)));
    assert_eq!((out.n_late, operator.memory_bytes() < 4096), (0, true));
}
