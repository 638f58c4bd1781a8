//! Points in time as text and numbers, to and from Timestamp columns.
//!
//! Invariant: what this file writes it reads back to the same microsecond. A text without a zone is UTC.

use super::{JSON_TIMESTAMP_FORMAT, is_text};
use crate::{Options, TableDef};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray, RecordBatch, StructArray};
use arrow::datatypes::{
    ArrowTimestampType, DataType, Field, FieldRef, SchemaRef, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use jobs::Diagnostic;
use std::io::Write;
use std::sync::Arc;

/// How timestamps are written in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampForm {
    /// Text as RFC 3339, numbers as milliseconds.
    Auto,
    Rfc3339,
    /// Numbers only, of so many microseconds.
    Numbers {
        micros: i64,
    },
}

impl TimestampForm {
    pub fn of(table: &TableDef) -> Result<Self, Diagnostic> {
        let words = ["auto", "rfc3339", "millis", "micros", "seconds"];
        Ok(match Options::new(table).one_of(JSON_TIMESTAMP_FORMAT.name, &words)? {
            Some("rfc3339") => Self::Rfc3339,
            Some("millis") => Self::Numbers { micros: 1000 },
            Some("micros") => Self::Numbers { micros: 1 },
            Some("seconds") => Self::Numbers { micros: 1_000_000 },
            _ => Self::Auto,
        })
    }

    /// Microseconds since 1970 in UTC.
    pub fn read(self, text: &str) -> Option<i64> {
        match self {
            Self::Auto => parse(text).or_else(|| number(text, 1000)),
            Self::Rfc3339 => parse(text),
            Self::Numbers { micros } => number(text, micros),
        }
    }
}

fn number(text: &str, micros: i64) -> Option<i64> {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.checked_mul(micros);
    }
    let scaled = (text.parse::<f64>().ok()? * micros as f64).round();
    // 2^63 as a float; anything at or beyond it does not fit.
    (scaled.abs() < 9_223_372_036_854_775_808.0).then_some(scaled as i64)
}

/// Microseconds as another unit, rounded down.
pub fn in_unit(micros: i64, unit: TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::Second => Some(micros.div_euclid(1_000_000)),
        TimeUnit::Millisecond => Some(micros.div_euclid(1000)),
        TimeUnit::Microsecond => Some(micros),
        TimeUnit::Nanosecond => micros.checked_mul(1000),
    }
}

/// Reads `2026-01-31`, and `2026-01-31T12:00:00`, with `T` or a space, with or without a fraction and a zone.
pub fn parse(text: &str) -> Option<i64> {
    let bytes = text.trim_ascii().as_bytes();
    let two = |at: usize| -> Option<i64> {
        let (tens, ones) = (bytes.get(at)?.wrapping_sub(b'0'), bytes.get(at + 1)?.wrapping_sub(b'0'));
        (tens < 10 && ones < 10).then_some(i64::from(tens) * 10 + i64::from(ones))
    };
    if bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
        return None;
    }
    let (year, month, day) = (two(0)? * 100 + two(2)?, two(5)?, two(8)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let midnight_s = days_from_civil(year, month, day) * 86_400;
    if bytes.len() == 10 {
        return Some(midnight_s * 1_000_000);
    }
    if !matches!(bytes[10], b'T' | b't' | b' ') || bytes.get(13) != Some(&b':') || bytes.get(16) != Some(&b':') {
        return None;
    }
    let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction_us, rest) = fraction(&bytes[19..])?;
    let offset_s = zone(rest)?;
    let seconds = midnight_s + hour * 3600 + minute * 60 + second - offset_s;
    Some(seconds * 1_000_000 + fraction_us)
}

/// Microseconds of `.123…`, and what follows. Digits beyond the sixth are cut.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let n_digits = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if n_digits == 0 {
        return None;
    }
    let mut micros = 0;
    for digit in digits[..n_digits].iter().chain(std::iter::repeat(&b'0')).take(6) {
        micros = micros * 10 + i64::from(digit - b'0');
    }
    Some((micros, &digits[n_digits..]))
}

/// Seconds east of UTC.
fn zone(bytes: &[u8]) -> Option<i64> {
    let digits = |text: &[u8]| -> Option<i64> {
        let [tens, ones] = text else { return None };
        let both = tens.is_ascii_digit() && ones.is_ascii_digit();
        both.then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    };
    let (sign, rest) = match bytes {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest.len() {
        2 => (digits(rest)?, 0),
        4 => (digits(&rest[..2])?, digits(&rest[2..])?),
        5 if rest[2] == b':' => (digits(&rest[..2])?, digits(&rest[3..])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date in the Gregorian calendar, counted in years that begin in March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let march_year = if month > 2 { year } else { year - 1 };
    let march_month = (month + 9) % 12;
    let leap_days = march_year.div_euclid(4) - march_year.div_euclid(100) + march_year.div_euclid(400);
    // 719468 days lie between 0000-03-01 and 1970-01-01.
    march_year * 365 + leap_days + (153 * march_month + 2) / 5 + day - 1 - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Appends RFC 3339 in UTC, with no, three or six digits of a fraction. Years beyond four digits get a sign.
pub fn write(micros: i64, out: &mut Vec<u8>) {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    let mut put = |text: std::fmt::Arguments| out.write_fmt(text).expect("writing to memory does not fail");
    if !(0..10_000).contains(&year) {
        put(format_args!("{year:+}"));
        put(format_args!("-{month:02}-{day:02}T"));
    } else {
        let mut date = *b"0000-00-00T";
        digits(&mut date[0..4], year);
        digits(&mut date[5..7], month);
        digits(&mut date[8..10], day);
        out.extend_from_slice(&date);
    }
    let mut time = *b"00:00:00.000000";
    digits(&mut time[0..2], second_of_day / 3600);
    digits(&mut time[3..5], second_of_day / 60 % 60);
    digits(&mut time[6..8], second_of_day % 60);
    digits(&mut time[9..15], fraction);
    let shown = match fraction {
        0 => 8,
        millis if millis % 1000 == 0 => 12,
        _ => 15,
    };
    out.extend_from_slice(&time[..shown]);
    out.push(b'Z');
}

fn digits(out: &mut [u8], mut number: i64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The field as a parser should read it: text in the place of every timestamp.
pub fn reading_field(field: &Field) -> Field {
    field.clone().with_data_type(reading_type(field.data_type()))
}

fn reading_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Timestamp(..) => DataType::Utf8,
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| Arc::new(reading_field(field.as_ref()))).collect())
        }
        DataType::List(item) => DataType::List(Arc::new(reading_field(item.as_ref()))),
        other => other.clone(),
    }
}

