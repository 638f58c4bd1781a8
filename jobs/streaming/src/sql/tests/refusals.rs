//! What streams cannot do is refused by name and place: one case each.

use super::mistakes;

fn refused(sql: &str, wanted: &str) {
    assert_eq!(mistakes(sql), [wanted], "of {sql}");
}

#[test]
fn constructs() {
    let cases = [
        (
            "SELECT a FROM plain ORDER BY a",
            "<ORDER BY> ORDER BY without LIMIT is not supported in a stream yet (add LIMIT n, for the first rows in this order)",
        ),
        ("SELECT a FROM plain LIMIT 3", UNORDERED),
        ("SELECT DISTINCT ON (a) a, b FROM plain", "<DISTINCT ON> DISTINCT ON is not supported in a stream yet"),
        (
            "SELECT a FROM plain p WHERE a = (SELECT id FROM millis WHERE ms = p.a)",
            "<(SELECT> a subquery that may give several rows, as a value, is not supported in a stream yet (aggregate it, for \
             example with MAX(…), write ORDER BY … LIMIT 1, or join)",
        ),
        (
            "SELECT a, t.ms FROM plain, LATERAL (SELECT ms FROM millis WHERE id = a ORDER BY ms LIMIT 1) AS t",
            "<(SELECT> OVER, or ORDER BY … LIMIT, in a subquery that depends on the row is not supported in a stream yet (compare \
             with the row above it, or write a join)",
        ),
        (
            "SELECT a, now() FROM plain",
            "<now> now() is not supported in a stream: it would be the time at which the job was planned (use the rows' event time)",
        ),
        ("CREATE VIEW v AS SELECT a FROM plain LIMIT 3; SELECT a FROM v", UNORDERED),
    ];
    for (sql, wanted) in cases {
        refused(sql, wanted);
    }
}

/// Of a LIMIT that says nothing of the order.
const UNORDERED: &str = "<LIMIT> LIMIT without ORDER BY is not supported in a stream yet (write ORDER BY … LIMIT n, so that it \
                         is settled which rows are the first)";

#[test]
fn constructs_of_others() {
    let struct_table = "CREATE TABLE nested (s STRUCT<x BIGINT>) WITH (connector = 'files', path = 'n');";
    let of_struct = format!("{struct_table} SELECT s.* FROM nested");
    let cases = [
        (
            "SELECT * FROM plain PIVOT (sum(a) FOR b IN ('x', 'y'))",
            "<PIVOT> PIVOT is not supported (write SUM(…) FILTER (WHERE column = value) for each value)",
        ),
        ("SELECT TOP 3 a FROM plain", "<TOP> TOP is not supported (write ORDER BY … LIMIT n)"),
        (
            "SELECT * FROM plain MATCH_RECOGNIZE (PARTITION BY b ORDER BY a MEASURES A.a AS x PATTERN (A B) DEFINE A AS A.a > 1)",
            "<MATCH_RECOGNIZE> MATCH_RECOGNIZE is not supported (compare rows by LAG(…) OVER, or join the table with itself)",
        ),
        (
            "SELECT a FROM plain CROSS APPLY millis",
            "<CROSS APPLY> CROSS APPLY is not supported (write CROSS JOIN LATERAL)",
        ),
        ("SELECT sum(a, a) FROM plain", "<sum> sum takes 1 argument, and is given 2"),
        ("SELECT sum(b) FROM plain", "<sum> sum does not take a value of type String"),
        (
            "SELECT a FROM nosuch.plain",
            "<nosuch.plain> unknown table 'nosuch.plain' (tables of a file have no schema: write plain)",
        ),
        (
            "SELECT a FROM nosuch.t",
            "<nosuch.t> unknown table 'nosuch.t' (tables of a file have no schema; known: payments, plain, millis, totals)",
        ),
        (&of_struct, "<s> 's' before .* is no table of this query (of a struct write each field: s.…)"),
        (
            "SELECT p.a FROM plain p LEFT JOIN millis m ON p.a = m.id AND EXISTS (SELECT 1 FROM millis x WHERE x.id = p.a)",
            "<SELECT p.a FROM plain p LEFT JOIN millis m ON p.a = m.id AND EXISTS (SELECT 1 FROM millis x WHERE x.id = p.a)> a \
             subquery in the ON of an outer join is not supported (join with a SELECT that has the condition in its WHERE)",
        ),
    ];
    for (sql, wanted) in cases {
        refused(sql, wanted);
    }
}

