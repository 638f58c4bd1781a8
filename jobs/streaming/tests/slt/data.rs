//! The tables of `prelude.sql` as files of JSON lines: the same rows each time, dealt to several files per table.
//!
//! Event times come out of order, by less than the tables' watermarks allow. Values of DOUBLE columns are quarters, so
//! that their sums are exact in every order.

use crate::random::Random;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

/// 2026-03-01T00:00:00Z.
const BEGIN_MS: i64 = 1_772_323_200_000;

const SHOPS: [&str; 6] = ["north", "south", "", "Zoë's", "東京", "old mill"];

/// Writes all tables under `folder`; gives the number of rows of each.
pub fn write(folder: &Path) -> io::Result<BTreeMap<String, u64>> {
    let tables = [
        ("payments", 3, payments()),
        ("events", 2, events()),
        ("orders", 2, orders()),
        ("shipments", 2, shipments()),
        ("prices", 2, prices()),
        ("people", 2, people()),
        ("pairs", 2, pairs()),
        ("nothing", 1, Vec::new()),
    ];
    let mut counts = BTreeMap::new();
    for (name, n_files, rows) in tables {
        let table = folder.join(name);
        fs::create_dir_all(&table)?;
        for file in 0..n_files {
            let lines: Vec<String> = rows.iter().skip(file).step_by(n_files).map(Value::to_string).collect();
            let end = if lines.is_empty() { "" } else { "\n" };
            fs::write(table.join(format!("{file}.jsonl")), lines.join("\n") + end)?;
        }
        counts.insert(name.to_string(), rows.len() as u64);
    }
    Ok(counts)
}

fn time(ms: i64) -> Value {
    let of_day = ms.rem_euclid(86_400_000);
    // All rows are of the first day of March.
    assert_eq!(ms - of_day, BEGIN_MS, "a time outside the day");
    let (s, ms) = (of_day / 1000, of_day % 1000);
    json!(format!("2026-03-01T{:02}:{:02}:{:02}.{ms:03}Z", s / 3600, s / 60 % 60, s % 60))
}

/// `value`, or once in `n` a null.
fn or_null(random: &mut Random, n: usize, value: Value) -> Value {
    if random.one_in(n) { Value::Null } else { value }
}

fn quarters(random: &mut Random, low: i64, high: i64) -> Value {
    json!(random.between(low * 4, high * 4) as f64 / 4.0)
}

/// Two minutes of payments, two a second, no two at the same time.
fn payments() -> Vec<Value> {
    let mut random = Random::new(1);
    let mut taken = BTreeSet::new();
    let row = |at: i64| {
        let mut ts = BEGIN_MS + 1000 + at * 500 + random.between(-800, 800);
        while !taken.insert(ts) {
            ts += 1;
        }
        let card = json!(random.below(6));
        let shop = json!(random.of(&SHOPS));
        let amount = json!(random.between(-20, 180));
        let rate = quarters(&mut random, -2, 30);
        let price = json!(format!("{}.{:02}", random.between(0, 400), random.between(0, 99)));
        let ok = json!(random.below(3) > 0);
        json!({
            "id": at + 1,
            "card": or_null(&mut random, 20, card),
            "shop": or_null(&mut random, 8, shop),
            "amount": or_null(&mut random, 10, amount),
            "rate": or_null(&mut random, 10, rate),
            "price": or_null(&mut random, 12, price),
            "ok": or_null(&mut random, 9, ok),
            "ts": time(ts),
        })
    };
    (0..240).map(row).collect()
}

/// What people do, in bursts with pauses between them; many at the same time, some at no known time.
fn events() -> Vec<Value> {
    let mut random = Random::new(2);
    let mut now = BEGIN_MS + 2000;
    let row = |at: i64| {
        now += match random.below(20) {
            0 => random.between(8, 20) * 1000,
            1..=8 => 0,
            _ => random.between(1, 8) * 250,
        };
        let ts = time(now - random.between(0, 2) * 250);
        let person = json!(random.of(&["ada", "bob", "cy", "dee"]));
        let kind = json!(random.of(&["click", "view", "buy"]));
        let value = json!(random.between(-5, 15));
        json!({
            "event": at + 1,
            "person": or_null(&mut random, 25, person),
            "kind": kind,
            "value": or_null(&mut random, 7, value),
            "ts": or_null(&mut random, 30, ts),
        })
    };
    (0..150).map(row).collect()
}

