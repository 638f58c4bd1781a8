//! Columns that are not of a record's value.

use super::{mistakes, planned};

const CLICKS: &str = "
CREATE TABLE clicks (
  n BIGINT, at BIGINT METADATA FROM 'offset' VIRTUAL, topic VARCHAR METADATA,
  ts TIMESTAMP METADATA FROM 'timestamp', headers MAP<VARCHAR, VARBINARY> METADATA,
  WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (connector = 'kafka', bootstrap.servers = 'localhost:9092', topic = 'a,b');
";

#[test]
fn they_are_columns_like_others() {
    let plan = planned(&format!(
        "{CLICKS} SELECT topic, MAX(at) AS at, COUNT(headers['trace']) AS n FROM clicks GROUP BY topic"
    ));
    assert!(plan.contains("topic") && plan.contains("headers"), "{plan}");
    let windows = "SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1 minute')) \
                   GROUP BY window_start, window_end";
    assert!(planned(&format!("{CLICKS} {windows}")).contains("window"), "the record's time is an event time");
}

#[test]
fn what_cannot_be_is_refused_where_it_stands() {
    let declared = |column: &str, options: &str| {
        let sql = format!("CREATE TABLE t (n BIGINT, {column}) WITH ({options});");
        mistakes(&sql).join("\n")
    };
    let kafka = "connector = 'kafka', bootstrap.servers = 'localhost:9092', topic = 'a'";
    assert_eq!(declared("at BIGINT METADATA FROM 'offset'", kafka), "");
    for (column, options, told) in [
        (
            "at BIGINT METADATA FROM 'ofset'",
            kafka,
            "<METADATA FROM 'ofset'> connector 'kafka' knows no metadata 'ofset'",
        ),
        ("at BIGINT METADATA", kafka, "<METADATA> connector 'kafka' knows no metadata 'at'"),
        (
            "at VARCHAR METADATA FROM 'offset'",
            kafka,
            "<METADATA FROM 'offset'> column 'at' holds metadata 'offset', which is not of",
        ),
        ("at BIGINT METADATA FROM 'offset'", "connector = 'datagen'", "connector 'datagen' has no metadata columns"),
        ("at BIGINT METADATA FROM offset", kafka, "the metadata's name in quotes"),
        ("at BIGINT METADATA FROM 'offset' PRIMARY KEY NOT ENFORCED", kafka, "cannot be of the primary key"),
    ] {
        let found = declared(column, options);
        assert!(found.contains(told), "{column}: {found}");
    }
    let debezium = format!("{kafka}, changelog = 'debezium'");
    assert!(declared("at BIGINT METADATA FROM 'offset'", &debezium).contains("'debezium' does not read"));
}

#[test]
fn what_is_only_read_is_not_written() {
    let write = |column: &str, more: &str| {
        let sql = format!(
            "CREATE TABLE t (a BIGINT, b VARCHAR {column}) WITH (connector = 'kafka', bootstrap.servers = 'localhost:9092', \
             {more}); INSERT INTO t SELECT a, b FROM plain;"
        );
        mistakes(&sql).join("\n")
    };
    assert_eq!(write("METADATA FROM 'topic'", "topic = 'a'"), "");
    assert!(write("METADATA FROM 'key'", "topic = 'a'").contains("column 'b' is metadata that is only read"));
    assert!(write("METADATA FROM 'topic' VIRTUAL", "topic = 'a'").contains("only read"));
    assert!(write("", "topic = 'a,b'").contains("'t' cannot be written: it is of several topics"));
    assert!(write("", "topic.pattern = 'a.*'").contains("several topics"));
}
