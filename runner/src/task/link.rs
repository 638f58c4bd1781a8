//! A task's control stream to its runner: reports out, orders in, and connected again whenever it breaks.
//!
//! Invariant: what the runner must know (ready, input ended, the newest snapshot, the newest commit) is said again on
//! every new connection, so nothing is lost with a runner that dies between hearing and writing it down.

use crate::server::convert;
use crossbeam_channel::Sender;
use daemon::client::{self, Backoff};
use daemon::door::{ShowToken, Token};
use jobs::TaskPlan;
use std::time::Duration;
use streaming::control::Order;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use wire::v1;
use wire::v1::task_report::Report;
use wire::v1::tasks_client::TasksClient;

/// Reports that wait for the line. A task makes a few a second, so this many is minutes without a runner; metrics and
/// notices beyond are dropped, what must be known is kept apart.
const REPORTS_MAX: usize = 256;

/// How long the end of a task waits for its last reports to be heard.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

enum Said {
    Report(Box<v1::TaskReport>),
    /// Nothing follows; answered once everything before it was delivered.
    End(oneshot::Sender<()>),
}

/// The speaking end. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    sender: mpsc::Sender<Said>,
}

impl Link {
    /// Waits while the line has too much to say; a runner that is away is not waited for.
    pub fn report(&self, report: v1::TaskReport) {
        let must_arrive = is_sticky(&report);
        let said = Said::Report(Box::new(report));
        if must_arrive {
            let _ = self.sender.blocking_send(said);
        } else {
            let _ = self.sender.try_send(said);
        }
    }

    pub fn notice(&self, level: &str, text: String) {
        let notice = v1::Notice { level: level.to_string(), text };
        self.report(v1::TaskReport { report: Some(Report::Notice(notice)) });
    }

    /// Delivers what was said, as far as the runner is there to hear it.
    pub fn end(&self) {
        let (reply, done) = oneshot::channel();
        if self.sender.blocking_send(Said::End(reply)).is_ok() {
            let _ = done.blocking_recv();
        }
    }
}

/// Starts the line's own thread; orders arrive on `orders`.
pub fn start(plan: &TaskPlan, token: Option<Token>, orders: Sender<Order>) -> std::io::Result<Link> {
    let (sender, said) = mpsc::channel(REPORTS_MAX);
    let line = Line {
        address: crate::client::bare(&plan.runner).to_string(),
        token,
        hello: v1::TaskReport {
            report: Some(Report::Hello(v1::TaskHello {
                task_id: plan.task.to_string(),
                job_id: plan.job.to_string(),
                generation: plan.generation,
                index: plan.index,
            })),
        },
        sticky: Vec::new(),
        orders,
    };
    std::thread::Builder::new().name("control".to_string()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("failed to start the control stream: {error}");
                std::process::exit(1);
            }
        };
        runtime.block_on(line.run(said));
    })?;
    Ok(Link { sender })
}

struct Line {
    address: String,
    token: Option<Token>,
    hello: v1::TaskReport,
    /// To be said again on a new connection; at most one of each kind.
    sticky: Vec<v1::TaskReport>,
    orders: Sender<Order>,
}

impl Line {
    async fn run(mut self, mut said: mpsc::Receiver<Said>) {
        let mut backoff = Backoff::default();
        loop {
            match self.connected(&mut said, &mut backoff).await {
                Ok(()) => return,
                Err(_) => {
                    // While nobody hears, keep taking what is said so that the task is never held up by it.
                    let wait = backoff.wait();
                    tokio::pin!(wait);
                    loop {
                        tokio::select! {
                            () = &mut wait => break,
                            next = said.recv() => match next {
                                Some(Said::Report(report)) => self.keep(&report),
                                Some(Said::End(done)) => {
                                    // The last word is worth a few tries: a runner may be just coming back.
                                    let flushed = self.flush();
                                    let _ = tokio::time::timeout(FLUSH_WITHIN, flushed).await;
                                    let _ = done.send(());
                                    return;
                                }
                                None => return,
                            }
                        }
                    }
                }
            }
        }
    }

