//! Tables that are declared by a query: their columns, their key, who fills them and who reads them.

use super::super::types::sql_name;
use super::super::{ScriptJob, parse};
use super::running::{self, batch, streamed};
use super::{TABLES, mistakes, planned, shown};

/// The columns and the key of table `v`.
fn declared(sql: &str) -> String {
    let text = format!("{TABLES}{sql}");
    let script = parse(&text).unwrap_or_else(|errors| panic!("{:#?}", shown(&text, &errors)));
    let def = &script.table("v").expect("a table").def;
    let column = |field: &arrow::datatypes::FieldRef| format!("{} {}", field.name(), sql_name(field.data_type()));
    let columns: Vec<String> = def.schema.fields().iter().map(column).collect();
    let key: Vec<&str> = def.primary_key.iter().map(|column| def.schema.field(*column).name().as_str()).collect();
    format!("{}: {} key ({})", def.connector(), columns.join(", "), key.join(", "))
}

#[test]
fn columns_and_keys_follow_from_the_query() {
    let first =
        "SELECT card, ts, amount, ROW_NUMBER() OVER (PARTITION BY card ORDER BY amount DESC) AS rn FROM payments";
    let counts = "SELECT card, \"Shop\" AS s, COUNT(*) AS n FROM payments GROUP BY card, \"Shop\"";
    let cases = [
        // Rows that are appended have no key.
        ("SELECT upper(card) AS Big, \"Shop\", ts FROM payments".into(), "Big VARCHAR, Shop VARCHAR, ts TIMESTAMP key ()"),
        ("SELECT * FROM plain".into(), "a BIGINT, b VARCHAR key ()"),
        ("SELECT DISTINCT card, cents FROM payments".into(), "card VARCHAR, cents BIGINT key ()"),
        (
            "SELECT card, window_end, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1 second'))
             GROUP BY card, window_start, window_end"
                .into(),
            "card VARCHAR, window_end TIMESTAMP, n BIGINT key ()",
        ),
        (
            "SELECT COUNT(*) AS N, card, SUM(amount) / 2 AS half FROM payments GROUP BY card HAVING COUNT(*) > 2".into(),
            "N BIGINT, card VARCHAR, half DOUBLE key (card)",
        ),
        (format!("SELECT n, s AS shop, card FROM ({counts}) AS c WHERE n > 2"), "n BIGINT, shop VARCHAR, card VARCHAR key (card, shop)"),
        (format!("SELECT rn, card, amount FROM ({first}) WHERE rn <= 3"), "rn BIGINT, card VARCHAR, amount DOUBLE key (card, rn)"),
        (format!("SELECT card, ts FROM ({first}) WHERE rn = 1 AND amount > 2"), "card VARCHAR, ts TIMESTAMP key (card)"),
        // Of all cards the first ones: each is there once.
        (
            "SELECT card, n FROM (SELECT card, n, ROW_NUMBER() OVER (ORDER BY n DESC) AS rn
               FROM (SELECT card, COUNT(*) AS n FROM payments GROUP BY card)) WHERE rn <= 10"
                .into(),
            "card VARCHAR, n BIGINT key (card)",
        ),
        (
            format!("SELECT c.card, c.s, n, total FROM ({counts}) c JOIN (SELECT card, SUM(amount) AS total FROM payments GROUP BY card) t ON c.card = t.card"),
            "card VARCHAR, s VARCHAR, n BIGINT, total DOUBLE key (card, s)",
        ),
        (
            format!("SELECT c.card, c.s, total FROM ({counts}) c LEFT JOIN (SELECT card, SUM(amount) AS total FROM payments GROUP BY card) t ON c.card = t.card"),
            "card VARCHAR, s VARCHAR, total DOUBLE key (card, s)",
        ),
        (
            "SELECT card, MAX(amount) AS most FROM payments WHERE amount > (SELECT AVG(a) FROM plain) GROUP BY card".into(),
            "card VARCHAR, most DOUBLE key (card)",
        ),
    ];
    for (query, wanted) in cases {
        for statement in ["CREATE MATERIALIZED VIEW v AS", "CREATE TABLE IF NOT EXISTS v AS"] {
            assert_eq!(declared(&format!("{statement} {query}")), format!("table: {wanted}"), "of {query}");
        }
    }
    assert_eq!(
        declared("CREATE MATERIALIZED VIEW v (A, \"many Rows\") AS SELECT card, COUNT(*) FROM payments GROUP BY card"),
        "table: A VARCHAR, many Rows BIGINT key (A)"
    );
    // A sink that takes any change needs no key.
    assert_eq!(
        declared("CREATE TABLE v WITH (connector = 'blackhole') AS SELECT COUNT(*) AS n FROM payments"),
        "blackhole: n BIGINT key ()"
    );
    assert_eq!(
        declared(
            "CREATE MATERIALIZED VIEW u AS SELECT card, \"Shop\", COUNT(*) AS n FROM payments GROUP BY card, \"Shop\";
             CREATE MATERIALIZED VIEW v AS SELECT card, SUM(n) AS n FROM u GROUP BY card"
        ),
        "table: card VARCHAR, n BIGINT key (card)"
    );
}

