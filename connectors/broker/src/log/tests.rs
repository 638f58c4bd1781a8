//! Logs against what a list of records says of them.

use super::batch::{self, HEADER_BYTES, Header, Marker};
use super::partition::{Limits, Log};
use super::producers::{Aborted, Verdict};
use super::timestamps::{put_varint, take_varint};
use proptest::prelude::*;
use std::fs::File;

const LIMITS: Limits = Limits { segment_bytes: 600, retention_bytes: None, retention_ms: None };

#[derive(Clone, Copy, Debug)]
struct Made {
    producer_id: i64,
    epoch: i16,
    sequence: i32,
    transactional: bool,
    n_records: i32,
    timestamp: i64,
}

const PLAIN: Made =
    Made { producer_id: -1, epoch: -1, sequence: -1, transactional: false, n_records: 1, timestamp: 1_000 };

/// A batch whose record `i` has the timestamp `timestamp + i`.
fn made(made: Made) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    for at in 0..i64::from(made.n_records) {
        let mut record = vec![0];
        put_varint(&mut record, at);
        put_varint(&mut record, at);
        put_varint(&mut record, -1);
        put_varint(&mut record, 5);
        record.extend(b"value");
        put_varint(&mut record, 0);
        put_varint(&mut bytes, record.len() as i64);
        bytes.extend(record);
    }
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    let attributes: i16 = if made.transactional { 0x10 } else { 0 };
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    bytes[23..27].copy_from_slice(&(made.n_records - 1).to_be_bytes());
    bytes[27..35].copy_from_slice(&made.timestamp.to_be_bytes());
    bytes[35..43].copy_from_slice(&(made.timestamp + i64::from(made.n_records) - 1).to_be_bytes());
    bytes[43..51].copy_from_slice(&made.producer_id.to_be_bytes());
    bytes[51..53].copy_from_slice(&made.epoch.to_be_bytes());
    bytes[53..57].copy_from_slice(&made.sequence.to_be_bytes());
    bytes[57..61].copy_from_slice(&made.n_records.to_be_bytes());
    let sum = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn append(log: &mut Log, what: Made) -> Result<i64, Verdict> {
    let bytes = made(what);
    let header = batch::check(&bytes).expect("a sound batch");
    log.append(&header, &bytes, &LIMITS).expect("a file")
}

/// Headers of all that is read from `offset` on, `max_bytes` at a time.
fn read(log: &mut Log, mut offset: i64, upto: i64, max_bytes: usize) -> Vec<Header> {
    let mut headers = Vec::new();
    while let Some(place) = log.place_of(offset).expect("a file") {
        let bytes = place.read(offset, upto, max_bytes, true).expect("a file");
        let mut rest = bytes.as_slice();
        if rest.is_empty() {
            break;
        }
        while let Some(header) = Header::read(rest) {
            assert!(batch::checksum_fits(&rest[..header.n_bytes]), "whole batches");
            rest = &rest[header.n_bytes..];
            offset = header.last_offset() + 1;
            headers.push(header);
        }
        assert!(rest.is_empty(), "nothing but whole batches");
    }
    headers
}

#[test]
fn damage_is_refused() {
    let good = made(PLAIN);
    assert!(batch::check(&good).is_ok());
    for at in [16, 17, 25, 60, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(batch::check(&bad).is_err(), "byte {at}");
    }
    assert!(batch::check(&good[..good.len() - 1]).is_err());
    assert!(batch::check(&[]).is_err());
    let mut old = good.clone();
    old[16] = 1;
    assert_eq!(batch::check(&old), Err(batch::Fault::OldFormat));
    let twice = [good.clone(), good].concat();
    assert!(matches!(batch::check(&twice), Err(batch::Fault::Invalid(_))));
    let marker = Marker { producer_id: 7, producer_epoch: 1, commit: true };
    assert!(matches!(batch::check(&marker.to_batch(5)), Err(batch::Fault::Invalid(_))));
}

#[test]
fn a_marker_is_read_as_it_was_written() {
    for commit in [false, true] {
        let marker = Marker { producer_id: 7, producer_epoch: 3, commit };
        let bytes = marker.to_batch(5);
        let header = Header::read(&bytes).expect("a batch");
        assert!(batch::checksum_fits(&bytes) && header.is_control() && header.is_transactional());
        assert_eq!(Marker::of_batch(&header, &bytes), Some(marker));
    }
}

