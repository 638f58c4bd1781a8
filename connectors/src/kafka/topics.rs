//! Which topics a table reads, and what its splits are called.
//!
//! A split is a partition, and is called by topic and number: `clicks/3`. So its place in a checkpoint stays its own when a
//! table comes to read other topics. Earlier checkpoints of a table with one topic have the number alone.
//!
//! Invariant: which slice reads a split follows from its name alone, so slices that learn of a new partition at different
//! times never read it twice, and never leave it out.

use crate::Options;
use crate::api::TableDef;
use jobs::Diagnostic;
use regex::Regex;
use std::collections::BTreeMap;
use std::sync::Arc;

pub const TOPIC: &str = "topic";
pub const PATTERN: &str = "topic.pattern";

/// What a cluster says that there is: by topic, its partitions.
pub type Listing = BTreeMap<String, Vec<i32>>;

#[derive(Clone, Debug)]
pub enum Topics {
    One(String),
    Several(Vec<String>),
    Pattern(Regex),
}

/// A partition by topic and number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    pub topic: Arc<str>,
    pub number: i32,
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

pub fn may_be_named(topic: &str) -> bool {
    !topic.is_empty()
        && topic.len() <= 249
        && !matches!(topic, "." | "..")
        && topic.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

impl Topics {
    pub fn of(table: &TableDef) -> Result<Self, Diagnostic> {
        let options = Options::new(table);
        match (options.text(TOPIC), options.text(PATTERN)) {
            (Some(_), Some(_)) => Err(options
                .wrong(PATTERN, format!("options '{TOPIC}' and '{PATTERN}' exclude each other"))
                .help("keep one of them")),
            (None, None) => Err(options
                .wrong("connector", format!("table '{}' names no topic", table.name))
                .help(format!("add {TOPIC} = 'name', or {PATTERN} = 'a regular expression'"))),
            (None, Some(pattern)) => {
                // The whole name has to fit.
                Regex::new(&format!("^(?:{pattern})$")).map(Self::Pattern).map_err(|_| {
                    options
                        .wrong(PATTERN, format!("option '{PATTERN}' is no regular expression: '{pattern}'"))
                        .help("write for example 'clicks-.*'; it has to fit the whole name")
                })
            }
            (Some(text), None) => {
                let mut names: Vec<String> = Vec::new();
                for name in text.split(',').map(str::trim) {
                    if !may_be_named(name) {
                        return Err(options
                            .wrong(TOPIC, format!("'{name}' cannot be the name of a topic"))
                            .help("use letters, digits, '.', '_' and '-', and commas between several"));
                    }
                    if names.iter().any(|earlier| earlier == name) {
                        return Err(options.wrong(TOPIC, format!("topic '{name}' is named twice")));
                    }
                    names.push(name.to_owned());
                }
                Ok(match names.len() {
                    1 => Self::One(names.remove(0)),
                    _ => Self::Several(names),
                })
            }
        }
    }

    /// For messages.
    pub fn shown(&self) -> String {
        match self {
            Self::One(topic) => topic.clone(),
            Self::Several(topics) => topics.join(","),
            Self::Pattern(pattern) => pattern.as_str().trim_start_matches("^(?:").trim_end_matches(")$").to_owned(),
        }
    }

    /// Those that have to be there.
    pub fn named(&self) -> &[String] {
        match self {
            Self::One(topic) => std::slice::from_ref(topic),
            Self::Several(topics) => topics,
            Self::Pattern(_) => &[],
        }
    }

    pub fn holds(&self, topic: &str) -> bool {
        match self {
            Self::One(one) => one == topic,
            Self::Several(topics) => topics.iter().any(|one| one == topic),
            // Kafka's own are not meant, unless they are named.
            Self::Pattern(pattern) => !topic.starts_with("__") && pattern.is_match(topic),
        }
    }

    /// All splits of what a cluster says that there is, in the order in which slices share them out.
    pub fn splits(&self, listing: &Listing) -> Vec<Partition> {
        let of = |topic: &str, numbers: &[i32]| {
            let topic: Arc<str> = Arc::from(topic);
            numbers.iter().map(|number| Partition { topic: Arc::clone(&topic), number: *number }).collect::<Vec<_>>()
        };
        match self {
            Self::Pattern(_) => {
                let fitting = listing.iter().filter(|(topic, _)| self.holds(topic));
                fitting.flat_map(|(topic, numbers)| of(topic, numbers)).collect()
            }
            _ => {
                let there = self.named().iter().filter_map(|topic| Some((topic, listing.get(topic)?)));
                there.flat_map(|(topic, numbers)| of(topic, numbers)).collect()
            }
        }
    }

    /// The partition that a split's name, or a number in an option, means.
    pub fn parse(&self, split: &str) -> Option<Partition> {
        let (topic, number) = match (self, split.rsplit_once('/')) {
            (Self::One(topic), None) => (topic.as_str(), split),
            (_, Some((topic, number))) if self.holds(topic) => (topic, number),
            _ => return None,
        };
        let number = number.trim().parse().ok().filter(|number| *number >= 0)?;
        Some(Partition { topic: Arc::from(topic), number })
    }

    /// The slice that reads a partition. Those of a topic are dealt round, each topic from a place of its own.
    pub fn slot_of(&self, partition: &Partition, n_slots: u32) -> u32 {
        let from = match self {
            Self::One(_) => 0,
            Self::Several(topics) => topics.iter().position(|topic| **topic == *partition.topic).unwrap_or(0) as u64,
            Self::Pattern(_) => fnv(partition.topic.as_bytes()),
        };
        ((from % u64::from(n_slots) + partition.number as u64) % u64::from(n_slots)) as u32
    }
}

/// FNV-1a: fixed for good, since tasks of different builds must agree.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;

    fn topics(option: &str, value: &str) -> Result<Topics, Diagnostic> {
        Topics::of(&table(&[], &[("connector", "kafka"), (option, value)]))
    }

    #[test]
    fn names_lists_and_patterns() {
        let listing: Listing = [("a", vec![0, 1]), ("ab", vec![0]), ("b", vec![0]), ("__own", vec![0])]
            .map(|(t, p)| (t.to_owned(), p))
            .into();
        let names =
            |topics: &Topics| -> Vec<String> { topics.splits(&listing).iter().map(Partition::to_string).collect() };
        let one = topics(TOPIC, "a").unwrap();
        assert_eq!(names(&one), ["a/0", "a/1"]);
        assert_eq!((one.parse("1"), one.parse("a/1")), (one.splits(&listing).pop(), one.splits(&listing).pop()));
        let several = topics(TOPIC, "b, a").unwrap();
        assert_eq!(names(&several), ["b/0", "a/0", "a/1"]);
        assert_eq!(several.shown(), "b,a");
        assert_eq!(several.parse("ab/0"), None);
        let pattern = topics(PATTERN, "a.*|__own").unwrap();
        assert_eq!(names(&pattern), ["a/0", "a/1", "ab/0"]);
        for (option, value) in [(TOPIC, "a b"), (TOPIC, "a,"), (TOPIC, "a,a"), (TOPIC, ".."), (PATTERN, "(")] {
            assert!(topics(option, value).is_err(), "{option} {value}");
        }
        assert!(Topics::of(&table(&[], &[("topic", "a"), (PATTERN, "b")])).is_err());
    }

    /// Whatever slices see of a growing cluster and when, each partition is read by one of them.
    #[test]
    fn a_partition_has_one_reader_whatever_else_there_is() {
        for topics in [topics(TOPIC, "a,b,c").unwrap(), topics(PATTERN, ".*").unwrap(), topics(TOPIC, "a").unwrap()] {
            for n_slots in 1..5 {
                let listing: Listing = ["a", "b", "c"].map(|topic| (topic.to_owned(), (0..8).collect())).into();
                let mut load = vec![0; n_slots as usize];
                for partition in topics.splits(&listing) {
                    load[topics.slot_of(&partition, n_slots) as usize] += 1;
                }
                let (least, most) = (load.iter().min().unwrap(), load.iter().max().unwrap());
                assert!(most - least <= 3, "{topics:?} over {n_slots}: {load:?}");
            }
        }
    }
}
