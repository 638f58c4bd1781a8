//! Which operators `state.ttl` is for, from when their rows count, and where it is refused.

use super::{TABLES, mistakes, planned, shown};
use crate::dataflow::Dataflow;
use crate::functions::Functions;
use crate::sql::parse;
use crate::sql::plan::plan_now;

const SET: &str = "SET state.ttl = '90 minutes';";
const HOW_LONG: &str = "forgotten after 5400s without a row";

fn dataflow(sql: &str) -> Dataflow {
    let text = format!("{TABLES}{sql}");
    let script = parse(&text).unwrap_or_else(|errors| panic!("{:#?}", shown(&text, &errors)));
    let statements: Vec<usize> = script.inserts().map(|(at, _)| at).chain(script.queries().map(|(at, _)| at)).collect();
    plan_now(&script, &statements, &Functions::new()).unwrap_or_else(|errors| panic!("{:#?}", shown(&text, &errors)))
}

/// By operator with a time to live: the names of the columns that its rows count from, by input.
fn living(sql: &str) -> Vec<(String, Vec<Vec<String>>)> {
    let dataflow = dataflow(&format!("{SET}{sql}"));
    let nodes = dataflow.nodes.iter().filter_map(|node| Some((node, node.lifetime.as_ref()?)));
    let living = nodes.map(|(node, lifetime)| {
        assert_eq!(lifetime.ttl_us, 5_400_000_000);
        let kind = node.id.split_once('-').map_or("", |(kind, _)| kind).to_string();
        let of_input = |(input, times): (&usize, &Vec<usize>)| {
            let schema = &dataflow.nodes[*input].schema;
            // Inner columns have the table's name before theirs.
            let name = |time: &usize| schema.field(*time).name().rsplit('.').next().unwrap_or_default().to_string();
            times.iter().map(name).collect()
        };
        (kind, node.inputs.iter().zip(&lifetime.times).map(of_input).collect())
    });
    living.collect()
}

#[track_caller]
fn check(sql: &str, wanted: &[(&str, &[&[&str]])]) {
    let found = living(sql);
    let found: Vec<(&str, Vec<Vec<&str>>)> = found
        .iter()
        .map(|(kind, inputs)| {
            (kind.as_str(), inputs.iter().map(|of| of.iter().map(String::as_str).collect()).collect())
        })
        .collect();
    let wanted: Vec<(&str, Vec<Vec<&str>>)> =
        wanted.iter().map(|(kind, inputs)| (*kind, inputs.iter().map(|of| of.to_vec()).collect())).collect();
    assert_eq!(found, wanted, "{sql}");
}

#[test]
fn what_event_time_does_not_bound() {
    check("SELECT card, count(*) FROM payments GROUP BY card", &[("group", &[&[]])]);
    check("SELECT card, max(ts) FROM payments WHERE amount > 1 GROUP BY card", &[("group", &[&["ts"]])]);
    check("SELECT id, max(at) FROM millis GROUP BY id", &[("group", &[&["at"]])]);
    check("SELECT DISTINCT card FROM payments", &[("group", &[&[]])]);
    check(
        "SELECT a.card, b.amount, b.ts FROM payments a JOIN payments b ON a.card = b.card",
        &[("join", &[&[], &["ts"]])],
    );
    check(
        "SELECT n, max(at) FROM (SELECT card, count(*) AS n, max(ts) AS at FROM payments GROUP BY card) GROUP BY n",
        &[("group", &[&["ts"]]), ("group", &[&[]])],
    );
    check(
        "SELECT * FROM (SELECT card, amount, ts, ROW_NUMBER() OVER (PARTITION BY card ORDER BY amount) AS r FROM payments) WHERE r <= 2",
        &[("top", &[&["ts"]])],
    );
    check("SELECT card, sum(amount) OVER (PARTITION BY card ORDER BY ts) FROM payments", &[("over", &[&["ts"]])]);
    check("SELECT card, lag(amount) OVER (PARTITION BY card ORDER BY ts) FROM payments", &[("over", &[&["ts"]])]);
    check(
        "CREATE TABLE best (n BIGINT PRIMARY KEY, card VARCHAR); INSERT INTO best SELECT count(*), card FROM payments GROUP BY card",
        &[("group", &[&[]]), ("upsert", &[&[]])],
    );
}

#[test]
fn what_event_time_bounds_or_does_not_grow() {
    for sql in [
        "SELECT count(*) FROM payments",
        "SELECT card, amount FROM payments",
        "SELECT card, count(*) FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY card, window_start, window_end",
        "SELECT card, count(*) FROM payments GROUP BY card, session(INTERVAL '10 seconds')",
        "SELECT a.card FROM payments a JOIN payments b ON a.card = b.card AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' MINUTE",
        "SELECT card, sum(amount) OVER (PARTITION BY card ORDER BY ts RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW) FROM payments",
    ] {
        check(sql, &[]);
    }
}

#[test]
fn is_shown_and_leaves_state_where_it_is() {
    let sql = "SELECT card, count(*) AS n FROM payments GROUP BY card";
    let text = planned(&format!("{SET}{sql}"));
    assert_eq!(text.matches(HOW_LONG).count(), 1, "{text}");
    assert!(!planned(sql).contains("forgotten"));
    assert_eq!(dataflow(&format!("{SET}{sql}")).fingerprint(), dataflow(sql).fingerprint());
}

#[test]
fn is_refused_where_nothing_would_ever_be_forgotten() {
    assert_eq!(
        mistakes(&format!("{SET}SELECT a, count(*) FROM plain GROUP BY a")),
        [
            "<'90 minutes'> state cannot be forgotten after a time: table 'plain' that feeds it has no event time (declare its \
          WATERMARK FOR a column, or leave 'state.ttl' out)"
        ]
    );
    assert_eq!(
        mistakes("SET state.ttl = '0s'; SELECT a FROM plain"),
        ["<'0s'> '0s' is no time to live; give one of a millisecond at least"]
    );
}
