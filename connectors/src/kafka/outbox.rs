//! Encoded records that wait for their checkpoint to become durable, and their form inside it.
//!
//! Invariant: what [`Outbox::decode`] accepts is what [`Outbox::encode`] wrote, whole: magic, version and a checksum
//! over everything. The form is ours and fixed; a later one gets another version, and earlier ones stay readable. Version
//! 2 has records without a value (tombstones), which version 1 had not; version 3 has headers.

use flate2::Crc;
use std::collections::BTreeMap;

const MAGIC: &[u8; 6] = b"smkout";
const VERSION: u16 = 3;
const VERSIONS_READ: [u16; 3] = [1, 2, VERSION];
/// Length that says "none": a record without a key, or without a value.
const NONE: u32 = u32::MAX;

/// The key and the value of a record.
pub type Record<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// Records of one epoch, end to end: key length, key, value length, value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    bytes: Vec<u8>,
    count: u64,
}

impl Records {
    /// A key or value of 4 GiB or more cannot be a Kafka record; the caller bounds them far below.
    pub fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let length = |bytes: &[u8]| match u32::try_from(bytes.len()) {
            Ok(length) if length != NONE => length,
            _ => panic!("a record of {} bytes in an outbox", bytes.len()),
        };
        for part in [key, value] {
            self.bytes.extend_from_slice(&part.map_or(NONE, length).to_le_bytes());
            self.bytes.extend_from_slice(part.unwrap_or_default());
        }
        self.count += 1;
    }

    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = Reader { bytes: &self.bytes };
        std::iter::from_fn(move || rest.record())
    }

    /// Whether the bytes are so many whole records.
    fn is_whole(&self) -> bool {
        let mut rest = Reader { bytes: &self.bytes };
        (0..self.count).all(|_| rest.record().is_some()) && rest.bytes.is_empty()
    }
}

/// What one writer has prepared and not yet committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbox {
    /// Transactional id of the writer, and the consumer group under which it notes the epochs that it committed.
    pub writer: String,
    pub topic: String,
    /// Of every record.
    pub headers: Vec<(String, Vec<u8>)>,
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
        body.extend_from_slice(&(self.headers.len() as u32).to_le_bytes());
        for part in self.headers.iter().flat_map(|(name, value)| [name.as_bytes(), value]) {
            body.extend_from_slice(&(part.len() as u32).to_le_bytes());
            body.extend_from_slice(part);
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
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&checksum(&body).to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut head = Reader { bytes };
        if head.take(MAGIC.len()) != Some(MAGIC) {
            return Err("it does not begin like one".to_owned());
        }
        let version = head.array().map(u16::from_le_bytes);
        let Some(version) = version.filter(|version| VERSIONS_READ.contains(version)) else {
            return Err(format!("its version is {version:?}, but {VERSIONS_READ:?} are what this build reads"));
        };
        let sum = head.array().map(u32::from_le_bytes);
        if sum != Some(checksum(head.bytes)) {
            return Err("its checksum does not fit its bytes".to_owned());
        }
        Self::decode_body(&mut head, version)
            .filter(|_| head.bytes.is_empty())
            .ok_or_else(|| "it is cut short".to_owned())
    }

    fn decode_body(body: &mut Reader<'_>, version: u16) -> Option<Self> {
        let writer = body.text()?;
        let topic = body.text()?;
        let n_headers = if version >= 3 { u32::from_le_bytes(body.array()?) } else { 0 };
        let mut headers = Vec::new();
        for _ in 0..n_headers {
            let name = body.text()?;
            let length = u32::from_le_bytes(body.array()?) as usize;
            headers.push((name, body.take(length)?.to_vec()));
        }
        let prepared_ms = u64::from_le_bytes(body.array()?);
        let n_epochs = u32::from_le_bytes(body.array()?);
        let mut epochs = BTreeMap::new();
        for _ in 0..n_epochs {
            let epoch = u64::from_le_bytes(body.array()?);
            let count = u64::from_le_bytes(body.array()?);
            let length = usize::try_from(u64::from_le_bytes(body.array()?)).ok()?;
            let records = Records { bytes: body.take(length)?.to_vec(), count };
            epochs.insert(epoch, Some(records).filter(Records::is_whole)?);
        }
        Some(Self { writer, topic, headers, prepared_ms, epochs })
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
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

    fn record(&mut self) -> Option<Record<'a>> {
        Some((self.part()?, self.part()?))
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

    /// What each version wrote of the same writer; version 2 has a tombstone more, version 3 a header.
    #[test]
    fn golden_vectors() {
        let names = b"\x01\0\0\0w\x01\0\0\0t".as_slice();
        let header = b"\x01\0\0\0\x01\0\0\0h\x02\0\0\0ij".as_slice();
        let numbers = b"\x07\0\0\0\0\0\0\0\x01\0\0\0\x03\0\0\0\0\0\0\0".as_slice();
        let value = b"\x01\0\0\0k\x02\0\0\0vw";
        let tombstone = b"\x01\0\0\0k\xff\xff\xff\xff";
        let both = [value.as_slice(), tombstone].concat();
        for (version, records, count) in [(1u16, value.to_vec(), 1u64), (2, both.clone(), 2), (3, both, 2)] {
            let head = [names, if version == 3 { header } else { &[] }, numbers].concat();
            let body =
                [head.as_slice(), &count.to_le_bytes(), &(records.len() as u64).to_le_bytes(), &records].concat();
            let sum = checksum(&body).to_le_bytes();
            let bytes = [b"smkout".as_slice(), &version.to_le_bytes(), &sum, &body].concat();
            let outbox = Outbox::decode(&bytes).unwrap();
            let mut wanted = Records::default();
            wanted.push(Some(b"k"), Some(b"vw"));
            if version >= 2 {
                wanted.push(Some(b"k"), None);
            }
            let headers = if version == 3 { vec![("h".to_owned(), b"ij".to_vec())] } else { Vec::new() };
            assert_eq!(outbox.headers, headers);
            if version == VERSION {
                assert_eq!(outbox.encode(), bytes);
            }
            assert_eq!((outbox.writer.as_str(), outbox.topic.as_str(), outbox.prepared_ms), ("w", "t", 7));
            assert_eq!(outbox.epochs, BTreeMap::from([(3, wanted)]));
        }
        let later = [b"smkout".as_slice(), &4u16.to_le_bytes(), &[0; 40]].concat();
        assert!(Outbox::decode(&later).unwrap_err().contains("version"));
    }

    proptest! {
        #[test]
        fn decode_gives_back_what_was_encoded_and_refuses_any_damage(epochs in epochs(), at in any::<prop::sample::Index>()) {
            let mut outbox = Outbox {
                writer: "smack.fraud/hits.t.0".to_owned(),
                topic: "hits".to_owned(),
                headers: vec![("__value_schema_id".to_owned(), vec![1; 17])],
                prepared_ms: 7,
                epochs: BTreeMap::new(),
            };
            for (epoch, list) in &epochs {
                let records = outbox.epochs.entry(*epoch).or_default();
                for (key, value) in list {
                    records.push(key.as_deref(), value.as_deref());
                }
                let owned = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
                let back: Vec<_> = records.iter().map(|(key, value)| (owned(key), owned(value))).collect();
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
