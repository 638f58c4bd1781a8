//! CQL's durations as text, in the server's own spelling: `1y2mo3d4h5m6s7ms8us9ns`, with a `-` before a negative one.
//!
//! Invariant: months, days and nanoseconds are kept apart, as a month has no number of days; all three have one sign.

const UNITS: [(&str, Part, i64); 11] = [
    ("mo", Part::Months, 1),
    ("ms", Part::Nanoseconds, 1_000_000),
    ("us", Part::Nanoseconds, 1_000),
    ("µs", Part::Nanoseconds, 1_000),
    ("ns", Part::Nanoseconds, 1),
    ("y", Part::Months, 12),
    ("w", Part::Days, 7),
    ("d", Part::Days, 1),
    ("h", Part::Nanoseconds, 3_600_000_000_000),
    ("m", Part::Nanoseconds, 60_000_000_000),
    ("s", Part::Nanoseconds, 1_000_000_000),
];

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Months,
    Days,
    Nanoseconds,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Duration {
    pub months: i32,
    pub days: i32,
    pub nanoseconds: i64,
}

pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration, which the server wants; write for example 1mo2d3h");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let mut sums = [0i64; 3];
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: i64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let (unit, part, factor) = UNITS.iter().find(|(unit, ..)| rest.starts_with(unit)).ok_or_else(wrong)?;
        rest = &rest[unit.len()..];
        let sum = &mut sums[*part as usize];
        let more = number.checked_mul(factor * sign).and_then(|more| sum.checked_add(more));
        *sum = more.ok_or_else(wrong)?;
    }
    let narrow = |sum: i64| i32::try_from(sum).map_err(|_| wrong());
    Ok(Duration { months: narrow(sums[0])?, days: narrow(sums[1])?, nanoseconds: sums[2] })
}

impl std::fmt::Display for Duration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let negative = self.months < 0 || self.days < 0 || self.nanoseconds < 0;
        if negative {
            f.write_str("-")?;
        }
        let (months, days) = (self.months.unsigned_abs(), self.days.unsigned_abs());
        let mut nanoseconds = self.nanoseconds.unsigned_abs();
        let mut said = false;
        let mut say = |f: &mut std::fmt::Formatter<'_>, number: u64, unit: &str| {
            if number == 0 {
                return Ok(());
            }
            said = true;
            write!(f, "{number}{unit}")
        };
        say(f, u64::from(months / 12), "y")?;
        say(f, u64::from(months % 12), "mo")?;
        say(f, u64::from(days), "d")?;
        for (unit, size) in [
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1_000),
            ("ns", 1),
        ] {
            say(f, nanoseconds / size, unit)?;
            nanoseconds %= size;
        }
        if said { Ok(()) } else { f.write_str("0s") }
    }
}

impl Duration {
    /// Three numbers of variable length, as in the native protocol, version 5, section 5.8.
    pub fn encode(self, out: &mut Vec<u8>) {
        for number in [i64::from(self.months), i64::from(self.days), self.nanoseconds] {
            variable(((number >> 63) ^ (number << 1)) as u64, out);
        }
    }
}

/// The first byte's leading ones say how many bytes follow it.
fn variable(number: u64, out: &mut Vec<u8>) {
    let bits = 64 - (number | 1).leading_zeros();
    // Seven bits a byte; nine bytes hold all 64.
    let follow = if bits > 56 { 8 } else { (bits - 1) / 7 };
    let bytes = number.to_be_bytes();
    if follow == 8 {
        out.push(0xff);
        out.extend_from_slice(&bytes);
        return;
    }
    let kept = &bytes[7 - follow as usize..];
    let marks = !(0xffu32 >> follow) as u8;
    out.push(kept[0] | marks);
    out.extend_from_slice(&kept[1..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_servers_spelling_is_read_and_written() {
        let all = parse("1y2mo3d4h5m6s7ms8us9ns").expect("a duration");
        assert_eq!((all.months, all.days, all.nanoseconds), (14, 3, 14_706_007_008_009));
        assert_eq!(all.to_string(), "1y2mo3d4h5m6s7ms8us9ns");
        assert_eq!(parse("-2w").expect("a duration").to_string(), "-14d");
        assert_eq!(parse("0s").expect("a duration").to_string(), "0s");
        for wrong in ["", "-", "3", "d", "3 d", "99999999999y", "1d-2h"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        let bytes = |number: u64| {
            let mut out = Vec::new();
            variable(number, &mut out);
            out
        };
        assert_eq!(bytes(0), [0]);
        assert_eq!(bytes(127), [127]);
        assert_eq!(bytes(128), [0x80, 0x80]);
        assert_eq!(bytes(16_383), [0xbf, 0xff]);
        assert_eq!(bytes(16_384), [0xc0, 0x40, 0x00]);
        assert_eq!(bytes((1 << 56) - 1), [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(bytes(u64::MAX), [0xff; 9]);
    }

    proptest! {
        #[test]
        fn text_comes_back(months in 0..i32::MAX, days in 0..i32::MAX, nanoseconds in 0..i64::MAX, negative: bool) {
            let sign = if negative { -1 } else { 1 };
            let duration =
                Duration { months: sign * months, days: sign * days, nanoseconds: i64::from(sign) * nanoseconds };
            prop_assert_eq!(parse(&duration.to_string()).expect("a duration"), duration);
        }
    }
}
