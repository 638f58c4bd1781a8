//! Encoded records that wait for their checkpoint to become durable, and their form inside it.
//!
//! Invariant: what [`Outbox::decode`] accepts is what [`Outbox::encode`] wrote, whole: magic, version and a checksum
//! over everything. The form is ours and fixed; a later one gets another version, and earlier ones stay readable. Version
//! 2 has records without a value (tombstones), which version 1 had not; else they are the same. Version 3 has of each
//! record also where it goes and its headers, and is written only where a table says that.

use super::metadata::Place;
use super::record::Record;
use flate2::Crc;
use std::collections::BTreeMap;

const MAGIC: &[u8; 6] = b"smkout";
const VERSION: u16 = 2;
const VERSION_WIDE: u16 = 3;
const VERSIONS_READ: [u16; 3] = [1, VERSION, VERSION_WIDE];
/// Length that says "none": a record without a key, or without a value.
const NONE: u32 = u32::MAX;

/// Records of one epoch, end to end: key length, key, value length, value, and in the wide form the place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    bytes: Vec<u8>,
    count: u64,
    wide: bool,
}

impl Records {
    /// `wide`: with where each record goes.
    pub fn new(wide: bool) -> Self {
        Self { wide, ..Self::default() }
    }

    /// A key or value of 4 GiB or more cannot be a Kafka record; the caller bounds them far below.
    pub fn push(&mut self, record: &Record<'_>) {
        self.part(record.key);
        self.part(record.value);
        if self.wide {
            let Place { topic, partition, timestamp_ms, headers } = &record.place;
            self.part(topic.map(str::as_bytes));
            self.bytes.extend_from_slice(&partition.unwrap_or(-1).to_le_bytes());
            self.bytes.extend_from_slice(&timestamp_ms.unwrap_or(-1).to_le_bytes());
            self.bytes.extend_from_slice(&(headers.len() as u32).to_le_bytes());
            for (name, value) in headers {
                self.part(Some(name.as_bytes()));
                self.part(*value);
            }
        }
        self.count += 1;
    }

    fn part(&mut self, part: Option<&[u8]>) {
        let length = part.map_or(NONE, |bytes| match u32::try_from(bytes.len()) {
            Ok(length) if length != NONE => length,
            _ => panic!("a record of {} bytes in an outbox", bytes.len()),
        });
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(part.unwrap_or_default());
    }

    /// All of them, none left.
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.wide))
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// The record that begins at a byte, and where the next one does.
    pub fn read(&self, at: usize) -> Option<(Record<'_>, usize)> {
        let mut rest = Reader { bytes: self.bytes.get(at..)? };
        let record = rest.record(self.wide)?;
        Some((record, self.bytes.len() - rest.bytes.len()))
    }

    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.iter_from(0)
    }

    pub fn iter_from(&self, at: usize) -> impl Iterator<Item = Record<'_>> {
        let mut at = at;
        std::iter::from_fn(move || {
            let (record, next) = self.read(at)?;
            at = next;
            Some(record)
        })
    }

    /// Whether the bytes are so many whole records.
    fn is_whole(&self) -> bool {
        let mut rest = Reader { bytes: &self.bytes };
        (0..self.count).all(|_| rest.record(self.wide).is_some()) && rest.bytes.is_empty()
    }
}

/// What one writer has prepared and not yet committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbox {
    /// Transactional id of the writer, and the consumer group under which it notes the epochs that it committed.
    pub writer: String,
    pub topic: String,
    /// Milliseconds since 1970.
    pub prepared_ms: u64,
    pub epochs: BTreeMap<u64, Records>,
}

