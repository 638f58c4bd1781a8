//! Settings of topics, and what is told of the broker's own.
//!
//! Invariant: a topic has only settings that this file knows, with values that it can mean; what Kafka knows and this
//! broker does not do (to compress anew, to set timestamps) is refused by name, not kept and ignored. Settings that tune
//! how Kafka stores things are kept and change nothing.

use crate::log::Limits;
use std::collections::BTreeMap;

/// Kinds of values, by Kafka's numbers.
pub const BOOLEAN: i8 = 1;
pub const STRING: i8 = 2;
pub const INT: i8 = 3;
pub const LONG: i8 = 5;
pub const DOUBLE: i8 = 6;
pub const LIST: i8 = 7;

#[derive(Clone, Copy, Debug)]
enum Takes {
    Number(i64, i64),
    Fraction,
    Bool,
    OneOf(&'static [&'static str]),
}

pub struct Known {
    pub name: &'static str,
    pub kind: i8,
    default: &'static str,
    takes: Takes,
    pub doc: &'static str,
}

const fn known(name: &'static str, kind: i8, default: &'static str, takes: Takes, doc: &'static str) -> Known {
    Known { name, kind, default, takes, doc }
}

const ANY: Takes = Takes::Number(0, i64::MAX);
const TUNING: &str = "Kept; this broker stores records in its own way.";

pub static TOPIC: &[Known] = &[
    known(
        "cleanup.policy",
        LIST,
        "delete",
        Takes::OneOf(&["delete", "compact", "compact,delete", "delete,compact"]),
        "With compact and no delete nothing is deleted; records are never compacted.",
    ),
    known(
        "compression.type",
        STRING,
        "producer",
        Takes::OneOf(&["producer"]),
        "Batches stay as their producer made them.",
    ),
    known("delete.retention.ms", LONG, "86400000", ANY, TUNING),
    known("file.delete.delay.ms", LONG, "60000", ANY, TUNING),
    known("flush.messages", LONG, "9223372036854775807", ANY, TUNING),
    known("flush.ms", LONG, "1000", ANY, TUNING),
    known("index.interval.bytes", INT, "32768", ANY, TUNING),
    known("max.compaction.lag.ms", LONG, "9223372036854775807", ANY, TUNING),
    known(
        "max.message.bytes",
        INT,
        "1048588",
        Takes::Number(0, i32::MAX as i64),
        "Largest record batch that is taken.",
    ),
    known("message.timestamp.after.max.ms", LONG, "9223372036854775807", ANY, TUNING),
    known("message.timestamp.before.max.ms", LONG, "9223372036854775807", ANY, TUNING),
    known(
        "message.timestamp.type",
        STRING,
        "CreateTime",
        Takes::OneOf(&["CreateTime"]),
        "Timestamps are the producer's.",
    ),
    known("min.cleanable.dirty.ratio", DOUBLE, "0.5", Takes::Fraction, TUNING),
    known("min.compaction.lag.ms", LONG, "0", ANY, TUNING),
    known("min.insync.replicas", INT, "1", Takes::Number(1, 1), "There is one broker."),
    known("preallocate", BOOLEAN, "false", Takes::Bool, TUNING),
    known(
        "retention.bytes",
        LONG,
        "-1",
        Takes::Number(-1, i64::MAX),
        "Oldest segments of a partition go while the others hold this much; -1 keeps all.",
    ),
    known(
        "retention.ms",
        LONG,
        "604800000",
        Takes::Number(-1, i64::MAX),
        "Segments go whose newest record is older than this; -1 keeps all.",
    ),
    known(
        "segment.bytes",
        INT,
        "67108864",
        Takes::Number(14, i32::MAX as i64),
        "A segment's size before the next begins.",
    ),
    known("segment.index.bytes", INT, "10485760", ANY, TUNING),
    known("segment.jitter.ms", LONG, "0", ANY, TUNING),
    known("segment.ms", LONG, "604800000", ANY, TUNING),
    known("unclean.leader.election.enable", BOOLEAN, "false", Takes::Bool, TUNING),
];

/// What is set for one topic, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfigs {
    pub set: BTreeMap<String, String>,
    pub limits: Limits,
    pub message_bytes_max: usize,
}

/// What topics have that say nothing themselves.
#[derive(Clone, Debug, Default)]
pub struct Defaults(pub BTreeMap<&'static str, String>);

impl Defaults {
    pub fn of(&self, known: &Known) -> String {
        self.0.get(known.name).cloned().unwrap_or_else(|| known.default.to_string())
    }
}

/// A setting by its name, or why there is none.
pub fn find(name: &str) -> Result<&'static Known, String> {
    TOPIC.iter().find(|known| known.name == name).ok_or_else(|| format!("Unknown topic config name: {name}"))
}

/// Whether the setting can have this value.
pub fn check(name: &str, value: &str) -> Result<(), String> {
    let known = find(name)?;
    let value = value.trim();
    let expected = match known.takes {
        Takes::Number(least, most) => match value.parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => return Ok(()),
            _ if least == most => format!("{least}"),
            _ => format!("a whole number from {least} to {most}"),
        },
        Takes::Fraction => match value.parse::<f64>() {
            Ok(number) if (0.0..=1.0).contains(&number) => return Ok(()),
            _ => "a number from 0 to 1".to_string(),
        },
        Takes::Bool if matches!(value, "true" | "false") => return Ok(()),
        Takes::Bool => "true or false".to_string(),
        Takes::OneOf(words) if words.contains(&value) => return Ok(()),
        Takes::OneOf(words) => words.join(" or "),
    };
    Err(format!("Invalid value {value} for configuration {name}: this broker takes {expected}. {}", known.doc))
}

impl TopicConfigs {
    /// From settings that were checked.
    pub fn new(set: BTreeMap<String, String>, defaults: &Defaults) -> Self {
        let value = |name: &str| {
            let otherwise = || find(name).map(|known| defaults.of(known)).unwrap_or_default();
            set.get(name).cloned().unwrap_or_else(otherwise)
        };
        let number = |name: &str| value(name).trim().parse::<i64>().unwrap_or(-1);
        let deletes = value("cleanup.policy").contains("delete");
        let limits = Limits {
            segment_bytes: number("segment.bytes").max(1) as u64,
            retention_bytes: u64::try_from(number("retention.bytes")).ok().filter(|_| deletes),
            retention_ms: Some(number("retention.ms")).filter(|ms| *ms >= 0 && deletes),
        };
        let message_bytes_max = number("max.message.bytes").max(0) as usize;
        Self { limits, message_bytes_max, set }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_is_taken() {
        for known in TOPIC {
            check(known.name, known.default).unwrap();
        }
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        assert!(check("retention.hours", "1").unwrap_err().contains("retention.hours"));
        assert!(check("compression.type", "zstd").unwrap_err().contains("producer"));
        assert!(check("retention.ms", "soon").unwrap_err().contains("whole number"));
        assert!(check("min.insync.replicas", "2").is_err());
    }

    #[test]
    fn compacted_topics_keep_everything() {
        let set = BTreeMap::from([("cleanup.policy".to_string(), "compact".to_string())]);
        assert_eq!(TopicConfigs::new(set, &Defaults::default()).limits.retention_ms, None);
        assert_eq!(TopicConfigs::new(BTreeMap::new(), &Defaults::default()).limits.retention_ms, Some(604_800_000));
    }
}
