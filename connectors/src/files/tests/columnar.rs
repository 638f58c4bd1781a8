//! Parquet and Arrow files: every type there and back, parts of a file at any parallelism, and files that are rubbish.

use super::*;
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, ListArray, MapArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Fields, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;

/// A column of every type that a table may declare, from as many numbers as there are rows; some are null.
fn every_type(numbers: &[Option<i64>]) -> RecordBatch {
    let utc = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let each = || numbers.iter().copied();
    let text = |n: i64| format!("t{n}é");
    let nulls = || NullBuffer::from(numbers.iter().map(Option::is_some).collect::<Vec<bool>>());
    let whole: ArrayRef = Arc::new(each().collect::<Int64Array>());
    let texts: ArrayRef = Arc::new(each().map(|n| n.map(text)).collect::<StringArray>());
    let inner: Fields = vec![
        Field::new("n", DataType::Int64, true),
        Field::new("deep", DataType::Struct(vec![Field::new("t", DataType::Utf8, true)].into()), true),
    ]
    .into();
    let deep = StructArray::new(vec![Field::new("t", DataType::Utf8, true)].into(), vec![texts.clone()], None);
    let list_field = Arc::new(Field::new("item", DataType::Int64, true));
    let lengths = OffsetBuffer::from_lengths(numbers.iter().map(|n| usize::from(n.is_some())));
    let present: ArrayRef = Arc::new(each().flatten().map(Some).collect::<Int64Array>());
    let keys: ArrayRef = Arc::new(each().flatten().map(|n| Some(text(n))).collect::<StringArray>());
    let entry_fields: Fields =
        vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int64, true)].into();
    let entries = StructArray::new(entry_fields.clone(), vec![keys, present.clone()], None);
    let entries_field = Arc::new(Field::new("entries", DataType::Struct(entry_fields), false));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", whole.clone()),
        ("i32", Arc::new(each().map(|n| n.map(|n| n as i32)).collect::<Int32Array>())),
        ("i16", Arc::new(each().map(|n| n.map(|n| n as i16)).collect::<Int16Array>())),
        ("i8", Arc::new(each().map(|n| n.map(|n| n as i8)).collect::<Int8Array>())),
        ("f64", Arc::new(each().map(|n| n.map(|n| n as f64 / 7.0)).collect::<Float64Array>())),
        ("f32", Arc::new(each().map(|n| n.map(|n| n as f32 / 7.0)).collect::<Float32Array>())),
        ("flag", Arc::new(each().map(|n| n.map(|n| n % 2 == 0)).collect::<BooleanArray>())),
        ("name", texts),
        ("bytes", Arc::new(each().map(|n| n.map(|n| n.to_le_bytes())).collect::<BinaryArray>())),
        ("at", Arc::new(each().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))),
        ("day", Arc::new(each().map(|n| n.map(|n| n as i32)).collect::<Date32Array>())),
        ("time", Arc::new(each().map(|n| n.map(|n| n.rem_euclid(86_400_000_000))).collect::<Time64MicrosecondArray>())),
        (
            "dec",
            Arc::new(
                each().map(|n| n.map(i128::from)).collect::<Decimal128Array>().with_precision_and_scale(20, 3).unwrap(),
            ),
        ),
        ("s", Arc::new(StructArray::new(inner, vec![whole, Arc::new(deep)], Some(nulls())))),
        ("list", Arc::new(ListArray::new(list_field, lengths.clone(), present, Some(nulls())))),
        ("map", Arc::new(MapArray::new(entries_field, lengths, entries, Some(nulls()), false))),
    ];
    assert_eq!(columns[9].1.data_type(), &utc());
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn declared(schema: &Schema, options: &[(&str, &str)]) -> TableDef {
    TableDef { schema: Arc::new(schema.clone()), ..table(&[], options) }
}

