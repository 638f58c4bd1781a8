//! Joins with tables as they are at a moment: plans and refusals.

use super::super::parse;
use super::{TABLES, mistakes, planned, shown};
use crate::batch;
use crate::functions::Functions;

const CUSTOMERS: &str = "
CREATE TABLE customers (id BIGINT, \"Name\" VARCHAR, level INT, next AS level + 1, PRIMARY KEY (id) NOT ENFORCED);
CREATE TABLE timed (a BIGINT, b VARCHAR, p AS PROCTIME()) WITH (connector = 'datagen');
";

fn plan_of(sql: &str) -> String {
    planned(&format!("{CUSTOMERS}{sql}"))
}

#[track_caller]
fn refused(sql: &str, wanted: &str) {
    assert_eq!(mistakes(&format!("{CUSTOMERS}{sql}")), [wanted], "of {sql}");
}

#[test]
fn a_lookup_reads_what_is_needed_and_rows_are_filtered_before_it() {
    let wanted = "collect: b, Name, next
  project: b, name, next
    lookup: LookupJoin inner table customers (id, Name, level) on a = id where left0 < right2
      filter: b != x
        source-timed: datagen timed (a, b)";
    let plan = plan_of(
        "SELECT o.b, c.name, c.next FROM timed AS o JOIN customers FOR SYSTEM_TIME AS OF o.p AS c \
         ON o.a = c.id AND c.next > o.a WHERE o.b <> 'x'",
    );
    assert_eq!(plan, wanted);
}

#[test]
fn what_is_asked_of_the_table_after_an_outer_lookup_stays_behind_it() {
    let plan = plan_of(
        "SELECT b, level FROM timed LEFT JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() ON a = id WHERE level IS NULL",
    );
    let wanted = "collect: b, level
  project: b, level
    filter: level IS NULL
      lookup: LookupJoin left table customers (id, level) on a = id
        source-timed: datagen timed (a, b)";
    assert_eq!(plan, wanted);
}

#[test]
fn a_condition_on_both_sides_stays_behind_the_lookup() {
    let plan = plan_of(
        "SELECT b, level FROM timed JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() ON a = id WHERE level > a AND a > 3",
    );
    let wanted = "collect: b, level
  project: b, level
    filter: CAST(level AS Int64) > a
      lookup: LookupJoin inner table customers (id, level) on a = id
        filter: a > 3
          source-timed: datagen timed (a, b)";
    assert_eq!(plan, wanted);
}

#[test]
fn a_cache_is_an_option_of_the_table() {
    let with = |options: &str| {
        plan_of(&format!(
            "CREATE TABLE kept (id BIGINT PRIMARY KEY, n INT) WITH ({options}); \
             SELECT a, n FROM plain JOIN kept FOR SYSTEM_TIME AS OF PROCTIME() ON a = id"
        ))
    };
    assert!(
        with("lookup.cache.max_rows = 5").contains("cache of 5 rows for 60s"),
        "{}",
        with("lookup.cache.max_rows = 5")
    );
    assert!(with("lookup.cache.ttl = '2s'").contains("cache of 10000 rows for 2s"));
    assert!(!with("lookup.cache.max_rows = 0").contains("cache"));
    refused(
        "CREATE TABLE kept (id BIGINT PRIMARY KEY) WITH (lookup.cache.ttl = 'long')",
        "<'long'> 'long' does not begin with a number",
    );
    refused(
        "CREATE TABLE kept (id BIGINT PRIMARY KEY) WITH (lookup.cache.max_rows = 'many')",
        "<'many'> option 'lookup.cache.max_rows' is 'many', which is no number of rows",
    );
}

#[test]
fn event_time_goes_through_a_lookup_and_windows_follow() {
    let plan = plan_of(
        "CREATE VIEW v AS SELECT p.*, c.level FROM payments AS p \
         JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON p.cents = c.id; \
         SELECT level, COUNT(*) FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(ts), INTERVAL '10 seconds')) \
         GROUP BY level, window_start, window_end",
    );
    assert!(plan.contains("window: tumble 10s by level") && plan.contains("lookup: LookupJoin inner"), "{plan}");
    assert!(!plan.contains("[changes]"), "{plan}");
}

#[test]
fn lookups_that_cannot_be() {
    let join = |with: &str, on: &str| format!("SELECT o.b FROM timed AS o JOIN {with} ON {on}");
    refused(
        &join("plain FOR SYSTEM_TIME AS OF o.p AS c", "o.a = c.a"),
        "<o.p> 'plain' cannot be looked up: connector 'datagen' finds no rows by key (look up in a table of the table store \
         (no connector) or of Cassandra)",
    );
    refused(
        &join("customers FOR SYSTEM_TIME AS OF o.p AS c", "o.a = c.level"),
        "<o.p> 'customers' cannot be looked up by these columns: its rows are found by its primary key (id) ('level' is INT: \
         write CAST(… AS INT) = level)",
    );
    refused(
        &join("customers FOR SYSTEM_TIME AS OF o.p AS c", "o.a < c.id"),
        "<o.p> 'customers' cannot be looked up by these columns: its rows are found by its primary key (id) (join with ON … = id)",
    );
    refused(
        &format!("CREATE TABLE heap (id BIGINT); {}", join("heap FOR SYSTEM_TIME AS OF PROCTIME()", "a = id")),
        "<PROCTIME> 'heap' cannot be looked up: it has no primary key, by which rows are found (declare PRIMARY KEY (…) NOT \
         ENFORCED, as the table was written)",
    );
    refused(
        &join("customers FOR SYSTEM_TIME AS OF o.b AS c", "o.a = c.id"),
        "<o.b> 'b' is neither PROCTIME() nor the event time of its stream (declare p AS PROCTIME() and write FOR SYSTEM_TIME AS \
         OF p, or declare WATERMARK FOR b AS …)",
    );
    refused(
        &join("customers FOR SYSTEM_TIME AS OF c.id AS c", "o.a = c.id"),
        "<c.id> 'c.id' is no column of what stands before JOIN (the moment is a column of the stream, or PROCTIME())",
    );
    refused(
        &join("customers FOR SYSTEM_TIME AS OF o.p + INTERVAL '1 hour' AS c", "o.a = c.id"),
        "<o.p + INTERVAL '1 hour'> FOR SYSTEM_TIME AS OF takes PROCTIME() or a column of the stream before JOIN (name a column \
         in a view, and write it here)",
    );
    refused(
        "SELECT b FROM timed AS o FULL JOIN customers FOR SYSTEM_TIME AS OF o.p AS c ON o.a = c.id",
        "<o.p> a FULL JOIN with FOR SYSTEM_TIME AS OF is not supported (write JOIN or LEFT JOIN: each row of the stream asks the \
         table)",
    );
    refused(
        "SELECT b FROM timed AS o CROSS JOIN customers FOR SYSTEM_TIME AS OF o.p AS c",
        "<o.p> a join with FOR SYSTEM_TIME AS OF needs an ON (write JOIN … FOR SYSTEM_TIME AS OF … ON a = b)",
    );
    refused(
        "SELECT id FROM customers FOR SYSTEM_TIME AS OF PROCTIME()",
        "<PROCTIME> FOR SYSTEM_TIME AS OF belongs behind the right table of a JOIN (write stream JOIN table FOR SYSTEM_TIME AS \
         OF … ON …)",
    );
    refused(
        &format!(
            "CREATE VIEW some AS SELECT id FROM customers WHERE level > 3; {}",
            join("some FOR SYSTEM_TIME AS OF o.p AS c", "o.a = c.id")
        ),
        "<o.p> FOR SYSTEM_TIME AS OF belongs to a table, and this is a query (write the table's name, and put its conditions into \
         ON)",
    );
    refused(
        "SELECT g.n FROM (SELECT a, count(*) AS n FROM plain GROUP BY a) AS g \
         JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON g.a = c.id",
        "<PROCTIME> a join with FOR SYSTEM_TIME AS OF of rows that may be taken back is not supported: what takes a row back \
         could find another row of the table than it did (put it before the join or aggregation that takes rows back)",
    );
}

#[test]
fn a_batch_has_no_moment() {
    let text = format!(
        "{TABLES}{CUSTOMERS}
        CREATE TABLE ends (a BIGINT) WITH (connector = 'files', path = 'x');
        CREATE VIEW v AS SELECT a FROM ends JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() ON a = id;
        SELECT a FROM v; SELECT a FROM ends"
    );
    let script = parse(&text).expect("the file is right");
    let queries: Vec<usize> = script.queries().map(|(at, _)| at).collect();
    assert_eq!(queries.iter().map(|at| batch::bounded(&script, *at)).collect::<Vec<_>>(), [false, true]);
    let errors = batch::check(&script, "SELECT a FROM v", &Functions::new()).expect_err("it is refused");
    assert_eq!(
        shown(&text, &errors),
        [
            "<PROCTIME> FOR SYSTEM_TIME AS OF is answered by streams only, and this query needs all rows (INSERT INTO a table, \
          and read that)"
        ]
    );
}

#[test]
fn words_that_mean_versions_elsewhere_are_still_names() {
    assert!(planned("SELECT at.a FROM plain at JOIN plain before ON at.a = before.a").contains("join:"));
}

const RATES: &str = "
CREATE TABLE rates (
  currency VARCHAR, land VARCHAR, rate DOUBLE, at TIMESTAMP, PRIMARY KEY (currency) NOT ENFORCED,
  WATERMARK FOR at AS at - INTERVAL '1 second'
) WITH (connector = 'datagen');
";

#[test]
fn versions_are_joined_by_key_and_time() {
    let wanted = "collect: card, rate
  project: card, rate
    temporal: TemporalJoin left on Shop = currency, the version of at at ts, once the watermark has passed where right1 > left1
      exchange: by Shop
        filter: card != x
          source-payments: datagen payments (card, amount, Shop, ts) time ts watermark ts - 5s
      exchange: by currency
        source-rates: datagen rates (currency, rate, at) time at watermark at - 1s";
    let plan = planned(&format!(
        "{RATES} SELECT p.card, r.rate FROM payments AS p LEFT JOIN rates FOR SYSTEM_TIME AS OF p.ts AS r \
         ON p.\"Shop\" = r.currency AND r.rate > p.amount WHERE p.card <> 'x'"
    ));
    assert_eq!(plan, wanted);
}

#[test]
fn versions_that_cannot_be() {
    let refused = |sql: &str, wanted: &str| assert_eq!(mistakes(&format!("{RATES}{sql}")), [wanted], "of {sql}");
    let with = |table: &str, on: &str| {
        format!("SELECT 1 AS n FROM payments AS p JOIN {table} FOR SYSTEM_TIME AS OF p.ts AS r ON {on}")
    };
    refused(
        &with("payments", "p.card = r.card"),
        "<p.ts> 'payments' has no versions to join by event time: it has no primary key (declare PRIMARY KEY (…) NOT ENFORCED: \
         each row is the version of its key from its time on)",
    );
    refused(
        &format!(
            "CREATE TABLE keyed (k VARCHAR PRIMARY KEY, at TIMESTAMP) WITH (connector = 'datagen'); {}",
            with("keyed", "p.card = r.k")
        ),
        "<p.ts> 'keyed' has no versions to join by event time: it has no watermark (declare WATERMARK FOR … AS …: a row is \
         answered when all versions of its time are there)",
    );
    refused(
        &with("rates", "p.card = r.land"),
        "<p.ts> a version of 'rates' is found by its whole primary key, and this join has no currency (add … = currency to ON)",
    );
    refused(
        "SELECT m.n FROM (SELECT id, max(at) AS at, count(*) AS n FROM millis GROUP BY id) AS m \
         JOIN rates FOR SYSTEM_TIME AS OF m.at AS r ON CAST(m.id AS VARCHAR) = r.currency",
        "<m.at> 'at' is neither PROCTIME() nor the event time of its stream (declare p AS PROCTIME() and write FOR SYSTEM_TIME AS \
         OF p, or declare WATERMARK FOR at AS …)",
    );
    let changed = "CREATE TABLE changed (k VARCHAR, at TIMESTAMP, WATERMARK FOR at AS at)
                   WITH (connector = 'files', path = 'changed', changelog = 'debezium');";
    refused(
        &format!(
            "{changed} SELECT c.k FROM changed AS c JOIN rates FOR SYSTEM_TIME AS OF c.at AS r ON c.k = r.currency"
        ),
        "<c.at> a join with versions is answered once, and what stands before it gives or takes back rows of any age: a join, \
         first rows, or a table with option 'changelog' (put it before what takes rows back, or take them back by groups of the event time \
         alone)",
    );
    let keyed = "CREATE TABLE keyed (k VARCHAR PRIMARY KEY, at TIMESTAMP, WATERMARK FOR at AS at)
                 WITH (connector = 'files', path = 'keyed', changelog = 'debezium');";
    refused(
        &format!("{keyed} {}", with("keyed", "p.card = r.k")),
        "<p.ts> 'keyed' takes rows back, and versions are rows that stay (a row that is deleted tells no moment from which its key \
         has no version; read the records as rows, without option 'changelog', where each is a version from its time on)",
    );
}

#[test]
fn rows_that_are_taken_back_in_time_find_their_version_once() {
    let plan = planned(&format!(
        "{RATES} SELECT m.n FROM (SELECT at, id, count(*) AS n FROM millis GROUP BY at, id) AS m
         JOIN rates FOR SYSTEM_TIME AS OF m.at AS r ON CAST(m.id AS VARCHAR) = r.currency"
    ));
    let temporal = plan.lines().find(|line| line.contains("TemporalJoin")).expect("a join with versions");
    assert!(!temporal.contains("[changes]") && plan.contains("[changes]"), "{plan}");
}
