//! Models that are trained on a stream without an end: `CREATE MODEL … WITH (…, mode = 'continuous') AS SELECT …`.
//!
//! Such a model is a stream whose rows are inserted into a table of this connector, which learns from them. So its weights are what
//! a sink has prepared, and lie in the same checkpoint as the positions of the sources: after a crash exactly the rows up to
//! there are in the weights, and the others come again. A version is published when the checkpoint that holds it is durable, and
//! streams that score take it up as any other.
//!
//! Invariant: one slice learns, so the order of the rows is that in which its sources give them; of one split it is always the same.

use crate::server::owner::chain;
use arrow::array::RecordBatch;
use connectors::{
    Connector, Context, Delivery, Error, OptionInfo, Result, Sink, SourceReader, SplitStart, TableDef, Takes,
};
use jobs::{Diagnostic, TrainBody};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use streaming::dataflow::{Dataflow, Operator};
use training::online::{Author, Learner, Version};

pub const NAME: &str = "model";

/// The option that holds all continuous models of a file, by name, as JSON; no person writes it.
pub const BODIES: &str = "bodies";

pub static CONNECTOR: ModelConnector = ModelConnector;

/// Whether a stream trains a model.
pub fn learns(dataflow: &Dataflow) -> bool {
    dataflow.nodes.iter().any(|node| matches!(&node.operator, Operator::Sink { table } if table.connector() == NAME))
}

/// Where this process publishes models.
static MODEL_DIR: OnceLock<PathBuf> = OnceLock::new();

/// Said once, before anything is opened.
pub fn publish_into(model_dir: &Path) {
    // A second word is that of another run in the same process, which has the same folder or trains nothing.
    let _ = MODEL_DIR.set(model_dir.to_path_buf());
}

/// A model as the task is told it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Continuous {
    pub body: TrainBody,
    /// Steps between two versions.
    pub publish_steps: u64,
}

pub type Bodies = BTreeMap<String, Continuous>;

#[derive(Debug)]
pub struct ModelConnector;

impl ModelConnector {
    fn model(&self, table: &TableDef) -> std::result::Result<Continuous, String> {
        let text = table.option(BODIES).unwrap_or("{}");
        let mut bodies: Bodies = serde_json::from_str(text).map_err(|error| format!("understand {BODIES}: {error}"))?;
        bodies.remove(&table.name).ok_or_else(|| {
            format!(
                "learn from the rows of '{}': write CREATE MODEL {} WITH (…, mode = 'continuous')",
                table.name, table.name
            )
        })
    }
}

impl Connector for ModelConnector {
    fn name(&self) -> &'static str {
        NAME
    }

    fn doc(&self) -> &'static str {
        "learns from every row; what CREATE MODEL with mode = 'continuous' writes to"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &[OptionInfo { name: BODIES, kind: "text", default: None, required: false, doc: "what CREATE MODEL says" }]
    }

    fn is_source(&self) -> bool {
        false
    }

    fn is_sink(&self) -> bool {
        true
    }

    fn bounded(&self, _table: &TableDef) -> bool {
        true
    }

    fn delivery(&self, _table: &TableDef) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn takes(&self, _table: &TableDef) -> Takes {
        Takes::Append
    }

    fn refuses_writing(&self, table: &TableDef) -> Option<Diagnostic> {
        // While the file is looked at for the columns of its queries, nothing is said of any model yet.
        table.option(BODIES)?;
        self.model(table).err().map(|error| Diagnostic::new(format!("failed to {error}")))
    }

    fn splits(&self, _table: &TableDef, _context: &Context) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn open_source(
        &self,
        table: &TableDef,
        _projection: &[usize],
        _splits: &[SplitStart],
        _context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        Err(Error::Fatal(format!("read '{}': it is a model; score with predict('{}', …)", table.name, table.name)))
    }

    fn open_sink(&self, table: &TableDef, context: &Context) -> Result<Box<dyn Sink>> {
        let Continuous { body, publish_steps } = self.model(table).map_err(Error::Fatal)?;
        if context.n_slots != 1 {
            let text = format!(
                "train model '{}' in {} slices: one learns from all rows in their order; give its job one task and one core, or \
                 run it with --slices 1",
                table.name, context.n_slots
            );
            return Err(Error::Fatal(text));
        }
        let Some(model_dir) = MODEL_DIR.get().cloned() else {
            return Err(Error::Fatal(format!("publish model '{}': this process has no folder for models", table.name)));
        };
        let author = Author { job: context.job.clone(), generation: context.generation };
        Ok(Box::new(ModelSink {
            learner: Learner::new(body.clone()),
            body,
            publish_steps,
            author,
            model_dir,
            due: Vec::new(),
        }))
    }
}

struct ModelSink {
    body: TrainBody,
    learner: Learner,
    publish_steps: u64,
    author: Author,
    model_dir: PathBuf,
    /// Versions of epochs that are not durable yet.
    due: Vec<(u64, Version)>,
}