/// Writes rows as two epochs and gives what was committed back, in the order of the files.
fn there_and_back(rows: &RecordBatch, options: &[(&str, &str)], projection: &[usize]) -> RecordBatch {
    let dir = tempfile::tempdir().unwrap();
    let table = declared(&rows.schema(), &[&[("path", "out")], options].concat());
    assert_eq!(CONNECTOR.check(&table), vec![]);
    let mut sink = CONNECTOR.open_sink(&table, &context(dir.path())).unwrap();
    let half = rows.num_rows() / 2;
    for (epoch, part) in [(1, rows.slice(0, half)), (2, rows.slice(half, rows.num_rows() - half))] {
        sink.write(&part).unwrap();
        sink.prepare(epoch).unwrap();
        sink.commit(epoch).unwrap();
    }
    let wanted = Arc::new(rows.schema().project(projection).unwrap());
    let batches = read_batches(&table, projection, &starts(&table, dir.path()), dir.path());
    concat_batches(&wanted, &batches).unwrap()
}

fn read_batches(table: &TableDef, projection: &[usize], starts: &[SplitStart], base: &Path) -> Vec<RecordBatch> {
    let mut reader = CONNECTOR.open_source(table, projection, starts, &context(base)).unwrap();
    let mut batches = Vec::new();
    loop {
        match reader.poll(Duration::ZERO).unwrap() {
            Polled::Batch { batch, bad, .. } => {
                assert_eq!(bad, vec![]);
                batches.push(batch);
            }
            Polled::End => return batches,
            Polled::SplitEnd { .. } | Polled::Idle => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_type_comes_back(numbers in proptest::collection::vec(proptest::option::weighted(0.8, -1_000_000_000_i64..1_000_000_000), 2..40)) {
        let rows = every_type(&numbers);
        let all: Vec<usize> = (0..rows.num_columns()).collect();
        for options in [
            vec![("format", "parquet")],
            vec![("format", "parquet"), ("compression", "zstd")],
            vec![("format", "parquet"), ("compression", "gzip")],
            vec![("format", "parquet"), ("compression", "lz4")],
            vec![("format", "parquet"), ("compression", "none")],
            vec![("format", "arrow")],
            vec![("format", "avro")],
            vec![("format", "avro"), ("compression", "gzip")],
            vec![("format", "avro"), ("compression", "zstd")],
            vec![("format", "avro"), ("compression", "snappy")],
        ] {
            prop_assert_eq!(&there_and_back(&rows, &options, &all), &rows);
            prop_assert_eq!(there_and_back(&rows, &options, &[13, 2]), rows.project(&[13, 2]).unwrap());
            prop_assert_eq!(there_and_back(&rows, &options, &[]).num_rows(), rows.num_rows());
        }
    }
}

#[test]
fn text_files_come_back_however_they_are_packed() {
    let all = rows(0..100);
    for format in ["json", "csv"] {
        for compression in ["none", "gzip", "zstd", "lz4", "snappy"] {
            let options = [("format", format), ("compression", compression)];
            assert_eq!(there_and_back(&all, &options, &[0, 1]), all, "{format} {compression}");
        }
    }
}

/// A Parquet file of rows with the numbers 0 to `n` in row groups of `group` rows.
fn parquet_file(path: &Path, n: i64, group: usize) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let rows = rows(0..n);
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

#[test]
fn row_groups_are_shared_out_and_read_on_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    parquet_file(&dir.path().join("x.parquet"), 250_000, 70_000);
    // Small groups are read together.
    parquet_file(&dir.path().join("y.parquet"), 2_000, 100);
    let table = table(&columns(), &[("path", "*.parquet")]);
    let starts = starts(&table, dir.path());
    let names: Vec<&str> = starts.iter().map(|start| start.split.as_str()).collect();
    assert_eq!(names, ["x.parquet#0-1", "x.parquet#1-2", "x.parquet#2-3", "x.parquet#3-4", "y.parquet#0-20"]);
    // One life with two readers stops after some batches of each split …
    let mut positions: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    let mut seen = Vec::new();
    for (at, n_batches) in [(0, 5), (1, 12)] {
        let own: Vec<SplitStart> = starts.iter().skip(at).step_by(2).cloned().collect();
        let mut reader = CONNECTOR.open_source(&table, &[0], &own, &context(dir.path())).unwrap();
        for _ in 0..n_batches {
            if let Polled::Batch { split, batch, next, .. } = reader.poll(Duration::ZERO).unwrap() {
                seen.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
                positions.insert(own[split].split.clone(), next);
            }
        }
    }
    assert!(seen.len() > 80_000 && seen.len() < 200_000, "{}", seen.len());
    // … and the next one, with three readers, goes on.
    for at in 0..3 {
        let own = starts.iter().skip(at).step_by(3);
        let own: Vec<SplitStart> =
            own.map(|start| SplitStart { from: positions.get(&start.split).copied(), ..start.clone() }).collect();
        for batch in read_batches(&table, &[0], &own, dir.path()) {
            seen.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
        }
    }
    seen.sort_unstable();
    let mut expected: Vec<i64> = (0..250_000).chain(0..2_000).collect();
    expected.sort_unstable();
    assert!(seen == expected, "{} rows", seen.len());
    let beyond = SplitStart { split: names[4].to_owned(), from: Some(2_001) };
    let mut reader = CONNECTOR.open_source(&table, &[0], &[beyond], &context(dir.path())).unwrap();
    assert!(reader.poll(Duration::ZERO).unwrap_err().to_string().contains("was it replaced?"));
}

#[test]
fn rubbish_is_told_and_never_believed() {
    let dir = tempfile::tempdir().unwrap();
    let rows = every_type(&[Some(1), None, Some(3)]);
    for format in ["parquet", "arrow"] {
        let table = declared(&rows.schema(), &[("path", "x"), ("format", format)]);
        let all: Vec<usize> = (0..rows.num_columns()).collect();
        let mut whole = Vec::new();
        if format == "parquet" {
            let mut writer = ArrowWriter::try_new(&mut whole, rows.schema(), None).unwrap();
            writer.write(&rows).unwrap();
            writer.close().unwrap();
        } else {
            let mut writer = arrow::ipc::writer::FileWriter::try_new(&mut whole, &rows.schema()).unwrap();
            writer.write(&rows).unwrap();
            writer.finish().unwrap();
        }
        let attempt = |bytes: &[u8]| -> std::result::Result<usize, Error> {
            std::fs::write(dir.path().join("x"), bytes).unwrap();
            let starts = CONNECTOR.splits(&table, &context(dir.path()))?.into_iter();
            let starts: Vec<SplitStart> = starts.map(|split| SplitStart { split, from: None }).collect();
            let mut reader = CONNECTOR.open_source(&table, &all, &starts, &context(dir.path()))?;
            let mut n = 0;
            loop {
                match reader.poll(Duration::ZERO)? {
                    Polled::Batch { batch, .. } => n += batch.num_rows(),
                    Polled::End => return Ok(n),
                    Polled::SplitEnd { .. } | Polled::Idle => {}
                }
            }
        };
        assert_eq!(attempt(&whole).unwrap(), 3);
        let told = |bytes: &[u8]| {
            let why = attempt(bytes).unwrap_err().to_string();
            assert!(why.contains("x'") && (why.contains("sound") || why.contains("damaged")), "{why}");
        };
        for end in (0..whole.len()).step_by(97).chain([0, 3, 7, 11]) {
            told(&whole[..end]);
        }
        told(b"{\"id\": 1, \"name\": \"this is JSON\"}\n");
        if format == "arrow" {
            // Arrow's reader takes as much memory as a wrong bit says, and ends the process where there is not so much.
            continue;
        }
        // A bit that is wrong may give other values, but no panic and no memory without end.
        for at in (0..whole.len()).step_by(13) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            let _ = attempt(&flipped);
        }
    }
}

#[test]
fn a_schema_that_differs_is_shown_beside_the_tables() {
    let dir = tempfile::tempdir().unwrap();
    parquet_file(&dir.path().join("x.parquet"), 3, 100);
    let table = table(&[("id", DataType::Int64), ("name", DataType::Int64)], &[("path", "x.parquet")]);
    let mut reader = CONNECTOR.open_source(&table, &[1], &starts(&table, dir.path()), &context(dir.path())).unwrap();
    let why = reader.poll(Duration::ZERO).unwrap_err().to_string();
    assert!(
        why.contains("the table reads: name Int64") && why.contains("the file has:    id Int64, name Utf8"),
        "{why}"
    );
}
