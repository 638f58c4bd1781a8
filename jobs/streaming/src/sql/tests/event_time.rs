//! Rows that are late: what is planned for them, and where they end.

use super::super::{parse, plan};
use super::running::lines;
use super::{mistakes, planned};
use crate::functions::Functions;
use crate::runtime::local::{LocalConfig, run};
use arrow::array::RecordBatch;
use std::path::Path;
use tokio::runtime::Runtime;

const EARLY: &str = "CREATE TABLE early (card VARCHAR, amount DOUBLE, ts TIMESTAMP, WATERMARK FOR ts AS ts)
  WITH (connector = 'datagen', allowed_lateness = '1 minute');";

#[track_caller]
fn check(sql: &str, wanted: &str) {
    let lines = |text: &str| text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    assert_eq!(lines(&planned(sql)), lines(wanted));
}

/// A filter is put between the table and the columns that are computed from it.
#[test]
fn a_computed_time_keeps_its_lateness_behind_a_filter() {
    let text = "CREATE TABLE early (card BIGINT, at BIGINT, ts AS to_timestamp_millis(at), WATERMARK FOR ts AS ts)
        WITH (connector = 'datagen', allowed_lateness = '1 minute');
        SELECT card, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE early, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE card > 0
        GROUP BY card, window_start, window_end";
    let script = parse(text).expect("it parses");
    let queries: Vec<usize> = script.queries().map(|(at, _)| at).collect();
    let planned = plan::plan_now(&script, &queries, &Functions::new()).expect("it plans");
    let shown = super::super::explain(&planned);
    assert!(shown.contains("again for rows that are 60s late") && shown.contains("filter"), "{shown}");
}

