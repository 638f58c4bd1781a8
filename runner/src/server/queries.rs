//! Queries of people and tools: one SELECT over the cluster's own tables, and over what the text itself declares before it.
//!
//! Invariant: a query reads and leaves nothing behind. What writes, trains or never ends is a job, and is refused with the
//! way to submit it. So many run at once and no more, each with its share of memory; what is more goes on in files.

mod declared;

use crate::predict;
use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use connectors::Context;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use declared::Asked;
use futures::StreamExt;
use jobs::Diagnostic;
use std::path::PathBuf;
use std::sync::Arc;
use streaming::batch::{self, BatchContext, Memory, Shown};
use streaming::sql::{ScriptJob, StatementBody};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Each may use every core, so more of them would only be slower together.
const AT_ONCE: usize = 4;
/// What one may keep in memory.
const MEMORY_BYTES: u64 = 512 << 20;

#[derive(Clone)]
pub struct Queries {
    store: Arc<tables::Store>,
    /// Of the store, as tasks reach it too.
    endpoint: String,
    token: Option<String>,
    model_dir: PathBuf,
    folder: PathBuf,
    turns: Arc<Semaphore>,
}

/// The rows of a query, as they come. Dropped, it ends.
pub struct Answer {
    pub schema: SchemaRef,
    pub rows: SendableRecordBatchStream,
}

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// With places in the text.
    #[error("{}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Wrong(Vec<Diagnostic>),
    #[error("{0}")]
    Failed(String),
}

impl Queries {
    /// `folder`: for what memory has no room for.
    pub fn new(
        store: Arc<tables::Store>,
        endpoint: String,
        token: Option<String>,
        model_dir: PathBuf,
        folder: PathBuf,
    ) -> Self {
        Self { store, endpoint, token, model_dir, folder, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    pub fn store(&self) -> &tables::Store {
        &self.store
    }

    /// The columns that [`Queries::ask`] would give.
    pub fn schema(&self, text: &str) -> Result<SchemaRef, QueryError> {
        let asked = Asked::new(&self.store, text).map_err(QueryError::Wrong)?;
        match asked.body() {
            StatementBody::Query(_) => {
                let functions = crate::functions::declared();
                batch::schema(&asked.script, asked.query(), &functions).map_err(|wrong| asked.wrong(wrong))
            }
            StatementBody::Explain(_) => Ok(plan_schema()),
            _ => Ok(self.described(&asked)?.schema()),
        }
    }

    pub async fn ask(&self, text: &str) -> Result<Answer, QueryError> {
        let asked = Asked::new(&self.store, text).map_err(QueryError::Wrong)?;
        match asked.body() {
            StatementBody::Query(_) => self.select(asked).await,
            StatementBody::Explain(_) => {
                let functions = crate::functions::declared();
                let shown = batch::explain(&asked.script, asked.index, &functions, self.context()).await;
                let shown = shown.map_err(|error| asked.failed(error))?;
                Ok(once(plan_rows(&shown)?))
            }
            _ => Ok(once(self.described(&asked)?)),
        }
    }

    async fn select(&self, asked: Asked) -> Result<Answer, QueryError> {
        let closed = |_| QueryError::Failed("the runner is ending".to_string());
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(closed)?;
        let models: Vec<String> = asked
            .script
            .jobs()
            .into_iter()
            .find(|job| matches!(job, ScriptJob::Query { statement, .. } if *statement == asked.index))
            .map(|job| job.models().to_vec())
            .unwrap_or_default();
        let versions = predict::begin_with(&self.model_dir, &models);
        let functions = predict::functions(&self.model_dir, &models, &versions)
            .map_err(|error| QueryError::Failed(format!("failed to {error}")))?;
        let rows = batch::query(&asked.script, asked.query(), &functions, self.context()).await;
        let rows = rows.map_err(|error| asked.failed(error))?;
        let schema = rows.schema();
        Ok(Answer { rows: holding(turn, rows), schema })
    }

    fn described(&self, asked: &Asked) -> Result<RecordBatch, QueryError> {
        let functions = crate::functions::declared();
        streaming::sql::describe(&asked.script, asked.index, &functions).map_err(|wrong| asked.wrong(wrong))
    }

    fn context(&self) -> BatchContext {
        let context = Context {
            job: "query".to_string(),
            generation: 1,
            claimed_us: 0,
            begun_us: 0,
            slot: 0,
            n_slots: 1,
            base_dir: self.folder.clone(),
            tables_endpoint: Some(self.endpoint.clone()),
            token: self.token.clone(),
        };
        let memory = Memory { bytes: MEMORY_BYTES, spill_dir: self.folder.join("queries") };
        BatchContext { memory: Some(memory), ..BatchContext::new(context) }
    }
}

/// The rows, and the turn with them until the last one is gone.
fn holding(turn: OwnedSemaphorePermit, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let rows = rows.map(move |batch| {
        let _ = &turn;
        batch
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

fn once(batch: RecordBatch) -> Answer {
    let schema = batch.schema();
    let rows = futures::stream::once(async move { Ok(batch) });
    Answer { rows: Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows)), schema }
}

fn plan_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("plan", DataType::Utf8, false)]))
}

fn plan_rows(shown: &Shown) -> Result<RecordBatch, QueryError> {
    let text = match shown {
        Shown::Stream { dataflow, .. } => format!("as a stream\n{}", streaming::sql::explain(dataflow)),
        Shown::Batch { tree, .. } => format!("as a batch\n{tree}"),
    };
    let lines = StringArray::from(text.lines().collect::<Vec<&str>>());
    RecordBatch::try_new(plan_schema(), vec![Arc::new(lines)]).map_err(|error| QueryError::Failed(error.to_string()))
}
