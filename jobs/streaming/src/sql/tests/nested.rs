//! Structs and arrays: declared, read, taken apart and written.

use super::super::parse;
use super::running::{batch, streamed};
use super::shown;
use crate::functions::Functions;
use crate::runtime::local::{LocalConfig, run};
use crate::sql::types::sql_name;
use arrow::datatypes::DataType;
use std::io::Write;
use std::path::Path;

const TABLES: &str = "
CREATE TABLE nexmark (
  event_type INT,
  Person ROW(id BIGINT, name VARCHAR, emailAddress VARCHAR, state VARCHAR),
  auction STRUCT<id BIGINT, itemName VARCHAR, expires TIMESTAMP(3), seller BIGINT>,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, dateTime TIMESTAMP(3)>,
  dateTime TIMESTAMP(3),
  cheap AS bid.price < 1000 OR auction.id > 5,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', events = 5000, splits = 3, event.rate = 500);
CREATE VIEW bids AS
  SELECT bid.auction AS auction, BID.Price AS price, bid['dateTime'] AS at, nexmark.bid['bidder'] AS bidder, datetime
  FROM nexmark WHERE bid IS NOT NULL;
";

fn check_in(text: &str, sql: &str, folder: &Path) -> Vec<String> {
    let wanted = batch(text, sql, folder);
    assert!(wanted.len() > 1, "no rows of {sql}");
    for (tasks, slices) in [(1, 1), (2, 2)] {
        assert_eq!(streamed(text, sql, tasks, slices, folder), wanted, "at {tasks} tasks of {slices} slices: {sql}");
    }
    wanted
}

fn check(sql: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    check_in(TABLES, sql, folder.path())
}

#[test]
fn types_are_read_and_said_again() {
    let text = "CREATE TABLE t (
      a STRUCT<x BIGINT, \"Y\" ARRAY<STRUCT<z VARCHAR, w DECIMAL(10, 2)>>> NOT NULL, b INT[], c ARRAY<ARRAY<TIMESTAMP(3)>>,
      d ROW(x ROW(y INT, z ARRAY<DATE>), w BOOLEAN), e AS b[1] < 3 OR b[1] > 5, PRIMARY KEY (b)
    ) WITH (connector = 'blackhole')";
    let script = parse(text).unwrap_or_else(|errors| panic!("{:#?}", shown(text, &errors)));
    let table = script.table("t").unwrap();
    let types: Vec<String> = table.def.schema.fields().iter().map(|field| sql_name(field.data_type())).collect();
    assert_eq!(
        types,
        [
            "STRUCT<x BIGINT, Y ARRAY<STRUCT<z VARCHAR, w DECIMAL(10, 2)>>>",
            "ARRAY<INT>",
            "ARRAY<ARRAY<TIMESTAMP>>",
            "STRUCT<x STRUCT<y INT, z ARRAY<DATE>>, w BOOLEAN>",
        ]
    );
    assert_eq!(table.columns.len(), 5);
    let DataType::Struct(fields) = table.def.schema.field(0).data_type() else { panic!("a struct") };
    assert!(fields.iter().all(|field| field.is_nullable()));
}

#[test]
fn mistakes_in_types_have_their_place() {
    let cases = [
        ("a STRUCT<x BIGNT>", "<STRUCT<x BIGNT>> unknown type 'BIGNT' (did you mean 'BIGINT'?)"),
        ("a ROW(x INT, X INT)", "<ROW(x INT, X INT)> field 'X' is declared twice"),
        ("a STRUCT<INT>", "<STRUCT<INT>> a field of type INT has no name"),
        ("a STRUCT", "<STRUCT> a STRUCT needs fields (write for example STRUCT<a BIGINT, b VARCHAR>)"),
        ("a ARRAY<STRING, b INT", "<,> expected >, found ','"),
    ];
    for (column, wanted) in cases {
        let text = format!("CREATE TABLE t ({column}) WITH (connector = 'blackhole')");
        assert_eq!(shown(&text, &parse(&text).expect_err(column)), [wanted], "{column}");
    }
}

