//! Where reading begins and ends, as the table's options say.
//!
//! Invariant: what an option says of a first start counts once: later starts go on from the checkpoint, and partitions
//! that came since then are read from their beginning.

use super::topics::{Partition, Topics};
use crate::Options;
use crate::formats::timestamp;
use jobs::Diagnostic;
use std::collections::BTreeMap;

pub const STARTUP: &str = "scan.startup";
pub const BOUNDED: &str = "scan.bounded";
pub const GROUP_ELSE: &str = "group.else";

const STARTUP_HELP: &str = "use earliest, latest, group, timestamp:<milliseconds since 1970, or 2026-01-31T12:00:00Z>, or \
                            specific:0=10,1=20 (of several topics specific:clicks/0=10)";
const BOUNDED_HELP: &str = "use none, latest, timestamp:<milliseconds since 1970, or 2026-01-31T12:00:00Z>, or \
                            specific:0=10,1=20 (of several topics specific:clicks/0=10)";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Startup {
    Earliest,
    Latest,
    /// Milliseconds since 1970.
    Timestamp(i64),
    /// What the group has committed; of a partition without, the end or the beginning.
    Group {
        latest: bool,
    },
    /// A partition that is not named begins at its beginning.
    Specific(BTreeMap<Partition, i64>),
}

/// Where reading ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bounded {
    No,
    /// At what is committed when a partition is opened.
    Latest,
    /// Before the first record that is not older; at the latest at what is committed when a partition is opened.
    Timestamp(i64),
    /// Before these offsets, whenever they come.
    Specific(BTreeMap<Partition, i64>),
}

pub fn startup(options: &Options<'_>, topics: &Topics, has_group: bool) -> Result<Startup, Diagnostic> {
    let latest_else = options.one_of(GROUP_ELSE, &["earliest", "latest"])?.map(|word| word == "latest");
    let text = options.text(STARTUP).unwrap_or("earliest").trim();
    let wrong = |why: String| options.wrong(STARTUP, why).help(STARTUP_HELP);
    let startup = match text {
        "earliest" => Startup::Earliest,
        "latest" => Startup::Latest,
        "group" if !has_group => {
            return Err(options
                .wrong(
                    STARTUP,
                    format!("{STARTUP} = 'group' begins at what a consumer group has committed, and none is named"),
                )
                .help("add group.id = '…'"));
        }
        "group" => Startup::Group { latest: latest_else.unwrap_or(false) },
        _ => match (argument(text, "timestamp"), argument(text, "specific")) {
            (Some(time), _) => Startup::Timestamp(
                millis(time).ok_or_else(|| wrong(format!("option '{STARTUP}': '{time}' is no time after 1970")))?,
            ),
            (_, Some(offsets)) => Startup::Specific(specific(offsets, topics).map_err(wrong)?),
            _ => return Err(wrong(format!("option '{STARTUP}' is '{text}'"))),
        },
    };
    if latest_else.is_some() && text != "group" {
        return Err(options
            .wrong(GROUP_ELSE, format!("option '{GROUP_ELSE}' is for {STARTUP} = 'group'"))
            .help("leave it out"));
    }
    Ok(startup)
}

pub fn bounded(options: &Options<'_>, topics: &Topics) -> Result<Bounded, Diagnostic> {
    let text = options.text(BOUNDED).unwrap_or("none").trim();
    let wrong = |why: String| options.wrong(BOUNDED, why).help(BOUNDED_HELP);
    Ok(match text {
        "none" => Bounded::No,
        "latest" => Bounded::Latest,
        _ => match (argument(text, "timestamp"), argument(text, "specific")) {
            (Some(time), _) => Bounded::Timestamp(
                millis(time).ok_or_else(|| wrong(format!("option '{BOUNDED}': '{time}' is no time after 1970")))?,
            ),
            (_, Some(offsets)) => Bounded::Specific(specific(offsets, topics).map_err(wrong)?),
            _ => return Err(wrong(format!("option '{BOUNDED}' is '{text}'"))),
        },
    })
}

