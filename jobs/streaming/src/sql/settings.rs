//! Settings that a file may make with `SET key = value`.

use super::cursor::{Cursor, Parsed};
use super::statements::Setting;
use super::target;
use crate::runtime::store::refuse_location;
use datafusion::sql::sqlparser::tokenizer::Token;
use jobs::Diagnostic;
use std::time::Duration;

/// All of their manifests are read whenever files that nobody needs are looked for.
pub const RETAIN_MAX: u32 = 1000;
/// Whether aggregations begin before rows go to the slice of their key.
pub(crate) const TWO_PHASE: &str = "optimizer.two_phase";
/// How long state without a bound in event time is kept that no row touches.
pub(crate) const STATE_TTL: &str = "state.ttl";
/// Which engine runs INSERTs whose input ends.
pub(crate) const EXECUTION_MODE: &str = "execution.mode";
pub(crate) const EXECUTION_MODES: [&str; 3] = ["auto", "streaming", "batch"];
/// What becomes of rows that lack a value for a column that is NOT NULL.
pub(crate) const SINK_NOT_NULL: &str = "sink.not_null";
const SINK_NOT_NULL_WAYS: [&str; 2] = ["error", "drop"];
/// Event time is counted in microseconds; nobody means more than this.
const TTL_MAX: Duration = Duration::from_secs(1000 * 366 * 86_400);

/// Every key, with what its value is.
pub const SETTINGS: [(&str, &str); 24] = [
    ("job.name", "name of the group of jobs in this file"),
    ("job.role", "role whose share the jobs use"),
    ("job.priority", "from -1000 to 1000: jobs of the role with a lower one make room for it"),
    ("job.constraints", "what attributes of agents must be, for example zone = z1; disk != hdd"),
    ("job.together", "attribute of which all agents of a job's tasks have the same value, for example rack"),
    ("job.spread", "attribute over whose values tasks are spread, for example zone, or host:1 for at most one on each"),
    ("job.parallelism", "number of tasks of each stream job"),
    ("job.cpus", "processors of each task, also its number of slices"),
    ("job.mem", "memory of each task, for example 512MiB"),
    ("job.disk", "what each task may write in its folder, for example 2GiB; any without it"),
    ("job.revocable", "true or false: cores and memory are only lent, by tasks that do not use theirs"),
    ("job.restart", "never, on-failure or always"),
    ("job.kill_grace", "time that a task has to end by itself when it is told to, for example 5s"),
    ("job.max_completion", "how long a task may run before it is ended, for example 1h"),
    ("job.unreachable", "how long a task goes on when its agent hears no master, for example 5m"),
    ("checkpoint.interval", "time between checkpoints, for example 1s"),
    ("checkpoint.dir", "folder of the checkpoints, or s3://bucket/prefix"),
    ("checkpoint.retain", "number of checkpoints that are kept"),
    ("state.memory", "memory that the state of each task may take, for example 128MiB"),
    (STATE_TTL, "event time after which state is forgotten that no row touches, for example 1h"),
    (TWO_PHASE, "on, off, or auto: aggregations of several slices begin before their exchange"),
    (SINK_NOT_NULL, "error or drop: rows that lack a value for a column of their table that is NOT NULL"),
    (EXECUTION_MODE, "auto, streaming or batch: what `smack run` does with INSERTs whose input ends"),
    ("target.CONNECTOR.OPTION", "default of this option for the file's tables of this connector"),
];

/// After `SET`.
pub(crate) fn setting(cursor: &mut Cursor<'_>) -> Parsed<Setting> {
    let start = cursor.here();
    let mut key = option_key(cursor)?;
    let key_span = (start.0, cursor.last_end());
    if !cursor.accept_token(&Token::Eq) && !cursor.accept(&["TO"]) {
        return Err(cursor.expected("'='"));
    }
    key.make_ascii_lowercase();
    let value_start = cursor.here();
    let value = match cursor.peek().map(|tok| &tok.token.token) {
        Some(Token::SingleQuotedString(value)) => value.clone(),
        None => return Err(cursor.expected("a value")),
        Some(_) => {
            let end = cursor.toks.last().map_or(value_start.1, |tok| tok.span.1);
            cursor.text((value_start.0, end)).to_string()
        }
    };
    if matches!(cursor.peek().map(|tok| &tok.token.token), Some(Token::SingleQuotedString(_))) {
        cursor.at += 1;
        cursor.finish()?;
    }
    cursor.at = cursor.toks.len();
    let setting = Setting { key, value, key_span, value_span: (value_start.0, cursor.last_end()) };
    check(&setting)?;
    Ok(setting)
}

