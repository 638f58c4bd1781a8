//! The stream is seekable, and as hard as it says: amounts alone tell little, what a window tells is enough.

use super::*;
use crate::Polled;
use crate::generators::auc;
use crate::testing::{context, table};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

fn columns() -> Vec<(&'static str, DataType)> {
    vec![
        ("id", DataType::Int64),
        ("card", DataType::Int64),
        ("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("amount", DataType::Float64),
        ("merchant", DataType::Int64),
        ("country", DataType::Utf8),
        ("online", DataType::Boolean),
        ("fraud", DataType::Boolean),
    ]
}

#[derive(Default)]
struct Window {
    count: f64,
    sum: f64,
    max: f64,
    online: f64,
    countries: HashSet<&'static str>,
    merchants: HashSet<u64>,
    fraud: bool,
}

fn windows(events: &[Event], window_us: i64) -> BTreeMap<(i64, u64), Window> {
    let mut windows: BTreeMap<(i64, u64), Window> = BTreeMap::new();
    for event in events {
        let window = windows.entry((event.ts_us.div_euclid(window_us), event.card)).or_default();
        window.count += 1.0;
        window.sum += event.amount;
        window.max = window.max.max(event.amount);
        window.online += f64::from(u8::from(event.online));
        window.countries.insert(event.country);
        window.merchants.insert(event.merchant);
        window.fraud |= event.fraud;
    }
    windows
}

/// Logistic regression by gradient descent on standardised features: the simplest model that learns at all.
fn fit(rows: &[Vec<f64>], labels: &[bool]) -> impl Fn(&[f64]) -> f64 + use<> {
    let (n, width) = (rows.len() as f64, rows[0].len());
    let mean: Vec<f64> = (0..width).map(|at| rows.iter().map(|row| row[at]).sum::<f64>() / n).collect();
    let deviation: Vec<f64> = (0..width)
        .map(|at| (rows.iter().map(|row| (row[at] - mean[at]).powi(2)).sum::<f64>() / n).sqrt().max(1e-9))
        .collect();
    let standard = move |row: &[f64]| -> Vec<f64> {
        row.iter().zip(&mean).zip(&deviation).map(|((x, mean), deviation)| (x - mean) / deviation).collect()
    };
    let inputs: Vec<Vec<f64>> = rows.iter().map(|row| standard(row)).collect();
    let (mut weights, mut bias) = (vec![0.0; width], 0.0);
    for _ in 0..60 {
        let (mut gradient, mut bias_gradient) = (vec![0.0; width], 0.0);
        for (row, label) in inputs.iter().zip(labels) {
            let score: f64 = bias + row.iter().zip(&weights).map(|(x, w)| x * w).sum::<f64>();
            let miss = 1.0 / (1.0 + (-score).exp()) - f64::from(u8::from(*label));
            for (slot, x) in gradient.iter_mut().zip(row) {
                *slot += miss * x / n;
            }
            bias_gradient += miss / n;
        }
        for (weight, slope) in weights.iter_mut().zip(&gradient) {
            *weight -= 2.0 * slope;
        }
        bias -= 2.0 * bias_gradient;
    }
    move |row| standard(row).iter().zip(&weights).map(|(x, w)| x * w).sum()
}

#[test]
fn amounts_alone_tell_little_and_windows_tell_enough() {
    judge_stream(&[], &[60_000_000, 600_000_000]);
    // Five times as many events a minute, as a demonstration would have.
    judge_stream(&[("rate", "20000"), ("speed", "120")], &[60_000_000]);
}

fn judge_stream(options: &[(&str, &str)], windows_us: &[i64]) {
    let model = Model::of(&table(&columns(), options)).unwrap();
    let events: Vec<Event> = (0..120_000).map(|id| model.event(id)).collect();
    let labels: Vec<bool> = events.iter().map(|event| event.fraud).collect();
    let amounts: Vec<f64> = events.iter().map(|event| event.amount).collect();
    let by_amount = auc(&amounts, &labels);
    assert!((0.5..=0.85).contains(&by_amount), "amount alone reaches {by_amount}");
    let share = labels.iter().filter(|label| **label).count() as f64 / labels.len() as f64;
    assert!((0.02..0.12).contains(&share), "{share} of the transactions are fraud");

    for window_us in windows_us.iter().copied() {
        let windows = windows(&events, window_us);
        // The first part in time is learned from, the rest is judged.
        let learned = windows.len() / 2;
        let labels: Vec<bool> = windows.values().map(|window| window.fraud).collect();
        let judge = |name: &str, features: &dyn Fn(&Window) -> Vec<f64>, least: f64| {
            let rows: Vec<Vec<f64>> = windows.values().map(features).collect();
            let score = fit(&rows[..learned], &labels[..learned]);
            let scores: Vec<f64> = rows[learned..].iter().map(|row| score(row)).collect();
            let reached = auc(&scores, &labels[learned..]);
            println!("{name} over {window_us} µs: {reached:.3}");
            assert!(reached >= least, "{name} over {window_us} µs reaches {reached}");
        };
        judge(
            "all features",
            &|w| {
                vec![
                    w.count,
                    w.sum.ln(),
                    w.max.ln(),
                    w.online / w.count,
                    w.countries.len() as f64,
                    w.merchants.len() as f64,
                ]
            },
            0.93,
        );
        judge("without distinct counts", &|w| vec![w.count, w.sum, w.sum / w.count, w.max, w.online / w.count], 0.9);
        type Alone = (&'static str, fn(&Window) -> f64);
        let alone: [Alone; 3] = [("max", |w| w.max), ("avg", |w| w.sum / w.count), ("sum", |w| w.sum)];
        for (name, feature) in alone {
            let reached = auc(&windows.values().map(feature).collect::<Vec<_>>(), &labels);
            println!("{name} of amount over {window_us} µs: {reached:.3}");
            assert!(reached <= 0.85, "{name}(amount) alone over {window_us} µs reaches {reached}");
        }
        let best =
            best_reachable_auc(&table(&columns(), options), 120_000, Duration::from_micros(window_us as u64)).unwrap();
        println!("{best:?}");
        assert!(best.per_window > 0.95 && best.per_transaction > 0.95, "{best:?}");
    }
}

#[test]
fn bursts_give_a_window_several_events() {
    let model = Model::of(&table(&columns(), &[])).unwrap();
    let events: Vec<Event> = (0..40_000).map(|id| model.event(id)).collect();
    let windows = windows(&events, 60_000_000);
    let fraudulent: Vec<f64> = windows.values().filter(|window| window.fraud).map(|window| window.count).collect();
    let mean = fraudulent.iter().sum::<f64>() / fraudulent.len() as f64;
    assert!(mean >= 5.0, "windows with fraud hold {mean} events");
}

#[test]
fn disorder_is_bounded_and_time_goes_on() {
    let model = Model::of(&table(&columns(), &[("disorder", "500ms"), ("rate", "1000"), ("speed", "1")])).unwrap();
    let mut latest = DEFAULT_START_US - 500_000;
    let mut disordered = false;
    for event in (0..5000).map(|id| model.event(id)) {
        disordered |= event.ts_us < latest;
        assert!(event.ts_us >= latest - 500_000);
        latest = latest.max(event.ts_us);
    }
    assert!(disordered);
    assert!((latest - (DEFAULT_START_US + 5_000_000)).abs() < 600_000);
}

#[test]
fn reading_from_a_position_gives_the_same_rows() {
    let table = table(&columns(), &[("rows", "1000"), ("splits", "2")]);
    assert_eq!(CONNECTOR.check(&table), vec![]);
    assert!(CONNECTOR.bounded(&table));
    let context = context(std::path::Path::new("/"));
    let read = |projection: &[usize], from| {
        let start = SplitStart { split: "1".to_owned(), from };
        let mut reader = CONNECTOR.open_source(&table, projection, &[start], &context).unwrap();
        match reader.poll(Duration::from_secs(1)).unwrap() {
            Polled::Batch { batch, next, .. } => (batch, next),
            other => panic!("{other:?}"),
        }
    };
    let all: Vec<usize> = (0..8).collect();
    let (whole, next) = read(&all, None);
    assert_eq!((whole.num_rows(), next), (500, 500));
    let (part, _) = read(&[7, 3], Some(100));
    assert_eq!(part, whole.slice(100, 400).project(&[7, 3]).unwrap());
    assert_eq!(read(&[], None).0.num_rows(), 500);
}

#[test]
fn unknown_columns_and_wrong_types_are_told() {
    let wrong = CONNECTOR.check(&table(&[("amout", DataType::Float64), ("card", DataType::Utf8)], &[("speed", "x")]));
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert_eq!(wrong[1].help.as_deref(), Some("did you mean 'amount'?"));
}