#[test]
fn what_nothing_computes() {
    refused("SELECT a FROM plain WHERE b @> '{\"n\":1}'", "<@>> the operator @> is not supported in a stream yet");
    refused(
        "SELECT array_agg(DISTINCT b ORDER BY a) FROM plain",
        "<ORDER BY> array_agg(DISTINCT plain.b) ORDER BY [plain.a ASC NULLS LAST] orders by what is not among its \
         DISTINCT arguments",
    );
    refused(
        "SELECT approx_percentile_cont_with_weight(a, a, CAST(a AS DOUBLE) / 2) FROM plain",
        "<approx_percentile_cont_with_weight> approx_percentile_cont_with_weight(plain.a,plain.a,plain.a / Int64(2)) is \
         not supported in a stream yet: Error during planning: Percentile value for 'APPROX_PERCENTILE_CONT' must be a \
         literal",
    );
}

#[test]
fn columns_that_are_not_null_and_tables_that_are_temporary() {
    let strict = "CREATE TABLE strict (a BIGINT, n BIGINT NOT NULL) WITH (connector = 'blackhole');";
    refused(
        &format!("{strict} INSERT INTO strict (a) SELECT a FROM plain"),
        "<strict> 'n' is a NOT NULL column of 'strict' and gets no value",
    );
    refused(
        &format!("SET sink.not_null = 'drp'; {strict} INSERT INTO strict SELECT a, a FROM plain"),
        "<'drp'> 'drp' is nothing that becomes of such rows (did you mean 'drop'?)",
    );
    refused(
        "SET execution.mode = 'bath'; SELECT a FROM plain",
        "<'bath'> 'bath' is no mode of execution (did you mean 'batch'?)",
    );
    refused(
        "SET job.kill_grce = '1s'; SELECT a FROM plain",
        "<job.kill_grce> unknown setting 'job.kill_grce' (did you mean 'job.kill_grace'?)",
    );
    refused(
        "CREATE TEMPORARY MODEL m WITH (label = 'a') AS SELECT a FROM plain",
        "<TEMPORARY> a model is kept, and so is never TEMPORARY",
    );
    refused("EXPLAIN CREATE TABLE t (a BIGINT)", "<CREATE> EXPLAIN CREATE is for what is declared by a query");
    // A batch would pass over it.
    refused(
        "CREATE TABLE few (a BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)
           WITH (connector = 'files', path = 'few', late_rows = 'latr');
         SELECT a FROM few",
        "<'latr'> unknown table 'latr' for the late rows of 'few' (known: payments, plain, millis, totals, few)",
    );
}

#[test]
fn clauses_that_would_be_passed_over() {
    refused("SELECT a FROM plain FOR UPDATE", "<FOR UPDATE> FOR UPDATE is not supported");
    refused("SELECT a FROM plain TABLESAMPLE (10)", "<plain> TABLESAMPLE is not supported yet");
    refused("EXPLAIN SELECT a FROM plain LIMIT 1", UNORDERED);
    refused(
        "CREATE TABLE keyed (k BIGINT PRIMARY KEY, v BIGINT) WITH (connector = 'blackhole'); INSERT INTO keyed (v) SELECT a FROM plain",
        "<keyed> 'k' is a key of 'keyed' and gets no value",
    );
}

#[test]
fn aggregations() {
    let windowed = "TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1 second'))";
    refused(
        &format!("SELECT card, COUNT(*) FROM {windowed} GROUP BY card"),
        "<GROUP BY> an aggregation of a window's rows that does not group by the window (group by window_start and \
         window_end, or leave the window out)",
    );
    refused(
        &format!("SELECT card, COUNT(*) FROM {windowed} GROUP BY ROLLUP (card, window_start)"),
        "<GROUP BY> an aggregation of a window's rows that does not group by the window (group by window_start and \
         window_end, or leave the window out)",
    );
}