    async fn open(&self) -> anyhow::Result<(mpsc::Sender<v1::TaskReports>, tonic::Streaming<v1::TaskOrders>)> {
        let channel = client::connect(&self.address).await?;
        let mut tasks = TasksClient::with_interceptor(channel, ShowToken::new(self.token.clone()));
        let (sender, receiver) = mpsc::channel(16);
        let mut reports = vec![self.hello.clone()];
        reports.extend(self.sticky.iter().cloned());
        sender.send(v1::TaskReports { protocol_version: wire::PROTOCOL_VERSION, reports }).await?;
        let orders = tasks.control(ReceiverStream::new(receiver)).await?.into_inner();
        Ok((sender, orders))
    }

    /// One connection: `Ok` when the task has ended, an error when the line broke.
    async fn connected(&mut self, said: &mut mpsc::Receiver<Said>, backoff: &mut Backoff) -> anyhow::Result<()> {
        let (sender, mut orders) = self.open().await?;
        backoff.reset();
        loop {
            tokio::select! {
                next = said.recv() => match next {
                    Some(Said::Report(report)) => {
                        self.keep(&report);
                        sender.send(v1::TaskReports { protocol_version: 0, reports: vec![*report] }).await?;
                    }
                    Some(Said::End(done)) => {
                        // Ending our half makes the runner end its own once it has read everything.
                        drop(sender);
                        let rest = async { while let Ok(Some(_)) = orders.message().await {} };
                        let _ = tokio::time::timeout(FLUSH_WITHIN, rest).await;
                        let _ = done.send(());
                        return Ok(());
                    }
                    None => return Ok(()),
                },
                message = orders.message() => {
                    let Some(message) = message? else { anyhow::bail!("the runner closed the stream") };
                    for order in message.orders.into_iter().filter_map(convert::order_from_wire) {
                        if let Order::Commit { epoch } = order {
                            self.sticky.retain(|report| !is_snapshot_until(report, epoch));
                        }
                        // The task has ended when nobody takes its orders.
                        let _ = self.orders.send(order);
                    }
                }
            }
        }
    }

    async fn flush(&self) {
        let mut backoff = Backoff::default();
        loop {
            if let Ok((sender, mut orders)) = self.open().await {
                drop(sender);
                while let Ok(Some(_)) = orders.message().await {}
                return;
            }
            backoff.wait().await;
        }
    }

    fn keep(&mut self, report: &v1::TaskReport) {
        if is_sticky(report) {
            self.sticky.retain(|kept| !same_kind(kept, report));
            self.sticky.push(report.clone());
        }
    }
}

fn is_sticky(report: &v1::TaskReport) -> bool {
    match &report.report {
        Some(
            Report::Ready(_)
            | Report::InputEnded(_)
            | Report::Snapshotted(_)
            | Report::Committed(_)
            | Report::Model(_)
            | Report::TrialPaused(_)
            | Report::Evaluated(_),
        ) => true,
        // The reason of an end must be known too.
        Some(Report::Notice(notice)) => notice.level == "error",
        Some(Report::Hello(_) | Report::StreamMetrics(_) | Report::TrainMetrics(_) | Report::Sampled(_)) | None => {
            false
        }
    }
}

fn same_kind(one: &v1::TaskReport, other: &v1::TaskReport) -> bool {
    match (&one.report, &other.report) {
        (Some(one), Some(other)) => std::mem::discriminant(one) == std::mem::discriminant(other),
        _ => false,
    }
}

fn is_snapshot_until(report: &v1::TaskReport, epoch: u64) -> bool {
    matches!(&report.report, Some(Report::Snapshotted(snapshotted)) if snapshotted.epoch <= epoch)
}