#[test]
fn a_torn_end_is_cut_off() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = Log::open(dir.path(), 0).expect("a log");
    for _ in 0..3 {
        append(&mut log, PLAIN).expect("taken");
    }
    drop(log);
    let path = dir.path().join(format!("{:020}.log", 0));
    let length = path.metadata().expect("a file").len();
    for torn in [length - 1, length - 40, length - 70] {
        File::options().write(true).open(&path).expect("a file").set_len(torn).expect("shorter");
        let mut log = Log::open(dir.path(), 0).expect("a log");
        let end = log.offsets().end;
        assert!(end < 3);
        assert_eq!(append(&mut log, PLAIN), Ok(end));
        assert_eq!(read(&mut log, 0, i64::MAX, 1 << 20).len() as i64, end + 1);
        while log.offsets().end < 3 {
            append(&mut log, PLAIN).expect("taken");
        }
    }
    // Bytes that were never written, as after a power cut.
    let file = File::options().write(true).open(&path).expect("a file");
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 50], length - 50).expect("written");
    assert_eq!(Log::open(dir.path(), 0).expect("a log").offsets().end, 2);
}

#[test]
fn offsets_by_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = Log::open(dir.path(), 0).expect("a log");
    for timestamp in [100, 300, 200, 500] {
        append(&mut log, Made { timestamp, n_records: 10, ..PLAIN }).expect("taken");
    }
    let mut at = |wanted: i64| {
        let places = log.places_of_time(wanted).expect("files");
        places.iter().find_map(|place| place.first_at_or_after(wanted).expect("a file"))
    };
    assert_eq!(at(0), Some((0, 100)));
    assert_eq!(at(105), Some((5, 105)));
    assert_eq!(at(110), Some((10, 300)));
    assert_eq!(at(310), Some((30, 500)));
    assert_eq!(at(509), Some((39, 509)));
    assert_eq!(at(510), None);
    assert_eq!(log.place_of_latest_time().expect("a file").map(|(most, _)| most), Some(509));
}

#[test]
fn retention_by_size_and_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = Log::open(dir.path(), 0).expect("a log");
    for at in 0..40 {
        append(&mut log, Made { timestamp: 1_000 + at, ..PLAIN }).expect("taken");
    }
    let before = log.n_bytes();
    log.retain(&Limits { retention_bytes: Some(1_000), ..LIMITS }, 2_000).expect("files");
    let offsets = log.offsets();
    assert!(log.n_bytes() < before && log.n_bytes() >= 1_000 && offsets.start > 0 && offsets.end == 40);
    assert_eq!(read(&mut log, offsets.start, i64::MAX, 1 << 20).len() as i64, 40 - offsets.start);
    // All is older than this: the log is empty, and goes on where it was, also after a restart.
    log.retain(&Limits { retention_ms: Some(100), ..LIMITS }, 2_000).expect("files");
    assert_eq!((log.offsets().start, log.offsets().end, log.n_bytes()), (40, 40, 0));
    drop(log);
    let mut log = Log::open(dir.path(), 0).expect("a log");
    assert_eq!(append(&mut log, PLAIN), Ok(40));
    // What an open transaction wrote stays.
    let open = Made { producer_id: 1, epoch: 0, sequence: 0, transactional: true, ..PLAIN };
    append(&mut log, open).expect("taken");
    log.retain(&Limits { retention_ms: Some(100), ..LIMITS }, 1_000_000).expect("files");
    assert_eq!(log.offsets().stable, 41);
    assert!(!read(&mut log, 41, i64::MAX, 1 << 20).is_empty());
}

#[test]
fn records_are_deleted_up_to_an_offset() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = Log::open(dir.path(), 0).expect("a log");
    for _ in 0..40 {
        append(&mut log, PLAIN).expect("taken");
    }
    log.delete_before(17).expect("files");
    assert_eq!(log.offsets().start, 17);
    drop(log);
    let mut log = Log::open(dir.path(), 17).expect("a log");
    assert_eq!((log.offsets().start, log.offsets().end), (17, 40));
    log.delete_before(100).expect("files");
    assert_eq!(log.offsets().start, 40);
}

#[test]
fn a_producer_is_taken_once_and_in_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = Log::open(dir.path(), 0).expect("a log");
    let from = |sequence, epoch| Made { producer_id: 9, epoch, sequence, n_records: 2, ..PLAIN };
    for at in 0..7 {
        assert_eq!(append(&mut log, from(2 * at, 0)), Ok(2 * i64::from(at)));
    }
    for reopened in [false, true] {
        if reopened {
            log = Log::open(dir.path(), 0).expect("a log");
        }
        assert_eq!(append(&mut log, from(12, 0)), Ok(12), "sent again");
        assert_eq!(append(&mut log, from(4, 0)), Ok(4), "the fifth last");
        assert_eq!(append(&mut log, from(2, 0)), Err(Verdict::OutOfOrder), "too long ago");
        assert_eq!(append(&mut log, from(16, 0)), Err(Verdict::OutOfOrder), "a gap");
        assert_eq!(log.offsets().end, 14);
    }
    assert_eq!(append(&mut log, from(5, 1)), Err(Verdict::OutOfOrder), "a new epoch counts from 0");
    assert_eq!(append(&mut log, from(0, 1)), Ok(14));
    assert_eq!(append(&mut log, from(14, 0)), Err(Verdict::Fenced));
}

