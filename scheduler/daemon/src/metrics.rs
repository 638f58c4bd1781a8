//! What a process says of itself to those who watch over it: families of numbers with labels, in Prometheus' text format
//! (version 0.0.4, <https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Names are in snake case and base units, counters end in `_total`. Labels come from what people named, and are bounded by
//! how many of these there are; nothing of a row or of a query becomes one.

mod process;

pub use process::process;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::fmt::Write;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
}

/// One metric: numbers under one name, apart by their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Family {
    /// A number as it is now.
    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Gauge, samples: Vec::new() }
    }

    /// A number that only grows while the process lives.
    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Counter, samples: Vec::new() }
    }

    /// With its one number, which has no labels.
    pub fn of(mut self, value: f64) -> Self {
        self.samples.push((Vec::new(), value));
        self
    }

    pub fn add(&mut self, labels: &[(&'static str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_string()));
        self.samples.push((labels.collect(), value));
    }

    /// The same, where there is one.
    pub fn add_some(&mut self, labels: &[(&'static str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            self.add(labels, value);
        }
    }
}

/// The answer to a scrape.
pub fn answer(families: &[Family]) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text(families)).into_response()
}

/// Families without a number are left out.
pub fn text(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let Family { name, help, kind, samples } = family;
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            text.push_str(name);
            for (at, (label, value)) in labels.iter().enumerate() {
                let _ = write!(text, "{}{label}=\"{}\"", if at == 0 { '{' } else { ',' }, escaped(value));
            }
            let _ = writeln!(text, "{} {}", if labels.is_empty() { "" } else { "}" }, number(*value));
        }
    }
    text
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_string(),
        f64::INFINITY => "+Inf".to_string(),
        f64::NEG_INFINITY => "-Inf".to_string(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_labels_and_numbers_are_written_as_prometheus_reads_them() {
        let mut shares = Family::gauge("smack_role_share", "What a role has.");
        shares.add(&[("role", "a/b"), ("kind", "used")], 0.25);
        shares.add(&[("role", "\"quoted\" \\ and\nbroken"), ("kind", "free")], f64::NAN);
        let none = Family::gauge("smack_none", "Of which there is nothing.");
        let rows = Family::counter("smack_rows_total", "Rows.").of(12_345_678_901.0);
        let wanted = "# HELP smack_role_share What a role has.\n\
            # TYPE smack_role_share gauge\n\
            smack_role_share{role=\"a/b\",kind=\"used\"} 0.25\n\
            smack_role_share{role=\"\\\"quoted\\\" \\\\ and\\nbroken\",kind=\"free\"} NaN\n\
            # HELP smack_rows_total Rows.\n\
            # TYPE smack_rows_total counter\n\
            smack_rows_total 12345678901\n";
        assert_eq!(text(&[shares, none, rows]), wanted);
        assert_eq!(number(f64::NEG_INFINITY), "-Inf");
    }

    #[test]
    fn a_process_says_what_it_costs() {
        let families = process("tester");
        let said = text(&families);
        for name in [
            "smack_build_info{version=",
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_start_time_seconds ",
            "process_threads ",
        ] {
            assert!(said.lines().any(|line| line.starts_with(name)), "{name} in {said}");
        }
    }
}