/// What follows `word:`, or stands in `word(…)`.
fn argument<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(word)?;
    rest.strip_prefix(':').or_else(|| rest.strip_prefix('(')?.strip_suffix(')')).map(str::trim)
}

fn millis(text: &str) -> Option<i64> {
    let ms = match text.parse() {
        Ok(ms) => ms,
        Err(_) => timestamp::parse(text)?.div_euclid(1000),
    };
    (ms >= 0).then_some(ms)
}

fn specific(text: &str, topics: &Topics) -> Result<BTreeMap<Partition, i64>, String> {
    let mut offsets = BTreeMap::new();
    for pair in text.split([',', ';']).map(str::trim).filter(|pair| !pair.is_empty()) {
        let parsed = pair.split_once('=').and_then(|(partition, offset)| {
            let offset: i64 = offset.trim().parse().ok().filter(|offset| *offset >= 0)?;
            Some((topics.parse(partition.trim())?, offset))
        });
        let Some((partition, offset)) = parsed else {
            return Err(format!("'{pair}' is no partition of '{}' with an offset", topics.shown()));
        };
        if offsets.insert(partition, offset).is_some() {
            return Err(format!("'{pair}' names a partition again"));
        }
    }
    if offsets.is_empty() { Err("'specific' names no partition".to_owned()) } else { Ok(offsets) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;

    fn read(options: &[(&str, &str)]) -> Result<(Startup, Bounded), Diagnostic> {
        let table = table(&[], options);
        let (options, topics) = (Options::new(&table), Topics::of(&table)?);
        Ok((startup(&options, &topics, options.text("group.id").is_some())?, bounded(&options, &topics)?))
    }

    #[test]
    fn starts_and_ends() {
        let one = |options: &[(&str, &str)]| read(&[&[("topic", "a")], options].concat());
        assert_eq!(one(&[]).unwrap(), (Startup::Earliest, Bounded::No));
        let (begin, end) =
            one(&[(STARTUP, "timestamp:2026-01-01T00:00:00Z"), (BOUNDED, "timestamp(1767225600001)")]).unwrap();
        assert_eq!((begin, end), (Startup::Timestamp(1_767_225_600_000), Bounded::Timestamp(1_767_225_600_001)));
        let partition = |topic: &str, number| Partition { topic: topic.into(), number };
        let offsets = BTreeMap::from([(partition("a", 0), 10), (partition("a", 1), 20)]);
        assert_eq!(one(&[(STARTUP, "specific:0=10, 1=20")]).unwrap().0, Startup::Specific(offsets.clone()));
        assert_eq!(one(&[(BOUNDED, "specific:a/0=10;1=20")]).unwrap().1, Bounded::Specific(offsets));
        let group = [(STARTUP, "group"), ("group.id", "g")];
        assert_eq!(one(&group).unwrap().0, Startup::Group { latest: false });
        assert_eq!(one(&[&group[..], &[(GROUP_ELSE, "latest")]].concat()).unwrap().0, Startup::Group { latest: true });
        let two = read(&[("topic", "a,b"), (STARTUP, "specific:b/0=1")]).unwrap();
        assert_eq!(two.0, Startup::Specific(BTreeMap::from([(partition("b", 0), 1)])));
        for (option, value) in [
            (STARTUP, "group"),
            (STARTUP, "newest"),
            (STARTUP, "specific:"),
            (STARTUP, "specific:0"),
            (STARTUP, "specific:0=1,0=2"),
            (STARTUP, "specific:b/0=1"),
            (STARTUP, "timestamp:-1"),
            (BOUNDED, "group"),
            (BOUNDED, "timestamp:soon"),
            (GROUP_ELSE, "latest"),
        ] {
            let wrong = one(&[(option, value)]).unwrap_err();
            assert!(wrong.help.is_some(), "{option} {value}: {wrong}");
        }
        assert!(read(&[("topic", "a,b"), (STARTUP, "specific:0=1")]).is_err());
    }
}
