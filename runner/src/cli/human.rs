//! Numbers as people read them at a glance; JSON has the exact ones.

/// `987`, `12.3k`, `4.56M`: three digits that count.
pub fn count(number: u64) -> String {
    short(number as f64)
}

pub fn rate(per_second: f64) -> String {
    format!("{}/s", short(per_second))
}

fn short(number: f64) -> String {
    if number < 9_999.5 {
        return format!("{number:.0}");
    }
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    // A thousand of one unit is one of the next, also after rounding.
    let (size, unit) = units.into_iter().find(|(size, _)| number >= *size * 0.9995).unwrap_or((1.0, ""));
    let scaled = number / size;
    let decimals = match scaled {
        99.95.. => 0,
        9.995.. => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$}{unit}")
}

/// `850ms`, `4.2s`, `3m 7s`, `2h 5m`, `4d 1h`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..10 => format!("{}.{}s", seconds, ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// How long ago a moment is, both in milliseconds since the epoch.
pub fn since(at_ms: u64, now_ms: u64) -> String {
    duration(now_ms.saturating_sub(at_ms))
}

pub fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Local time of day, `14:03:22`.
pub fn clock(at_ms: u64) -> String {
    match chrono::DateTime::from_timestamp_millis(at_ms as i64) {
        Some(time) => time.with_timezone(&chrono::Local).format("%H:%M:%S").to_string(),
        None => at_ms.to_string(),
    }
}

/// Local day and time, `2026-03-29 14:03:22`.
pub fn day_and_clock(at_ms: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(at_ms) {
        Some(time) => time.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S").to_string(),
        None => at_ms.to_string(),
    }
}

/// A quantity without trailing zeros: `2`, `0.5`, `1.25`.
pub fn amount(value: f64) -> String {
    let shown = format!("{value:.3}");
    shown.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// A size in memory: `512 B`, `3.0 MiB`.
pub fn bytes(size: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| size >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", size as f64 / unit as f64),
        None => format!("{size} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_keep_three_digits() {
        let shown = [0, 7, 999, 9_999, 10_000, 12_345, 123_456, 999_950, 1_234_567, 45_600_000].map(count);
        assert_eq!(shown, ["0", "7", "999", "9999", "10.0k", "12.3k", "123k", "1.00M", "1.23M", "45.6M"]);
        assert_eq!(rate(20_000.4), "20.0k/s");
    }

    #[test]
    fn durations_have_two_parts() {
        let shown = [12, 4_250, 59_999, 187_000, 7_500_000, 352_800_000].map(duration);
        assert_eq!(shown, ["12ms", "4.2s", "59s", "3m 7s", "2h 5m", "4d 2h"]);
    }

    #[test]
    fn amounts_lose_their_zeros() {
        assert_eq!([2.0, 0.5, 1.25, 0.0, 100.0].map(amount), ["2", "0.5", "1.25", "0", "100"]);
    }
}
