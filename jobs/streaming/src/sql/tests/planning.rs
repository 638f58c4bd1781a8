//! Queries as operators.

use super::super::parse;
use super::{TABLES, planned};
use crate::functions::Functions;

fn check(sql: &str, wanted: &str) {
    let lines = |text: &str| -> String {
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let least = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
        lines.iter().map(|line| line[least..].trim_end()).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(lines(&planned(sql)), lines(wanted));
}

#[test]
fn projection_and_filter() {
    check(
        "INSERT INTO totals SELECT upper(card), ts, 1, amount FROM payments WHERE cents > 100",
        "
        sink-totals: blackhole totals
          project: upper(card) AS card, ts AS start, 1 AS n, amount AS total
            filter: CAST(amount * 100 AS Int64) > 100
              source-payments: datagen payments (card, amount, ts) time ts watermark ts - 5s
        ",
    );
}

#[test]
fn windows_in_from() {
    check(
        "INSERT INTO totals
         SELECT card, window_start, COUNT(*), SUM(amount) FILTER (WHERE \"Shop\" = 'x')
         FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '10' SECOND))
         GROUP BY window_start, window_end, card HAVING COUNT(*) > 2",
        "
        sink-totals: blackhole totals
          project: card, window_start AS start, count(Int64(1)) AS n, sum(payments.amount) FILTER (WHERE payments.shop = Utf8(\"x\")) AS total
            filter: count(Int64(1)) > 2
              window: tumble 10s by card: count(Int64(1)), sum(payments.amount) FILTER (WHERE payments.shop = Utf8(\"x\"))
                exchange: by card
                  project: card, ts AS event_time, amount AS payments.amount, shop = x AS payments.shop = Utf8(\"x\")
                    source-payments: datagen payments (card, amount, Shop, ts) time ts watermark ts - 5s
        ",
    );
}

#[test]
fn hop_over_a_view_with_a_computed_time() {
    check(
        "CREATE VIEW late AS SELECT id % 3 AS k, id, at FROM millis WHERE id > 5;
         SELECT k, window_end AS \"End\", MAX(id * 2) AS m, COUNT(DISTINCT id)
         FROM TABLE(HOP(TABLE late, DESCRIPTOR(at), INTERVAL '2 seconds', INTERVAL '10 seconds')) GROUP BY k, window_end",
        "
        collect: k, End, m, count(DISTINCT late.id)
          project: k, window_end AS End, max(late.id * Int64(2)) AS m, count(DISTINCT late.id)
            window: hop 10s every 2s by k: max(late.id * Int64(2)), count(DISTINCT late.id)
              exchange: by k
                project: id % 3 AS k, CAST(to_timestamp_millis(ms) AS Timestamp(Microsecond, Some(\"UTC\"))) AS event_time, id * 2 AS late.id * Int64(2), id AS late.id
                  filter: id > 5
                    source-millis: datagen millis (id, ms) time CAST(to_timestamp_millis(ms) AS Timestamp(Microsecond, Some(\"UTC\"))) watermark CAST(to_timestamp_millis(ms) AS Timestamp(Microsecond, Some(\"UTC\")))
        ",
    );
}

#[test]
fn windows_in_group_by() {
    check(
        "SELECT card, tumble(INTERVAL '1 minute')['start'] AS start, AVG(amount) AS a
         FROM payments GROUP BY card, tumble(INTERVAL '1 minute')",
        "
        collect: card, start, a
          project: card, window_start AS start, avg(payments.amount) AS a
            window: tumble 60s by card: avg(payments.amount)
              exchange: by card
                project: card, ts AS event_time, amount AS payments.amount
                  source-payments: datagen payments (card, amount, ts) time ts watermark ts - 5s
        ",
    );
}

#[test]
fn windows_over_windows_and_without_keys() {
    check(
        "CREATE VIEW counts AS SELECT card, COUNT(*) AS n, window_time AS t
           FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '10 seconds')) GROUP BY card, window_start, window_end, window_time;
         SELECT window_start, MAX(n) AS most FROM TABLE(TUMBLE(TABLE counts, DESCRIPTOR(t), INTERVAL '1 minute'))
           GROUP BY window_start, window_end",
        "
        collect: window_start, most
          project: window_start, max(counts.n) AS most
            window: tumble 60s: max(counts.n)
              exchange: all to one
                project: window_end - 0.001s AS event_time, count(Int64(1)) AS counts.n
                  window: tumble 10s by card: count(Int64(1))
                    exchange: by card
                      source-payments: datagen payments (card, ts) time ts watermark ts - 5s
        ",
    );
}

#[test]
fn union_and_shared_nodes() {
    check(
        "CREATE VIEW big AS SELECT card, ts, amount FROM payments WHERE amount > 10;
         INSERT INTO totals SELECT card, ts, 1, amount FROM big UNION ALL SELECT b, NULL, a, 0 FROM plain;
         INSERT INTO totals (total, card) SELECT amount, card FROM big;",
        "
        sink-totals: blackhole totals
          project: card, ts AS start, Int64(1) AS n, amount AS total
            union: all rows
              project: card, ts, 1 AS Int64(1), amount
                filter: amount > 10
                  source-payments: datagen payments (card, amount, ts) time ts watermark ts - 5s
              project: b AS card, NULL AS ts, a AS Int64(1), 0 AS amount
                source-plain: datagen plain (a, b)
        sink-totals-2: blackhole totals
          project: card, CAST(NULL AS Timestamp(Microsecond, Some(\"UTC\"))) AS start, CAST(NULL AS Int64) AS n, amount AS total
            filter: (as above)
        ",
    );
}

#[test]
fn tumbling_columns_without_aggregation() {
    check(
        "SELECT card, window_start, window_end FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1 hour')) AS w WHERE w.amount > 1",
        "
        collect: card, window_start, window_end
          project: card, tumble_start(ts, 3600000000) AS window_start, tumble_start(ts, 3600000000) + 3600s AS window_end
            filter: amount > 1
              filter: ts IS NOT NULL
                source-payments: datagen payments (card, amount, ts) time ts watermark ts - 5s
        ",
    );
}

/// State is found by id after an edit elsewhere.
#[test]
fn ids_depend_on_what_operators_do_and_nothing_else() {
    let windows = |sql: &str| -> Vec<String> {
        let script = parse(&format!("{TABLES}{sql}")).unwrap();
        let statements: Vec<usize> = script.inserts().map(|(at, _)| at).collect();
        let dataflow = super::super::plan::plan_now(&script, &statements, &Functions::new()).unwrap();
        dataflow.nodes.into_iter().map(|node| node.id).filter(|id| id.starts_with("window-")).collect()
    };
    let query = |select: &str, width: &str| {
        format!(
            "INSERT INTO totals SELECT {select} FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '{width}')) GROUP BY card, window_start;"
        )
    };
    let first = windows(&query("card, window_start, COUNT(*) AS n, SUM(amount) AS s", "10 seconds"));
    let renamed = windows(&query("card AS c, window_start AS w, COUNT(*) AS many, SUM(amount)", "10 seconds"));
    let beside = windows(&format!(
        "INSERT INTO totals SELECT \"Shop\", ts, cents, 1 FROM payments; {}",
        query("card, window_start, COUNT(*), SUM(amount) + 1", "10 seconds")
    ));
    let wider = windows(&query("card, window_start, COUNT(*), SUM(amount)", "20 seconds"));
    let other = windows(&query("card, window_start, COUNT(*), MAX(amount)", "10 seconds"));
    assert_eq!((first.len(), &first, &first), (1, &renamed, &beside));
    assert!(first != wider && first != other);
}

#[test]
fn a_plan_for_programs() {
    let script = parse(&format!("{TABLES} SELECT b, COUNT(*) AS n FROM plain WHERE a > 1 GROUP BY b")).unwrap();
    let (at, _) = script.queries().next().unwrap();
    let dataflow = super::super::plan::plan_now(&script, &[at], &Functions::new()).unwrap();
    let shown = super::super::explain_json(&dataflow);
    let nodes = shown["nodes"].as_array().unwrap();
    let kinds: Vec<&str> = nodes.iter().map(|node| node["kind"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds.last(), kinds.contains(&"group")), ("source", Some(&"collect"), true), "{shown}");
    for (at, node) in nodes.iter().enumerate() {
        let inputs = node["inputs"].as_array().unwrap();
        assert_eq!(inputs.is_empty(), node["kind"] == "source");
        assert!(inputs.iter().all(|input| nodes[..at].iter().any(|earlier| earlier["id"] == *input)), "{shown}");
        assert_eq!(node["changes"], dataflow.nodes[at].changes);
    }
    assert_eq!(nodes[0]["text"], "datagen plain (a, b)");
    let dot = super::super::explain_dot(&dataflow);
    let edges = dataflow.nodes.iter().map(|node| node.inputs.len()).sum::<usize>();
    assert_eq!((dot.matches(" -> ").count(), dot.matches("label=").count()), (edges, nodes.len()), "{dot}");
    let last = dataflow.nodes.len() - 1;
    assert!(dot.contains(&format!("n{} -> n{last} [style=dashed];", dataflow.nodes[last].inputs[0])), "{dot}");
    assert!(dot.contains("\\ndatagen plain (a, b)\"];"), "{dot}");
}