/// Turns a batch that was read by [`reading_field`] into one of `schema`, or tells what was no timestamp.
pub fn convert_batch(batch: &RecordBatch, schema: &SchemaRef, form: TimestampForm) -> Result<RecordBatch, String> {
    let columns: Result<Vec<ArrayRef>, String> = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            convert(column, field, form).map_err(|text| format!("whilst decoding field '{}': {text}", field.name()))
        })
        .collect();
    RecordBatch::try_new(schema.clone(), columns?).map_err(|why| why.to_string())
}

fn convert(column: &ArrayRef, field: &FieldRef, form: TimestampForm) -> Result<ArrayRef, String> {
    if column.data_type() == field.data_type() {
        return Ok(column.clone());
    }
    match field.data_type() {
        DataType::Timestamp(unit, zone) if is_text(column.data_type()) => {
            let micros = micros(column, form)?;
            Ok(match unit {
                TimeUnit::Second => scaled::<TimestampSecondType>(&micros, zone, *unit)?,
                TimeUnit::Millisecond => scaled::<TimestampMillisecondType>(&micros, zone, *unit)?,
                TimeUnit::Microsecond => Arc::new(micros.with_timezone_opt(zone.clone())),
                TimeUnit::Nanosecond => scaled::<TimestampNanosecondType>(&micros, zone, *unit)?,
            })
        }
        DataType::Struct(fields) => {
            let parts = column.as_struct();
            let converted: Result<Vec<ArrayRef>, String> =
                parts.columns().iter().zip(fields).map(|(part, field)| convert(part, field, form)).collect();
            StructArray::try_new(fields.clone(), converted?, parts.nulls().cloned())
                .map(|array| Arc::new(array) as ArrayRef)
                .map_err(|why| why.to_string())
        }
        DataType::List(item) => {
            let list = column.as_list::<i32>();
            let values = convert(list.values(), item, form)?;
            ListArray::try_new(item.clone(), list.offsets().clone(), values, list.nulls().cloned())
                .map(|array| Arc::new(array) as ArrayRef)
                .map_err(|why| why.to_string())
        }
        other => Err(format!("{} cannot become {other}", column.data_type())),
    }
}

fn micros(column: &ArrayRef, form: TimestampForm) -> Result<PrimitiveArray<TimestampMicrosecondType>, String> {
    column
        .as_string::<i32>()
        .iter()
        .map(|text| match text {
            None => Ok(None),
            Some(text) => form.read(text).map(Some).ok_or_else(|| format!("'{text}' is not a timestamp")),
        })
        .collect()
}

fn scaled<T: ArrowTimestampType>(
    micros: &PrimitiveArray<TimestampMicrosecondType>,
    zone: &Option<Arc<str>>,
    unit: TimeUnit,
) -> Result<ArrayRef, String> {
    let values: Result<PrimitiveArray<T>, String> = micros
        .iter()
        .map(|value| match value {
            None => Ok(None),
            Some(us) => in_unit(us, unit).map(Some).ok_or_else(|| "a timestamp is out of range".to_owned()),
        })
        .collect();
    Ok(Arc::new(values?.with_timezone_opt(zone.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_that_people_write() {
        let noon = 1_767_268_800_000_000;
        for text in
            ["2026-01-01T12:00:00Z", "2026-01-01 12:00:00", "2026-01-01T13:30:00+01:30", "2026-01-01t07:00:00-05"]
        {
            assert_eq!(parse(text), Some(noon), "{text}");
        }
        assert_eq!(parse("2026-01-01T12:00:00.5Z"), Some(noon + 500_000));
        assert_eq!(parse("2026-01-01 12:00:00.123456789"), Some(noon + 123_456));
        assert_eq!(parse("2026-01-01"), Some(noon - 43_200_000_000));
        for text in ["", "2026-13-01", "2026-02-29", "2026-01-01T24:00:00", "2026-01-01T12:00", "12:00:00", "now"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(TimestampForm::Auto.read("1767268800000"), Some(noon));
        assert_eq!(TimestampForm::Auto.read("1767268800000.25"), Some(noon + 250));
        assert_eq!(TimestampForm::Numbers { micros: 1_000_000 }.read("1767268800.5"), Some(noon + 500_000));
        assert_eq!(TimestampForm::Rfc3339.read("1767268800000"), None);
        assert_eq!(TimestampForm::Numbers { micros: 1 }.read("99999999999999999999"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(micros in -62_167_219_200_000_000i64..253_402_300_800_000_000) {
            let mut text = Vec::new();
            write(micros, &mut text);
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(parse(&text), Some(micros), "{}", text);
            let theirs = chrono::DateTime::from_timestamp_micros(micros).unwrap();
            prop_assert_eq!(text, theirs.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true));
        }
    }
}
