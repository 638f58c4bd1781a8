//! What a file says, and mistakes in it with their place.

use super::super::{ScriptJob, parse};
use super::{TABLES, mistakes, shown};
use arrow::datatypes::{DataType, TimeUnit};

fn errors(text: &str) -> Vec<String> {
    shown(text, &parse(text).expect_err("the file has mistakes"))
}

#[test]
fn a_table_is_read_whole() {
    let text = "CREATE TABLE \"Order Log\" (\n  Id BIGINT NOT NULL, price DECIMAL(10, 2), ts TIMESTAMP(3), raw BYTES,\n  \
                double AS price * 2, PRIMARY KEY (id) NOT ENFORCED,\n  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND\n) \
                WITH ('connector' = 'blackhole', watermark.idle = '2s')";
    let script = parse(text).unwrap();
    let table = script.table("order log").unwrap();
    assert_eq!(table.def.name, "Order Log");
    let columns: Vec<(&str, &DataType)> =
        table.def.schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect();
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let wanted =
        [("Id", &DataType::Int64), ("price", &DataType::Decimal128(10, 2)), ("ts", &time), ("raw", &DataType::Binary)];
    assert_eq!(columns, wanted);
    assert_eq!((table.def.primary_key.as_slice(), table.idle_ms), ([0].as_slice(), Some(2000)));
    assert_eq!((table.def.connector(), table.def.option("watermark.idle")), ("blackhole", None));
    assert_eq!(table.columns.len(), 5);
}

#[test]
fn settings_are_read_and_the_last_one_counts() {
    let script = parse("SET job.name = 'fraud'; SET 'job.parallelism' = 2; SET job.name = other;").unwrap();
    assert_eq!(script.setting("job.name").unwrap().value, "other");
    assert_eq!(script.setting("job.parallelism").unwrap().value, "2");
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let text = "SET job.paralelism = 2;\nSET job.mem = lots;\nCREATE TABEL t (a INT);\n\
                CREATE TABLE u (a INTT, b BIGINT, B INT) WITH (connector = 'datagen');\nSELEC 1;\n\
                CREATE TABLE w (a INT) WITH (connector = 'kafak');";
    assert_eq!(
        errors(text),
        [
            "<job.paralelism> unknown setting 'job.paralelism' (did you mean 'job.parallelism'?)",
            "<lots> 'lots' does not begin with a number",
            "<TABEL> expected TABLE or VIEW or MODEL, found 'TABEL' (did you mean TABLE?)",
            "<INTT> unknown type 'INTT' (did you mean 'INT'?)",
            "<B> column 'B' is declared twice ('b' is the same name: names match without regard to case)",
            "<SELEC> a statement does not begin with 'SELEC' (did you mean SELECT?)",
            "<'kafak'> unknown connector 'kafak' (did you mean 'kafka'?)",
        ]
    );
}

