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
        let files = (0..n_files).map(|file| rows.iter().skip(file).step_by(n_files).cloned().collect()).collect();
        counts.insert(name.to_string(), write_table(folder, name, files)?);
    }
    // What is said of a row is in one file, in its order.
    for (name, files) in
        [("accounts", accounts()), ("stock", stock()), ("baskets", baskets()), ("readings", readings())]
    {
        counts.insert(name.to_string(), write_table(folder, name, files)?);
    }
    Ok(counts)
}

/// Gives the number of records.
fn write_table(folder: &Path, name: &str, files: Vec<Vec<Value>>) -> io::Result<u64> {
    let table = folder.join(name);
    fs::create_dir_all(&table)?;
    for (file, rows) in files.iter().enumerate() {
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        let end = if lines.is_empty() { "" } else { "\n" };
        fs::write(table.join(format!("{file}.jsonl")), lines.join("\n") + end)?;
    }
    Ok(files.iter().map(|rows| rows.len() as u64).sum())
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

/// Accounts that are opened, change and are closed, each told whole, without a key.
fn accounts() -> Vec<Vec<Value>> {
    let mut random = Random::new(7);
    let mut files = Vec::new();
    for file in 0..2 {
        let mut open: BTreeMap<i64, Value> = BTreeMap::new();
        let mut changes = Vec::new();
        for at in 0..90_i64 {
            let id = random.between(0, 9) * 2 + file;
            let owner = json!(random.of(&["ada", "bob", "cy", "dee"]));
            let branch = json!(random.of(&["Oslo", "Lima", ""]));
            let balance = quarters(&mut random, -10, 40);
            let row = json!({
                "id": id,
                "owner": owner,
                "branch": or_null(&mut random, 8, branch),
                "balance": or_null(&mut random, 12, balance),
                "ts": time(BEGIN_MS + at * 700),
            });
            let closes = random.one_in(4);
            let (before, after, op) = match open.remove(&id) {
                None => (Value::Null, row, if random.one_in(5) { "r" } else { "c" }),
                Some(before) if closes => (before, Value::Null, "d"),
                Some(before) => (before, row, "u"),
            };
            if !after.is_null() {
                open.insert(id, after.clone());
            }
            changes.push(envelope(&mut random, at, before, after, op));
        }
        files.push(changes);
    }
    files
}

fn envelope(random: &mut Random, at: i64, before: Value, after: Value, op: &str) -> Value {
    let envelope = json!({
        "before": before, "after": after, "op": op, "ts_ms": BEGIN_MS + at, "source": {"table": "t", "lsn": at},
    });
    if random.one_in(3) {
        json!({"schema": {"type": "struct", "name": "t.Envelope"}, "payload": envelope})
    } else {
        envelope
    }
}

/// What is in stock, by item and place: replaced rows are mostly not told, and some changes come twice.
fn stock() -> Vec<Vec<Value>> {
    let mut random = Random::new(8);
    let mut files = Vec::new();
    for place in ["north", "south"] {
        let mut there: BTreeMap<&str, Value> = BTreeMap::new();
        let mut changes = Vec::new();
        for at in 0..80_i64 {
            let item = *random.of(&["pen", "ink", "paper", "glue", "clip"]);
            let n = json!(random.below(30));
            let price = quarters(&mut random, 0, 8);
            let row = json!({
                "item": item, "place": place, "n": or_null(&mut random, 10, n), "price": or_null(&mut random, 9, price),
            });
            let (before, after, op) = match there.remove(item) {
                None => (Value::Null, row, "c"),
                // The key alone, as a table without a full replica identity tells it.
                Some(_) if random.one_in(4) => (json!({"item": item, "place": place}), Value::Null, "d"),
                Some(before) if random.one_in(3) => (before, row, "u"),
                Some(_) => (Value::Null, row, "u"),
            };
            if !after.is_null() {
                there.insert(item, after.clone());
            }
            for _ in 0..if random.one_in(8) { 2 } else { 1 } {
                changes.push(envelope(&mut random, at, before.clone(), after.clone(), op));
            }
        }
        files.push(changes);
    }
    files
}

/// Baskets with what is in them: lists of texts, of numbers and of structs, some empty, some null.
fn baskets() -> Vec<Vec<Value>> {
    let mut random = Random::new(9);
    let row = |at: i64, random: &mut Random| {
        let item = |random: &mut Random| {
            let (name, n) = (json!(random.of(&["pen", "ink", "paper"])), json!(random.below(5)));
            json!({"name": or_null(random, 9, name), "n": or_null(random, 9, n)})
        };
        let items: Vec<Value> = (0..random.below(4)).map(|_| item(random)).collect();
        let tags: Vec<Value> = (0..random.below(3))
            .map(|_| {
                let tag = json!(random.of(&["new", "gift", ""]));
                or_null(random, 7, tag)
            })
            .collect();
        let marks: Vec<Value> = (0..random.below(5)).map(|_| json!(random.below(9))).collect();
        json!({
            "basket": at,
            "card": random.below(6),
            "items": or_null(random, 9, json!(items)),
            "tags": or_null(random, 8, json!(tags)),
            "marks": or_null(random, 8, json!(marks)),
            "ts": time(BEGIN_MS + 1000 + at * 900),
        })
    };
    let rows: Vec<Value> = (1..=60).map(|at| row(at, &mut random)).collect();
    (0..2).map(|file| rows.iter().skip(file).step_by(2).cloned().collect()).collect()
}

/// Devices with labels, and values of all types that are written as text.
fn readings() -> Vec<Vec<Value>> {
    let mut random = Random::new(10);
    let row = |random: &mut Random| {
        let day =
            |random: &mut Random| json!(format!("2026-{:02}-{:02}", random.between(1, 12), random.between(1, 28)));
        let mut labels = serde_json::Map::new();
        for name in ["site", "kind", "Kind"] {
            if !random.one_in(3) {
                let label = json!(random.of(&["a", "b", ""]));
                labels.insert(name.to_owned(), or_null(random, 6, label));
            }
        }
        let mut levels = serde_json::Map::new();
        for name in ["low", "high"].iter().take(random.below(3)) {
            let values: Vec<i64> = (0..random.below(3)).map(|_| random.between(0, 9)).collect();
            levels.insert((*name).to_owned(), json!(values));
        }
        let seen: Vec<Value> = (0..random.below(3))
            .map(|_| json!({"day": day(random), "price": format!("{}.{}", random.below(100), random.below(9))}))
            .collect();
        let at = json!(format!("{:02}:{:02}:{:02}", random.below(24), random.below(60), random.below(60)));
        let raw = json!(format!("{:02x}{:02X}", random.below(256), random.below(256)));
        let price = json!(random.between(-9000, 9000) as f64 / 8.0);
        let first = day(random);
        json!({
            "device": random.of(&["d1", "d2", "d3"]),
            "labels": or_null(random, 8, Value::Object(labels)),
            "levels": Value::Object(levels),
            "at": or_null(random, 8, at),
            "day": or_null(random, 8, first),
            "raw": or_null(random, 8, raw),
            "price": or_null(random, 8, price),
            "seen": seen,
        })
    };
    let rows: Vec<Value> = (0..40).map(|_| row(&mut random)).collect();
    (0..2).map(|file| rows.iter().skip(file).step_by(2).cloned().collect()).collect()
}
