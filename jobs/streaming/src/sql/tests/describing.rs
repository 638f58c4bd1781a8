//! What a file shows of itself.

use super::super::{describe, parse};
use super::running::lines;
use super::{TABLES, mistakes, shown};
use crate::functions::declared_predict;

const FILE: &str = "
CREATE TEMPORARY TABLE kept (Id BIGINT, v DOUBLE, PRIMARY KEY (id) NOT ENFORCED);
CREATE VIEW Big AS SELECT card, amount * 2 AS Twice FROM payments WHERE amount > 3;
CREATE MATERIALIZED VIEW counts AS SELECT card, COUNT(*) AS n FROM payments GROUP BY card;
CREATE TABLE scored WITH (connector = 'blackhole') AS SELECT card, predict('m', n) AS p FROM counts;
CREATE MODEL m WITH (label = 'v') AS SELECT id, v FROM kept;
INSERT INTO kept SELECT a, a FROM plain;
";

/// The rows of one statement after the file.
fn answer(sql: &str) -> Vec<String> {
    let text = format!("{TABLES}{FILE}{sql}");
    let script = parse(&text).unwrap_or_else(|errors| panic!("{:#?}", shown(&text, &errors)));
    let functions = declared_predict();
    let rows = describe(&script, script.statements.len() - 1, &functions);
    lines(&[rows.unwrap_or_else(|errors| panic!("{:#?}", shown(&text, &errors)))]).split_off(1)
}

#[test]
fn columns_with_what_is_special_about_them() {
    assert_eq!(
        answer("DESCRIBE payments"),
        [
            "Shop VARCHAR ",
            "amount DOUBLE ",
            "card VARCHAR ",
            "cents BIGINT computed: CAST(amount * 100 AS BIGINT)",
            "ts TIMESTAMP WATERMARK FOR ts AS ts - INTERVAL '5 seconds'",
        ]
    );
    assert_eq!(answer("DESC KEPT"), ["Id BIGINT primary key", "v DOUBLE "]);
    assert_eq!(answer("DESCRIBE TABLE big"), ["Twice DOUBLE ", "card VARCHAR "]);
    assert_eq!(answer("DESCRIBE counts"), ["card VARCHAR primary key", "n BIGINT "]);
}

#[test]
fn types_of_a_view_are_those_that_are_computed_in() {
    let mixed = "CREATE VIEW mixed AS SELECT CASE WHEN a > 1 THEN 1 ELSE 2.5 END AS x, COALESCE(b, a) AS y FROM plain
                 UNION ALL SELECT id, NULL FROM millis; DESCRIBE mixed";
    assert_eq!(answer(mixed), ["x DOUBLE ", "y BIGINT "]);
    let strict =
        "CREATE TABLE strict (k BIGINT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, m BIGINT NULL); DESCRIBE strict";
    assert_eq!(answer(strict), ["k BIGINT primary key, not null", "m BIGINT ", "n BIGINT not null"]);
}

#[test]
fn lists() {
    assert_eq!(
        answer("SHOW TABLES"),
        [
            "counts table materialized view",
            "kept table table",
            "millis datagen table",
            "payments datagen table",
            "plain datagen table",
            "scored blackhole table of a query",
            "totals blackhole table",
        ]
    );
    assert_eq!(answer("show views"), ["Big view", "counts materialized view"]);
    assert_eq!(
        answer("SHOW JOBS"),
        ["counts stream payments, plain counts, kept ", "m train kept  ", "scored stream payments scored m"]
    );
}

#[test]
fn mistakes_in_them() {
    assert_eq!(mistakes("DESCRIBE payment"), ["<payment> unknown table 'payment' (did you mean 'payments'?)"]);
    assert_eq!(
        mistakes("SHOW TABELS"),
        ["<TABELS> expected TABLES or VIEWS or JOBS, found 'TABELS' (did you mean TABLES?)"]
    );
    assert_eq!(mistakes("DESCRIBE"), ["<> expected a table's or view's name, found the end of the statement"]);
    assert_eq!(mistakes("SHOW TABLES; DESCRIBE plain; CREATE TEMP TABLE t (a INT)"), [""; 0]);
}
