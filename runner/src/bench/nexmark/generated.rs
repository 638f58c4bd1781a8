//! The same queries with the generator inside the job, as the examples have them, and what the generator costs by itself.
//!
//! Invariant: what is measured alone makes the same events and, of them, the same columns as the query reads; each table
//! that it reads is one generator, as there.

use super::queries::{QUERIES, Query};
use super::{streamed, streamed_flow, told};
use crate::bench::Figure;
use anyhow::Context as _;
use std::path::Path;
use streaming::dataflow::{Dataflow, Operator};
use streaming::functions::Functions;

/// Flink's figures with its generator inside the job, in thousand events per second, on the two-core machine where the
/// goals were set: five times as much is wanted.
const FLINK: [(&str, f64); 14] = [
    ("q0", 714.0),
    ("q3", 866.0),
    ("q4", 252.0),
    ("q5", 348.0),
    ("q7", 193.0),
    ("q8", 735.0),
    ("q9", 129.0),
    ("q11", 345.0),
    ("q15", 299.0),
    ("q17", 543.0),
    ("q18", 418.0),
    ("q19", 314.0),
    ("q20", 242.0),
    ("q22", 736.0),
];
const TIMES: f64 = 5.0;

/// As the examples have it, in the number of events and of splits.
const WRITTEN: &str = "events = '1000000'";

pub fn measure(folder: &Path, events: u64, slices: u32) -> Vec<Figure> {
    each(|query| figure(query, folder, events, slices))
}

pub fn measure_checkpointed(folder: &Path, events: u64, slices: u32) -> Vec<Figure> {
    each(|query| checkpointed(query, folder, events, slices))
}

fn each(figure: impl Fn(&Query) -> anyhow::Result<Figure>) -> Vec<Figure> {
    let mut figures = Vec::new();
    for query in &QUERIES {
        match figure(query) {
            Ok(figure) => figures.push(figure),
            Err(why) => eprintln!("{} is left out: {why:#}", query.name),
        }
    }
    figures
}

/// What a checkpoint each second costs. One round of each, because they are long.
fn checkpointed(query: &Query, folder: &Path, events: u64, slices: u32) -> anyhow::Result<Figure> {
    let text = over_generator(query.text, events, slices);
    let rate = |seconds: f64| events as f64 / seconds / 1000.0;
    let without = rate(streamed_flow(planned(&text)?, folder, None)?);
    let checkpoints = folder.join("checkpoints");
    let with = rate(streamed_flow(planned(&text)?, folder, Some(&checkpoints))?);
    std::fs::remove_dir_all(&checkpoints).with_context(|| format!("failed to remove {}", checkpoints.display()))?;
    let figure = format!("{}: a checkpoint each second", query.name);
    Ok(Figure::higher("nexmark", figure, with, "k/s", None).beside("without", without))
}

fn figure(query: &Query, folder: &Path, events: u64, slices: u32) -> anyhow::Result<Figure> {
    let text = over_generator(query.text, events, slices);
    let alone = generator_alone(&text, &planned(&text)?)?;
    let rate = |seconds: f64| events as f64 / seconds / 1000.0;
    let generated = rate(streamed(&alone, folder)?);
    let goal = FLINK.iter().find(|(name, _)| *name == query.name).map(|(_, flink)| flink * TIMES);
    let found = rate(streamed(&text, folder)?);
    let figure = format!("{}: events generated in the job", query.name);
    Ok(Figure::higher("nexmark", figure, found, "k/s", goal).beside("generator alone", generated))
}

/// The query with so many events, in one split for each slice.
pub fn over_generator(text: &str, events: u64, slices: u32) -> String {
    text.replace(WRITTEN, &format!("events = '{events}', splits = '{slices}'"))
}

pub fn planned(text: &str) -> anyhow::Result<Dataflow> {
    let script = streaming::sql::parse(text).map_err(told)?;
    let inserts: Vec<usize> = script.inserts().map(|(at, _)| at).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(streaming::sql::plan(&script, &inserts, &Functions::new())).map_err(told)
}

/// Every table that the query reads from its generator, with the columns that it reads, into a blackhole.
fn generator_alone(text: &str, flow: &Dataflow) -> anyhow::Result<String> {
    let script = streaming::sql::parse(text).map_err(told)?;
    let mut all = String::new();
    for (at, node) in flow.nodes.iter().enumerate() {
        let Operator::Source { table, projection, .. } = &node.operator else { continue };
        if table.connector() != "nexmark" {
            continue;
        }
        let span = script.statements.iter().find(|statement| {
            matches!(&statement.body, streaming::sql::StatementBody::Table(found) if found.name.text == table.name)
        });
        let span = span.map(|statement| statement.span).context("failed to find the declaration of a source")?;
        let columns: Vec<&str> = projection.iter().map(|column| table.schema.field(*column).name().as_str()).collect();
        // A table of its own for each reading, so that none is shared.
        let declared = text[span.0..span.1].replacen(&table.name, &format!("{}_{at}", table.name), 1);
        all += &format!(
            "{declared};\nCREATE TABLE nowhere_{at} WITH (connector = 'blackhole') AS SELECT {} FROM {}_{at};\n",
            columns.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", "),
            table.name,
        );
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_and_its_generator_run() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("side_input.csv"), super::super::queries::SIDE_INPUT).expect("a file");
        for query in &QUERIES {
            let text = over_generator(query.text, 500, 2);
            assert!(text.contains("events = '500', splits = '2'"), "{}", query.name);
            let flow = planned(&text).unwrap_or_else(|why| panic!("{}: {why:#}", query.name));
            let alone = generator_alone(&text, &flow).unwrap_or_else(|why| panic!("{}: {why:#}", query.name));
            let alone = planned(&alone).unwrap_or_else(|why| panic!("{}: {why:#}\n{alone}", query.name));
            let sources = |flow: &Dataflow| {
                let sources = flow.nodes.iter().filter_map(|node| match &node.operator {
                    Operator::Source { table, projection, .. } if table.connector() == "nexmark" => {
                        Some(projection.clone())
                    }
                    _ => None,
                });
                sources.collect::<Vec<_>>()
            };
            let sorted = |flow: &Dataflow| {
                let mut all = sources(flow);
                all.iter_mut().for_each(|projection| projection.sort_unstable());
                all.sort();
                all
            };
            assert_eq!(sorted(&alone), sorted(&flow), "{}", query.name);
            streamed_flow(alone, folder.path(), None).unwrap_or_else(|why| panic!("{}: {why:#}", query.name));
        }
    }
}