#[test]
fn changes_where_rows_can_only_be_appended() {
    refused(
        "CREATE TABLE kept (b VARCHAR, n BIGINT);
         INSERT INTO kept SELECT b, COUNT(*) FROM plain GROUP BY b",
        "<INSERT INTO> table 'kept' takes appended rows only, and the query takes rows back; declare PRIMARY KEY (…) NOT ENFORCED",
    );
}

/// A table whose records are changes, by key or told whole.
const CHANGED: &str = "
CREATE TABLE changed (k BIGINT, v VARCHAR) WITH (connector = 'files', path = 'changed', changelog = 'debezium');
CREATE TABLE keyed (k BIGINT PRIMARY KEY, v VARCHAR) WITH (connector = 'files', path = 'keyed', changelog = 'debezium');
";

const REWRITTEN_SESSION: &str = "<SESSION> SESSION over rows that may come, or be taken back, long after the watermark has passed them is not supported: a \
     session that is over could begin anew (take sessions before what takes rows back (a table with option 'changelog', a join \
     without bounds in event time, last rows), or use TUMBLE or HOP, whose answers then change)";

#[test]
fn tables_of_changes() {
    for table in ["changed", "keyed"] {
        refused(
            &format!(
                "{CHANGED} CREATE TABLE kept (k BIGINT, v VARCHAR) WITH (connector = 'files', path = 'kept');
                 INSERT INTO kept SELECT k, v FROM {table}"
            ),
            "<INSERT INTO> table 'kept' takes appended rows only, and the query takes rows back; connector 'files' cannot; \
             others can: 'kafka', 'cassandra', 'table', 'stdout', 'sse', 'blackhole'",
        );
        refused(
            &format!("{CHANGED} INSERT INTO {table} SELECT a, b FROM plain"),
            &format!(
                "<{table}> '{table}' cannot be written: connector 'files' only reads changelogs (declare a table without \
                 option 'changelog' to write rows)"
            ),
        );
    }
    // An update of an old row would begin a session anew that is over.
    for (time, key) in [
        ("ts TIMESTAMP", ""),
        ("at BIGINT, ts AS to_timestamp_millis(at)", ""),
        ("ts TIMESTAMP", ", PRIMARY KEY (k) NOT ENFORCED"),
    ] {
        let table = format!(
            "CREATE TABLE t (k BIGINT, {time}, WATERMARK FOR ts AS ts{key})
             WITH (connector = 'files', path = 't', changelog = 'debezium');
             CREATE VIEW v AS SELECT ts AS moment, k FROM t WHERE k > 0;"
        );
        refused(
            &format!(
                "{table} INSERT INTO totals (n) SELECT COUNT(*)
                 FROM TABLE(SESSION(TABLE v PARTITION BY k, DESCRIPTOR(moment), INTERVAL '1 second')) GROUP BY k, window_start"
            ),
            REWRITTEN_SESSION,
        );
        let tumble = format!(
            "{table} CREATE TABLE kept (n BIGINT) WITH (connector = 'files', path = 'kept');
             INSERT INTO kept SELECT COUNT(*) FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(moment), INTERVAL '1 second'))
             GROUP BY window_start"
        );
        let found = mistakes(&tumble);
        assert!(found.len() == 1 && found[0].contains("takes appended rows only"), "{found:?}");
        assert_eq!(mistakes(&tumble.replace("'files', path = 'kept'", "'blackhole'")), Vec::<String>::new());
    }
    refused(
        "CREATE TABLE t (a BIGINT) WITH (connector = 'files', path = 't', changelog = 'upsert')",
        "<'upsert'> option 'changelog' is 'upsert', but must be one of debezium (known: debezium)",
    );
    refused(
        "CREATE TABLE t (a BIGINT) WITH (connector = 'files', path = 't', changelog = 'debezium', format = 'csv')",
        "<'csv'> changelog = 'debezium' is written as JSON (leave out option 'format')",
    );
}