/// When order `order` is placed.
fn ordered_ms(order: i64) -> i64 {
    BEGIN_MS + order * 1000 + (order * 37 % 13) * 100
}

fn orders() -> Vec<Value> {
    let mut random = Random::new(3);
    let row = |order: i64| {
        let item = json!(random.of(&["pen", "ink", "paper", "glue"]));
        let total = quarters(&mut random, 1, 50);
        json!({
            "order_id": order,
            "card": random.below(8),
            "item": or_null(&mut random, 12, item),
            "quantity": random.between(1, 5),
            "total": or_null(&mut random, 12, total),
            "ts": time(ordered_ms(order)),
        })
    };
    (1..=120).map(row).collect()
}

/// Some orders are never sent, some in two parts; some shipments are of no order that is known.
fn shipments() -> Vec<Value> {
    let mut random = Random::new(4);
    let mut sent: Vec<(i64, Value)> = (1..=100)
        .map(|shipment: i64| {
            let order = random.between(1, 120);
            let ts = ordered_ms(order) + random.between(0, 90) * 100;
            let order = match random.below(12) {
                0 => Value::Null,
                1 => json!(order + 1000),
                _ => json!(order),
            };
            let carrier = json!(random.of(&["ship", "rail", "road"]));
            let row = json!({
                "shipment_id": shipment,
                "order_id": order,
                "carrier": or_null(&mut random, 10, carrier),
                "weight": quarters(&mut random, 0, 20),
                "ts": time(ts),
            });
            (ts + random.between(0, 2000), row)
        })
        .collect();
    sent.sort_by_key(|(seen, _)| *seen);
    sent.into_iter().map(|(_, row)| row).collect()
}

/// The versions of what items cost; some at the same time, some of no item, and glue has a price late.
fn prices() -> Vec<Value> {
    let mut random = Random::new(7);
    let row = |at: i64| {
        let item = json!(random.of(&["pen", "ink", "paper", if at < 30 { "rope" } else { "glue" }]));
        let ts = BEGIN_MS + 4000 + at * 2000 + random.between(-700, 700) / 100 * 100;
        // Every seventh has the time of an order.
        let ts = if at % 7 == 0 { ordered_ms(at * 2 + 3) } else { ts };
        json!({
            "item": or_null(&mut random, 15, item),
            "price": random.between(1, 9),
            "note": random.of(&["a", "b"]),
            "ts": time(ts),
        })
    };
    let rows: Vec<Value> = (0..50).map(row).collect();
    // Two versions of one item at one time.
    let twins = rows.iter().step_by(9).map(|row| {
        let mut twin = row.clone();
        twin["price"] = json!(5);
        twin
    });
    let twins: Vec<Value> = twins.collect();
    rows.into_iter()
        .enumerate()
        .flat_map(|(at, row)| [Some(row), (at % 9 == 0).then(|| twins[at / 9].clone())])
        .flatten()
        .collect()
}

/// A table of things that have no time.
fn people() -> Vec<Value> {
    let mut random = Random::new(5);
    let row = |at: i64| {
        let city = json!(random.of(&["Oslo", "Lima", "東京", ""]));
        let age = json!(random.between(18, 70));
        let height = json!(random.between(600, 800) as f64 / 4.0);
        let born = format!("19{:02}-{:02}-{:02}", random.between(50, 99), random.between(1, 12), random.between(1, 28));
        json!({
            // 4 and 5 are cards of nobody, and some people have a card that is never used, or none.
            "card": match at { 4 | 5 | 11 => Value::Null, at => json!(at) },
            "name": format!("p{at:02}"),
            "city": or_null(&mut random, 8, city),
            "age": or_null(&mut random, 8, age),
            "level": random.between(-3, 3),
            "points": random.between(-300, 300),
            "height": or_null(&mut random, 8, height),
            "born": or_null(&mut random, 8, json!(born)),
        })
    };
    (0..32).map(row).collect()
}

/// Few different rows, many times each.
fn pairs() -> Vec<Value> {
    let mut random = Random::new(6);
    let row = |_| {
        let (k, v, s) = (json!(random.below(4)), json!(random.below(3)), json!(random.of(&["x", "y", ""])));
        json!({
            "k": or_null(&mut random, 6, k),
            "v": or_null(&mut random, 5, v),
            "s": or_null(&mut random, 6, s),
        })
    };
    (0..48).map(row).collect()
}
