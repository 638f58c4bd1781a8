//! Queries of people and tools: one SELECT over the cluster's own tables, those of submitted files, and what the text itself
//! declares before it.
//!
//! Invariant: a query reads and leaves nothing behind. What writes or trains is a job, and is refused with the way to submit
//! it; what never ends is answered by [`Queries::live`] alone.
//! Invariant: queries take nothing from the runner's other work. They have threads of their own; so many run at once and
//! no more, each with its share of memory; who waits too long for a turn is told so, and one that nobody reads is ended.

mod catalog;
mod declared;
mod known;
mod live;
mod rows;

pub use live::{Live, Said};

use crate::predict;
use crate::server::owner::Owner;
use crate::settle::complete;
use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use connectors::Context;
use datafusion::common::ScalarValue;
use datafusion::physical_plan::SendableRecordBatchStream;
use declared::{Asked, Tables};
use jobs::Diagnostic;
use known::{Files, Known};
use rows::Rows;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use streaming::batch::{self, BatchContext, Memory, Prepared, Shown};
use streaming::functions::{Functions, Versions};
use streaming::sql::{ScriptJob, StatementBody};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Each may use every core, so more of them would only be slower together.
const AT_ONCE: usize = 4;
/// For a turn.
const PATIENCE: Duration = Duration::from_secs(60);
/// What one may keep in memory.
const MEMORY_BYTES: u64 = 512 << 20;

#[derive(Clone)]
pub struct Queries {
    store: Arc<tables::Store>,
    /// Who knows what was submitted; nothing was without one.
    owner: Option<Owner>,
    files: Files,
    /// Of the store, as tasks reach it too.
    endpoint: String,
    token: Option<String>,
    model_dir: PathBuf,
    folder: PathBuf,
    turns: Arc<Semaphore>,
    lives: Arc<Semaphore>,
    /// Theirs, for as long as the process lives.
    threads: Handle,
}

/// A text, and values of the parameters in it.
#[derive(Clone, Debug)]
pub struct Question {
    pub text: String,
    pub parameters: Vec<ScalarValue>,
}

impl From<&str> for Question {
    fn from(text: &str) -> Self {
        Self { text: text.to_string(), parameters: Vec::new() }
    }
}

/// The rows of a query, as they come. Dropped, it ends.
pub struct Answer {
    pub schema: SchemaRef,
    pub rows: Rows,
}

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// With places in the text.
    #[error("{}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Wrong(Vec<Diagnostic>),
    /// Later it may be done.
    #[error("{0}")]
    Busy(String),
    #[error("{0}")]
    Failed(String),
}

