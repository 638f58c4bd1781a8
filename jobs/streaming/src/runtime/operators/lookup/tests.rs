//! Random rows, batches and questions, against a nested loop over rows and table.

use super::*;
use crate::dataflow::LookupCache;
use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use connectors::TableDef;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, binary, col};
use proptest::prelude::*;
use std::time::Duration;

/// Key and number of a row.
type Row = (Option<i64>, i64);
/// Key, text and number of a row of the table.
type Known = (i64, Option<String>, i64);

fn column(name: &str, schema: &Schema) -> Arc<dyn PhysicalExpr> {
    col(name, schema).expect("a column")
}

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("key", DataType::Int64, true)]))
}

/// Adds the text, and the number once more as twice itself.
fn join(outer: bool, residual: bool, cache: Option<LookupCache>) -> LookupJoin {
    let table = Schema::new(vec![
        Field::new("text", DataType::Utf8, true),
        Field::new("id", DataType::Int64, true),
        Field::new("number", DataType::Int64, true),
    ]);
    let read = table.project(&[0, 2]).expect("columns");
    let number = || column("number", &read);
    let mut fields: Vec<Field> = input().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.extend([Field::new("text", DataType::Utf8, true), Field::new("twice", DataType::Int64, true)]);
    let output = Schema::new(fields);
    let smaller =
        || binary(column("n", &output), Operator::Lt, column("twice", &output), &output).expect("a condition");
    let plan = Lookup {
        table: TableDef { name: "t".to_string(), schema: Arc::new(table), primary_key: vec![1], options: Vec::new() },
        table_keys: vec![1],
        input_keys: vec![1],
        projection: vec![0, 2],
        exprs: vec![
            Arc::new(Column::new("text", 0)),
            binary(number(), Operator::Plus, number(), &read).expect("a sum"),
        ],
        outer,
        residual: residual.then(smaller),
        cache,
    };
    LookupJoin::new(plan, input(), Arc::new(output)).expect("an operator")
}

fn batch(rows: &[Row]) -> RecordBatch {
    let numbers: Int64Array = rows.iter().map(|(_, n)| Some(*n)).collect();
    let keys: Int64Array = rows.iter().map(|(key, _)| *key).collect();
    RecordBatch::try_new(input(), vec![Arc::new(numbers), Arc::new(keys)]).expect("a batch")
}

/// What the table says; the keys that it was asked for are added to `asked`.
fn say(table: &[Known], keys: &RecordBatch, asked: &mut Vec<i64>) -> Found {
    let keys: Vec<i64> = keys.column(0).as_primitive::<Int64Type>().values().to_vec();
    asked.extend(&keys);
    let (mut of, mut texts, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    // Not in the order of the keys.
    for (id, text, number) in table.iter().rev() {
        for (at, _) in keys.iter().enumerate().filter(|(_, key)| *key == id) {
            of.push(at as u32);
            texts.push(text.clone());
            numbers.push(*number);
        }
    }
    let texts: ArrayRef = Arc::new(StringArray::from(texts));
    let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
    Found { rows: RecordBatch::try_from_iter([("text", texts), ("number", numbers)]).expect("rows"), keys: of }
}

fn flush(join: &mut LookupJoin, table: &[Known], now: Instant, asked: &mut Vec<i64>) -> Vec<String> {
    if join.n_waiting() == 0 {
        return Vec::new();
    }
    let keys = join.ask(now).expect("a question");
    let found = (keys.num_rows() > 0).then(|| say(table, &keys, asked));
    join.answer(found, now).expect("an answer").iter().flat_map(lines).collect()
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<ArrayFormatter<'_>> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).expect("prints")).collect();
    let line = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" ");
    (0..batch.num_rows()).map(line).collect()
}

/// The lines of each row, which may come in any order among themselves.
fn naive(rows: &[Row], table: &[Known], outer: bool, residual: bool) -> Vec<Vec<String>> {
    let null = || "NULL".to_string();
    let of_row = |(key, n): &Row| {
        let matches = table.iter().filter(|(id, _, number)| *key == Some(*id) && (!residual || *n < 2 * number));
        let shown = key.map_or_else(null, |key| key.to_string());
        let mut lines: Vec<String> = matches
            .map(|(_, text, number)| format!("{n} {shown} {} {}", text.clone().unwrap_or_else(null), 2 * number))
            .collect();
        if lines.is_empty() && outer {
            lines.push(format!("{n} {shown} NULL NULL"));
        }
        lines.sort();
        lines
    };
    rows.iter().map(of_row).collect()
}

