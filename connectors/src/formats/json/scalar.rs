//! Values of the plainer types that stand in text or as numbers: dates, times of day, decimals and bytes.
//!
//! Invariant: what is read is what is written, exactly; a value that would have to be rounded or cut is an error.

use super::take::with_text;
use super::walk::{Result, Walk, str_of, wrong};
use crate::formats::timestamp;
use arrow::datatypes::TimeUnit;

const DAY_US: i64 = 86_400_000_000;

/// Days since 1970 of `2026-01-31`; a whole number is days already.
pub fn date(walk: &mut Walk<'_>) -> Result<i32> {
    match walk.peek() {
        b'"' => with_text(walk.text()?, |text| {
            let text = text.trim_ascii();
            // Exactly a date: a time of day would be lost.
            let us = if text.len() == 10 { timestamp::parse(text) } else { None };
            us.map(|us| (us / DAY_US) as i32).ok_or_else(|| wrong(format!("'{text}' is not a date")))
        }),
        b'-' | b'0'..=b'9' => {
            let days = walk.integer()?;
            i32::try_from(days).map_err(|_| wrong(format!("{days} days since 1970 are out of range")))
        }
        _ => Err(walk.expected("a date")),
    }
}

/// `12:00`, `12:00:00` or `12:00:00.5` in microseconds since midnight; a whole number is microseconds already.
pub fn time(walk: &mut Walk<'_>) -> Result<i64> {
    let within = |us: i64| {
        if (0..DAY_US).contains(&us) { Ok(us) } else { Err(wrong(format!("{us} µs is no time of a day"))) }
    };
    match walk.peek() {
        b'"' => with_text(walk.text()?, |text| {
            let text = text.trim_ascii();
            let seconds = if text.len() == 5 { ":00" } else { "" };
            let zoned = !text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'));
            let us = timestamp::parse(&format!("1970-01-01T{text}{seconds}")).filter(|_| !zoned);
            us.filter(|us| (0..DAY_US).contains(us)).ok_or_else(|| wrong(format!("'{text}' is not a time of day")))
        }),
        b'-' | b'0'..=b'9' => within(walk.integer()?),
        _ => Err(walk.expected("a time of day")),
    }
}

/// Microseconds since midnight in another unit, if nothing is lost.
pub fn time_in(us: i64, unit: TimeUnit) -> Result<i64> {
    let per = match unit {
        TimeUnit::Second => 1_000_000,
        TimeUnit::Millisecond => 1000,
        TimeUnit::Microsecond => 1,
        TimeUnit::Nanosecond => return Ok(us * 1000),
    };
    if us % per == 0 { Ok(us / per) } else { Err(wrong(format!("{us} µs is finer than the column's unit"))) }
}

/// A number, or text that holds one, times ten to the `scale`.
pub fn decimal(walk: &mut Walk<'_>, precision: u8, scale: i8) -> Result<i128> {
    let read = |text: &str| {
        let unscaled = unscaled(text, i32::from(scale)).map_err(|why| wrong(format!("'{text}' {why}")))?;
        match 10_i128.checked_pow(u32::from(precision)) {
            Some(limit) if unscaled.abs() >= limit => {
                Err(wrong(format!("'{text}' does not fit DECIMAL({precision}, {scale})")))
            }
            _ => Ok(unscaled),
        }
    };
    match walk.peek() {
        b'"' => with_text(walk.text()?, |text| read(text.trim_ascii())),
        b'-' | b'0'..=b'9' => read(str_of(walk.number()?.0)?),
        _ => Err(walk.expected("a number")),
    }
}

fn unscaled(text: &str, scale: i32) -> std::result::Result<i128, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let not_a_number = || "is not a number".to_owned();
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        // Beyond these every number is zero or far too large.
        Some((mantissa, exponent)) => {
            (mantissa, exponent.parse::<i64>().map_err(|_| not_a_number())?.clamp(-100_000, 100_000) as i32)
        }
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = || whole.bytes().chain(fraction.bytes());
    if all().next().is_none() || !all().all(|byte| byte.is_ascii_digit()) {
        return Err(not_a_number());
    }
    let too_large = || "is too large".to_owned();
    // Trailing zeros say nothing, and may be many.
    let n_zeros = all().rev().take_while(|byte| *byte == b'0').count();
    let n_digits = whole.len() + fraction.len() - n_zeros;
    let mut value = 0_i128;
    for byte in all().take(n_digits) {
        value =
            value.checked_mul(10).and_then(|value| value.checked_add(i128::from(byte - b'0'))).ok_or_else(too_large)?;
    }
    if value == 0 {
        return Ok(0);
    }
    let shift = i64::from(scale) + i64::from(exponent) - fraction.len() as i64 + n_zeros as i64;
    let Ok(shift) = u32::try_from(shift) else {
        return Err(format!("has more than {scale} digits after the point"));
    };
    let value = 10_i128.checked_pow(shift).and_then(|by| value.checked_mul(by)).ok_or_else(too_large)?;
    Ok(if negative { -value } else { value })
}

/// Appends the bytes that a text of hexadecimal digits stands for, as they are written.
pub fn bytes(walk: &mut Walk<'_>, out: &mut Vec<u8>) -> Result<()> {
    if walk.peek() != b'"' {
        return Err(walk.expected("a text of hexadecimal digits"));
    }
    with_text(walk.text()?, |text| {
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let pairs = text.as_bytes().chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err(wrong("hexadecimal digits come in pairs"));
        }
        for pair in pairs {
            match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => out.push(high << 4 | low),
                _ => {
                    return Err(wrong(format!("'{}' is no pair of hexadecimal digits", String::from_utf8_lossy(pair))));
                }
            }
        }
        Ok(())
    })
}