#[test]
fn what_is_refused() {
    let cases = [
        (
            "CREATE MATERIALIZED VIEW v AS SELECT card, COUNT(*) FROM payments GROUP BY card",
            "<COUNT> column 2 of 'v' has no name (give it a name with AS)",
        ),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT COUNT(*) AS n FROM payments",
            "<v> 'v' has one row that is taken back again and again, and no column to be its key (declare it with CREATE TABLE v \
             (…, PRIMARY KEY (…) NOT ENFORCED), then INSERT INTO it)",
        ),
        (
            "CREATE TABLE v AS SELECT n FROM (SELECT card, COUNT(*) AS n FROM payments GROUP BY card)",
            "<v> 'v' takes rows back, and no columns of its query tell the rows apart (declare it with CREATE TABLE v (…, PRIMARY \
             KEY (…) NOT ENFORCED), then INSERT INTO it)",
        ),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT a FROM plain; INSERT INTO v SELECT a FROM plain",
            "<v> 'v' is a materialized view and cannot be written",
        ),
        (
            "CREATE TABLE v AS SELECT a FROM plain; INSERT INTO v SELECT a FROM plain",
            "<v> 'v' is filled by the query that declares it (declare the table with its columns, and INSERT INTO it from both \
             queries)",
        ),
        (
            "CREATE TABLE v WITH (connector = 'datagen') AS SELECT a FROM plain",
            "<v> 'v' cannot be written: connector 'datagen' is a source only",
        ),
        (
            "CREATE TABLE v WITH (connector = 'kafak') AS SELECT a FROM plain",
            "<'kafak'> unknown connector 'kafak' (did you mean 'kafka'?)",
        ),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT crad FROM payments",
            "<crad> unknown column 'crad' (did you mean 'card'?)",
        ),
        (
            "CREATE VIEW u AS SELECT crad FROM payments; CREATE TABLE v AS SELECT crad FROM u; CREATE TABLE w AS SELECT crad FROM v",
            "<crad> unknown column 'crad' (did you mean 'card'?)",
        ),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT a FROM plain LIMIT 3",
            "<LIMIT> LIMIT without ORDER BY is not supported in a stream yet (write ORDER BY … LIMIT n, so that it is settled which \
             rows are the first)",
        ),
        (
            "CREATE TABLE v AS SELECT ts - ts AS apart FROM payments",
            "<ts - ts AS apart> 'apart' is Duration(µs), which no table holds (write a CAST)",
        ),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT p.card, q.card FROM payments p JOIN payments q ON p.card = q.card",
            "<v> view 'v' has two columns named 'card' (rename one of them with AS)",
        ),
        ("CREATE MATERIALIZED VIEW v (a) AS SELECT a, b FROM plain", "<v> the query has 2 columns, the view names 1"),
    ];
    for (sql, wanted) in cases {
        assert_eq!(mistakes(sql), [wanted], "of {sql}");
    }
}

