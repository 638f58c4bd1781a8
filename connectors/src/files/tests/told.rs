//! Columns that nobody declared: what files say of themselves, and what their records show.

use super::*;
use crate::Columns;
use ::parquet::arrow::ArrowWriter;
use arrow::array::{
    ArrayRef, Date32Array, DictionaryArray, Float64Array, StructArray, TimestampMillisecondArray, UInt32Array,
};
use arrow::datatypes::{Field, Int32Type, TimeUnit};
use arrow::ipc::writer::FileWriter;

fn told(path: &str, more: &[(&str, &str)], base: &Path) -> Result<Option<Columns>> {
    let mut options = vec![("connector", "files"), ("path", path)];
    options.extend(more);
    CONNECTOR.columns(&table(&[], &options), &context(base))
}

fn kinds(columns: Result<Option<Columns>>) -> Vec<(String, DataType)> {
    columns.expect("they are told").expect("there are some").columns
}

fn named(kinds: &[(&str, DataType)]) -> Vec<(String, DataType)> {
    kinds.iter().map(|(name, kind)| (name.to_string(), kind.clone())).collect()
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn mixed() -> RecordBatch {
    let inner = Field::new("x", DataType::UInt32, false);
    let within: ArrayRef =
        Arc::new(StructArray::new(vec![inner].into(), vec![Arc::new(UInt32Array::from(vec![7])) as ArrayRef], None));
    let words: DictionaryArray<Int32Type> = ["w"].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("Id", Arc::new(Int64Array::from(vec![1]))),
        ("word", Arc::new(words)),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![1]))),
        ("day", Arc::new(Date32Array::from(vec![1]))),
        ("x", Arc::new(Float64Array::from(vec![0.5]))),
        ("in", within),
    ];
    RecordBatch::try_from_iter(columns).expect("a batch")
}

#[test]
fn columnar_files_say_their_columns_and_are_read_by_them() {
    let dir = tempfile::tempdir().unwrap();
    let batch = mixed();
    let file = std::fs::File::create(dir.path().join("a.parquet")).unwrap();
    let mut parquet = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    parquet.write(&batch).unwrap();
    parquet.close().unwrap();
    let file = std::fs::File::create(dir.path().join("a.arrow")).unwrap();
    let mut ipc = FileWriter::try_new(file, &batch.schema()).unwrap();
    ipc.write(&batch).unwrap();
    ipc.finish().unwrap();
    let within = DataType::Struct(vec![Field::new("x", DataType::Int64, true)].into());
    let expected = named(&[
        ("Id", DataType::Int64),
        ("word", DataType::Utf8),
        ("at", timestamp()),
        ("day", DataType::Date32),
        ("x", DataType::Float64),
        ("in", within),
    ]);
    for path in ["a.parquet", "a.arrow"] {
        let found = kinds(told(path, &[], dir.path()));
        assert_eq!(found, expected, "{path}");
        let columns: Vec<(&str, DataType)> = found.iter().map(|(name, kind)| (name.as_str(), kind.clone())).collect();
        let table = table(&columns, &[("connector", "files"), ("path", path)]);
        let (ids, bad, _) = read(&table, &starts(&table, dir.path()), dir.path());
        assert_eq!((ids, bad.len()), (vec![Some(1)], 0));
    }
}

#[test]
fn what_was_written_as_avro_is_told_as_it_was_declared() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(&columns(), &[("connector", "files"), ("path", "out"), ("format", "avro")]);
    let mut sink = CONNECTOR.open_sink(&table, &context(dir.path())).unwrap();
    sink.write(&rows(0..3)).unwrap();
    sink.prepare(1).unwrap();
    sink.commit(1).unwrap();
    assert_eq!(kinds(told("out", &[("format", "avro")], dir.path())), named(&columns()));
}

#[test]
fn lines_show_their_columns_also_packed_and_over_several_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all("\u{feff}{\"id\":1,\"at\":\"2026-01-01T00:00:00Z\"}\nbroken\n".as_bytes()).unwrap();
    std::fs::write(dir.path().join("a.json.gz"), packed.finish().unwrap()).unwrap();
    std::fs::write(dir.path().join("b.json"), "{\"id\":1.5,\"tags\":[\"x\"]}\n").unwrap();
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let expected = named(&[("id", DataType::Float64), ("at", timestamp()), ("tags", list)]);
    assert_eq!(kinds(told("*.json*", &[], dir.path())), expected);

    std::fs::write(dir.path().join("c.csv"), "Id;when;note\n1;2026-01-01;\"a;b\"\n\n2;2026-01-02;\n3;x\n").unwrap();
    let csv = [("format", "csv"), ("csv.delimiter", ";")];
    let expected = named(&[("Id", DataType::Int64), ("when", DataType::Date32), ("note", DataType::Utf8)]);
    assert_eq!(kinds(told("c.csv", &csv, dir.path())), expected);
}

#[test]
fn columns_of_directories_are_told_as_text() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("t/day=2026-01-01")).unwrap();
    std::fs::write(dir.path().join("t/day=2026-01-01/a.json"), "{\"id\":1}\n").unwrap();
    let found = kinds(told("t", &[("partitioned_by", "day")], dir.path()));
    assert_eq!(found, named(&[("id", DataType::Int64), ("day", DataType::Utf8)]));
}

#[test]
fn what_does_not_say_its_columns_is_told_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mixed.json"), "{\"a\":1}\n{\"a\":\"x\"}\n").unwrap();
    std::fs::write(dir.path().join("none.json"), "broken\n").unwrap();
    std::fs::write(dir.path().join("bad.parquet"), "PAR1").unwrap();
    std::fs::write(dir.path().join("bad.arrow"), "ARROW1").unwrap();
    std::fs::write(dir.path().join("a.csv"), "1,2\n").unwrap();
    let why = |path: &str, more: &[(&str, &str)]| match told(path, more, dir.path()) {
        Err(error) => error.to_string(),
        Ok(columns) => panic!("{path}: {columns:?}"),
    };
    let mixed = why("mixed.json", &[]);
    assert!(mixed.contains("'a' is a number in one record and text in another"), "{mixed}");
    assert!(mixed.contains("declare them"), "{mixed}");
    assert!(why("none.json", &[]).contains("no record in it says any"));
    assert!(why("nowhere-*.json", &[]).contains("there is no file at 'nowhere-*.json' yet"));
    assert!(why("bad.parquet", &[]).contains("no sound Parquet file"));
    assert!(why("bad.arrow", &[]).contains("bad.arrow"));
    assert!(why("a.csv", &[("format", "csv"), ("csv.header", "false")]).contains("without names"));
    assert_eq!(told("none.json", &[("format", "raw")], dir.path()).unwrap(), None);
}