#[test]
fn arrays_in_from() {
    let table = "CREATE TABLE lists (k BIGINT, l ARRAY<BIGINT>, m ARRAY<ARRAY<BIGINT>>) WITH (connector = 'files', path = 'l'); \
                 CREATE VIEW v AS ";
    let cases = [
        (
            "SELECT k FROM lists CROSS JOIN UNNEST(k) AS u(x)",
            "<k> UNNEST takes arrays, and outer_ref(lists.k) is BIGINT",
        ),
        (
            "SELECT k FROM lists LEFT JOIN UNNEST(l) AS u(x) ON x > 1",
            "<CREATE VIEW v AS SELECT k FROM lists LEFT JOIN UNNEST(l) AS u(x) ON x > 1> LEFT JOIN UNNEST ON another condition than TRUE is \
             not supported (write ON TRUE, and put the condition into WHERE or a CASE)",
        ),
    ];
    for (sql, wanted) in cases {
        let found = mistakes(&format!("{table}{sql}"));
        assert_eq!(found, [wanted], "of {sql}");
    }
    refused(
        &format!("{table} SELECT k FROM lists; INSERT INTO totals (n) SELECT unnest(unnest(m)) FROM lists"),
        "<unnest> UNNEST within UNNEST is not supported in a stream yet (take the outer array apart in a view, and the inner \
         one in a query of it)",
    );
}

#[test]
fn windows() {
    let cases = [
        (
            "TABLE(TUMBLE(TABLE plain, DESCRIPTOR(a), INTERVAL '1 second'))",
            "<a> 'a' is not the event time of 'plain' (declare WATERMARK FOR a AS … on the table it comes from)",
        ),
        (
            "TABLE(TUMBLE(TABLE payments, DESCRIPTOR(tss), INTERVAL '1 second'))",
            "<tss> unknown column 'tss' (did you mean 'ts'?)",
        ),
        (
            "TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1 month'))",
            "<'1 month'> months and years have no fixed length (write days instead)",
        ),
        (
            "TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts)))",
            "<TUMBLE> TUMBLE takes 3 arguments, and perhaps an offset: TUMBLE(TABLE t, DESCRIPTOR(time), width)",
        ),
        (
            "TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1 second', INTERVAL '0 seconds', INTERVAL '1 second'))",
            "<TUMBLE> TUMBLE takes 3 arguments, and perhaps an offset: TUMBLE(TABLE t, DESCRIPTOR(time), width)",
        ),
        (
            "TABLE(SESSION(TABLE payments PARTITION BY card, DESCRIPTOR(ts), INTERVAL '1 second', INTERVAL '1 second'))",
            "<SESSION> SESSION takes 3 arguments: SESSION(TABLE t PARTITION BY key, DESCRIPTOR(time), gap)",
        ),
        (
            "TABLE(TUMBLE(DATA => TABLE payments, TIMECOL => DESCRIPTOR(ts), WIDTH => INTERVAL '1 second'))",
            "<WIDTH> TUMBLE has no argument 'WIDTH' (known: data, timecol, size, offset)",
        ),
        (
            "TABLE(TUMBLE(DATA => TABLE payments, DATA => TABLE payments, SIZE => INTERVAL '1 second'))",
            "<TUMBLE> TUMBLE is given DATA twice",
        ),
        (
            "TABLE(TUMBLE(DATA => TABLE payments, TIMECOL => DESCRIPTOR(ts), INTERVAL '1 second'))",
            "<TUMBLE> TUMBLE takes its arguments by place or by name, not both",
        ),
        (
            "TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1 second', INTERVAL '1 month'))",
            "<'1 month'> the offset of a window is a constant whole number of milliseconds, for example INTERVAL '8 hours'",
        ),
        (
            "TABLE(CUMULATE(TABLE payments, DESCRIPTOR(ts), INTERVAL '2 seconds', INTERVAL '5 seconds'))",
            "<CUMULATE> the width of CUMULATE is a whole number of its steps",
        ),
        (
            "TABLE(TUMBLE(TABLE payments PARTITION BY card, DESCRIPTOR(ts), INTERVAL '2 seconds'))",
            "<card> TUMBLE has no partitions: its windows are alike for all rows (leave PARTITION BY out, and group by the column)",
        ),
        (
            "TABLE(TUMBEL(TABLE payments, DESCRIPTOR(ts), INTERVAL '1 second'))",
            "<TUMBEL> unknown table function 'TUMBEL' (did you mean 'tumble'?)",
        ),
    ];
    for (table, wanted) in cases {
        refused(&format!("SELECT COUNT(*) FROM {table} GROUP BY window_start"), wanted);
    }
    refused(
        "SELECT card, window_start FROM TABLE(SESSION(TABLE payments PARTITION BY card, DESCRIPTOR(ts), INTERVAL '1 second'))",
        "<window_start> window_start of SESSION is not supported outside an aggregation of its windows: it is known when the \
         session is over (group by window_start and window_end)",
    );
    refused(
        "SELECT COUNT(*) FROM plain GROUP BY tumble(INTERVAL '1 second')",
        "<tumble> tumble needs an event time, and none of these \
         columns is one (declare WATERMARK FOR column AS … on the table)",
    );
}