impl ModelSink {
    fn publish(&self, version: &Version) -> Result<()> {
        let published = version.publish(&self.model_dir);
        // A disk that is full may have room again.
        let version = published.map_err(|error| Error::Transient(chain(&error)))?;
        let (steps, rows) = self.learner.so_far();
        tracing::info!(model = self.body.model, version, steps, rows, "model version published");
        Ok(())
    }
}

fn fatal(error: &training::Error) -> Error {
    Error::Fatal(chain(error))
}

impl Sink for ModelSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.learner.push(batch).map_err(|error| fatal(&error))?;
        for notice in self.learner.notices() {
            tracing::warn!(model = self.body.model, notice);
        }
        Ok(())
    }

    fn prepare(&mut self, epoch: u64) -> Result<Vec<u8>> {
        if let Some(version) = self.learner.due(self.publish_steps, &self.author).map_err(|error| fatal(&error))? {
            self.due.push((epoch, version));
        }
        self.learner.snapshot().map_err(|error| fatal(&error))
    }

    fn commit(&mut self, epoch: u64) -> Result<()> {
        while let Some((_, version)) = self.due.first().filter(|(of, _)| *of <= epoch) {
            self.publish(version)?;
            self.due.remove(0);
        }
        Ok(())
    }

    fn restore(&mut self, _epoch: u64, states: Vec<Vec<u8>>) -> Result<()> {
        let [state] = states.as_slice() else {
            return match states.len() {
                0 => Ok(()),
                several => Err(Error::Fatal(format!(
                    "go on with model '{}': the checkpoint has what {several} slices have learned, and one learns from all rows",
                    self.body.model
                ))),
            };
        };
        self.learner = Learner::restored(self.body.clone(), state).map_err(|error| fatal(&error))?;
        match self.learner.was_due(&self.author).map_err(|error| fatal(&error))? {
            // Mostly it was published before the crash.
            Some(version) => {
                version.publish(&self.model_dir).map(drop).map_err(|error| Error::Transient(chain(&error)))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Schema;
    use connectors::OptionEntry;
    use std::sync::Arc;

    fn table(name: &str, bodies: &str) -> TableDef {
        let option = |key: &str, value: &str| OptionEntry {
            key: key.to_string(),
            value: value.to_string(),
            key_span: None,
            value_span: None,
        };
        let options = vec![option("connector", NAME), option(BODIES, bodies)];
        TableDef { name: name.to_string(), schema: Arc::new(Schema::empty()), primary_key: Vec::new(), options }
    }

    fn opened(table: &TableDef, n_slots: u32) -> Result<Box<dyn Sink>> {
        let context = Context {
            job: "g/m@sub".to_string(),
            generation: 1,
            claimed_us: 1,
            begun_us: 1,
            slot: 0,
            n_slots,
            base_dir: PathBuf::new(),
            tables_endpoint: None,
            token: None,
        };
        CONNECTOR.open_sink(table, &context)
    }

    #[test]
    fn what_cannot_learn_is_told() {
        let told = |opened: Result<Box<dyn Sink>>| opened.err().map(|error| error.to_string()).unwrap_or_default();
        let by_hand = table("m", "{}");
        assert!(told(opened(&by_hand, 1)).contains("write CREATE MODEL m WITH (…, mode = 'continuous')"));
        assert!(CONNECTOR.refuses_writing(&by_hand).is_some());
        let body = serde_json::json!({
            "model": "m", "sql": "", "base_dir": "/", "train_query": "SELECT 1", "test_query": null, "test_fraction": 0.0,
            "label": "y", "ignore": [], "time_column": null, "min_rows": 1, "layers": [], "loss": "mean_squared_error",
            "optimizer": {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9}, "batch": 16, "epochs": 3, "seed": 1,
            "normalize": true, "checkpoint_steps": 100,
        });
        let bodies = serde_json::json!({"m": {"body": body, "publish_steps": 5}}).to_string();
        let model = table("m", &bodies);
        assert!(CONNECTOR.refuses_writing(&model).is_none());
        let several = told(opened(&model, 2));
        assert!(several.contains("train model 'm' in 2 slices") && several.contains("--slices 1"), "{several}");
        let folder = tempfile::tempdir().expect("a folder");
        publish_into(folder.path());
        let mut sink = opened(&model, 1).expect("a learner");
        let error = sink.restore(3, vec![Vec::new(), Vec::new()]).expect_err("of two").to_string();
        assert!(error.contains("what 2 slices have learned"), "{error}");
        sink.restore(3, Vec::new()).expect("it had not begun");
        let kept = sink.prepare(4).expect("nothing yet");
        sink.restore(4, vec![kept]).expect("nothing is something to go on from");
        sink.commit(4).expect("nothing is due");
    }
}
