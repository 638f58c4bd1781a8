//! Small text forms that appear in every kind of job file: durations, memory sizes, near names.

use std::time::Duration;

/// Reads `250ms`, `10s`, `5m`, `2h`, or `10 seconds`; a bare number is refused because its unit would be a guess.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_number(text)?;
    let seconds = match unit.to_ascii_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 0.001,
        "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "" => return Err(format!("'{text}' has no unit; write for example '{text}s'")),
        other => return Err(format!("unknown unit '{other}' in '{text}'; use ms, s, m, h or d")),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| format!("'{text}' is out of range"))
}

/// Reads `512`, `512m`, `512MiB`, `2g` as MiB.
pub fn parse_mem_mib(text: &str) -> Result<f64, String> {
    let (number, unit) = split_number(text)?;
    match unit.to_ascii_lowercase().as_str() {
        "" | "m" | "mb" | "mib" => Ok(number),
        "g" | "gb" | "gib" => Ok(number * 1024.0),
        "k" | "kb" | "kib" => Ok(number / 1024.0),
        other => Err(format!("unknown unit '{other}' in '{text}'; use MiB or GiB")),
    }
}

fn split_number(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|_| format!("'{text}' does not begin with a number"))?;
    Ok((number, text[end..].trim()))
}

/// The candidate nearest to `word`, if one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score > 0.78)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// What a query calls a model, `name`, `name@3` or `name@alias`: the name, and what stands behind the first '@'.
pub fn model_reference(text: &str) -> (&str, Option<&str>) {
    text.split_once('@').map_or((text, None), |(model, which)| (model, Some(which)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("10 seconds"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert!(parse_duration("10").unwrap_err().contains("no unit"));
        assert!(parse_duration("ten").is_err());
        assert!(parse_duration("3 fortnights").unwrap_err().contains("fortnights"));
    }

    #[test]
    fn near_names() {
        assert_eq!(nearest("kafak", ["kafka", "cassandra"]), Some("kafka"));
        assert_eq!(nearest("zzz", ["kafka", "cassandra"]), None);
    }
}