impl Queries {
    /// `folder`: for what memory has no room for. What an earlier process left there goes.
    pub fn new(
        store: Arc<tables::Store>,
        owner: Option<Owner>,
        endpoint: String,
        token: Option<String>,
        model_dir: PathBuf,
        folder: PathBuf,
    ) -> std::io::Result<Self> {
        let spilled = folder.join(SPILLED);
        if spilled.exists() {
            std::fs::remove_dir_all(&spilled)?;
        }
        std::fs::create_dir_all(&spilled)?;
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads =
            Builder::new_multi_thread().worker_threads(n_threads).thread_name("query").enable_all().build()?;
        let handle = threads.handle().clone();
        // It ends with the process, and must not be dropped on a thread of another one.
        std::mem::forget(threads);
        let (turns, lives) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Semaphore::new(live::AT_ONCE)));
        let files = Files::default();
        Ok(Self { store, owner, files, endpoint, token, model_dir, folder, turns, lives, threads: handle })
    }

    /// What clients show that are let in.
    pub fn bearer(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("Bearer {token}"))
    }

    pub fn store(&self) -> &tables::Store {
        &self.store
    }

    /// The columns that [`Queries::ask`] would give.
    pub async fn schema(&self, question: Question) -> Result<SchemaRef, QueryError> {
        self.completed(question, async |question| {
            let (queries, known) = (self.clone(), self.known().await?);
            let planned = async move {
                let planned = queries.planned(&known, &question, Tables::Named);
                planned.map_err(|error| queries.told(&known, &question, error))
            };
            self.apart(planned).await
        })
        .await
    }

    /// Asks with the columns that tables of the text do not declare; places in mistakes are those of the text as it was.
    async fn completed<T>(
        &self,
        question: Question,
        ask: impl AsyncFnOnce(Question) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let completed = complete(&question.text, &self.folder.display().to_string()).await;
        let completed = completed.map_err(QueryError::Wrong)?;
        let whole = Question { text: completed.text.clone().into_owned(), parameters: question.parameters };
        ask(whole).await.map_err(|error| match error {
            QueryError::Wrong(mut mistakes) => {
                let placed = mistakes.iter_mut().filter_map(|mistake| mistake.span.as_mut());
                placed.for_each(|span| *span = completed.place(*span));
                QueryError::Wrong(mistakes)
            }
            other => other,
        })
    }

    /// What is to be known of a text before its parameters have values.
    pub async fn prepare(&self, text: &str) -> Result<Prepared, QueryError> {
        self.completed(Question::from(text), async |question| self.prepare_whole(question).await).await
    }

    async fn prepare_whole(&self, question: Question) -> Result<Prepared, QueryError> {
        let (queries, known) = (self.clone(), self.known().await?);
        let prepared = async move {
            let asked = Asked::new(&queries.store, &known, &question.text, Tables::Named).map_err(QueryError::Wrong);
            let prepared = asked.and_then(|asked| match asked.body() {
                StatementBody::Query(_) => {
                    let functions = crate::functions::declared();
                    batch::prepare(&asked.script, asked.query(), &functions).map_err(|wrong| asked.wrong(wrong))
                }
                _ => {
                    let schema = queries.planned(&known, &question, Tables::Named)?;
                    Ok(Prepared { schema, parameters: Arc::new(Schema::empty()) })
                }
            });
            prepared.map_err(|error| queries.told(&known, &question, error))
        };
        self.apart(prepared).await
    }

    pub async fn ask(&self, question: Question) -> Result<Answer, QueryError> {
        self.completed(question, async |question| {
            let (queries, known) = (self.clone(), self.known().await?);
            let answered = async move {
                let answer = queries.answer(&known, &question).await;
                answer.map_err(|error| queries.told(&known, &question, error))
            };
            self.apart(answered).await
        })
        .await
    }

    /// Tables of submitted files.
    async fn known(&self) -> Result<BTreeMap<String, Known>, QueryError> {
        let Some(owner) = &self.owner else { return Ok(BTreeMap::new()) };
        let (files, submitted) = (self.files.clone(), owner.files().await.map_err(QueryError::Failed)?);
        let read = self.threads.spawn_blocking(move || files.tables(submitted)).await;
        read.map_err(|error| QueryError::Failed(format!("failed to read what was submitted: {error}")))
    }

    /// On the queries' own threads.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let failed = |error: tokio::task::JoinError| QueryError::Failed(format!("failed to run the query: {error}"));
        self.threads.spawn(work).await.map_err(failed)?
    }

    /// What is wrong with the text, in view of all tables and not only of those that it names.
    fn told(&self, known: &BTreeMap<String, Known>, question: &Question, error: QueryError) -> QueryError {
        match error {
            QueryError::Wrong(_) => self.planned(known, question, Tables::All).err().unwrap_or(error),
            other => other,
        }
    }

    fn planned(
        &self,
        known: &BTreeMap<String, Known>,
        question: &Question,
        tables: Tables,
    ) -> Result<SchemaRef, QueryError> {
        let asked = Asked::new(&self.store, known, &question.text, tables).map_err(QueryError::Wrong)?;
        match asked.body() {
            StatementBody::Query(_) => {
                let (functions, values) = (crate::functions::declared(), question.parameters.clone());
                let schema = batch::schema_with(&asked.script, asked.query(), &functions, values);
                schema.map_err(|wrong| asked.wrong(wrong))
            }
            StatementBody::Explain(_) => Ok(plan_schema()),
            _ => Ok(described(&asked)?.schema()),
        }
    }

    async fn answer(&self, known: &BTreeMap<String, Known>, question: &Question) -> Result<Answer, QueryError> {
        let asked = Asked::new(&self.store, known, &question.text, Tables::Named).map_err(QueryError::Wrong)?;
        self.answer_asked(asked, question.parameters.clone()).await
    }

    async fn answer_asked(&self, asked: Asked, parameters: Vec<ScalarValue>) -> Result<Answer, QueryError> {
        match asked.body() {
            StatementBody::Query(_) => {
                let turn = self.turn().await?;
                let rows = self.select(asked, parameters).await?;
                Ok(Answer { schema: rows.schema(), rows: Rows::of(rows, turn) })
            }
            StatementBody::Explain(_) => {
                let functions = crate::functions::declared();
                let shown = batch::explain(&asked.script, asked.index, &functions, self.context(&asked)).await;
                let shown = shown.map_err(|error| asked.failed(error))?;
                Ok(once(plan_rows(&shown)?))
            }
            _ => Ok(once(described(&asked)?)),
        }
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        match turn {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) => Err(QueryError::Failed("the runner is ending".to_string())),
            Err(_) => Err(QueryError::Busy(format!(
                "{AT_ONCE} queries run, and none of them ended within {} s; try again later",
                PATIENCE.as_secs()
            ))),
        }
    }

    /// What the query may call, models among it, and the versions that those begin with.
    fn functions(&self, asked: &Asked) -> Result<(Functions, Versions), QueryError> {
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
        Ok((functions, versions))
    }

    async fn select(
        &self,
        asked: Asked,
        parameters: Vec<ScalarValue>,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let (functions, _) = self.functions(&asked)?;
        let open = BatchContext { parameters, ..self.context(&asked) };
        let rows = batch::query(&asked.script, asked.query(), &functions, open).await;
        rows.map_err(|error| asked.failed(error))
    }

    fn context(&self, asked: &Asked) -> BatchContext {
        let context = Context {
            job: "query".to_string(),
            generation: 1,
            claimed_us: 0,
            begun_us: 0,
            slot: 0,
            n_slots: 1,
            base_dir: asked.base_dir.clone().unwrap_or_else(|| self.folder.clone()),
            tables_endpoint: Some(self.endpoint.clone()),
            token: self.token.clone(),
        };
        let memory = Memory { bytes: MEMORY_BYTES, spill_dir: self.folder.join(SPILLED) };
        BatchContext { memory: Some(memory), ..BatchContext::new(context) }
    }
}

/// The folder of what memory has no room for.
const SPILLED: &str = "queries";

fn described(asked: &Asked) -> Result<RecordBatch, QueryError> {
    let functions = crate::functions::declared();
    streaming::sql::describe(&asked.script, asked.index, &functions).map_err(|wrong| asked.wrong(wrong))
}

fn once(batch: RecordBatch) -> Answer {
    Answer { schema: batch.schema(), rows: Rows::one(batch) }
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
