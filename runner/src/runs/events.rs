//! Event files as TensorBoard reads them: protobuf messages, each framed as a record with checksums.
//!
//! A record is its length in eight bytes, the masked CRC-32C of these, the message, and the masked CRC-32C of that, numbers with
//! their lowest byte first (TensorFlow's `core/lib/io/record_writer.cc`). The messages are the few fields of `event.proto`,
//! `summary.proto` and `tensor.proto` that scalars and a text need.
//!
//! Invariant: a file is only added to, one whole record at a time, and never opened again: after a crash another one goes on.

use prost::Message;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since the epoch.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// Of the first event of a file.
    #[prost(string, optional, tag = "3")]
    pub file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    pub summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(string, tag = "1")]
    pub tag: String,
    #[prost(float, optional, tag = "2")]
    pub simple_value: Option<f32>,
    #[prost(message, optional, tag = "8")]
    pub tensor: Option<Tensor>,
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub plugin_data: Option<PluginData>,
    #[prost(int32, tag = "4")]
    pub data_class: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct PluginData {
    #[prost(string, tag = "1")]
    pub plugin_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub tensor_shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub string_val: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    #[prost(message, repeated, tag = "2")]
    pub dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    #[prost(int64, tag = "1")]
    pub size: i64,
}

/// `DT_STRING` of `types.proto`.
const STRING: i32 = 7;
/// `DATA_CLASS_TENSOR` of `summary.proto`.
const CLASS_OF_TENSORS: i32 = 2;

/// By which readers know a file of events.
const FILE_VERSION: &str = "brain.Event:2";

/// A file that is being written.
#[derive(Debug)]
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// Begins another file in the folder of a run; readers take them in the order of their names.
    pub fn begin(folder: &Path, now_ms: u64) -> io::Result<Self> {
        let mut seconds = now_ms / 1000;
        loop {
            let path = folder.join(format!("events.out.tfevents.{seconds:010}.smack"));
            match OpenOptions::new().append(true).create_new(true).open(path) {
                Ok(file) => {
                    let mut events = Self { file };
                    let file_version = Some(FILE_VERSION.to_string());
                    events.write(&Event { wall_time: wall_time(now_ms), file_version, ..Event::default() })?;
                    return Ok(events);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => seconds += 1,
                Err(error) => return Err(error),
            }
        }
    }

    pub fn scalars(&mut self, now_ms: u64, step: u64, scalars: &[(&str, f64)]) -> io::Result<()> {
        let value = |(tag, scalar): &(&str, f64)| Value {
            tag: (*tag).to_string(),
            simple_value: Some(*scalar as f32),
            ..Value::default()
        };
        let summary = Some(Summary { value: scalars.iter().map(value).collect() });
        self.write(&Event { wall_time: wall_time(now_ms), step: step as i64, summary, ..Event::default() })
    }

    /// A text in Markdown.
    pub fn text(&mut self, now_ms: u64, tag: &str, text: &str) -> io::Result<()> {
        let tensor = Tensor {
            dtype: STRING,
            tensor_shape: Some(Shape { dim: vec![Dimension { size: 1 }] }),
            string_val: vec![text.as_bytes().to_vec()],
        };
        let plugin_data = Some(PluginData { plugin_name: "text".to_string() });
        let value = Value {
            tag: tag.to_string(),
            tensor: Some(tensor),
            metadata: Some(Metadata { plugin_data, data_class: CLASS_OF_TENSORS }),
            ..Value::default()
        };
        let summary = Some(Summary { value: vec![value] });
        self.write(&Event { wall_time: wall_time(now_ms), summary, ..Event::default() })
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        self.file.write_all(&framed(&event.encode_to_vec()))
    }
}

fn wall_time(now_ms: u64) -> f64 {
    now_ms as f64 / 1000.0
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(message.len() + 16);
    record.extend(length);
    record.extend(masked(&length).to_le_bytes());
    record.extend(message);
    record.extend(masked(message).to_le_bytes());
    record
}

/// A checksum of something that may hold checksums itself.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// The events of a file; those before the first record that is not whole.
    pub fn read(bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while let Some((head, tail)) = rest.split_at_checked(12) {
            let length = u64::from_le_bytes(head[..8].try_into().unwrap()) as usize;
            assert_eq!(head[8..], masked(&head[..8]).to_le_bytes(), "checksum of the length");
            let Some((message, tail)) = tail.split_at_checked(length) else { break };
            let Some((sum, tail)) = tail.split_at_checked(4) else { break };
            assert_eq!(sum, masked(message).to_le_bytes(), "checksum of the message");
            events.push(Event::decode(message).unwrap());
            rest = tail;
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `RecordWriter` of tensorboard 2.21 makes of these two events.
    const RECORDS: &str = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c1a00000000000000\
        129bd82d09000000000000004010072a0d0a0b0a046c6f7373150000003fc33fc24a";

    #[test]
    fn records_have_the_bytes_of_tensorboards_own_writer() {
        let first = Event { wall_time: 1.5, file_version: Some(FILE_VERSION.to_string()), ..Event::default() };
        let value = Value { tag: "loss".to_string(), simple_value: Some(0.5), ..Value::default() };
        let summary = Some(Summary { value: vec![value] });
        let second = Event { wall_time: 2.0, step: 7, summary, ..Event::default() };
        let bytes: Vec<u8> = [first, second].iter().flat_map(|event| framed(&event.encode_to_vec())).collect();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, RECORDS);
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::begin(folder.path(), 1_700_000_000_250).unwrap();
        file.scalars(1_700_000_001_000, 7, &[("loss", 0.5), ("accuracy", 0.75)]).unwrap();
        file.text(1_700_000_001_000, "settings", "| a | b |").unwrap();
        let next = EventFile::begin(folder.path(), 1_700_000_000_250).unwrap();
        drop((file, next));
        let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        assert_eq!(names.len(), 2, "{names:?}");
        let bytes = std::fs::read(&names[0]).unwrap();
        let events = testing::read(&bytes);
        assert_eq!(events.len(), 3);
        assert_eq!((events[0].wall_time, events[0].file_version.as_deref()), (1_700_000_000.25, Some("brain.Event:2")));
        let scalars = events[1].summary.as_ref().unwrap();
        let told: Vec<_> = scalars.value.iter().map(|value| (value.tag.as_str(), value.simple_value)).collect();
        assert_eq!((events[1].step, told), (7, vec![("loss", Some(0.5)), ("accuracy", Some(0.75))]));
        let text = events[2].summary.as_ref().unwrap().value[0].tensor.as_ref().unwrap();
        assert_eq!(text.string_val, [b"| a | b |".to_vec()]);
        assert_eq!(testing::read(&bytes[..bytes.len() - 5]).len(), 2, "a record that was cut off is none");
    }
}