#[test]
fn fields_of_structs() {
    let rows =
        check("SELECT auction, Price * 2 AS twice, at, bidder % 3 AS b FROM bids WHERE price > 100 AND at = dateTime");
    assert_eq!(rows[0].split(' ').next(), Some("auction:Int64"));
    check(
        "SELECT person.name AS n, upper(person['state']) AS s, Person['EMAILADDRESS'] AS mail FROM nexmark
         WHERE person.STATE IN ('OR', 'ID', 'CA')",
    );
    check("SELECT event_type, auction.itemname AS item, cheap FROM nexmark WHERE auction.expires > dateTime");
    check(
        "SELECT COUNT(*) AS n, COUNT(bid) AS b, SUM(bid.price) AS s, window_start
           FROM TABLE(TUMBLE(TABLE nexmark, DESCRIPTOR(dateTime), INTERVAL '2 seconds')) GROUP BY window_start",
    );
    check(
        "SELECT auction, MAX(price) AS top FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(datetime), INTERVAL '1 second'))
           GROUP BY auction, window_start, window_end",
    );
}

#[test]
fn whole_structs_keep_the_written_names() {
    let rows = check("SELECT person, bid AS b FROM nexmark WHERE event_type <> 1");
    assert!(
        rows[0].contains("emailAddress") && rows[0].contains("dateTime") && rows[0].starts_with("Person:"),
        "{}",
        rows[0]
    );
    assert!(rows.iter().any(|row| row.contains("emailAddress: ")), "{}", rows[1]);
    check("SELECT bid FROM nexmark WHERE bid.price > 100 UNION ALL SELECT bid FROM nexmark WHERE event_type = 0");
    check("SELECT named_struct('Deep', bid, 'n', 1) AS s FROM nexmark WHERE event_type = 2 AND bid.price < 300");
}

#[test]
fn json_in_and_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut file = std::fs::File::create(folder.path().join("in.jsonl")).expect("a file");
    for line in [
        r#"{"id":1,"Body":{"at":"2026-01-01T12:00:00Z","Tags":["a","b"],"deep":[{"at":1767268800000,"n":1},{"n":2}]}}"#,
        r#"{"id":2,"Body":{"at":1767268800001,"Tags":[],"extra":1}}"#,
        r#"{"id":3,"Body":null}"#,
        r#"{"id":4}"#,
    ] {
        writeln!(file, "{line}").expect("a line");
    }
    let columns =
        "id BIGINT, \"Body\" STRUCT<at TIMESTAMP, Tags ARRAY<VARCHAR>, deep ARRAY<ROW(at TIMESTAMP(3), n INT)>>";
    let text = format!(
        "CREATE TABLE t ({columns}) WITH (connector = 'files', path = 'in.jsonl');
         CREATE TABLE o ({columns}) WITH (connector = 'files', path = 'out');"
    );
    let rows = check_in(
        &text,
        "SELECT id, body.at AS a, body.tags[1] AS first, body.deep[1]['at'] AS d, body['Deep'][2]['N'] AS n FROM t",
        folder.path(),
    );
    assert_eq!(
        rows[1..],
        [
            "1 2026-01-01T12:00:00Z a 2026-01-01T12:00:00Z 2",
            "2 2026-01-01T12:00:00.001Z NULL NULL NULL",
            "3 NULL NULL NULL NULL",
            "4 NULL NULL NULL NULL"
        ]
    );
    let script =
        parse(&format!("{text} INSERT INTO o SELECT id, body FROM t WHERE id < 4")).expect("the file is right");
    let statements: Vec<usize> = script.inserts().map(|(at, _)| at).collect();
    let dataflow = crate::sql::plan::plan_now(&script, &statements, &Functions::new()).expect("fit for streams");
    let config = LocalConfig::new("test/out", folder.path().into(), folder.path().join("dead"));
    run(dataflow, config).expect("the job starts").wait().expect("the job ends");
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder.path().join("out")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            lines.extend(std::fs::read_to_string(path).expect("a text").lines().map(str::to_owned));
        }
    }
    lines.sort();
    assert_eq!(
        lines,
        [
            r#"{"id":1,"Body":{"at":"2026-01-01T12:00:00Z","Tags":["a","b"],"deep":[{"at":"2026-01-01T12:00:00Z","n":1},{"at":null,"n":2}]}}"#,
            r#"{"id":2,"Body":{"at":"2026-01-01T12:00:00.001Z","Tags":[],"deep":null}}"#,
            r#"{"id":3,"Body":null}"#,
        ]
    );
}

