//! Values and removals in any mixture, in every form of keys.

use crate::TableDef;
use crate::formats::Decoder;
use crate::testing::table;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int8Type, Int64Type};
use proptest::prelude::*;
use std::sync::Arc;

fn declared(n_key: usize, options: &[(&str, &str)]) -> TableDef {
    let columns = [("id", DataType::Int64), ("region", DataType::Utf8), ("n", DataType::Int64)];
    TableDef { primary_key: (0..n_key).collect(), ..table(&columns, options) }
}

type Row = (i8, Option<i64>, Option<String>, Option<i64>);

/// Key and value of each record; `order`: the table's columns that keys hold.
fn decoded(table: &TableDef, order: &[usize], records: &[(&str, Option<&str>)]) -> (Vec<Row>, Vec<(u64, String)>) {
    let mut decoder = Decoder::for_upserts(Arc::clone(&table.schema), table, order).unwrap();
    for (at, (key, value)) in records.iter().enumerate() {
        match value {
            Some(value) => decoder.push(value.as_bytes(), at as u64),
            None => decoder.push_removal(&[], key.as_bytes(), at as u64),
        }
    }
    assert_eq!(decoder.len(), records.len());
    let (batch, rejected) = decoder.flush();
    assert_eq!(decoder.len(), 0);
    let (ids, regions) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
    let (ns, weights) = (batch.column(2).as_primitive::<Int64Type>(), batch.column(3).as_primitive::<Int8Type>());
    let row = |at: usize| {
        let region = regions.is_valid(at).then(|| regions.value(at).to_owned());
        (weights.value(at), ids.iter().nth(at).flatten(), region, ns.iter().nth(at).flatten())
    };
    let rows = (0..batch.num_rows()).map(row).collect();
    (rows, rejected.into_iter().map(|(position, _, error)| (position, error)).collect())
}

#[test]
fn values_are_rows_and_keys_without_one_removals_in_their_order() {
    let eu = || Some("eu".to_owned());
    let table = declared(1, &[]);
    let value = r#"{"id":1,"region":"eu","n":7}"#;
    let records =
        [("1", None), ("1", Some(value)), ("x", None), ("2", Some(r#"{"id":null}"#)), ("1", None), ("1", Some(value))];
    let (rows, bad) = decoded(&table, &[0], &records);
    assert_eq!(
        rows,
        [
            (-1, Some(1), None, None),
            (1, Some(1), eu(), Some(7)),
            (-1, Some(1), None, None),
            (1, Some(1), eu(), Some(7)),
        ]
    );
    assert_eq!(bad.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [2, 3]);
    assert!(bad[0].1.contains("'x'") && bad[1].1.contains("primary key"), "{bad:?}");

    let removed = [(-1, Some(1), eu(), None)];
    for (options, order, key) in [
        (vec![], [0, 1], r#"{"id":1,"region":"eu"}"#),
        (vec![("key.format", "json")], [1, 0], r#"{"region":"eu","id":1}"#),
        (vec![("format", "csv")], [1, 0], "eu,1"),
    ] {
        let (rows, bad) = decoded(&declared(2, &options), &order, &[(key, None)]);
        assert_eq!((rows.as_slice(), bad.len()), (&removed[..], 0), "{key}");
    }
    let (_, bad) = decoded(&declared(2, &[]), &[0, 1], &[(r#"{"id":1}"#, None)]);
    assert!(bad[0].1.contains("primary key"), "{bad:?}");
    let (rows, _) = decoded(&declared(1, &[("key.format", "json")]), &[0], &[(r#"{"id":1}"#, None)]);
    assert_eq!(rows, [(-1, Some(1), None, None)]);
}

proptest! {
    #[test]
    fn every_record_is_told_once_in_its_order(
        records in prop::collection::vec((prop::option::weighted(0.8, 0..5i64), any::<bool>()), 0..30)
    ) {
        let table = declared(1, &[]);
        let texts: Vec<(String, Option<String>)> = records
            .iter()
            .enumerate()
            .map(|(at, (id, there))| {
                let key = id.map_or("?".to_owned(), |id| id.to_string());
                let value = id.map_or("null".to_owned(), |id| id.to_string());
                (key, there.then(|| format!(r#"{{"id":{value},"n":{at}}}"#)))
            })
            .collect();
        let given: Vec<(&str, Option<&str>)> = texts.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        let (rows, bad) = decoded(&table, &[0], &given);
        let wanted: Vec<Row> = records
            .iter()
            .enumerate()
            .filter(|(_, (id, _))| id.is_some())
            .map(|(at, (id, there))| if *there { (1, *id, None, Some(at as i64)) } else { (-1, *id, None, None) })
            .collect();
        prop_assert_eq!(rows, wanted);
        let wanted: Vec<u64> = (0..records.len()).filter(|at| records[*at].0.is_none()).map(|at| at as u64).collect();
        prop_assert_eq!(bad.iter().map(|(at, _)| *at).collect::<Vec<_>>(), wanted);
    }
}