impl Outbox {
    pub fn encode(&self) -> Vec<u8> {
        let size: usize = self.epochs.values().map(|records| records.bytes.len() + 24).sum();
        let mut body = Vec::with_capacity(size + self.writer.len() + self.topic.len() + 32);
        for text in [&self.writer, &self.topic] {
            body.extend_from_slice(&(text.len() as u32).to_le_bytes());
            body.extend_from_slice(text.as_bytes());
        }
        body.extend_from_slice(&self.prepared_ms.to_le_bytes());
        body.extend_from_slice(&(self.epochs.len() as u32).to_le_bytes());
        for (epoch, records) in &self.epochs {
            body.extend_from_slice(&epoch.to_le_bytes());
            body.extend_from_slice(&records.count.to_le_bytes());
            body.extend_from_slice(&(records.bytes.len() as u64).to_le_bytes());
            body.extend_from_slice(&records.bytes);
        }
        let mut out = Vec::with_capacity(body.len() + 12);
        out.extend_from_slice(MAGIC);
        let wide = self.epochs.values().any(|records| records.wide);
        let version = if wide { VERSION_WIDE } else { VERSION };
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&checksum(version, &body).to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut head = Reader { bytes };
        if head.take(MAGIC.len()) != Some(MAGIC) {
            return Err("it does not begin like one".to_owned());
        }
        let told = head.array().map(u16::from_le_bytes);
        let Some(version) = told.filter(|version| VERSIONS_READ.contains(version)) else {
            return Err(format!("its version is {told:?}, but {VERSIONS_READ:?} are what this build reads"));
        };
        let sum = head.array().map(u32::from_le_bytes);
        if sum != Some(checksum(version, head.bytes)) {
            return Err("its checksum does not fit its bytes".to_owned());
        }
        Self::decode_body(&mut head, version == VERSION_WIDE)
            .filter(|_| head.bytes.is_empty())
            .ok_or_else(|| "it is cut short".to_owned())
    }

    fn decode_body(body: &mut Reader<'_>, wide: bool) -> Option<Self> {
        let writer = body.text()?;
        let topic = body.text()?;
        let prepared_ms = u64::from_le_bytes(body.array()?);
        let n_epochs = u32::from_le_bytes(body.array()?);
        let mut epochs = BTreeMap::new();
        for _ in 0..n_epochs {
            let epoch = u64::from_le_bytes(body.array()?);
            let count = u64::from_le_bytes(body.array()?);
            let length = usize::try_from(u64::from_le_bytes(body.array()?)).ok()?;
            let records = Records { bytes: body.take(length)?.to_vec(), count, wide };
            epochs.insert(epoch, Some(records).filter(Records::is_whole)?);
        }
        Some(Self { writer, topic, prepared_ms, epochs })
    }
}