#[test]
fn sinks_take_the_same_fields_only() {
    let text = |query: &str| {
        format!(
            "{TABLES} CREATE TABLE o (who ROW(ID BIGINT, Name VARCHAR)) WITH (connector = 'blackhole'); INSERT INTO o {query}"
        )
    };
    let fits = text("SELECT named_struct('id', person.id, 'name', person.name) FROM nexmark");
    crate::sql::check(&fits).unwrap_or_else(|errors| panic!("{:#?}", shown(&fits, &errors)));
    let other = text("SELECT person FROM nexmark");
    let errors = shown(&other, &crate::sql::check(&other).expect_err("other fields"));
    assert!(errors[0].starts_with("<person> 'Person' is STRUCT<id BIGINT, "), "{errors:?}");
}

#[test]
fn functions_of_text_are_known() {
    check(
        "SELECT bid.price AS p, count_char(bid.channel, 'o') AS o, split_index(bid.channel, '-', 1) AS c,
           regexp_extract(bid.channel, '([a-z]+)-([0-9]+)', 2) AS n FROM nexmark WHERE event_type = 2",
    );
}

#[test]
fn only_fields_that_are_read_are_decoded() {
    let tables = "CREATE TABLE events (
      kind INT, bid STRUCT<auction BIGINT, Price BIGINT, channel VARCHAR, at TIMESTAMP>, person STRUCT<id BIGINT, name VARCHAR>,
      at AS bid.at, WATERMARK FOR at AS at
    ) WITH (connector = 'files', path = 'events.jsonl');
    CREATE VIEW bids AS SELECT bid.auction AS auction, bid.price AS price, at FROM events WHERE kind = 2;";
    let read = |queries: &str| {
        let script = parse(&format!("{tables}{queries}")).expect("the file is right");
        let statements: Vec<usize> = script.queries().map(|(at, _)| at).collect();
        let planned = crate::sql::plan::plan_now(&script, &statements, &Functions::new()).expect("it is planned");
        let found = planned.nodes.iter().find_map(|node| match &node.operator {
            crate::dataflow::Operator::Source { table, projection, .. } => {
                Some((table.schema.clone(), projection.clone()))
            }
            _ => None,
        });
        let (schema, projection) = found.expect("a source");
        let columns = projection.iter().map(|at| {
            let field = schema.field(*at);
            format!("{} {}", field.name(), sql_name(field.data_type()))
        });
        columns.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(read("SELECT price FROM bids"), "kind INT, bid STRUCT<Price BIGINT, at TIMESTAMP>");
    assert_eq!(
        read("SELECT price FROM bids; SELECT auction, COUNT(*) FROM bids GROUP BY auction"),
        "kind INT, bid STRUCT<auction BIGINT, Price BIGINT, at TIMESTAMP>"
    );
    let whole = "bid STRUCT<auction BIGINT, Price BIGINT, channel VARCHAR, at TIMESTAMP>";
    assert_eq!(read("SELECT bid FROM events"), whole);
    assert_eq!(read("SELECT bid.price FROM events WHERE bid IS NOT NULL"), whole);
}
