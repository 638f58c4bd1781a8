//! The queries that keep no state, over two Parquet files: what reading columns costs, beside DataFusion over the same files.
//!
//! Invariant: the events and their order are those of the JSON files' generator; a file holds half of them.

use super::input::{self, Input};
use super::queries::{self, QUERIES};
use super::{THREADS, figure, streamed, told};
use crate::bench::Figure;
use anyhow::Context as _;
use std::path::Path;

/// Goes up when the events or their form change.
const VERSION: u32 = 1;
const STATELESS: [&str; 6] = ["q0", "q1", "q2", "q14", "q21", "q22"];
const PATTERN: &str = "part-*.parquet";

pub fn measure(folder: &Path, events: u64) -> anyhow::Result<Vec<Figure>> {
    let input = input::kept_as(&format!("parquet-{VERSION}-{events}"), events, |folder| write(events, folder))?;
    eprintln!(
        "{events} events of {} bytes in {}; streaming operators on {THREADS} slices, no checkpoints",
        input.bytes / events.max(1),
        input.folder.display()
    );
    Ok(over(folder, &input))
}

fn over(folder: &Path, input: &Input) -> Vec<Figure> {
    let mut figures = Vec::new();
    for query in QUERIES.iter().filter(|query| STATELESS.contains(&query.name)) {
        let streamed = queries::over_files(query.text, &input.folder, PATTERN)
            .and_then(|text| streamed(&text, folder).map(|seconds| (text, seconds)));
        match streamed {
            Ok((text, seconds)) => {
                let found = figure(query, "two Parquet files", &text, folder, input, seconds);
                // Half of what DataFusion does with the same files is wanted.
                let goal = found.peer_value.map(|peer| (peer / 2.0).round());
                figures.push(Figure { goal, met: goal.map(|goal| found.value >= goal), ..found });
            }
            Err(why) => eprintln!("{} is left out: {why:#}", query.name),
        }
    }
    figures
}

/// Writes the files into a folder, as the sink of a job does.
fn write(events: u64, folder: &Path) -> anyhow::Result<()> {
    let text =
        format!("CREATE TABLE events ({}) WITH (connector = 'files', path = '.', format = 'parquet');", input::COLUMNS);
    let script = streaming::sql::parse(&text).map_err(told)?;
    let table = &script.table("events").context("failed to declare the events")?.def;
    let connector = connectors::find(table.connector()).context("failed to find the files")?;
    let mut sink = connector.open_sink(table, &input::context(folder))?;
    let (mut written, mut epoch) = (0, 1);
    input::each_batch(events, folder, |_, batch| {
        sink.write(&batch)?;
        written += batch.num_rows() as u64;
        if epoch == 1 && written >= events / 2 {
            sink.prepare(epoch)?;
            sink.commit(epoch)?;
            epoch += 1;
        }
        Ok(())
    })?;
    sink.prepare(epoch)?;
    sink.commit(epoch)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_without_state_is_read_from_parquet() {
        let folder = tempfile::tempdir().expect("a folder");
        write(20_000, folder.path()).expect("the files are written");
        let input = Input { folder: folder.path().to_path_buf(), events: 20_000, bytes: 1 };
        assert_eq!(folder.path().read_dir().expect("a folder").count(), 2);
        let figures = over(folder.path(), &input);
        assert_eq!(figures.len(), STATELESS.len());
        assert!(figures.iter().all(|figure| figure.goal.is_some()), "{figures:?}");
    }
}
