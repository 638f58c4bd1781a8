use super::*;
use crate::Polled;
use crate::testing::{context, table};
use arrow::array::{Array, AsArray, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::util::pretty::pretty_format_batches;
use proptest::prelude::*;
use std::time::Duration;

fn arrow_type(kind: columns::Type) -> DataType {
    match kind {
        columns::Type::Long => DataType::Int64,
        columns::Type::Text => DataType::Utf8,
        columns::Type::Time => columns::time(),
    }
}

fn all_of(kind: Kind) -> Vec<(&'static str, DataType)> {
    kind.columns().iter().map(|(name, kind)| (*name, arrow_type(*kind))).collect()
}

fn struct_of(kind: Kind) -> DataType {
    DataType::Struct(Fields::from_iter(all_of(kind).into_iter().map(|(name, kind)| Field::new(name, kind, true))))
}

fn everything() -> Vec<(&'static str, DataType)> {
    vec![
        ("event_type", DataType::Int32),
        ("person", struct_of(Kind::Person)),
        ("auction", struct_of(Kind::Auction)),
        ("bid", struct_of(Kind::Bid)),
        ("dateTime", columns::time()),
    ]
}

/// Rows of some splits, each from a position on, one batch per split.
fn read(table: &TableDef, projection: &[usize], splits: &[(u64, u64)]) -> Vec<RecordBatch> {
    let starts: Vec<SplitStart> =
        splits.iter().map(|(split, from)| SplitStart { split: split.to_string(), from: Some(*from) }).collect();
    let mut reader = CONNECTOR.open_source(table, projection, &starts, &context(std::path::Path::new("/"))).unwrap();
    let mut batches: Vec<Vec<RecordBatch>> = vec![Vec::new(); splits.len()];
    loop {
        match reader.poll(Duration::from_secs(1)).unwrap() {
            Polled::Batch { split, batch, .. } => batches[split].push(batch),
            Polled::End => break,
            _ => {}
        }
    }
    let schema = Arc::new(table.schema.project(projection).unwrap());
    batches.iter().map(|batches| concat_batches(&schema, batches).unwrap()).collect()
}

fn whole(columns: &[(&str, DataType)], options: &[(&str, &str)]) -> RecordBatch {
    let table = table(columns, options);
    assert_eq!(CONNECTOR.check(&table), vec![]);
    let all: Vec<usize> = (0..columns.len()).collect();
    read(&table, &all, &[(0, 0)]).remove(0)
}

/// FNV-1a, which has no version.
fn digest(batch: RecordBatch) -> u64 {
    let text = pretty_format_batches(&[batch]).unwrap().to_string();
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn golden_events() {
    let rows = whole(&everything(), &[("events", "1000"), ("splits", "1")]);
    assert_eq!(rows.num_rows(), 1000);
    let first = rows.column(1).as_struct();
    let text = |name: &str| first.column_by_name(name).unwrap().as_string::<i32>().value(0).to_owned();
    assert_eq!((text("name"), text("city"), text("state")), ("Vicky Noris".into(), "Cheyenne".into(), "AZ".into()));
    assert_eq!(digest(rows), GOLDEN, "events are no longer those of earlier versions");
}

const GOLDEN: u64 = 647_178_749_263_658_818;

#[test]
fn of_fifty_events_one_is_a_person_and_three_are_auctions() {
    let rows = whole(&everything(), &[("events", "5000"), ("splits", "1")]);
    let kinds = rows.column(0).as_primitive::<Int32Type>();
    for (kind, n) in [(0, 100), (1, 300), (2, 4600)] {
        assert_eq!(kinds.values().iter().filter(|found| **found == kind).count(), n);
        let column = rows.column(1 + kind as usize).as_struct();
        assert_eq!(column.len() - column.null_count(), n);
        // A field says null by itself where there is no struct.
        assert!(column.columns().iter().all(|part| part.null_count() == 5000 - n));
    }
}

#[test]
fn a_table_of_one_kind_is_a_part_of_the_whole() {
    let options = [("events", "7003"), ("splits", "1"), ("event.rate", "700")];
    let all = whole(&everything(), &options);
    for (kind, word) in Kind::EACH.into_iter().zip(["person", "auction", "bid"]) {
        let options: Vec<(&str, &str)> = options.iter().copied().chain([("kind", word)]).collect();
        let alone = whole(&all_of(kind), &options);
        let nested = all.column(1 + kind as usize);
        let present = arrow::compute::is_not_null(nested).unwrap();
        let nested = arrow::compute::filter(nested, &present).unwrap();
        assert_eq!(alone.num_rows(), nested.len());
        for (column, part) in alone.columns().iter().zip(nested.as_struct().columns()) {
            assert_eq!(column, part);
        }
    }
}

#[test]
fn times_rise_in_whole_milliseconds_and_auctions_expire_later() {
    let options = [("events", "20000"), ("splits", "1"), ("kind", "auction"), ("start", "2020-01-01T00:00:00Z")];
    let columns = [("DATETIME", columns::time()), ("expires", columns::time()), ("seller", DataType::Int64)];
    let rows = whole(&columns, &options);
    let times = rows.column(0).as_primitive::<TimestampMicrosecondType>().values();
    let expires = rows.column(1).as_primitive::<TimestampMicrosecondType>().values();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
    assert!(times.iter().zip(expires).all(|(time, expires)| time < expires && time % 1000 == 0));
    // Event 1 of 10,000 per second.
    assert_eq!(times[0], 1_577_836_800_000_000);
    assert_eq!(times[times.len() - 1], 1_577_836_800_000_000 + 1_995_000);
    assert!(rows.column(2).as_primitive::<Int64Type>().values().iter().all(|seller| *seller >= 1000));
}

#[test]
fn ids_and_times_go_on_from_block_to_block() {
    let options = [("events", "2000100"), ("splits", "1"), ("kind", "person")];
    let columns = [("id", DataType::Int64), ("dateTime", columns::time())];
    let table = table(&columns, &options);
    let rows = read(&table, &[0, 1], &[(0, 999_950)]).remove(0);
    let ids = rows.column(0).as_primitive::<Int64Type>().values();
    let times = rows.column(1).as_primitive::<TimestampMicrosecondType>().values();
    assert_eq!(ids.len(), 20_003);
    for (at, (id, time)) in ids.iter().zip(times).enumerate() {
        let number = 999_950 + 50 * at as i64;
        assert_eq!((*id, *time), (1000 + number / 50, 1_767_225_600_000_000 + number * 100));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Deals the events to any number of splits, and begins each anywhere.
    #[test]
    fn any_split_count_and_any_start_give_the_same_rows(
        splits in 1..9u64,
        skipped in prop::collection::vec(0..300u64, 8),
        kind in 0..4usize,
        first in prop::sample::select(vec![0u64, 1_000_000 - 900]),
    ) {
        let words = ["person", "auction", "bid", "all"];
        let columns = Kind::EACH.get(kind).map_or_else(everything, |kind| all_of(*kind));
        let events = (first + 2000).to_string();
        let counted = splits.to_string();
        let one = table(&columns, &[("events", &events), ("splits", "1"), ("kind", words[kind])]);
        let dealt = table(&columns, &[("events", &events), ("splits", &counted), ("kind", words[kind])]);
        let all: Vec<usize> = (0..columns.len()).collect();
        let starts: Vec<(u64, u64)> =
            (0..splits).map(|split| (split, first / splits + 1 + skipped[split as usize])).collect();
        let whole = read(&one, &all, &[(0, first)]).remove(0);
        let numbers: Vec<u64> =
            (first..first + 2000).filter(|n| Kind::EACH.get(kind).is_none_or(|kind| Kind::of(*n) == *kind)).collect();
        prop_assert_eq!(numbers.len(), whole.num_rows());
        for ((split, from), rows) in starts.iter().zip(read(&dealt, &all, &starts)) {
            let wanted: Vec<u32> = (0..numbers.len() as u32)
                .filter(|at| numbers[*at as usize] % splits == *split && numbers[*at as usize] / splits >= *from)
                .collect();
            let wanted = arrow::compute::take_record_batch(&whole, &UInt32Array::from(wanted)).unwrap();
            prop_assert_eq!(rows, wanted);
        }
    }

    #[test]
    fn columns_do_not_depend_on_each_other(kept in prop::collection::vec(any::<bool>(), 10), kind in 0..3usize) {
        let kind = Kind::EACH[kind];
        let columns = all_of(kind);
        let word = ["person", "auction", "bid"][kind as usize];
        let table = table(&columns, &[("events", "500"), ("splits", "1"), ("kind", word)]);
        let all: Vec<usize> = (0..columns.len()).collect();
        let some: Vec<usize> = all.iter().copied().filter(|at| kept[*at]).rev().collect();
        let whole = read(&table, &all, &[(0, 0)]).remove(0).project(&some).unwrap();
        prop_assert_eq!(read(&table, &some, &[(0, 0)]).remove(0), whole);
    }
}

#[test]
fn mistakes_are_told() {
    let messages = |columns: &[(&str, DataType)], options: &[(&str, &str)]| -> Vec<String> {
        CONNECTOR.check(&table(columns, options)).iter().map(ToString::to_string).collect()
    };
    let columns = [("prise", DataType::Int64), ("bidder", DataType::Utf8), ("datetime", DataType::Int64)];
    assert_eq!(
        messages(&columns, &[("kind", "bid")]),
        [
            "connector 'nexmark' has no column 'prise': kind 'bid' lacks it (did you mean 'price'?)",
            "column 'bidder' is declared as VARCHAR, and connector 'nexmark' gives BIGINT",
            "column 'datetime' is declared as BIGINT, and connector 'nexmark' gives TIMESTAMP",
        ]
    );
    let inner = DataType::Struct(Fields::from(vec![Field::new("nam", DataType::Utf8, true)]));
    let columns = [("person", inner), ("bidd", DataType::Int64), ("bid", DataType::Int64)];
    assert_eq!(
        messages(&columns, &[]),
        [
            "connector 'nexmark' has no column 'person.nam': kind 'person' lacks it (did you mean 'name'?)",
            "connector 'nexmark' has no column 'bidd' unless option 'kind' names one (did you mean 'bid'?)",
            "column 'bid' is declared as BIGINT, and connector 'nexmark' gives STRUCT<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, extra VARCHAR, dateTime TIMESTAMP>",
        ]
    );
    assert_eq!(messages(&[], &[("kind", "bids"), ("event.rate", "0")]).len(), 2);
    assert!(!CONNECTOR.bounded(&table(&[], &[])));
    assert!(CONNECTOR.bounded(&table(&[], &[("events", "1")])));
}
