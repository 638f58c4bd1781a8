//! The control streams of tasks: reports in, orders out.
//!
//! Invariant: this file and `convert.rs` are the only ones of the runner that know the wire form of either.

use crate::book::Event;
use crate::server::convert;
use crate::server::owner::Owner;
use arrow::array::RecordBatch;
use jobs::TaskId;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use streaming::control::{Order, Report};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use wire::v1;

/// Orders that wait for one task. A task has at most a barrier, a commit and a stop before it; one that lets this many
/// wait does not read, and its stream is closed so that it connects again.
const ORDERS_MAX: usize = 16;

type Orders = mpsc::Sender<Result<v1::TaskOrders, Status>>;

/// The open control streams, by task; each with the number of its connection.
#[derive(Clone, Default)]
pub struct Streams {
    open: Arc<Mutex<HashMap<TaskId, (u64, Orders)>>>,
    /// Who waits for rows to look at.
    samples: Arc<Mutex<HashMap<u64, mpsc::Sender<Sampled>>>>,
    next: Arc<AtomicU64>,
}

impl Streams {
    /// Sends an order if the task listens; one that does not is told by the coordinator's next attempt.
    pub fn send(&self, task: &TaskId, order: &Order) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, sender)) = open.get(task) else { return };
        if sender.try_send(Ok(convert::order_to_wire(order))).is_err() {
            open.remove(task);
        }
    }

    /// Asks these tasks for rows that leave an operator. Who is busy, or not there, does not answer.
    pub fn sample(&self, tasks: &[TaskId], operator: &str, n_rows: u32) -> Sample {
        let id = self.next.fetch_add(1, Relaxed);
        let (sender, answers) = mpsc::channel(tasks.len().max(1));
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        let order = convert::order_to_wire(&Order::Sample { id, operator: operator.to_string(), n_rows });
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = tasks.iter().filter_map(|task| open.get(task));
        let n_asked = asked.filter(|(_, sender)| sender.try_send(Ok(order.clone())).is_ok()).count();
        drop(open);
        Sample { id, n_asked, answers, streams: self.clone() }
    }

    fn sampled(&self, id: u64, rows: Sampled) {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = samples.get(&id) {
            // There is room for one answer of each.
            let _ = sender.try_send(rows);
        }
    }

    fn insert(&self, task: TaskId, connection: u64, sender: Orders) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(task, (connection, sender));
    }

    /// Forgets the stream unless a newer one took its place.
    fn remove(&self, task: &TaskId, connection: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(task).is_some_and(|(current, _)| *current == connection) {
            open.remove(task);
        }
    }
}

/// Rows as people see them, or why there are none to see.
type Sampled = Result<Vec<RecordBatch>, String>;

/// A question for rows that is open until this is dropped.
pub struct Sample {
    id: u64,
    /// Tasks that were asked.
    pub n_asked: usize,
    pub answers: mpsc::Receiver<Sampled>,
    streams: Streams,
}

impl Drop for Sample {
    fn drop(&mut self) {
        self.streams.samples.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

pub struct Tasks {
    owner: Owner,
    streams: Streams,
    connections: AtomicU64,
}

impl Tasks {
    pub fn new(owner: Owner, streams: Streams) -> Self {
        Self { owner, streams, connections: AtomicU64::new(1) }
    }
}

#[tonic::async_trait]
impl v1::tasks_server::Tasks for Tasks {
    type ControlStream = Pin<Box<dyn Stream<Item = Result<v1::TaskOrders, Status>> + Send>>;

    async fn control(
        &self,
        request: Request<Streaming<v1::TaskReports>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let mut reports = request.into_inner();
        let first = reports.message().await?.ok_or_else(|| Status::invalid_argument("the stream has no message"))?;
        if first.protocol_version != wire::PROTOCOL_VERSION {
            return Err(Status::failed_precondition(format!(
                "protocol version {} is not spoken here; this runner speaks {}",
                first.protocol_version,
                wire::PROTOCOL_VERSION
            )));
        }
        let mut first = first.reports.into_iter();
        let Some(v1::task_report::Report::Hello(hello)) = first.next().and_then(|report| report.report) else {
            return Err(Status::invalid_argument("reports[0]: the first report must be hello"));
        };
        let task = TaskId::new(hello.task_id);
        let connection = self.connections.fetch_add(1, Relaxed);
        let (sender, receiver) = mpsc::channel(ORDERS_MAX);
        self.streams.insert(task.clone(), connection, sender);
        let owner = self.owner.clone();
        let streams = self.streams.clone();
        owner
            .tell(Event::TaskHello { task: task.clone(), job: hello.job_id.into(), generation: hello.generation })
            .await;
        tokio::spawn(async move {
            let mut waiting: Vec<v1::TaskReport> = first.collect();
            loop {
                for report in waiting.drain(..) {
                    match convert::report_from_wire(&task, report) {
                        Ok(Event::StreamReport { report: Report::Sampled { id, rows }, .. }) => {
                            streams.sampled(id, rows)
                        }
                        Ok(event) => owner.tell(event).await,
                        Err(error) => {
                            tracing::warn!(%task, error, "a report was refused");
                        }
                    }
                }
                match reports.next().await {
                    Some(Ok(message)) => waiting = message.reports,
                    Some(Err(_)) | None => break,
                }
            }
            streams.remove(&task, connection);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
