//! The texts of the examples, with the events of the files in the place of the generator's.

use super::input::COLUMNS;
use super::told;
use anyhow::Context as _;
use std::path::Path;
use streaming::sql::{ColumnKind, StatementBody};

pub struct Query {
    pub name: &'static str,
    pub text: &'static str,
    /// Thousand events per second.
    pub goal: Option<f64>,
}

macro_rules! query {
    ($name:literal, $goal:expr) => {
        Query { name: $name, text: include_str!(concat!("../../../../examples/nexmark/", $name, ".sql")), goal: $goal }
    };
}

pub const QUERIES: [Query; 23] = [
    query!("q0", Some(2800.0)),
    query!("q1", None),
    query!("q2", None),
    query!("q3", Some(2400.0)),
    query!("q4", Some(1100.0)),
    query!("q5", Some(1300.0)),
    query!("q6", None),
    query!("q7", Some(1300.0)),
    query!("q8", Some(2200.0)),
    query!("q9", Some(750.0)),
    query!("q10", None),
    query!("q11", Some(1400.0)),
    query!("q12", None),
    query!("q13", None),
    query!("q14", None),
    query!("q15", Some(1250.0)),
    query!("q16", Some(1000.0)),
    query!("q17", Some(1900.0)),
    query!("q18", Some(1100.0)),
    query!("q19", Some(1150.0)),
    query!("q20", Some(1250.0)),
    query!("q21", None),
    query!("q22", Some(2200.0)),
];

pub const SIDE_INPUT: &str = include_str!("../../../../examples/nexmark/side_input.csv");

const KINDS: [(&str, u32, &str); 3] = [
    ("person", 0, "id, name, emailAddress, creditCard, city, state, extra"),
    ("auction", 1, "id, itemName, description, initialBid, reserve, expires, seller, category, extra"),
    ("bid", 2, "auction, bidder, price, channel, url, extra"),
];

/// The query over the files in `folder` that fit the pattern: one table of all events, whose kinds are views with the names of the tables
/// that the query declares. What it computes there, and an event time that is computed, goes into the table.
pub fn over_files(text: &str, folder: &Path, pattern: &str) -> anyhow::Result<String> {
    let script = streaming::sql::parse(text).map_err(told)?;
    let mut watermark = "WATERMARK FOR dateTime AS dateTime - INTERVAL '4 seconds'".to_string();
    let (mut computed, mut names, mut rest) = (String::new(), String::new(), String::new());
    for statement in &script.statements {
        let written = &text[statement.span.0..statement.span.1];
        let StatementBody::Table(table) = &statement.body else {
            rest += &format!("{written};\n");
            continue;
        };
        if !KINDS.iter().any(|(kind, ..)| table.name.text.eq_ignore_ascii_case(kind)) {
            rest += &format!("{written};\n");
            continue;
        }
        for column in &table.columns {
            let ColumnKind::Computed(_, span) = &column.kind else { continue };
            let name = &column.name.text;
            computed += &format!("  {name} AS {},\n", &text[span.0..span.1]);
            names += &format!(", {name}");
            if let Some(clause) = table.watermark.as_ref().filter(|clause| clause.column.text == *name) {
                watermark = text[clause.span.0..clause.span.1].to_string();
            }
        }
    }
    let folder = folder.to_str().context("failed to name the folder of the events in SQL")?.replace('\'', "''");
    let mut whole = format!(
        "CREATE TABLE nexmark_events (\n  {COLUMNS},
  dateTime AS CASE event_type WHEN 0 THEN person.dateTime WHEN 1 THEN auction.dateTime ELSE bid.dateTime END,
{computed}  {watermark}
) WITH (connector = 'files', path = '{folder}/{pattern}');\n"
    );
    for (kind, number, fields) in KINDS {
        let fields: Vec<String> = fields.split(", ").map(|field| format!("{kind}.{field} AS {field}")).collect();
        whole += &format!(
            "CREATE VIEW {kind} AS SELECT {}, dateTime{names} FROM nexmark_events WHERE event_type = {number};\n",
            fields.join(", ")
        );
    }
    Ok(whole + &rest)
}