#[test]
fn mistakes_point_at_their_word() {
    let cases = [
        ("SELECT a FORM t", "<FORM> 'FORM' is no keyword (did you mean FROM?)"),
        ("SELECT a FROM t WHRE a > 1", "<WHRE> 'WHRE' is no keyword (did you mean WHERE?)"),
        ("SELECT a, FROM t", "<FROM> expected an expression, found 'FROM'"),
        ("SELECT (a FROM t", "<FROM> expected ), found 'FROM'"),
        ("CREATE TABLE t (a INT", "<(> '(' is never closed"),
        (
            "CREATE TABLE t (a INT) WIHT (connector = 'datagen')",
            "<WIHT> expected WITH or PARTITIONED, found 'WIHT' (did you mean WITH?)",
        ),
        ("CREATE TABLE t (a INT, PRIMARY KEY (b)) WITH (connector = 'datagen')", "<b> unknown column 'b' (known: a)"),
        ("CREATE TABLE t (a)", "<> expected a type, found the end of the statement"),
        ("CREATE TABLE t (a INT) WITH (connector = 'datagen' rows = 1)", "<rows> expected ',' or ')', found 'rows'"),
        (
            "CREATE TABLE t (a INT) WITH (connector = 'datagen', rosw = 1)",
            "<rosw> unknown option 'rosw' of connector 'datagen' (did you mean 'rows'?)",
        ),
        ("SET job.name 'x'", "<'x'> expected '=', found ''x''"),
        ("INSERT INTO t", "<> expected SELECT, found the end of the statement"),
        ("INSERT t SELECT 1", "<t> expected INTO, found 't'"),
        ("SELECT 'abc", "<'> unterminated string literal"),
        ("CREATE OR REPLACE VIEW v AS SELECT 1", "<OR> CREATE OR REPLACE is not supported yet"),
        ("CREATE MATERIALIZED TABLE v AS SELECT 1", "<TABLE> expected VIEW, found 'TABLE'"),
        (
            "CREATE VIEW a AS SELECT 1; CREATE VIEW A AS SELECT 1",
            "<A> 'A' is declared twice ('a' is the same name: names match without regard to case)",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(errors(text), [wanted], "of {text}");
    }
}

#[test]
fn unknown_names_in_queries_are_told_with_the_nearest() {
    assert_eq!(
        mistakes("INSERT INTO totals SELECT crad, ts, 1, amount FROM payments"),
        ["<crad> unknown column 'crad' (did you mean 'card'?)"]
    );
    assert_eq!(
        mistakes("SELECT p.amout FROM payments AS p"),
        ["<p.amout> unknown column 'amout' (did you mean 'amount'?)"]
    );
    assert_eq!(mistakes("SELECT 1 FROM Payment"), ["<Payment> unknown table 'Payment' (did you mean 'payments'?)"]);
    assert_eq!(
        mistakes("INSERT INTO total SELECT 1 FROM plain"),
        ["<total> unknown table 'total' (did you mean 'totals'?)"]
    );
    assert_eq!(mistakes("SELECT uper(b) FROM plain"), ["<uper> unknown function 'uper' (did you mean 'upper'?)"]);
    assert_eq!(mistakes("SELECT \"SHOP\", upper(shop) FROM PAYMENTS"), [""; 0]);
}

#[test]
fn statements_become_jobs() {
    let sql = "CREATE VIEW v AS SELECT card, amount, predict('m1', amount) AS p FROM payments;
        INSERT INTO totals SELECT card, ts, 1, amount FROM payments;
        CREATE TABLE other (card VARCHAR, p DOUBLE) WITH (connector = 'blackhole');
        INSERT INTO other SELECT card, amount FROM payments;
        INSERT INTO other SELECT card, p FROM v;
        INSERT INTO totals SELECT card, ts, 1, predict('M1', amount) FROM payments;
        CREATE MODEL m1 WITH (label = 'n') AS SELECT n, total FROM totals;
        SELECT card FROM payments;";
    let script = parse(&format!("{TABLES}{sql}")).unwrap();
    let jobs = script.jobs();
    let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let wanted = [
        ScriptJob::Inserts {
            name: "totals".into(),
            statements: vec![5, 7],
            models: vec![],
            reads: texts(&["payments"]),
            writes: texts(&["totals", "other"]),
        },
        ScriptJob::Inserts {
            name: "other".into(),
            statements: vec![8, 9],
            models: texts(&["m1"]),
            reads: texts(&["payments"]),
            writes: texts(&["other", "totals"]),
        },
        ScriptJob::Model { name: "m1".into(), statement: 10, reads: texts(&["totals"]) },
        ScriptJob::Query { statement: 11, models: vec![], reads: texts(&["payments"]) },
    ];
    assert_eq!(jobs, wanted);
    assert_eq!(script.dependencies(&jobs), [vec![], vec![2], vec![0, 1], vec![]]);
    let (_, model) = script.models().next().unwrap();
    assert_eq!((model.query_text.as_str(), model.options[0].value.as_str()), ("SELECT n, total FROM totals", "n"));
}

/// A chain is as deep as it is long: one that is let in is planned on the stack of a server's thread, a longer one is refused.
#[test]
fn a_chain_is_planned_or_refused_whatever_its_length() {
    let chain = |n: usize, part: &str, by: &str| vec![part; n].join(by);
    let insert = |query: &str| format!("INSERT INTO ids {query};");
    let queries = |n: usize| {
        [
            insert(&format!("SELECT {} FROM plain", chain(n, "a", " + "))),
            insert(&format!("SELECT a FROM plain WHERE {}", chain(n, "a = 1", " OR "))),
            insert(&chain(n, "SELECT a FROM plain", " UNION ALL ")),
        ]
    };
    let ids = "CREATE TABLE ids (a BIGINT) WITH (connector = 'blackhole');\n";
    for sql in queries(1_000) {
        let said = mistakes(&format!("{ids}{sql}"));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("this has more than 128 operators in a row (a list of values goes"), "{said:?}");
    }
    for sql in queries(60) {
        let text = format!("{ids}{sql}");
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || mistakes(&text));
        assert_eq!(thread.expect("a thread").join().expect("no panic"), Vec::<String>::new());
    }
}
