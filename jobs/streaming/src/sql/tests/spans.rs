//! Where operators come from: their words in the file.

use super::TABLES;
use crate::functions::declared_predict;
use crate::sql::{explain_json, parse};

/// By kind of operator, the words of the file that it was made from.
fn words(sql: &str) -> Vec<(String, Vec<String>)> {
    let text = format!("{TABLES}{sql}");
    let script = parse(&text).expect("a file");
    let statements: Vec<usize> = script.inserts().map(|(at, _)| at).chain(script.queries().map(|(at, _)| at)).collect();
    let dataflow = crate::sql::plan::plan_now(&script, &statements, &declared_predict()).expect("a plan");
    let kinds = explain_json(&dataflow)["nodes"].as_array().expect("nodes").clone();
    let kind = |node: &serde_json::Value| node["kind"].as_str().expect("a kind").to_string();
    let spans = dataflow.nodes.iter().map(|node| node.spans.iter().map(|(a, b)| text[*a..*b].to_string()).collect());
    kinds.iter().map(kind).zip(spans).collect()
}

fn of(words: &[(String, Vec<String>)], kind: &str) -> Vec<String> {
    words.iter().filter(|(of, _)| of == kind).flat_map(|(_, words)| words.clone()).collect()
}

#[test]
fn operators_know_the_words_that_they_come_from() {
    let found = words(
        "INSERT INTO totals
         SELECT card, window_start, COUNT(*), SUM(amount)
         FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1 minute'))
         WHERE amount > 10 AND card <> 'x'
         GROUP BY card, window_start, window_end
         HAVING SUM(amount) > 5;",
    );
    let filters = of(&found, "filter");
    assert!(filters.iter().any(|words| words.contains("amount")), "{found:?}");
    assert!(of(&found, "source")[0].starts_with("CREATE TABLE payments"), "{found:?}");
    assert!(of(&found, "window").iter().any(|words| words == "card" || words.starts_with("GROUP BY")), "{found:?}");
    let sink = of(&found, "sink");
    assert!(sink.iter().any(|words| words.starts_with("CREATE TABLE totals")) && sink.len() == 2, "{found:?}");
}

#[test]
fn joins_point_at_their_condition() {
    let found = words("SELECT p.card FROM payments p JOIN plain q ON p.card = q.b WHERE q.a > 3;");
    assert!(of(&found, "join").iter().any(|words| words.contains("card")), "{found:?}");
    assert!(found.iter().all(|(_, words)| !words.is_empty()), "{found:?}");
}
