//! Looking at what never ends: queries whose rows come as they come, and rows that pass an operator of a running job.

use crate::cluster::Cluster;
use crate::sql::Terminal;
use crate::wait::wait_for;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};

const ROLLS: &str = "CREATE TABLE rolls (id BIGINT, a BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH (connector = 'datagen', rate = '1000', fields.id.kind = 'sequence', fields.a.min = '0', fields.a.max = '4');
";

/// With a job that never ends.
fn running() -> (Cluster, String) {
    let cluster = Cluster::start();
    let text = format!(
        "SET job.name = 'live';\n{ROLLS}CREATE TABLE kept (a BIGINT PRIMARY KEY, n BIGINT);\nINSERT INTO kept\nSELECT a, \
         COUNT(*)\nFROM rolls\nWHERE id % 2 = 0\nGROUP BY a;\n"
    );
    let job = cluster.submit("live.sql", &text).remove(0);
    cluster.wait_until(&job, "running");
    (cluster, job)
}

fn get(cluster: &Cluster, path: &str) -> Value {
    let answer = cluster.get(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_slice(&answer).expect("JSON")
}

/// The lines of a query that is read until it is dropped; or what it was refused with.
fn lines(cluster: &Cluster, sql: &str) -> Result<impl Iterator<Item = Value>, Value> {
    let request = reqwest::blocking::Client::builder().no_proxy().build().expect("a client");
    let request = request.post(format!("{}/api/v1/sql/stream", cluster.runner));
    let answer =
        request.header("accept", "application/x-ndjson").json(&json!({ "sql": sql })).send().expect("an answer");
    if !answer.status().is_success() {
        return Err(answer.json().expect("JSON"));
    }
    let line = |line: std::io::Result<String>| serde_json::from_str(&line.expect("a line")).expect("JSON");
    Ok(BufReader::new(answer).lines().map(line))
}

/// Rows of the lines until there are so many.
fn rows(lines: impl Iterator<Item = Value>, n: usize) -> Vec<Value> {
    lines.flat_map(|line| line["rows"].as_array().cloned().unwrap_or_default()).take(n).collect()
}

#[test]
fn rows_come_as_they_come_until_nobody_reads_them() {
    let (cluster, _) = running();
    // A table that the job's file declares needs no declaration here.
    let mut found = lines(&cluster, "SELECT id, a FROM rolls WHERE a = 3").expect("rows");
    let head = found.next().expect("a head");
    assert_eq!((&head["columns"], &head["changes"]), (&json!(["id", "a"]), &json!(false)));
    assert!(rows(&mut found, 50).iter().all(|row| row["a"] == 3));
    // What is taken back says so, and the sum of it is right.
    let mut counts = lines(&cluster, "SELECT a, COUNT(*) AS n FROM rolls GROUP BY a").expect("rows");
    assert_eq!(counts.next().expect("a head")["changes"], true);
    let mut there = std::collections::BTreeMap::new();
    for row in rows(&mut counts, 200) {
        let weight = if row["op"] == "+" { 1 } else { -1 };
        *there.entry((row["a"].as_i64().expect("a"), row["n"].as_i64().expect("n"))).or_insert(0) += weight;
    }
    there.retain(|_, n| *n != 0);
    assert!(there.len() <= 10 && there.values().all(|n| (-1..=1).contains(n)), "{there:?}");
    // One that ends does; a mistake is one before the first row.
    let kept: Vec<Value> = lines(&cluster, "SELECT COUNT(*) AS n FROM kept WHERE a < 0").expect("rows").collect();
    assert_eq!(kept[1..], [json!({ "rows": [{ "n": 0 }] }), json!({ "end": true })]);
    let refused = lines(&cluster, "SELECT aa FROM rolls").err().expect("a mistake");
    assert!(refused["diagnostics"][0]["message"].as_str().expect("words").contains("'aa'"), "{refused}");
    assert_eq!(refused["diagnostics"][0]["span"], json!([7, 9]), "{refused}");

    // So many at once and no more; whoever goes away makes room.
    let mut open: Vec<_> = Vec::new();
    let refused = loop {
        match lines(&cluster, "SELECT id FROM rolls") {
            Ok(lines) => open.push(lines),
            Err(refused) => break refused,
        }
        assert!(open.len() < 100, "there is no bound");
    };
    assert!(refused["error"].as_str().expect("words").contains("queries that never end"), "{refused}");
    drop((open, found, counts));
    wait_for("room for another query", || match lines(&cluster, "SELECT id FROM rolls") {
        Ok(_) => Ok(()),
        Err(refused) => Err(refused.to_string()),
    });
    // Nothing of them is left.
    let left = || std::fs::read_dir(cluster.path(".smack/runner/queries")).expect("a folder").count();
    wait_for("an empty folder", || match left() {
        0 => Ok(()),
        n => Err(format!("{n} folders")),
    });
}

#[test]
fn the_shell_draws_a_result_that_changes_over_itself() {
    let (cluster, _) = running();
    let mut terminal = Terminal::open(&cluster, &["sql"]);
    terminal.shows("smack> ");
    let text = terminal.types("SELECT a, COUNT(*) AS n FROM rolls GROUP BY a;", "\u{1b}[6A");
    assert!(text.contains('a') && !text.contains("op"), "{text}");
    terminal.interrupt();
    terminal.shows("smack> ");
    terminal.types("SELECT COUNT(*) AS n FROM kept WHERE a < 0;", "1 row");
}

#[test]
fn rows_that_pass_an_operator_are_shown_with_their_place_in_the_file() {
    let (cluster, job) = running();
    let dataflow = get(&cluster, &format!("/api/v1/jobs/{job}/dataflow"));
    let nodes = dataflow["nodes"].as_array().expect("nodes");
    let of = |kind: &str| nodes.iter().find(|node| node["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
    let text: Vec<&str> = dataflow["text"].as_str().expect("text").lines().collect();
    let lines = |kind: &str| -> Vec<&str> {
        let stretches = of(kind)["lines"].as_array().expect("lines").iter();
        let ends = stretches.map(|ends| (ends[0].as_u64().expect("a line"), ends[1].as_u64().expect("a line")));
        ends.flat_map(|(from, to)| text[from as usize - 1..to as usize].to_vec()).collect()
    };
    assert_eq!(lines("filter"), ["WHERE id % 2 = 0"]);
    assert_eq!(lines("source").first().map(|line| &line[..18]), Some("CREATE TABLE rolls"));
    assert!(lines("group").contains(&"GROUP BY a;") || lines("group").contains(&"SELECT a, COUNT(*)"), "{nodes:?}");
    assert!(lines("sink").contains(&"INSERT INTO kept"), "{nodes:?}");

    let sample = |kind: &str, rows: u32| {
        let operator = of(kind)["id"].as_str().expect("an id");
        get(&cluster, &format!("/api/v1/jobs/{job}/sample/{operator}?rows={rows}"))
    };
    let filtered = sample("filter", 7);
    let shown = filtered["rows"].as_array().expect("rows");
    assert!(shown.len() == 7 && shown.iter().all(|row| row["id"].as_i64().expect("id") % 2 == 0), "{filtered}");
    assert_eq!(filtered["changes"], false);
    let grouped = sample("group", 3);
    assert!(grouped["changes"] == true && grouped["columns"][0] == "op", "{grouped}");
    // Of a sink, what it is given.
    assert_eq!(sample("sink", 1)["columns"], json!(["op", "a", "n"]));
    for (path, words) in [
        (format!("/api/v1/jobs/{job}/sample/nothing"), "no operator 'nothing'"),
        ("/api/v1/jobs/live/nothing/sample/x".to_string(), "no job"),
    ] {
        let refused = cluster.get(&path).expect_err("there is none");
        assert!(refused.contains(words), "{refused}");
    }
    let catalog = get(&cluster, "/api/v1/sql/catalog");
    let tables = catalog["tables"].as_array().expect("tables");
    let named = |name: &str| tables.iter().find(|table| table["name"] == name).unwrap_or_else(|| panic!("{catalog}"));
    assert_eq!((&named("rolls")["job"], &named("rolls")["columns"][1]["type"]), (&json!(job), &json!("BIGINT")));
    assert_eq!((&named("kept")["kind"], &named("kept")["key"]), (&json!("table"), &json!(["a"])));
    cluster.smack(&["stop", &job]).expect(0);
    cluster.wait_until(&job, "stopped");
    let operator = of("filter")["id"].as_str().expect("an id");
    let refused = cluster.get(&format!("/api/v1/jobs/{job}/sample/{operator}")).expect_err("it is over");
    assert!(refused.contains("stopped"), "{refused}");
}
