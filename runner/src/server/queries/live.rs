//! Queries that never end, while somebody looks: a stream of one task within the runner, without checkpoints.
//!
//! Invariant: it lasts as long as its reader. One that goes away ends it, and so does one that stands still; how fast rows
//! are read is how fast they are made.

use super::declared::{Asked, Tables};
use super::rows::{Rows, STANDS_STILL};
use super::{Queries, QueryError, Question, SPILLED, known::Known};
use crate::server::owner::chain;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use crossbeam_channel::RecvTimeoutError;
use futures::StreamExt;
use jobs::Diagnostic;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streaming::batch;
use streaming::control::Level;
use streaming::runtime::local::{self, LocalConfig, LocalRun};
use streaming::runtime::operators::changes;
use streaming::sql::StatementBody;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Each is a stream with threads of its own.
pub(super) const AT_ONCE: usize = 8;
/// What the state of one may take in memory; more of it goes to disk.
const STATE_MEMORY: u64 = 256 << 20;
/// Messages that wait for the reader.
const AHEAD: usize = 4;
/// Without rows the reader hears this often that the query still runs, and the runner whether the reader is still there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The rows of a query as they come. Dropped, it ends.
pub struct Live {
    /// Of the rows; where they may be taken back, the first column, `op`, says so.
    pub schema: SchemaRef,
    pub changes: bool,
    said: mpsc::Receiver<Said>,
    /// Heard, and not yet given.
    heard: Option<Said>,
}

impl Live {
    /// Nothing when it was given up, because its reader stood still.
    pub async fn next(&mut self) -> Option<Said> {
        match self.heard.take() {
            Some(said) => Some(said),
            None => self.said.recv().await,
        }
    }

    /// Waits for the first word, which comes soon: a query that cannot run is refused, and does not end in the middle.
    pub async fn begins(&mut self) -> Result<(), QueryError> {
        match self.said.recv().await {
            Some(Said::Failed(why)) => Err(QueryError::Failed(why)),
            said => {
                self.heard = said;
                Ok(())
            }
        }
    }
}

#[derive(Debug)]
pub enum Said {
    /// Without rows: the query goes on.
    Rows(RecordBatch),
    /// For people: that a server does not answer, for example.
    Notice(String),
    /// The last.
    Failed(String),
    /// The last.
    End,
}

impl Queries {
    /// Also one whose input ends.
    pub async fn live(&self, question: Question) -> Result<Live, QueryError> {
        self.completed(question, async |question| {
            let (queries, known) = (self.clone(), self.known().await?);
            let begun = async move {
                let live = queries.begin(&known, &question).await;
                live.map_err(|error| queries.told(&known, &question, error))
            };
            self.apart(begun).await
        })
        .await
    }

    async fn begin(&self, known: &BTreeMap<String, Known>, question: &Question) -> Result<Live, QueryError> {
        let asked = Asked::new(&self.store, known, &question.text, Tables::Named).map_err(QueryError::Wrong)?;
        let is_endless = matches!(asked.body(), StatementBody::Query(_)) && !batch::bounded(&asked.script, asked.index);
        if !is_endless {
            let answer = self.answer_asked(asked, question.parameters.clone()).await?;
            let (sender, said) = mpsc::channel(AHEAD);
            tokio::spawn(pass_on(answer.rows, sender));
            return Ok(Live { schema: answer.schema, changes: false, said, heard: None });
        }
        if !question.parameters.is_empty() {
            let error = Diagnostic::new("a query that never ends takes no parameters");
            return Err(QueryError::Wrong(vec![error.help("write the values into it")]));
        }
        let turn = Arc::clone(&self.lives).try_acquire_owned().map_err(|_| {
            QueryError::Busy(format!(
                "{AT_ONCE} queries that never end are open; end one of them, or submit it as a job"
            ))
        })?;
        let (functions, versions) = self.functions(&asked)?;
        let dataflow = streaming::sql::plan(&asked.script, &[asked.index], &functions).await;
        let dataflow = dataflow.map_err(|wrong| asked.wrong(wrong))?;
        let failed = |error: String| QueryError::Failed(format!("failed to begin the query: {error}"));
        let (schema, changes) = match dataflow.nodes.last() {
            Some(node) if node.changes => {
                let shown = changes::shown(&RecordBatch::new_empty(Arc::clone(&node.schema)));
                (shown.map_err(|error| failed(error.to_string()))?.schema(), true)
            }
            Some(node) => (Arc::clone(&node.schema), false),
            None => return Err(failed("it has no operators".to_string())),
        };
        let folder = Folder::new(self.folder.join(SPILLED).join(uuid::Uuid::new_v4().simple().to_string()));
        let base_dir = asked.base_dir.clone().unwrap_or_else(|| self.folder.clone());
        let mut config = LocalConfig::new("query", base_dir, folder.0.join("dead-letter"));
        // Without checkpoints nothing is said to the outside, such as how far a group has read.
        config.checkpoint_interval_ms = 0;
        config.tables_endpoint = Some(self.endpoint.clone());
        config.token = self.token.clone();
        config.state_memory = STATE_MEMORY;
        config.spill_dir = folder.0.join("state");
        config.versioned = Some(Arc::new(crate::predict::Models::new(&self.model_dir)));
        config.versions = versions;
        let run = tokio::task::spawn_blocking(move || local::run(dataflow, config)).await;
        let run = run.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(chain(&error)))?;
        let (sender, said) = mpsc::channel(AHEAD);
        let pump = Pump { run, sender, schema: Arc::clone(&schema), folder, _turn: turn };
        let thread = std::thread::Builder::new().name("live-query".to_string()).spawn(move || pump.work());
        thread.map_err(|error| failed(error.to_string()))?;
        Ok(Live { schema, changes, said, heard: None })
    }
}

