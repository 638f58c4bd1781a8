//! Avro files: beside the crate `apache-avro`, with records that do not fit, from positions, and as rubbish.

use super::*;
use crate::formats::avro::{Codec, Container, schema_of};
use apache_avro::types::{Record, Value};
use std::collections::BTreeSet;
use std::io::Read;

const SCHEMA: &str = r#"{"type": "record", "name": "row", "fields": [
    {"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"]}, {"name": "more", "type": "double"}]}"#;

/// A file of the witness, in several blocks.
fn witnessed(ids: std::ops::Range<i64>, codec: apache_avro::Codec) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(SCHEMA).unwrap();
    let mut writer = apache_avro::Writer::with_codec(&schema, Vec::new(), codec).unwrap();
    for id in ids {
        let mut record = Record::new(&schema).unwrap();
        record.put("id", id);
        let name = Value::String(format!("n,{id}\n"));
        record.put("name", Value::Union(1, Box::new(name)));
        record.put("more", 0.5);
        writer.append_value(record).unwrap();
        if id % 100 == 99 {
            writer.flush().unwrap();
        }
    }
    writer.into_inner().unwrap()
}

fn avro_table(path: &str) -> TableDef {
    table(&columns(), &[("connector", "files"), ("path", path), ("format", "avro")])
}

#[test]
fn files_of_others_are_read_from_any_record_on() {
    let dir = tempfile::tempdir().unwrap();
    let deflate = apache_avro::Codec::Deflate(apache_avro::DeflateSettings::default());
    for codec in [apache_avro::Codec::Null, deflate] {
        std::fs::write(dir.path().join("a.avro"), witnessed(0..250, codec)).unwrap();
        let table = table(&columns(), &[("connector", "files"), ("path", "a.avro")]);
        for from in [0, 1, 99, 100, 101, 249, 250] {
            let start = SplitStart { split: "a.avro".to_owned(), from: Some(from) };
            let (ids, bad, next) = read(&table, &[start], dir.path());
            assert_eq!((ids.len() as u64, bad.len()), (250 - from, 0));
            assert!(ids.iter().zip(from as i64..).all(|(id, expected)| *id == Some(expected)), "{from}: {ids:?}");
            assert!(from == 250 || next == 250);
        }
        let beyond = SplitStart { split: "a.avro".to_owned(), from: Some(251) };
        let mut reader = CONNECTOR.open_source(&table, &[0], &[beyond], &context(dir.path())).unwrap();
        let why = reader.poll(Duration::ZERO).unwrap_err().to_string();
        assert!(why.contains("has 250 records but was read up to 251 before"), "{why}");
    }
}

#[test]
fn others_read_what_is_written() {
    for compression in ["none", "gzip"] {
        let dir = tempfile::tempdir().unwrap();
        let options = [("connector", "files"), ("path", "out"), ("format", "avro"), ("compression", compression)];
        let table = table(&columns(), &options);
        let mut sink = CONNECTOR.open_sink(&table, &context(dir.path())).unwrap();
        sink.write(&rows(0..20_000)).unwrap();
        sink.write(&rows(20_000..30_000)).unwrap();
        sink.prepare(1).unwrap();
        sink.commit(1).unwrap();
        let names = visible(&dir.path().join("out"));
        assert!(names.iter().all(|name| name.ends_with(".avro")), "{names:?}");
        let mut ids = BTreeSet::new();
        for name in names {
            let file = std::fs::File::open(dir.path().join("out").join(name)).unwrap();
            for record in apache_avro::Reader::new(file).unwrap() {
                let Value::Record(fields) = record.unwrap() else { panic!("no record") };
                let Value::Union(1, id) = &fields[0].1 else { panic!("{fields:?}") };
                let Value::Long(id) = **id else { panic!("{fields:?}") };
                assert_eq!(fields[1].1, Value::Union(1, Box::new(Value::String(format!("n,{id}\n")))));
                ids.insert(id);
            }
        }
        assert_eq!(ids, (0..30_000).collect());
    }
}

#[test]
fn a_record_that_does_not_fit_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.avro"), witnessed(126..131, apache_avro::Codec::Null)).unwrap();
    let columns = [("name", DataType::Utf8), ("id", DataType::Int8)];
    let table = table(&columns, &[("connector", "files"), ("path", "a.avro")]);
    let mut reader = CONNECTOR.open_source(&table, &[0, 1], &starts(&table, dir.path()), &context(dir.path())).unwrap();
    let Polled::Batch { batch, bad, next, .. } = reader.poll(Duration::ZERO).unwrap() else { panic!("no batch") };
    assert_eq!(batch.column(1).as_primitive::<arrow::datatypes::Int8Type>().values(), &[126, 127]);
    let positions: Vec<u64> = bad.iter().map(|bad| bad.position).collect();
    assert_eq!((positions, next), (vec![2, 3, 4], 5));
    assert!(bad[0].error.contains("id") && bad[0].error.contains("128"), "{}", bad[0].error);
    assert_eq!(bad[0].bytes[..2], [0x80, 0x02], "the bytes of the record: 128 comes first");
}

