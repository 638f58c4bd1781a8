//! A training task: one rank of a gang. The chief reads the rows and keeps them; the others wait for what it kept.

use super::Failure;
use super::link::Link;
use crate::book::{Evaluated, TrainMetrics, TrainReport};
use crate::server::convert;
use crate::server::owner::chain;
use crate::training_data::{self, Rows};
use connectors::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use daemon::door::Token;
use jobs::{TaskPlan, TrainBody};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use streaming::control::Order;
use training::{Data, Evaluation, Report, TrainTask};

pub fn run(
    plan: &TaskPlan,
    body: &TrainBody,
    token: Option<&Token>,
    orders: &Receiver<Order>,
    link: &Link,
) -> Result<(), Failure> {
    let folder = PathBuf::from(&plan.checkpoint_dir);
    let rows = match &plan.trial {
        Some(trial) => Rows::OfAll(PathBuf::from(&trial.rows_dir)),
        None => Rows::Own(folder.clone()),
    };
    let context = Context {
        job: crate::book::run_name(&plan.job, &plan.submission),
        generation: plan.generation,
        claimed_us: plan.claimed_us,
        begun_us: plan.begun_us,
        slot: plan.index,
        n_slots: plan.count(),
        base_dir: PathBuf::from(&body.base_dir),
        tables_endpoint: Some(plan.runner.clone()),
        token: token.map(|token| token.reveal().to_string()),
    };
    let Some(data) = data(plan, body, &context, &rows, orders, link)? else { return Ok(()) };
    let (n_trainers, evaluates) = match body.evaluator {
        true => (plan.count().saturating_sub(1), plan.index + 1 == plan.count()),
        false => (plan.count(), false),
    };
    let stop = Arc::new(AtomicBool::new(false));
    {
        let stop = Arc::clone(&stop);
        let orders = orders.clone();
        let listen = move || {
            while let Ok(order) = orders.recv() {
                if order == Order::Stop {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        };
        std::thread::Builder::new()
            .name("orders".to_string())
            .spawn(listen)
            .map_err(|error| Failure::Passing(format!("start the thread of orders: {error}")))?;
    }
    on_terminate(&stop)?;
    if evaluates {
        return evaluate(body, data, &folder, link, &stop);
    }
    let task = TrainTask {
        job: plan.job.to_string(),
        submission: plan.submission.clone(),
        generation: plan.generation,
        rank: plan.index,
        world: n_trainers,
        peers: plan.peers.iter().take(n_trainers as usize).cloned().collect(),
        checkpoint_dir: folder,
        model_dir: PathBuf::from(&plan.model_dir),
        pause_after: plan.trial.as_ref().and_then(|trial| trial.pause_after),
        has_evaluator: body.evaluator,
    };
    let mut tell = |report: Report| {
        if let Some(report) = told(report) {
            link.report(convert::train_report_to_wire(report));
        }
    };
    match training::train(body, data, &task, &mut tell, &stop) {
        Ok(outcome) => {
            tracing::info!(?outcome, "rank ended");
            Ok(())
        }
        Err(error) => Err(judged(&error)),
    }
}

/// Who is asked to end, however that comes, takes a checkpoint first. From here on there is something to keep; a process that
/// still waits for its rows ends at once.
fn on_terminate(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let failed = |error| Failure::Passing(format!("listen for signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let stop = Arc::clone(stop);
    let listen = move || {
        runtime.block_on(async { crate::signal::ended().await });
        stop.store(true, Ordering::Relaxed);
    };
    std::thread::Builder::new().name("signals".to_string()).spawn(listen).map(drop).map_err(failed)
}

/// The task that judges what the others learn. Whatever is wrong with it, it may be tried again: they do not wait for it.
fn evaluate(body: &TrainBody, data: Data, folder: &Path, link: &Link, stop: &AtomicBool) -> Result<(), Failure> {
    let mut tell = |evaluation: Evaluation| {
        let Evaluation { step, epoch, metrics, metric_name } = evaluation;
        let metrics = metrics.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        let evaluated = Evaluated { step, epoch, metrics, metric_name: metric_name.to_string() };
        link.report(convert::train_report_to_wire(TrainReport::Evaluated(evaluated)));
    };
    let judged = training::evaluate(body, data, folder, &mut tell, stop);
    let judged = judged.map_err(|error| Failure::Passing(chain(&error)))?;
    tracing::info!(judged, "evaluator ended");
    Ok(())
}

/// `None` when the task was told to stop while it waited.
fn data(
    plan: &TaskPlan,
    body: &TrainBody,
    context: &Context,
    rows: &Rows,
    orders: &Receiver<Order>,
    link: &Link,
) -> Result<Option<Data>, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::Passing(format!("start a runtime for reading: {error}")))?;
    // The gang stands from here on; training itself may still have to wait for rows.
    link.report(convert::train_report_to_wire(TrainReport::Ready));
    let mut told = String::new();
    loop {
        if let Some(data) = training_data::kept(rows.folder()).map_err(Failure::Fatal)? {
            return Ok(Some(data));
        }
        let began = Instant::now();
        let waits = if plan.index == 0 {
            match runtime.block_on(training_data::read(body, context)) {
                Ok(data) if training_data::n_rows(&data) >= body.min_rows.max(1) => {
                    rows.keep(&data).map_err(Failure::Passing)?;
                    continue;
                }
                Ok(data) => format!(
                    "it waits for rows to train on: the query gives {} of the {} it needs",
                    training_data::n_rows(&data),
                    body.min_rows.max(1)
                ),
                Err(error) => error,
            }
        } else {
            "it waits for the rows that the chief reads".to_string()
        };
        if waits != told {
            link.notice("warning", waits.clone());
            told = waits;
        }
        // At most half of the time goes into looking, however large the table is.
        match orders.recv_timeout(training_data::LOOK_EVERY.max(began.elapsed())) {
            Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Ok(Order::Barrier { .. } | Order::Commit { .. } | Order::Sample { .. })
            | Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn told(report: Report) -> Option<TrainReport> {
    Some(match report {
        // Said when the gang stood.
        Report::Ready | Report::Checkpointed { .. } => return None,
        Report::Metrics { step, steps_total, epoch, loss, metric, metric_name, rows_per_second, learning_rate } => {
            let (metric, metric_name) = (metric.unwrap_or(f64::NAN), metric_name.to_string());
            TrainReport::Metrics(TrainMetrics {
                step,
                steps_total,
                epoch,
                loss,
                metric,
                metric_name,
                rows_per_second,
                learning_rate,
            })
        }
        Report::ModelWritten { version, metric, metric_name } => TrainReport::ModelWritten {
            version,
            metric: metric.unwrap_or(f64::NAN),
            metric_name: metric_name.to_string(),
        },
        Report::Paused { epoch, metric, metric_name } => {
            TrainReport::Paused { epoch, metric: metric.unwrap_or(f64::NAN), metric_name: metric_name.to_string() }
        }
        Report::Notice(text) => TrainReport::Notice { level: "info".to_string(), text },
    })
}

/// Whether another generation could do better: a lost peer or a full disk may pass, wrong data stays wrong.
fn judged(error: &training::Error) -> Failure {
    let text = chain(error);
    match error {
        training::Error::Mesh(_)
        | training::Error::Snapshot { .. }
        | training::Error::Rows { .. }
        | training::Error::Encode { .. }
        | training::Error::Thread { .. }
        | training::Error::Registry(_)
        | training::Error::Diverged { .. } => Failure::Passing(text),
        training::Error::Body(_)
        | training::Error::World { .. }
        | training::Error::Start(_)
        | training::Error::Data(_)
        | training::Error::Network(_)
        | training::Error::NewClass { .. }
        | training::Error::Checkpoint(_)
        | training::Error::NotFinite { .. } => Failure::Fatal(text),
    }
}