/// What is near event time may be windowed; of what is farther from it the reason is told.
#[test]
fn times_that_no_watermark_follows() {
    let of = |time: &str, rest: &str| {
        format!(
            "CREATE VIEW v AS SELECT card, {time} AS m FROM payments {rest};
             SELECT COUNT(*) FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(m), INTERVAL '1 second')) GROUP BY window_start"
        )
    };
    for near in [
        "ts - INTERVAL '1 hour'",
        "INTERVAL '1 hour' + ts",
        "ts - INTERVAL '1 month'",
        "date_trunc('day', ts + INTERVAL '1 hour')",
        "date_bin(INTERVAL '5 minutes', ts)",
        "CAST(ts AS TIMESTAMP)",
    ] {
        assert_eq!(mistakes(&of(near, "")), Vec::<String>::new(), "of {near}");
    }
    let computed = "<m> 'm' of 'v' is computed from event time, and nothing says how far from it (window the event time itself, \
                    or a time that differs from it by a constant, as ts - INTERVAL '1 hour' and date_trunc('minute', ts) do)";
    for far in
        ["CASE WHEN amount > 1 THEN ts END", "COALESCE(ts, TIMESTAMP '2026-01-01T00:00:00Z')", "date_trunc(card, ts)"]
    {
        refused(&of(far, ""), computed);
    }
    let aggregated = "<m> 'm' of 'v' is the result of a function over several rows, which no watermark follows (carry the event \
                      time itself through, or group by a window and use its window_time)";
    refused(&of("MAX(ts)", "GROUP BY card"), aggregated);
    refused(&of("LAG(ts) OVER (PARTITION BY card ORDER BY ts)", ""), aggregated);
    refused(
        &of("TIMESTAMP '2026-01-01T00:00:00Z'", ""),
        "<m> 'm' is not the event time of 'v' (declare WATERMARK FOR m AS … on the table it comes from)",
    );
}

/// What takes rows back of any age, and what gives rows of any age, lets no session be over.
#[test]
fn sessions_that_would_never_be_over() {
    for rows in [
        "SELECT card, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY card ORDER BY ts DESC) AS n FROM payments) WHERE n = 1",
        "SELECT p.card, p.ts FROM payments p JOIN plain q ON p.card = q.b",
        "SELECT card, ts FROM (SELECT card, ts, LEAD(amount) OVER (PARTITION BY card ORDER BY ts) AS l FROM payments) WHERE l > 1",
    ] {
        refused(
            &format!(
                "CREATE VIEW v AS {rows};
                 SELECT COUNT(*) FROM TABLE(SESSION(TABLE v PARTITION BY card, DESCRIPTOR(ts), INTERVAL '1 second'))
                 GROUP BY card, window_start"
            ),
            REWRITTEN_SESSION,
        );
    }
    refused(
        "CREATE VIEW v AS SELECT * FROM TABLE(SESSION(TABLE payments PARTITION BY card, DESCRIPTOR(ts), INTERVAL '1 second'));
         SELECT COUNT(*) FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(ts), INTERVAL '1 second')) GROUP BY window_start",
        "<SESSION> a window of the rows of a SESSION is not supported (aggregate the session, and window its answers by \
         window_time)",
    );
}