#[test]
fn they_fill_themselves() {
    let sql = "CREATE MATERIALIZED VIEW V AS SELECT card, COUNT(*) AS n FROM payments GROUP BY card;
        CREATE TABLE large AS SELECT card, n FROM v WHERE n > 10;
        CREATE TABLE scored AS SELECT card, predict('m', n) AS p FROM large;
        CREATE MODEL m WITH (label = 'n') AS SELECT card, n FROM v;";
    let script = parse(&format!("{TABLES}{sql}")).unwrap();
    let jobs = script.jobs();
    let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let wanted = [
        ScriptJob::Inserts {
            name: "V".into(),
            statements: vec![4, 5],
            models: vec![],
            reads: texts(&["payments"]),
            writes: texts(&["V", "large"]),
        },
        ScriptJob::Inserts {
            name: "scored".into(),
            statements: vec![6],
            models: texts(&["m"]),
            reads: texts(&["payments"]),
            writes: texts(&["scored"]),
        },
        // It trains on what has been written.
        ScriptJob::Model { name: "m".into(), statement: 7, reads: texts(&["V", "payments"]) },
    ];
    assert_eq!(jobs, wanted);
    assert_eq!(script.dependencies(&jobs), [vec![], vec![2], vec![0]]);
    assert_eq!(mistakes(sql), [""; 0]);
}

/// What reads fewer columns and fewer rows still reads the one aggregation that fills the table.
#[test]
fn the_query_is_shared_by_those_who_read_it() {
    let plan = planned(
        "CREATE MATERIALIZED VIEW v AS SELECT card, COUNT(*) AS n, SUM(amount) AS total FROM payments GROUP BY card;
         CREATE TABLE w WITH (connector = 'blackhole') AS SELECT n, card FROM v WHERE card = 'x' AND n > 3;
         INSERT INTO totals SELECT a.card, NULL, a.n, b.total FROM v a JOIN v b ON a.n = b.n",
    );
    let groups: Vec<&str> = plan.lines().map(str::trim).filter(|line| line.starts_with("group:")).collect();
    assert_eq!(groups.iter().filter(|line| !line.contains("(as above)")).count(), 1, "{plan}");
    assert!(groups.len() >= 3, "{plan}");
}

#[test]
fn event_time_passes_through() {
    assert_eq!(
        mistakes(
            "CREATE MATERIALIZED VIEW v AS SELECT card, amount, ts FROM payments WHERE amount > 3;
             CREATE MATERIALIZED VIEW w AS SELECT card, window_end AS e, COUNT(*) AS n
               FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(ts), INTERVAL '1 second')) GROUP BY card, window_start, window_end;
             CREATE MATERIALIZED VIEW x AS SELECT e, MAX(n) AS most FROM w GROUP BY e"
        ),
        [""; 0]
    );
}

#[test]
fn readers_get_the_answer_of_the_query() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "{}
         CREATE MATERIALIZED VIEW sums AS SELECT card, shop, COUNT(*) AS n, SUM(amount) AS total FROM payments GROUP BY card, shop;
         CREATE TABLE large AS SELECT card, shop AS \"The Shop\", n, total FROM sums WHERE total > 20;
         CREATE MATERIALIZED VIEW windowed AS SELECT card, window_start AS s, COUNT(*) AS n
           FROM TABLE(TUMBLE(TABLE big, DESCRIPTOR(ts), INTERVAL '250 milliseconds')) GROUP BY card, window_start, window_end",
        running::TABLES
    );
    for sql in [
        "SELECT card, SUM(n) AS n, MAX(total) AS most FROM large GROUP BY card",
        "SELECT a.card, a.shop, b.n FROM sums a JOIN large b ON a.card = b.card AND a.n < b.n",
        "SELECT card, s, n FROM windowed WHERE n > 2",
    ] {
        let wanted = batch(&text, sql, folder.path());
        assert!(wanted.len() > 3, "too few rows to tell: {wanted:?}");
        for (tasks, slices) in [(1, 1), (2, 2)] {
            assert_eq!(streamed(&text, sql, tasks, slices, folder.path()), wanted, "of {sql}");
        }
    }
}

#[test]
fn a_table_without_columns_and_query_is_refused() {
    assert_eq!(
        mistakes(
            "CREATE TABLE t WITH (connector = 'kafka', format = 'avro', schema.registry.url = 'http://localhost:8081')"
        ),
        [
            "<t> table 't' has neither columns nor a query (declare the columns, (name TYPE, …), or give a query with AS; files, Cassandra's tables, and topics whose schema a registry has tell theirs)"
        ]
    );
}