/// `'scan.mode'`, `scan.mode` or `mode`.
pub(crate) fn option_key(cursor: &mut Cursor<'_>) -> Parsed<String> {
    if let Some(Token::SingleQuotedString(key)) = cursor.peek().map(|tok| &tok.token.token) {
        cursor.at += 1;
        return Ok(key.clone());
    }
    let mut key = cursor.name("a name")?.text;
    while cursor.accept_token(&Token::Period) {
        key = format!("{key}.{}", cursor.name("a name")?.text);
    }
    Ok(key)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn check(setting: &Setting) -> Parsed<()> {
    let at_value = |message: String| Err(Diagnostic::new(message).at(setting.value_span));
    let value = setting.value.as_str();
    match setting.key.as_str() {
        "job.name" => {
            if !is_name(value) {
                return at_value(format!("'{value}' is no name; use letters, digits, '-', '_' and '.'"));
            }
        }
        "job.role" => {
            if !value.split('/').all(|part| is_name(part) && !part.starts_with('-') && !matches!(part, "." | "..")) {
                return at_value(format!(
                    "'{value}' is no role; roles are names, or paths of them like ml/vision, of letters, digits, '-', '_' and \
                     '.'"
                ));
            }
        }
        "job.priority" => {
            if !value.parse::<i32>().is_ok_and(|priority| (-1000..=1000).contains(&priority)) {
                return at_value(format!("'{value}' is not a priority: a whole number from -1000 to 1000"));
            }
        }
        "job.constraints" => {
            if let Err(error) = jobs::site::parse_constraints(value) {
                return at_value(error);
            }
        }
        "job.together" => {
            if !jobs::site::is_key(value) {
                return at_value(format!("'{value}' is no attribute of agents"));
            }
        }
        "job.spread" => {
            if let Err(error) = value.parse::<jobs::site::Spread>() {
                return at_value(error);
            }
        }
        "job.parallelism" => {
            if !value.parse::<u32>().is_ok_and(|n| (1..=4096).contains(&n)) {
                return at_value(format!("'{value}' is not a number of tasks between 1 and 4096"));
            }
        }
        "job.cpus" => {
            if !value.parse::<f64>().is_ok_and(|n| n > 0.0 && n <= 4096.0) {
                return at_value(format!("'{value}' is not a number of processors"));
            }
        }
        "job.mem" | "job.disk" | "state.memory" => {
            if let Err(error) = jobs::text::parse_mem_mib(value) {
                return at_value(error);
            }
        }
        "job.revocable" => {
            if !matches!(value.to_ascii_lowercase().as_str(), "true" | "false") {
                return at_value(format!("'{value}' is neither true nor false"));
            }
        }
        "job.restart" => {
            let known = ["never", "on-failure", "always"];
            let word = value.to_ascii_lowercase().replace('_', "-");
            if !known.contains(&word.as_str()) {
                return Err(Diagnostic::new(format!("unknown restart policy '{value}'"))
                    .at(setting.value_span)
                    .suggest(value, known));
            }
        }
        TWO_PHASE => {
            let known = ["auto", "on", "off"];
            if !known.contains(&value.to_ascii_lowercase().as_str()) {
                return Err(Diagnostic::new(format!("'{value}' is no way of aggregation"))
                    .at(setting.value_span)
                    .suggest(value, known));
            }
        }
        SINK_NOT_NULL => {
            if !SINK_NOT_NULL_WAYS.contains(&value.to_ascii_lowercase().as_str()) {
                return Err(Diagnostic::new(format!("'{value}' is nothing that becomes of such rows"))
                    .at(setting.value_span)
                    .suggest(value, SINK_NOT_NULL_WAYS));
            }
        }
        EXECUTION_MODE => {
            if !EXECUTION_MODES.contains(&value.to_ascii_lowercase().as_str()) {
                return Err(Diagnostic::new(format!("'{value}' is no mode of execution"))
                    .at(setting.value_span)
                    .suggest(value, EXECUTION_MODES));
            }
        }
        "checkpoint.interval" | "job.kill_grace" | "job.max_completion" | "job.unreachable" => {
            if let Err(error) = jobs::text::parse_duration(value) {
                return at_value(error);
            }
        }
        STATE_TTL => match jobs::text::parse_duration(value) {
            Err(error) => return at_value(error),
            Ok(ttl) if ttl < Duration::from_millis(1) || ttl > TTL_MAX => {
                return at_value(format!("'{value}' is no time to live; give one of a millisecond at least"));
            }
            Ok(_) => {}
        },
        "checkpoint.dir" => {
            if let Some(error) = refuse_location(value) {
                return at_value(error);
            }
        }
        "checkpoint.retain" => {
            if !value.parse::<u32>().is_ok_and(|n| (1..=RETAIN_MAX).contains(&n)) {
                return at_value(format!("'{value}' is not a number of checkpoints between 1 and {RETAIN_MAX}"));
            }
        }
        key if key.starts_with(target::PREFIX) => return target::check(setting),
        key => {
            return Err(Diagnostic::new(format!("unknown setting '{key}'"))
                .at(setting.key_span)
                .suggest(key, SETTINGS.map(|(name, _)| name)));
        }
    }
    Ok(())
}