#[test]
fn sequences_go_on_after_the_largest() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = Log::open(dir.path(), 0).expect("a log");
    let from = |sequence| Made { producer_id: 9, epoch: 0, sequence, n_records: 3, ..PLAIN };
    assert_eq!(append(&mut log, from(i32::MAX - 1)), Ok(0));
    assert_eq!(append(&mut log, from(1)), Ok(3));
}

#[test]
fn varints_come_back() {
    for value in [0, 1, -1, 63, 64, -64, -65, 1 << 40, i64::MAX, i64::MIN] {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, value);
        assert_eq!(take_varint(&mut bytes.as_slice()), Some(value));
        assert_eq!(take_varint(&mut &bytes[..bytes.len() - 1]), None);
    }
    assert_eq!(take_varint(&mut [0xff; 12].as_slice()), None);
}

#[derive(Clone, Debug)]
enum Step {
    Append { producer: i64, n_records: i32 },
    Plain,
    End { producer: i64, commit: bool },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4i64, 1..5i32).prop_map(|(producer, n_records)| Step::Append { producer, n_records }),
        2 => Just(Step::Plain),
        2 => (1..4i64, any::<bool>()).prop_map(|(producer, commit)| Step::End { producer, commit }),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Transactions of several producers among one another: what is stable, what was aborted, and what is read.
    #[test]
    fn a_log_says_what_happened_to_it(steps in proptest::collection::vec(step(), 1..60), max_bytes in 1..2000usize) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut log = Log::open(dir.path(), 0).expect("a log");
        let mut end = 0;
        let mut sequences = [0; 4];
        let mut open: [Option<i64>; 4] = [None; 4];
        let mut aborted: Vec<Aborted> = Vec::new();
        let mut bases: Vec<i64> = Vec::new();
        for step in steps {
            match step {
                Step::Append { producer, n_records } => {
                    let at = producer as usize;
                    let batch = Made {
                        producer_id: producer, epoch: 0, sequence: sequences[at], transactional: true, n_records, ..PLAIN
                    };
                    prop_assert_eq!(append(&mut log, batch), Ok(end));
                    sequences[at] += n_records;
                    open[at].get_or_insert(end);
                    bases.push(end);
                    end += i64::from(n_records);
                }
                Step::Plain => {
                    prop_assert_eq!(append(&mut log, PLAIN), Ok(end));
                    bases.push(end);
                    end += 1;
                }
                Step::End { producer, commit } => {
                    let marker = Marker { producer_id: producer, producer_epoch: 0, commit };
                    prop_assert_eq!(log.append_marker(marker, 1_000, &LIMITS).expect("a file"), end);
                    if let Some(first_offset) = open[producer as usize].take() && !commit {
                        aborted.push(Aborted { producer_id: producer, first_offset, last_offset: end });
                    }
                    bases.push(end);
                    end += 1;
                }
                Step::Reopen => log = Log::open(dir.path(), 0).expect("a log"),
            }
            let stable = open.iter().flatten().min().copied().unwrap_or(end);
            prop_assert_eq!((log.offsets().stable, log.offsets().end), (stable, end));
        }
        let stable = log.offsets().stable;
        let got: Vec<i64> = read(&mut log, 0, i64::MAX, max_bytes).iter().map(|header| header.base_offset).collect();
        prop_assert_eq!(&got, &bases);
        let got: Vec<i64> = read(&mut log, 0, stable, max_bytes).iter().map(|header| header.base_offset).collect();
        let expected: Vec<i64> = bases.iter().copied().filter(|base| *base < stable).collect();
        prop_assert_eq!(got, expected);
        for from in 0..end {
            let within: Vec<Aborted> =
                aborted.iter().copied().filter(|one| one.last_offset >= from && one.first_offset < from + 5).collect();
            prop_assert_eq!(log.aborted_in(from, from + 5), within);
            let first = read(&mut log, from, i64::MAX, 1);
            prop_assert!(first[0].base_offset <= from && first[0].last_offset() >= from);
        }
    }
}