/// From version 3 on also over the version, since two versions may be one bit apart.
fn checksum(version: u16, bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    if version >= VERSION_WIDE {
        crc.update(&version.to_le_bytes());
    }
    crc.update(bytes);
    crc.sum()
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(n)?;
        self.bytes = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    fn record(&mut self, wide: bool) -> Option<Record<'a>> {
        let (key, value) = (self.part()?, self.part()?);
        let mut place = Place::default();
        if wide {
            place.topic = match self.part()? {
                Some(topic) => Some(std::str::from_utf8(topic).ok()?),
                None => None,
            };
            place.partition = Some(i32::from_le_bytes(self.array()?)).filter(|number| *number >= 0);
            place.timestamp_ms = Some(i64::from_le_bytes(self.array()?)).filter(|ms| *ms >= 0);
            for _ in 0..u32::from_le_bytes(self.array()?) {
                place.headers.push((std::str::from_utf8(self.part()??).ok()?, self.part()?));
            }
        }
        Some(Record { key, value, place })
    }

    fn part(&mut self) -> Option<Option<&'a [u8]>> {
        match u32::from_le_bytes(self.array()?) {
            NONE => Some(None),
            length => self.take(length as usize).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Epochs = BTreeMap<u64, Vec<(Option<Vec<u8>>, Option<Vec<u8>>)>>;

    fn epochs() -> impl Strategy<Value = Epochs> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..20);
        let record = (prop::option::of(bytes()), prop::option::of(bytes()));
        prop::collection::btree_map(any::<u64>(), prop::collection::vec(record, 0..5), 0..4)
    }

    /// What each version wrote of the same writer; version 2 has a tombstone more.
    #[test]
    fn golden_vectors() {
        let head = b"\x01\0\0\0w\x01\0\0\0t\x07\0\0\0\0\0\0\0\x01\0\0\0\x03\0\0\0\0\0\0\0";
        let value = b"\x01\0\0\0k\x02\0\0\0vw";
        let tombstone = b"\x01\0\0\0k\xff\xff\xff\xff";
        for (version, records, count) in [(1u16, value.to_vec(), 1u64), (2, [value.as_slice(), tombstone].concat(), 2)]
        {
            let body =
                [head.as_slice(), &count.to_le_bytes(), &(records.len() as u64).to_le_bytes(), &records].concat();
            let sum = checksum(version, &body).to_le_bytes();
            let bytes = [b"smkout".as_slice(), &version.to_le_bytes(), &sum, &body].concat();
            let outbox = Outbox::decode(&bytes).unwrap();
            let mut wanted = Records::default();
            wanted.push(&Record::plain(Some(b"k"), Some(b"vw")));
            if version == 2 {
                wanted.push(&Record::plain(Some(b"k"), None));
                assert_eq!(outbox.encode(), bytes);
            }
            assert_eq!((outbox.writer.as_str(), outbox.topic.as_str(), outbox.prepared_ms), ("w", "t", 7));
            assert_eq!(outbox.epochs, BTreeMap::from([(3, wanted)]));
        }
        let later = [b"smkout".as_slice(), &4u16.to_le_bytes(), &[0; 40]].concat();
        assert!(Outbox::decode(&later).unwrap_err().contains("version"));
    }

    #[test]
    fn records_keep_their_places() {
        let mut records = Records::new(true);
        let place = Place {
            topic: Some("a"),
            partition: Some(2),
            timestamp_ms: Some(5),
            headers: vec![("h", Some(b"x".as_slice())), ("n", None)],
        };
        let all = [
            Record { key: None, value: Some(b"v".as_slice()), place: place.clone() },
            Record::plain(Some(b"k".as_slice()), None),
        ];
        all.iter().for_each(|record| records.push(record));
        let outbox = Outbox {
            writer: "w".to_owned(),
            topic: "t".to_owned(),
            prepared_ms: 7,
            epochs: BTreeMap::from([(3, records)]),
        };
        let bytes = outbox.encode();
        assert_eq!(bytes[6..8], 3u16.to_le_bytes());
        let back = Outbox::decode(&bytes).unwrap();
        assert_eq!(back.epochs[&3].iter().collect::<Vec<_>>(), all);
        assert_eq!(back, outbox);
        let mut records = outbox.epochs[&3].clone();
        let (_, second) = records.read(0).unwrap();
        assert_eq!(records.iter_from(second).count(), 1);
        assert_eq!(records.take(), outbox.epochs[&3]);
        assert!(records.is_empty() && records.read(0).is_none());
    }

    proptest! {
        #[test]
        fn decode_gives_back_what_was_encoded_and_refuses_any_damage(epochs in epochs(), at in any::<prop::sample::Index>()) {
            let mut outbox = Outbox {
                writer: "smack.fraud/hits.t.0".to_owned(),
                topic: "hits".to_owned(),
                prepared_ms: 7,
                epochs: BTreeMap::new(),
            };
            for (epoch, list) in &epochs {
                let records = outbox.epochs.entry(*epoch).or_default();
                for (key, value) in list {
                    records.push(&Record::plain(key.as_deref(), value.as_deref()));
                }
                let owned = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
                let back: Vec<_> = records.iter().map(|record| (owned(record.key), owned(record.value))).collect();
                prop_assert_eq!(&back, list);
            }
            let mut bytes = outbox.encode();
            prop_assert_eq!(Outbox::decode(&bytes), Ok(outbox));
            prop_assert!(Outbox::decode(&bytes[..at.index(bytes.len())]).is_err());
            let at = at.index(bytes.len());
            bytes[at] ^= 1;
            prop_assert!(Outbox::decode(&bytes).is_err());
        }
    }
}