#[test]
fn rows_that_do_not_fit_their_table() {
    refused(
        "INSERT INTO totals SELECT card, ts, amount, 1 FROM payments",
        "<amount> 'amount' is DOUBLE and does not fit 'n' BIGINT (write a CAST; the query gives (card VARCHAR, ts \
         TIMESTAMP, amount DOUBLE, Int64(1) BIGINT); 'totals' takes (card VARCHAR, start TIMESTAMP, n BIGINT, total DOUBLE))",
    );
    refused(
        "INSERT INTO totals SELECT card FROM payments",
        "<totals> the query has 1 columns and 'totals' takes 4 (the query gives (card VARCHAR); 'totals' takes (card \
         VARCHAR, start TIMESTAMP, n BIGINT, total DOUBLE))",
    );
    refused(
        "INSERT INTO totals (crad) SELECT card FROM payments",
        "<crad> unknown column 'crad' of 'totals' (did you mean 'card'?)",
    );
    refused(
        "INSERT INTO payments SELECT b, a, b, NULL FROM plain",
        "<payments> 'payments' cannot be written: connector 'datagen' is a source only",
    );
    refused("SELECT card FROM totals", "<totals> 'totals' cannot be read: connector 'blackhole' is a sink only");
    refused(
        "CREATE MODEL m WITH (label = 'a') AS SELECT a FROM plain",
        "<plain> 'plain' never ends, and this query needs all of its rows (write INSERT INTO for a stream, or give the table an end)",
    );
}

#[test]
fn mistakes_in_declarations() {
    refused("CREATE TABLE t (a BIGINT, c AS d + 1) WITH (connector = 'datagen')", "<d> unknown column 'd' (known: a)");
    refused(
        "CREATE TABLE t (a BIGINT, WATERMARK FOR a AS a) WITH (connector = 'datagen')",
        "<WATERMARK FOR a AS a> the event time 'a' is a BIGINT, not a TIMESTAMP",
    );
    refused("CREATE VIEW v AS SELECT a, a FROM plain", "<a> two columns are named 'a' (rename one of them with AS)");
    refused(
        "SELECT predict(b, a) FROM plain",
        "<SELECT predict(b, a) FROM plain> the first argument of predict is the model's name as a string",
    );
    refused(
        "SELECT predict('m@', a) FROM plain",
        "<SELECT predict('m@', a) FROM plain> 'm@' in predict is no model: it is 'name', 'name@3' or 'name@alias'",
    );
    refused(
        "SELECT a, predict_version('m', a) FROM plain",
        "<SELECT a, predict_version('m', a) FROM plain> predict_version takes a model's name in quotes and nothing else",
    );
    refused(
        "SELECT l.a FROM plain AS l JOIN plain AS r ON l.a = r.a AND predict('m', l.a) > r.a",
        "<predict> predict in the condition of a join is not supported in a stream (name it in the SELECT list of a view or \
         subquery, and join by that name)",
    );
}

#[test]
fn partitions_of_tables_that_have_no_directories() {
    refused(
        "CREATE TABLE kept (day DATE, n BIGINT) PARTITIONED BY (day) WITH (connector = 'blackhole');",
        "<day> unknown option 'partitioned_by' of connector 'blackhole'",
    );
    refused(
        "CREATE TABLE kept (day DATE, n BIGINT) PARTITIONED BY (dya) WITH (connector = 'files', path = 'x');",
        "<dya> unknown column 'dya' (known: day, n)",
    );
    refused(
        "CREATE TABLE kept (x DOUBLE, n BIGINT) PARTITIONED BY (x) WITH (connector = 'files', path = 'x');",
        "<x> column 'x' is Float64, which cannot stand in a path (take a number, text, a date or a time)",
    );
}
