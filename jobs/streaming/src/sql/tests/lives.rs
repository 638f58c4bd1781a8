//! A stream in two lives: the first is stopped with a last checkpoint in the middle of its input, the second goes on at
//! another parallelism.

use super::super::parse;
use super::super::plan::plan_now;
use super::running::lines;
use crate::functions::Functions;
use crate::runtime::local::{LocalConfig, run};
use crate::runtime::{Folder, Outcome};
use arrow::array::RecordBatch;
use connectors::{Connector, Context, Delivery, OptionInfo, Polled, Result, Sink, SourceReader, SplitStart, TableDef};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// The rows of both lives together. Tables of connector `nexmark` have a rate, so that they come in many batches.
pub(super) fn lived(text: &str, sql: &str, lives: [(u32, u32); 2], folder: &Path) -> Vec<String> {
    let script = parse(&format!("{text};{sql}")).expect("the file is right");
    let statements: Vec<usize> = script.queries().map(|(at, _)| at).collect();
    let checkpoints = Folder::memory();
    let mut batches = Vec::new();
    for (life, (tasks, slices)) in lives.into_iter().enumerate() {
        let dataflow = plan_now(&script, &statements, &Functions::new()).expect("it is planned");
        let config = LocalConfig {
            tasks,
            slices,
            checkpoints: Some(checkpoints.clone()),
            checkpoint_interval_ms: 0,
            connectors: find,
            ..LocalConfig::new("test/lives", folder.into(), std::env::temp_dir().join("smack-tests-dead-letters"))
        };
        HALF_READ.store(false, SeqCst);
        let job = run(dataflow, config).expect("the job starts");
        std::thread::scope(|scope| {
            let results = job.results.clone();
            let rows = scope.spawn(move || results.iter().collect::<Vec<RecordBatch>>());
            if life == 0 {
                while !HALF_READ.load(SeqCst) && !rows.is_finished() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                job.drain();
            }
            batches.extend(rows.join().expect("rows"));
            let outcome = job.wait().expect("the job ends");
            assert_eq!(outcome, if life == 0 { Outcome::Drained } else { Outcome::Finished }, "of {sql}");
        });
    }
    lines(&batches)
}

/// A reader of the first life has come to the half of its split. Only one test at a time lives so.
static HALF_READ: AtomicBool = AtomicBool::new(false);

fn find(name: &str) -> Option<&'static dyn Connector> {
    match name {
        "nexmark" => Some(&Halved),
        other => connectors::find(other),
    }
}

/// Events of Nexmark, of which the first life (generation 1) gets about half.
struct Halved;

impl Halved {
    fn inner(&self) -> &'static dyn Connector {
        connectors::find("nexmark").expect("a connector")
    }
}

impl Connector for Halved {
    fn name(&self) -> &'static str {
        self.inner().name()
    }

    fn doc(&self) -> &'static str {
        self.inner().doc()
    }

    fn options(&self) -> &'static [OptionInfo] {
        self.inner().options()
    }

    fn is_source(&self) -> bool {
        true
    }

    fn is_sink(&self) -> bool {
        false
    }

    fn bounded(&self, table: &TableDef) -> bool {
        self.inner().bounded(table)
    }

    fn delivery(&self, table: &TableDef) -> Delivery {
        self.inner().delivery(table)
    }

    fn splits(&self, table: &TableDef, context: &Context) -> Result<Vec<String>> {
        self.inner().splits(table, context)
    }

    fn open_source(
        &self,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        let reader = self.inner().open_source(table, projection, splits, context)?;
        let events: u64 = table.option("events").and_then(|events| events.parse().ok()).expect("a number of events");
        // Positions count the events of a split.
        let per_split = events / self.splits(table, context)?.len() as u64;
        let half = if context.generation == 1 { per_split / 2 } else { u64::MAX };
        Ok(Box::new(UpToHalf { reader, half, reached: false }))
    }

    fn open_sink(&self, table: &TableDef, context: &Context) -> Result<Box<dyn Sink>> {
        self.inner().open_sink(table, context)
    }
}

struct UpToHalf {
    reader: Box<dyn SourceReader>,
    half: u64,
    reached: bool,
}

impl SourceReader for UpToHalf {
    fn poll(&mut self, wait: Duration) -> Result<Polled> {
        if self.reached {
            HALF_READ.store(true, SeqCst);
            std::thread::sleep(Duration::from_millis(1));
            return Ok(Polled::Idle);
        }
        let polled = self.reader.poll(wait)?;
        self.reached = matches!(&polled, Polled::Batch { next, .. } if *next >= self.half);
        Ok(polled)
    }
}