#[test]
fn a_file_that_does_not_fit_says_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.avro"), witnessed(0..1, apache_avro::Codec::Null)).unwrap();
    let table = table(&[("name", DataType::Int64)], &[("connector", "files"), ("path", "a.avro")]);
    let mut reader = CONNECTOR.open_source(&table, &[0], &starts(&table, dir.path()), &context(dir.path())).unwrap();
    let why = match reader.poll(Duration::ZERO) {
        Err(why) => why.to_string(),
        Ok(Polled::Batch { bad, .. }) => bad[0].error.clone(),
        Ok(_) => panic!("nothing was said"),
    };
    assert!(why.contains("name"), "{why}");
    for (options, words) in [
        (vec![("format", "avro"), ("compression", "lz4")], "not packed by lz4"),
        (vec![("format", "avro"), ("compression", "brotli")], "brotli"),
    ] {
        let table =
            crate::testing::table(&columns(), &[&[("connector", "files"), ("path", "out")], &options[..]].concat());
        let wrong = CONNECTOR.check(&table);
        assert!(wrong.iter().any(|wrong| wrong.message.contains(words)), "{wrong:?}");
    }
}

#[test]
fn rubbish_is_told_and_never_believed() {
    let dir = tempfile::tempdir().unwrap();
    let table = avro_table("x");
    let attempt = |bytes: &[u8]| -> std::result::Result<usize, Error> {
        std::fs::write(dir.path().join("x"), bytes).unwrap();
        let mut reader = CONNECTOR.open_source(&table, &[0, 1], &starts(&table, dir.path()), &context(dir.path()))?;
        let mut n = 0;
        loop {
            match reader.poll(Duration::ZERO)? {
                Polled::Batch { batch, bad, .. } => n += batch.num_rows() + bad.len(),
                Polled::End => return Ok(n),
                Polled::SplitEnd { .. } | Polled::Idle => {}
            }
        }
    };
    for codec in [Codec::Null, Codec::Deflate, Codec::Snappy, Codec::Zstandard] {
        let rows = rows(0..50);
        let schema = schema_of("row", rows.schema().fields()).unwrap();
        let mut container = Container::begin(Vec::new(), &schema, rows.schema().fields(), codec).unwrap();
        let head = container.target().len();
        container.write(&rows).unwrap();
        let whole = container.finish().unwrap();
        assert_eq!(attempt(&whole).unwrap(), 50);
        for end in 0..whole.len() {
            match attempt(&whole[..end]) {
                Ok(n) => assert_eq!((n, end), (0, head), "a file may have no blocks"),
                Err(why) => {
                    assert!(why.to_string().contains("'x") || why.to_string().contains("x' is no sound"), "{why}")
                }
            }
        }
        // A bit that is wrong may give other values, but no panic and no memory without end.
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            let _ = attempt(&flipped);
        }
    }
    assert!(attempt(b"{\"id\": 1}\n").unwrap_err().to_string().contains("it does not begin as one"));
    // A block of a billion records without a byte, and one that unpacks to a gigabyte of nothing.
    let mut bomb = zstd::Encoder::new(Vec::new(), 1).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(1 << 30), &mut bomb).unwrap();
    let bomb = bomb.finish().unwrap();
    let schema = r#"{"type": "record", "name": "row", "fields": []}"#;
    for (n, block, words) in [(1_i64 << 40, vec![], "1099511627776 records in 0 bytes"), (1, bomb, "256 MiB")] {
        let no_columns = arrow::datatypes::Fields::empty();
        let container = Container::begin(Vec::new(), schema, &no_columns, Codec::Zstandard).unwrap();
        let mut file = container.finish().unwrap();
        let sync = file[file.len() - 16..].to_vec();
        let block = if block.is_empty() { zstd::bulk::compress(&[], 1).unwrap() } else { block };
        for number in [n, block.len() as i64] {
            let mut value = (number as u64) << 1;
            while value >= 0x80 {
                file.push(value as u8 | 0x80);
                value >>= 7;
            }
            file.push(value as u8);
        }
        file.extend_from_slice(&block);
        file.extend_from_slice(&sync);
        let why = attempt(&file).unwrap_err().to_string();
        assert!(why.contains(words), "{why}");
    }
}