fn rows() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let row = (proptest::option::weighted(0.85, 0_i64..6), -3_i64..8);
    proptest::collection::vec(proptest::collection::vec(row, 0..8), 1..12)
}

fn table() -> impl Strategy<Value = Vec<Known>> {
    proptest::collection::vec((0_i64..8, proptest::option::weighted(0.8, "[ab]"), -1_i64..4), 0..12)
}

proptest! {
    #[test]
    fn every_row_finds_what_the_table_has_and_rows_keep_their_order(
        batches in rows(),
        flushes in proptest::collection::vec(any::<bool>(), 12),
        table in table(),
        outer in any::<bool>(),
        residual in any::<bool>(),
        max_rows in proptest::option::of(1_usize..6),
    ) {
        let cache = max_rows.map(|max_rows| LookupCache { max_rows, ttl: Duration::from_secs(3600) });
        let mut join = join(outer, residual, cache);
        let (now, mut asked, mut lines) = (Instant::now(), Vec::new(), Vec::new());
        for (rows, is_flush) in batches.iter().zip(flushes) {
            join.push(batch(rows));
            if is_flush {
                lines.extend(flush(&mut join, &table, now, &mut asked));
            }
        }
        lines.extend(flush(&mut join, &table, now, &mut asked));
        let all: Vec<Row> = batches.into_iter().flatten().collect();
        let mut rest = lines.as_slice();
        for mut wanted in naive(&all, &table, outer, residual) {
            let (own, others) = rest.split_at(wanted.len().min(rest.len()));
            let mut own = own.to_vec();
            own.sort();
            wanted.sort();
            prop_assert_eq!(own, wanted);
            rest = others;
        }
        prop_assert!(rest.is_empty(), "more lines than rows explain: {:?}", rest);
    }
}

#[test]
fn a_key_is_asked_for_once_and_remembered_for_a_while() {
    let limits = LookupCache { max_rows: 100, ttl: Duration::from_secs(10) };
    let mut join = join(true, false, Some(limits));
    let table = vec![(1, Some("one".to_string()), 1)];
    let (begin, mut asked) = (Instant::now(), Vec::new());
    // Two batches are one question, and each key in them is asked for once.
    join.push(batch(&[(Some(1), 0), (Some(7), 1), (None, 2)]));
    join.push(batch(&[(Some(1), 3), (Some(7), 4)]));
    let lines = flush(&mut join, &table, begin, &mut asked);
    assert_eq!(lines, ["0 1 one 2", "1 7 NULL NULL", "2 NULL NULL NULL", "3 1 one 2", "4 7 NULL NULL"]);
    assert_eq!(asked, [1, 7]);
    // That there is nothing is remembered as well; what is new is asked for alone.
    join.push(batch(&[(Some(7), 5), (Some(8), 6), (Some(1), 7)]));
    let later = vec![(7, Some("late".to_string()), 1), (8, None, 2)];
    assert_eq!(flush(&mut join, &later, begin, &mut asked), ["5 7 NULL NULL", "6 8 NULL 4", "7 1 one 2"]);
    assert_eq!(asked, [1, 7, 8]);
    assert_eq!((join.n_keys, join.n_remembered), (5, 2));
    assert!(join.memory_bytes() > 0);
    join.push(batch(&[(Some(7), 8)]));
    assert_eq!(flush(&mut join, &later, begin + limits.ttl, &mut asked), ["8 7 late 2"]);
}

#[test]
fn an_answer_that_does_not_fit_the_question_is_an_error() {
    let mut join = join(false, false, None);
    join.push(batch(&[(Some(1), 0)]));
    let keys = join.ask(Instant::now()).expect("a question");
    let mut found = say(&[(1, None, 1)], &keys, &mut Vec::new());
    found.keys = vec![1];
    let why = join.answer(Some(found), Instant::now()).expect_err("no such key was asked for");
    assert!(why.to_string().contains("table 't'"), "{why}");
}
