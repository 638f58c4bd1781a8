//! Queries with `?` and `$1`: the answer is that of the query with the values written into it.

use super::{TABLES, context};
use crate::batch::{BatchContext, Error, Prepared, collect, prepare, schema_with};
use crate::functions::Functions;
use crate::sql::{check, parse};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::ScalarValue;
use jobs::Diagnostic;
use tokio::runtime::Runtime;

fn rows(query: &str, parameters: &[ScalarValue]) -> Result<String, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let script = parse(TABLES).expect("the file is right");
    let open = BatchContext { parameters: parameters.to_vec(), target_partitions: 1, ..context(folder.path()) };
    let functions = Functions::new();
    let rows = Runtime::new().expect("a runtime").block_on(collect(&script, query, &functions, open))?;
    Ok(pretty_format_batches(&rows).expect("text").to_string())
}

fn prepared(query: &str) -> Result<Prepared, Vec<Diagnostic>> {
    prepare(&parse(TABLES).expect("the file is right"), query, &Functions::new())
}

/// What is wrong, and the words that it is wrong of.
fn mistake(query: &str, parameters: &[ScalarValue]) -> (String, String) {
    let error = schema_with(&parse(TABLES).expect("the file is right"), query, &Functions::new(), parameters.to_vec());
    let error = error.expect_err(query).remove(0);
    (error.message, error.span.map_or(String::new(), |(from, to)| query[from..to].to_string()))
}

fn kinds(schema: &Schema) -> Vec<(&str, &DataType)> {
    schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect()
}

#[test]
fn a_value_is_as_good_as_a_literal() {
    let cases: [(&str, &[ScalarValue], &str); 7] = [
        (
            "SELECT id FROM payments WHERE id < ? ORDER BY id",
            &[3_i64.into()],
            "SELECT id FROM payments WHERE id < 3 ORDER BY id",
        ),
        (
            "SELECT id FROM payments WHERE $2 <= id AND id < $1 ORDER BY id",
            &[9_i64.into(), 7_i64.into()],
            "SELECT id FROM payments WHERE 7 <= id AND id < 9 ORDER BY id",
        ),
        (
            "SELECT id FROM payments WHERE id < ? AND id > ? ORDER BY id",
            &[2.5.into(), "0".into()],
            "SELECT id FROM payments WHERE id < 2.5 AND id > 0 ORDER BY id",
        ),
        (
            "SELECT id, $1 AS word FROM payments ORDER BY id LIMIT $2",
            &["it's".into(), 2_i64.into()],
            "SELECT id, 'it''s' AS word FROM payments ORDER BY id LIMIT 2",
        ),
        (
            "SELECT COUNT(*) AS n FROM payments AS p WHERE EXISTS (SELECT 1 FROM payments AS q WHERE q.id = p.id + ?)",
            &[2_i32.into()],
            "SELECT COUNT(*) AS n FROM payments AS p WHERE EXISTS (SELECT 1 FROM payments AS q WHERE q.id = p.id + 2)",
        ),
        (
            "SELECT COUNT(*) AS n FROM payments WHERE ts < ?",
            &["2020-01-01T00:00:00".into()],
            "SELECT COUNT(*) AS n FROM payments WHERE ts < TIMESTAMP '2020-01-01T00:00:00'",
        ),
        (
            "WITH a AS (SELECT ? AS x) SELECT x IS NULL AS none FROM a",
            &[ScalarValue::Null],
            "WITH a AS (SELECT NULL AS x) SELECT x IS NULL AS none FROM a",
        ),
    ];
    for (query, parameters, literal) in cases {
        let expected = rows(literal, &[]).expect(literal);
        assert_eq!(rows(query, parameters).expect(query), expected, "{query}");
    }
}

#[test]
fn what_is_prepared_tells_its_parameters_and_columns() {
    let Prepared { schema, parameters } =
        prepared("SELECT id, amount + ? AS more FROM payments WHERE ts > ? AND card = ?").expect("it plans");
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let wanted = [("$1", &DataType::Int64), ("$2", &time), ("$3", &DataType::Int64)];
    assert_eq!(kinds(&parameters), wanted);
    assert_eq!(kinds(&schema), [("id", &DataType::Int64), ("more", &DataType::Int64)]);
    // The second is not there; and nothing says what the third is.
    let Prepared { parameters, .. } = prepared("SELECT $3 AS a FROM payments WHERE id = $1").expect("it plans");
    let wanted = [("$1", &DataType::Int64), ("$2", &DataType::Utf8), ("$3", &DataType::Utf8)];
    assert_eq!(kinds(&parameters), wanted);
    let Prepared { parameters, .. } = prepared("SELECT id, '?' AS mark FROM payments -- or ?").expect("it plans");
    assert!(parameters.fields().is_empty(), "a mark in a text or comment is none");
}

#[test]
fn mistakes_with_parameters_are_told_where_they_are() {
    let query = "SELECT id FROM payments WHERE id = ? OR id = ?";
    let said = "the parameter $2 has no value".to_string();
    assert_eq!(mistake(query, &[1_i64.into()]), (said, "?".to_string()));
    let (message, _) = mistake(query, &[1_i64.into(), 2_i64.into(), 3_i64.into()]);
    assert_eq!(message, "3 values were given, and the query has 2 parameters");
    let (message, place) = mistake("SELECT id FROM payments WHERE id = $1", &["seven".into()]);
    assert_eq!(message, "'seven', given for the parameter $1, is no BIGINT");
    assert_eq!(place, "$1");
    let (message, place) = mistake("SELECT ? FROM payments WHERE id = $1", &[]);
    assert_eq!((message.as_str(), place.as_str()), ("? and numbered parameters in one statement", "$1"));
    for strange in ["$0", "$name", "$99999999999999999999"] {
        let (message, place) = mistake(&format!("SELECT {strange} FROM payments"), &[]);
        assert_eq!((message, place), (format!("'{strange}' is no parameter"), strange.to_string()));
    }
}

#[test]
fn what_nobody_prepares_has_no_parameters() {
    for statement in [
        "INSERT INTO keyed SELECT id, ? FROM payments",
        "CREATE VIEW few AS SELECT id FROM payments WHERE id < ?",
        "EXPLAIN SELECT id FROM payments WHERE id < ?",
        "SELECT id FROM endless WHERE id < ?",
        "SELECT id FROM payments WHERE id < ?",
        "CREATE TABLE computed (id BIGINT, more AS id + ?) WITH (connector = 'datagen')",
    ] {
        let errors = check(&format!("{TABLES}{statement};")).expect_err(statement);
        assert_eq!(errors[0].message, "the parameter $1 has no value", "{statement}: {errors:?}");
        let (from, to) = errors[0].span.expect("a place");
        assert_eq!(&format!("{TABLES}{statement}")[from..to], "?", "{statement}");
    }
}
