//! Files in, messages and plans out.

mod as_of;
mod dealt;
mod derived;
mod describing;
mod event_time;
mod functions;
mod json;
mod lifetime;
mod lives;
mod metadata;
mod nested;
mod nexmark;
mod parsing;
mod planning;
mod refusals;
mod running;
mod skew;
mod spans;
mod stored;
mod table_as;
mod versions;

use super::{check, explain, parse};
use crate::functions::declared_predict;
use jobs::Diagnostic;

/// Tables that most cases share.
const TABLES: &str = "
CREATE TABLE payments (
  card VARCHAR, amount DOUBLE, \"Shop\" STRING, ts TIMESTAMP,
  cents AS CAST(amount * 100 AS BIGINT),
  WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (connector = 'datagen');
CREATE TABLE plain (a BIGINT, b VARCHAR) WITH (connector = 'datagen');
CREATE TABLE millis (id BIGINT, ms BIGINT, at AS to_timestamp_millis(ms), WATERMARK FOR at AS at) WITH (connector = 'datagen');
CREATE TABLE totals (card VARCHAR, start TIMESTAMP, n BIGINT, total DOUBLE) WITH (connector = 'blackhole');
";

/// Each mistake as its text with the words it points at in angle brackets, then the message.
fn shown(text: &str, errors: &[Diagnostic]) -> Vec<String> {
    let show = |error: &Diagnostic| {
        let words = error.span.map_or("?", |(start, end)| &text[start..end]);
        format!("<{words}> {error}")
    };
    errors.iter().map(show).collect()
}

/// The mistakes of a file that begins with the shared tables.
fn mistakes(sql: &str) -> Vec<String> {
    let text = format!("{TABLES}{sql}");
    match check(&text) {
        Ok(_) => Vec::new(),
        Err(errors) => shown(&text, &errors),
    }
}

/// The plan of all INSERTs and SELECTs after the shared tables, as one dataflow.
fn planned(sql: &str) -> String {
    let text = format!("{TABLES}{sql}");
    let script = parse(&text).unwrap_or_else(|errors| panic!("{:#?}", shown(&text, &errors)));
    let statements: Vec<usize> = script.inserts().map(|(at, _)| at).chain(script.queries().map(|(at, _)| at)).collect();
    let functions = declared_predict();
    match super::plan::plan_now(&script, &statements, &functions) {
        Ok(dataflow) => without_hashes(&explain(&dataflow)),
        Err(errors) => panic!("{:#?}", shown(&text, &errors)),
    }
}

/// Ids without their hashes, so that a plan can be read and compared.
fn without_hashes(text: &str) -> String {
    let line = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        let (id, rest) = line.trim_start().split_once([':', ' ']).unwrap_or((line, ""));
        let kind = match id.rsplit_once('-') {
            Some((kind, hash)) if hash.len() == 12 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => kind,
            _ => id,
        };
        format!("{}{kind}: {}", " ".repeat(indent), rest.trim_start())
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