#[test]
fn windows_answer_again_for_late_rows() {
    check(
        &format!(
            "{EARLY} SELECT card, window_end, COUNT(*) AS n
             FROM TABLE(TUMBLE(TABLE early, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY card, window_start, window_end"
        ),
        "
        collect: card, window_end, n, weight [changes]
          project: card, window_end, count(Int64(1)) AS n [changes]
            window: tumble 10s by card: count(Int64(1)), again for rows that are 60s late [changes]
              exchange: by card
                source-early: datagen early (card, ts) time ts watermark ts
        ",
    );
}

#[test]
fn what_answers_once_waits_for_late_rows() {
    check(
        &format!(
            "{EARLY} SELECT a.card, b.amount FROM payments a JOIN early b
             ON a.card = b.card AND a.ts BETWEEN b.ts - INTERVAL '1' SECOND AND b.ts"
        ),
        "
        collect: card, amount
          project: card#0 AS card, amount
            join: inner on card = card within 0s to 1s
              exchange: by card
                source-payments: datagen payments (card, ts) time ts watermark ts - 5s
              hold: event time 60s behind
                exchange: by card
                  source-early: datagen early (card, amount, ts) time ts watermark ts
        ",
    );
}

#[test]
fn late_rows_go_whole_to_their_table() {
    check(
        "CREATE TABLE bids (id BIGINT, Price DOUBLE, note VARCHAR, ts TIMESTAMP, twice AS price * 2, WATERMARK FOR ts AS ts)
           WITH (connector = 'datagen', late_rows = 'LATE');
         CREATE TABLE late (ts TIMESTAMP, note VARCHAR, price DOUBLE) WITH (connector = 'blackhole');
         CREATE VIEW dear AS SELECT twice AS paid, ts FROM bids WHERE price > 1;
         INSERT INTO totals SELECT NULL, window_start, COUNT(*), SUM(paid)
         FROM TABLE(TUMBLE(TABLE dear, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end",
        "
        sink-totals: blackhole totals
          project: CAST(NULL AS Utf8) AS card, window_start AS start, count(Int64(1)) AS n, sum(dear.paid) AS total
            window: tumble 10s: count(Int64(1)), sum(dear.paid)
              exchange: all to one
                project: ts, Price * 2 AS twice, id, Price, note
                  filter: price > 1
                    source-bids: datagen bids (id, Price, note, ts) time ts watermark ts
        sink-late: blackhole late
          project: ts, note, Price
            late: rows that came too late
              window: (as above)
        ",
    );
}

#[test]
fn mistaken_options() {
    let of = |options: &str, sql: &str| {
        mistakes(&format!(
            "CREATE TABLE bids (id BIGINT, price DOUBLE, ts TIMESTAMP, twice AS price * 2, WATERMARK FOR ts AS ts)
               WITH (connector = 'datagen', {options});
             CREATE TABLE late_bids (ts TIMESTAMP, price DOUBLE) WITH (connector = 'blackhole');
             CREATE TABLE other (ts TIMESTAMP, prize DOUBLE) WITH (connector = 'blackhole');
             CREATE TABLE texts (ts TIMESTAMP, price VARCHAR) WITH (connector = 'blackhole');
             CREATE TABLE computed (ts TIMESTAMP, twice DOUBLE) WITH (connector = 'blackhole');
             {sql}"
        ))
    };
    let query = "INSERT INTO totals SELECT NULL, window_start, COUNT(*), 1.0
        FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end";
    let none: [&str; 0] = [];
    assert_eq!(of("late_rows = 'late_bids'", query), none);
    assert_eq!(of("allowed_lateness = '1 day'", query), none);
    let cases = [
        (
            "late_rows = 'late_bid'",
            "<'late_bid'> unknown table 'late_bid' for the late rows of 'bids' (did you mean 'late_bids'?)",
        ),
        ("late_rows = 'bids'", "<'bids'> the late rows of 'bids' would be read again and again (name another table)"),
        ("late_rows = 'plain'", "<'plain'> 'plain' cannot be written: connector 'datagen' is a source only"),
        ("late_rows = 'other'", "<'other'> 'prize' of 'other' is no column of 'bids' (did you mean 'price'?)"),
        (
            "late_rows = 'texts'",
            "<'texts'> 'price' is DOUBLE in 'bids' and VARCHAR in 'texts', which gets its late rows",
        ),
        (
            "late_rows = 'computed'",
            "<'computed'> 'twice' of 'computed' is no column of 'bids' that is read, but computed (known: id, price, ts)",
        ),
        ("allowed_lateness = 'soon'", "<'soon'> 'soon' does not begin with a number"),
        ("allowed_lateness = '500000 days'", "<'500000 days'> '500000 days' is more than 366000 days"),
    ];
    for (options, wanted) in cases {
        assert_eq!(of(options, query), [wanted], "of {options}");
    }
    assert_eq!(
        mistakes(
            "CREATE TABLE t (a BIGINT) WITH (connector = 'datagen', allowed_lateness = '1s', late_rows = 'plain')"
        ),
        [
            "<allowed_lateness> 't' has no WATERMARK, so none of its rows are late",
            "<late_rows> 't' has no WATERMARK, so none of its rows are late"
        ]
    );
    let united = "CREATE VIEW two AS SELECT ts FROM bids UNION ALL SELECT ts FROM payments;
        INSERT INTO totals SELECT NULL, window_start, COUNT(*), 1.0
        FROM TABLE(TUMBLE(TABLE two, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end";
    assert_eq!(of("late_rows = 'late_bids'", united), none);
    let looked_up = "CREATE TABLE names (id BIGINT PRIMARY KEY, name VARCHAR);
        CREATE VIEW named AS SELECT b.ts, n.name FROM bids AS b JOIN names FOR SYSTEM_TIME AS OF PROCTIME() AS n ON b.id = n.id;
        INSERT INTO totals SELECT NULL, window_start, COUNT(*), 1.0
        FROM TABLE(TUMBLE(TABLE named, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end";
    assert_eq!(
        of("late_rows = 'late_bids'", looked_up),
        [
            "<TUMBLE> the late rows of 'bids' cannot be told behind a join, DISTINCT or GROUP BY (put the window before it, or leave late_rows out)"
        ]
    );
}

/// Twenty rows a second, of which every seventh comes 10,000 seconds late: more than a batch of a file spans.
fn jumping(folder: &Path, n_files: i64, n_rows: i64) {
    std::fs::create_dir_all(folder.join("jumps")).expect("a folder");
    for file in 0..n_files {
        let row = |n: i64| {
            let second = if n % 7 == 6 { n / 20 } else { n / 20 + 10_000 };
            let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
            let ts = format!("2026-01-01T{hour:02}:{minute:02}:{second:02}Z");
            format!("{{\"id\": {}, \"k\": {}, \"ts\": \"{ts}\"}}\n", file * n_rows + n, n % 5)
        };
        let text: String = (0..n_rows).map(row).collect();
        std::fs::write(folder.join(format!("jumps/{file}.json")), text).expect("a file");
    }
}

fn ids(folder: &Path, table: &str, field: &str) -> Vec<i64> {
    let Ok(files) = std::fs::read_dir(folder.join(table)) else { return Vec::new() };
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("text");
        for line in text.lines() {
            let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
            found.push(row[field].as_i64().expect("a number"));
        }
    }
    found.sort_unstable();
    found
}

/// Every row is in a window or in the table of late rows, once, at every parallelism, also where a union or an unnesting is
/// before the window.
#[test]
fn late_rows_and_windows_make_up_the_input() {
    for window in [
        "TUMBLE(TABLE jumps, DESCRIPTOR(ts)",
        "SESSION(TABLE jumps PARTITION BY k, DESCRIPTOR(ts)",
        "TUMBLE(TABLE united, DESCRIPTOR(ts)",
        "TUMBLE(TABLE unnested, DESCRIPTOR(ts)",
    ] {
        for (tasks, slices) in [(1, 1), (2, 2)] {
            let folder = tempfile::tempdir().expect("a folder");
            jumping(folder.path(), 2, 25_000);
            let text = format!(
                "CREATE TABLE jumps (id BIGINT, k BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)
                   WITH (connector = 'files', path = 'jumps', late_rows = 'late');
                 CREATE TABLE late (id BIGINT, ts TIMESTAMP) WITH (connector = 'files', path = 'late');
                 CREATE TABLE counted (n BIGINT) WITH (connector = 'files', path = 'counted');
                 CREATE VIEW united AS
                   SELECT k + 1 AS k, ts FROM jumps WHERE k < 2
                   UNION ALL SELECT k, ts FROM jumps WHERE k >= 2;
                 CREATE VIEW unnested AS SELECT item AS k, ts FROM jumps CROSS JOIN UNNEST(make_array(k)) AS i(item);
                 INSERT INTO counted SELECT COUNT(*) FROM TABLE({window}, INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end"
            );
            let script = parse(&text).expect("the file is right");
            let jobs = script.jobs();
            assert_eq!(jobs[0].writes(), ["counted", "late"]);
            let runtime = Runtime::new().expect("a runtime");
            let statements: Vec<usize> = script.inserts().map(|(at, _)| at).collect();
            let dataflow = runtime.block_on(plan(&script, &statements, &Functions::new())).expect("a plan");
            let dead = folder.path().join("dead");
            let config = LocalConfig { tasks, slices, ..LocalConfig::new("test/late", folder.path().into(), dead) };
            run(dataflow, config).expect("the job starts").wait().expect("the job ends");
            let late = ids(folder.path(), "late", "id");
            let mut once = late.clone();
            once.dedup();
            assert_eq!(once.len(), late.len(), "a late row twice");
            assert!(late.len() > 1000, "{} late rows of {window}", late.len());
            let counted: i64 = ids(folder.path(), "counted", "n").iter().sum();
            assert_eq!(counted + late.len() as i64, 50_000, "at {tasks} tasks of {slices} slices of {window}");
        }
    }
}

fn rows(text: &str, folder: &Path) -> Vec<String> {
    let script = parse(text).expect("the file is right");
    let statements: Vec<usize> = script.queries().map(|(at, _)| at).collect();
    let functions = Functions::new();
    let planned = plan(&script, &statements, &functions);
    let dataflow = Runtime::new().expect("a runtime").block_on(planned).expect("the query is fit for streams");
    let config =
        LocalConfig { tasks: 1, slices: 1, ..LocalConfig::new("test/watermark", folder.into(), folder.join("dead")) };
    let job = run(dataflow, config).expect("the job starts");
    let batches: Vec<RecordBatch> = job.results.iter().collect();
    job.wait().expect("the job ends");
    lines(&batches)
}

/// How far event time has come depends on timing, but never past what was read: it is null at first, and then a time that
/// the watermark has had.
#[test]
fn the_current_watermark() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "CREATE TABLE ticks (id BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
        WITH (connector = 'datagen', rows = 30000, fields.id.kind = sequence);";
    let seen = format!("{text} SELECT id FROM ticks WHERE CURRENT_WATERMARK(ts) IS NULL AND id < 1");
    assert_eq!(rows(&seen, folder.path()).len(), 2, "the first row comes before there is a watermark");
    let seen = format!("{text} SELECT id FROM ticks WHERE ts < CURRENT_WATERMARK(ts)");
    assert_eq!(rows(&seen, folder.path()), Vec::<String>::new(), "rows are in order: none is late");
    let seen = format!(
        "{text} SELECT id FROM (SELECT id, ts, current_watermark(ts) AS w FROM ticks) WHERE w <= ts - INTERVAL '5 seconds'"
    );
    assert!(rows(&seen, folder.path()).len() > 1000, "later rows see a watermark");
}

#[test]
fn the_current_watermark_is_of_event_time_alone() {
    let column = "the argument of CURRENT_WATERMARK is a column of event time (it is the column of which a table declares \
                  WATERMARK FOR column AS …, or a window_time)";
    let place = "CURRENT_WATERMARK belongs in a SELECT list or in WHERE (name it in the SELECT list of a view or subquery, and \
                 use that name)";
    let cases = [
        ("SELECT CURRENT_WATERMARK(at) FROM millis WHERE CURRENT_WATERMARK(at) > at".to_string(), None),
        (
            "SELECT current_watermark(start) FROM (SELECT ts + INTERVAL '1' SECOND AS start FROM payments)".to_string(),
            Some(column),
        ),
        ("SELECT CURRENT_WATERMARK(ts + INTERVAL '1' SECOND) FROM payments".to_string(), Some(column)),
        (
            "SELECT a.card FROM payments a JOIN payments b ON a.card = b.card AND CURRENT_WATERMARK(a.ts) > b.ts"
                .to_string(),
            Some(place),
        ),
        ("SELECT card, MAX(CURRENT_WATERMARK(ts)) FROM payments GROUP BY card".to_string(), Some(place)),
    ];
    for (sql, wanted) in cases {
        let found = mistakes(&sql);
        let found: Vec<&str> =
            found.iter().map(|text| text.split_once("> ").map_or(text.as_str(), |(_, text)| text)).collect();
        assert_eq!(found, wanted.into_iter().collect::<Vec<_>>(), "of {sql}");
    }
}

#[test]
fn aggregations_in_two_phases() {
    check(
        "SET optimizer.two_phase = 'on';
         SELECT card, window_end, COUNT(*) AS n, AVG(amount) FILTER (WHERE amount > 1) AS a
         FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY card, window_start, window_end",
        "
        collect: card, window_end, n, a
          project: card, window_end, count(Int64(1)) AS n, avg(payments.amount) FILTER (WHERE payments.amount > Int64(1)) AS a
            window: tumble 10s by card: count(Int64(1)), avg(payments.amount) FILTER (WHERE payments.amount > Int64(1))
              exchange: by card
                local: tumble 10s by card of this slice: count(Int64(1)), avg(payments.amount) FILTER (WHERE payments.amount > Int64(1))
                  project: card, ts AS event_time, amount AS payments.amount, amount > 1 AS payments.amount > Float64(1)
                    source-payments: datagen payments (card, amount, ts) time ts watermark ts - 5s
        ",
    );
    check(
        "SET optimizer.two_phase = 'auto'; SET job.cpus = '2'; SELECT a, COUNT(b) AS n, SUM(a) AS s, MAX(b) AS m FROM plain GROUP BY a",
        "
        collect: a, n, s, m, weight [changes]
          project: a, CASE WHEN count(plain.b) IS NULL THEN 0 ELSE count(plain.b) END AS n, sum(plain.a) AS s, max(plain.b) AS m [changes]
            group: by a: count(plain.b), sum(plain.a), max(plain.b) [changes]
              exchange: by a
                local: all rows by a of this slice: count(plain.b), sum(plain.a), max(plain.b)
                  source-plain: datagen plain (a, b)
        ",
    );
    let one = planned("SELECT a, COUNT(b) AS n FROM plain GROUP BY a");
    for whole in [
        "SET optimizer.two_phase = 'off'; SET job.cpus = '2'; SELECT a, COUNT(b) AS n FROM plain GROUP BY a",
        "SET optimizer.two_phase = 'auto'; SELECT a, COUNT(b) AS n FROM plain GROUP BY a",
    ] {
        assert_eq!(planned(whole), one);
    }
    for unsplit in [
        "SELECT card, SUM(amount) FROM payments GROUP BY card",
        "SELECT a, COUNT(DISTINCT b) FROM plain GROUP BY a",
        "SELECT n, COUNT(*) FROM (SELECT a, COUNT(*) AS n FROM plain GROUP BY a, b HAVING SUM(a % 3) > 1.5) GROUP BY n",
        "SELECT card, COUNT(*) FROM payments GROUP BY card, session(INTERVAL '1 second')",
    ] {
        let text = planned(&format!("SET optimizer.two_phase = 'on'; {unsplit}"));
        assert!(text.matches("local:").count() <= usize::from(unsplit.contains("HAVING")), "{text}");
    }
    assert_eq!(
        mistakes("SET optimizer.two_phase = 'onn'; SELECT a FROM plain"),
        ["<'onn'> 'onn' is no way of aggregation (did you mean 'on'?)"]
    );
}

/// With the lateness that its rows have a table loses none of them, whether a query answers again or waits.
#[test]
fn no_row_within_the_lateness_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    jumping(folder.path(), 1, 25_000);
    let table = |options: &str| {
        format!(
            "CREATE TABLE jumps (id BIGINT, k BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)
               WITH (connector = 'files', path = 'jumps'{options});"
        )
    };
    let counted = |text: &str, query: &str| -> i64 {
        let lines = rows(&format!("{text} {query}"), folder.path());
        let number = |line: &String| line.rsplit(' ').next().and_then(|cell| cell.parse::<i64>().ok());
        lines.iter().skip(1).map(|line| number(line).expect("a number")).sum()
    };
    let early = table(", allowed_lateness = '3 hours'");
    for query in [
        "SELECT k, window_end, COUNT(*) FROM TABLE(TUMBLE(TABLE jumps, DESCRIPTOR(ts), INTERVAL '10' SECOND))
         GROUP BY k, window_start, window_end",
        "SELECT k, window_end, COUNT(*) FROM TABLE(SESSION(TABLE jumps PARTITION BY k, DESCRIPTOR(ts), INTERVAL '3' SECOND))
         GROUP BY k, window_start, window_end",
        "SELECT id, COUNT(*) OVER (PARTITION BY id ORDER BY ts RANGE BETWEEN INTERVAL '1' SECOND PRECEDING AND CURRENT ROW)
         FROM jumps",
        "SELECT a.id, 1 FROM jumps a JOIN jumps b ON a.id = b.id AND a.ts BETWEEN b.ts - INTERVAL '1' SECOND AND b.ts",
    ] {
        assert_eq!(counted(&early, query), 25_000, "of {query}");
        assert!(counted(&table(""), query) < 24_500, "rows are late without: {query}");
    }
}