async fn pass_on(mut rows: Rows, sender: mpsc::Sender<Said>) {
    loop {
        let said = match rows.next().await {
            Some(Ok(batch)) => Said::Rows(batch),
            Some(Err(error)) => Said::Failed(format!("failed to run the query: {}", error.strip_backtrace())),
            None => Said::End,
        };
        let is_last = !matches!(said, Said::Rows(_));
        if sender.send(said).await.is_err() || is_last {
            return;
        }
    }
}

/// Goes with the query.
struct Folder(PathBuf);

impl Folder {
    fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.0.display(), %error, "what a query left was not removed");
        }
    }
}

/// Between the threads of the stream and whoever reads.
struct Pump {
    run: LocalRun,
    sender: mpsc::Sender<Said>,
    schema: SchemaRef,
    folder: Folder,
    _turn: OwnedSemaphorePermit,
}

/// Whether there is still somebody who reads.
enum Reader {
    Reads,
    Gone,
}

impl Pump {
    fn work(self) {
        let mut told = Instant::now();
        let reader = loop {
            let notices: Vec<(Level, String)> = self.run.notices.try_iter().collect();
            let said = notices.into_iter().map(|(_, text)| Said::Notice(text));
            if said.map(|said| self.say(said)).any(|reader| matches!(reader, Reader::Gone)) {
                break Reader::Gone;
            }
            let said = match self.run.results.recv_timeout(LOOK_EVERY) {
                Ok(batch) => Said::Rows(batch),
                Err(RecvTimeoutError::Disconnected) => break Reader::Reads,
                Err(RecvTimeoutError::Timeout) if self.sender.is_closed() => break Reader::Gone,
                Err(RecvTimeoutError::Timeout) if told.elapsed() < SIGN_OF_LIFE => continue,
                Err(RecvTimeoutError::Timeout) => Said::Rows(RecordBatch::new_empty(Arc::clone(&self.schema))),
            };
            told = Instant::now();
            if matches!(self.say(said), Reader::Gone) {
                break Reader::Gone;
            }
        };
        let Self { run, sender, folder, .. } = self;
        let rows_bad = run.status().metrics.rows_bad;
        if matches!(reader, Reader::Gone) {
            run.stop();
        }
        let ended = run.wait();
        drop(folder);
        let last = match ended {
            Ok(_) => Said::End,
            Err(error) => Said::Failed(format!("failed to run the query: {}", chain(&error))),
        };
        if rows_bad > 0 {
            let _ = sender.blocking_send(Said::Notice(format!("{rows_bad} records did not decode and were left out")));
        }
        // A reader who stood still is told so as soon as he reads on.
        let _ = sender.blocking_send(last);
    }

    /// Waits for the reader, but not for ever.
    fn say(&self, mut said: Said) -> Reader {
        let until = Instant::now() + STANDS_STILL;
        loop {
            match self.sender.try_send(said) {
                Ok(()) => return Reader::Reads,
                Err(TrySendError::Closed(_)) => return Reader::Gone,
                Err(TrySendError::Full(_)) if Instant::now() >= until => return Reader::Gone,
                Err(TrySendError::Full(back)) => said = back,
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
