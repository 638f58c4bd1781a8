//! Between the runner's plain values and the wire: the only place of this crate where both are known. What master and
//! agents also speak of is converted as they do it, in `daemon::convert`.

use crate::book::placement::HeldOffer;
use crate::book::{Demand, Evaluated, Event, Launch, Payload, Status, TrainMetrics, TrainReport};
use crate::view;
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use daemon::convert::{
    artifact_to, claims_to, health_to, reason_from, resources_from, resources_to, rules_to, task_state_from,
};
use jobs::revocable::is_revocable;
use jobs::{Reason, Resources, TaskId};
use std::collections::BTreeMap;
use streaming::control::{Level, Metrics, OperatorMetrics, Order, Report, SplitMetrics, TaskSnapshot};
use wire::v1;

/// Of rows that a person wants to look at.
const SAMPLE_BYTES_MAX: usize = 4 << 20;

/// What the master says it has. A malformed quantity is a defect of the master; nothing is then seen as there.
fn resources_seen(resources: Option<v1::Resources>) -> Resources {
    resources_from(resources).unwrap_or_default()
}

pub fn offer_from_wire(offer: v1::Offer, now_ms: u64) -> HeldOffer {
    HeldOffer {
        id: offer.offer_id.into(),
        agent: offer.agent_id.into(),
        host: offer.host,
        resources: resources_seen(offer.resources),
        attributes: offer.attributes,
        volumes: offer.volumes.into_iter().map(|volume| (volume.name, volume.disk_milli)).collect(),
        drains: offer.drains_in_ms.is_some(),
        held_since_ms: now_ms,
    }
}

pub fn demand_to_wire(demand: Demand) -> v1::Demand {
    let (constraints, together, spread) = rules_to(demand.rules);
    v1::Demand {
        name: demand.name,
        shape: Some(resources_to(&demand.shape)),
        n_ports: demand.n_ports,
        count: demand.count,
        priority: demand.priority,
        group: demand.group,
        constraints,
        together,
        spread,
        volumes: claims_to(demand.volumes),
        within_ms: demand.within_ms,
    }
}

pub fn launch_to_wire(launch: Launch, token_file: Option<&str>) -> Result<v1::TaskInfo, serde_json::Error> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    let (mut secrets, mut artifacts) = (BTreeMap::new(), Vec::new());
    let (argv, plan) = match launch.payload {
        Payload::Plan(plan) => {
            if let Some(token_file) = token_file {
                env.insert("SMACK_TOKEN_FILE".to_string(), token_file.to_string());
            }
            (Vec::new(), serde_json::to_vec(&plan)?)
        }
        Payload::Command { argv, env: given, secrets: kept, artifacts: wanted } => {
            env.extend(places(&launch.resources));
            env.extend(given);
            (secrets, artifacts) = (kept, wanted.into_iter().map(artifact_to).collect());
            (argv, Vec::new())
        }
    };
    Ok(v1::TaskInfo {
        task_id: launch.task.to_string(),
        name: launch.name,
        agent_id: launch.agent.to_string(),
        resources: Some(resources_to(&launch.resources)),
        argv,
        env: env.into_iter().collect(),
        plan,
        kill_grace_ms: launch.kill_grace_ms,
        max_completion_ms: launch.max_completion_ms,
        unreachable_kill_ms: launch.unreachable_kill_ms,
        health: launch.health.map(health_to),
        priority: launch.priority,
        group: launch.group,
        volumes: claims_to(launch.volumes),
        // The master knows.
        role: String::new(),
        artifacts,
        user: launch.user.unwrap_or_default(),
        secrets,
    })
}

/// The ports and GPUs that a command got, as its environment tells it.
fn places(resources: &Resources) -> BTreeMap<String, String> {
    let ports: Vec<String> =
        resources.ports().iter().flat_map(|(low, high)| *low..=*high).map(|port| port.to_string()).collect();
    let gpus: Vec<String> = resources.gpus().map(|gpu| gpu.index.to_string()).collect();
    let mut places = BTreeMap::new();
    if !ports.is_empty() {
        places.insert("SMACK_PORTS".to_string(), ports.join(","));
    }
    if !gpus.is_empty() {
        places.insert("CUDA_VISIBLE_DEVICES".to_string(), gpus.join(","));
    }
    places
}

pub fn status_from_wire(status: v1::TaskStatus) -> Result<Status, String> {
    Ok(Status {
        state: task_state_from(status.state).map_err(|error| error.to_string())?,
        // A reason that a newer master has and we do not know changes nothing that we do.
        reason: reason_from(status.reason).unwrap_or(Reason::None),
        task: status.task_id.into(),
        agent: status.agent_id.into(),
        message: status.message,
        uuid: status.uuid,
        exit_code: status.exit_code,
    })
}

// ---- the control stream, runner's side ----

pub fn order_to_wire(order: &Order) -> v1::TaskOrders {
    use v1::task_order::Order as Wire;
    let order = match order {
        Order::Barrier { epoch, last, versions } => {
            let versions = versions.iter().map(|(name, version)| (name.clone(), *version)).collect();
            Wire::Barrier(v1::Barrier { epoch: *epoch, last: *last, versions })
        }
        Order::Commit { epoch } => Wire::Commit(v1::CommitEpoch { epoch: *epoch }),
        Order::Sample { id, operator, n_rows } => {
            Wire::Sample(v1::Sample { id: *id, operator: operator.clone(), n_rows: *n_rows })
        }
        Order::Stop => Wire::Stop(v1::StopTask { reason: "asked by the runner".to_string() }),
    };
    v1::TaskOrders { orders: vec![v1::TaskOrder { order: Some(order) }] }
}

/// What a report means to the runner.
pub fn report_from_wire(task: &TaskId, report: v1::TaskReport) -> Result<Event, String> {
    use v1::task_report::Report as Wire;
    let stream = |report: Report| Event::StreamReport { task: task.clone(), report };
    let train = |report: TrainReport| Event::TrainReport { task: task.clone(), report };
    Ok(match report.report.ok_or("a report is empty")? {
        Wire::Hello(_) => return Err("hello came twice".to_string()),
        Wire::Ready(ready) => match ready.kind() {
            v1::TaskKind::Stream => stream(Report::Ready),
            v1::TaskKind::Train => train(TrainReport::Ready),
            v1::TaskKind::Unspecified => return Err("ready.kind is unspecified".to_string()),
        },
        Wire::InputEnded(_) => stream(Report::InputEnded),
        Wire::Snapshotted(snapshotted) => {
            let snapshot: TaskSnapshot = serde_json::from_slice(&snapshotted.snapshot)
                .map_err(|error| format!("snapshotted.snapshot is not a snapshot: {error}"))?;
            stream(Report::Snapshotted { epoch: snapshotted.epoch, snapshot, last: snapshotted.last })
        }
        Wire::Committed(committed) => stream(Report::Committed { epoch: committed.epoch }),
        Wire::StreamMetrics(metrics) => stream(Report::Metrics(Metrics {
            rows_in: metrics.rows_in,
            rows_out: metrics.rows_out,
            rows_late: metrics.rows_late,
            rows_bad: metrics.rows_bad,
            watermark_ms: metrics.watermark_ms,
            event_time_ms: metrics.event_time_ms,
            state_bytes: metrics.state_bytes,
            restore_bytes: metrics.restore_bytes,
            restored_bytes: metrics.restored_bytes,
            operators: metrics.operators.into_iter().map(operator_from_wire).collect(),
        })),
        Wire::TrainMetrics(metrics) => train(TrainReport::Metrics(TrainMetrics {
            step: metrics.step,
            steps_total: metrics.steps_total,
            epoch: metrics.epoch,
            loss: metrics.loss,
            metric: metrics.metric,
            metric_name: metrics.metric_name,
            rows_per_second: metrics.rows_per_second,
            learning_rate: metrics.learning_rate,
        })),
        Wire::Notice(notice) => stream(Report::Notice {
            level: match notice.level.as_str() {
                "error" => Level::Error,
                "warning" => Level::Warning,
                _ => Level::Info,
            },
            text: notice.text,
        }),
        Wire::Model(model) => train(TrainReport::ModelWritten {
            version: model.version,
            metric: model.metric,
            metric_name: model.metric_name,
        }),
        Wire::Evaluated(evaluated) => train(TrainReport::Evaluated(Evaluated {
            step: evaluated.step,
            epoch: evaluated.epoch,
            metrics: evaluated.metrics.into_iter().collect(),
            metric_name: evaluated.metric_name,
        })),
        Wire::TrialPaused(paused) => {
            train(TrainReport::Paused { epoch: paused.epoch, metric: paused.metric, metric_name: paused.metric_name })
        }
        Wire::Sampled(sampled) => {
            let v1::Sampled { id, rows, error } = sampled;
            let rows = match error.is_empty() {
                true => rows_from_wire(&rows).map_err(|error| format!("sampled.rows are no rows: {error}")),
                false => Err(error),
            };
            stream(Report::Sampled { id, rows })
        }
    })
}

fn rows_from_wire(bytes: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
    match bytes {
        [] => Ok(Vec::new()),
        bytes => StreamReader::try_new(bytes, None)?.collect(),
    }
}

fn rows_to_wire(batches: &[RecordBatch]) -> Result<Vec<u8>, ArrowError> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let mut writer = StreamWriter::try_new(Vec::new(), &first.schema())?;
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.into_inner()
}

fn sampled_to_wire(id: u64, rows: &Result<Vec<RecordBatch>, String>) -> v1::Sampled {
    let encoded = rows.as_ref().map_err(Clone::clone).and_then(|rows| {
        let bytes = rows_to_wire(rows).map_err(|error| format!("failed to write the rows down: {error}"))?;
        match bytes.len() {
            0..=SAMPLE_BYTES_MAX => Ok(bytes),
            n => {
                Err(format!("the rows take {n} bytes, more than the {SAMPLE_BYTES_MAX} that are shown; ask for fewer"))
            }
        }
    });
    let (rows, error) = encoded.map_or_else(|error| (Vec::new(), error), |rows| (rows, String::new()));
    v1::Sampled { id, rows, error }
}

fn operator_from_wire(operator: v1::OperatorMetrics) -> OperatorMetrics {
    let v1::OperatorMetrics {
        id,
        total_us,
        busy_us,
        blocked_us,
        idle_us,
        rows_in,
        rows_out,
        state_bytes,
        spilled_bytes,
        splits,
        looked_up,
        remembered,
    } = operator;
    let splits = splits.into_iter().map(|v1::SplitMetrics { name, rows, behind }| SplitMetrics { name, rows, behind });
    OperatorMetrics {
        id,
        total_us,
        busy_us,
        blocked_us,
        idle_us,
        rows_in,
        rows_out,
        state_bytes,
        spilled_bytes,
        splits: splits.collect(),
        looked_up,
        remembered,
    }
}

// ---- the control stream, task's side ----

fn operator_to_wire(operator: &OperatorMetrics) -> v1::OperatorMetrics {
    let OperatorMetrics {
        id,
        total_us,
        busy_us,
        blocked_us,
        idle_us,
        rows_in,
        rows_out,
        state_bytes,
        spilled_bytes,
        splits,
        looked_up,
        remembered,
    } = operator.clone();
    let splits = splits.into_iter().map(|SplitMetrics { name, rows, behind }| v1::SplitMetrics { name, rows, behind });
    v1::OperatorMetrics {
        id,
        total_us,
        busy_us,
        blocked_us,
        idle_us,
        rows_in,
        rows_out,
        state_bytes,
        spilled_bytes,
        splits: splits.collect(),
        looked_up,
        remembered,
    }
}

pub fn stream_report_to_wire(report: &Report) -> Result<v1::TaskReport, serde_json::Error> {
    use v1::task_report::Report as Wire;
    let report = match report {
        Report::Ready => Wire::Ready(v1::TaskReady { kind: v1::TaskKind::Stream.into() }),
        Report::InputEnded => Wire::InputEnded(v1::InputEnded {}),
        Report::Snapshotted { epoch, snapshot, last } => {
            Wire::Snapshotted(v1::Snapshotted { epoch: *epoch, snapshot: serde_json::to_vec(snapshot)?, last: *last })
        }
        Report::Committed { epoch } => Wire::Committed(v1::EpochCommitted { epoch: *epoch }),
        Report::Metrics(metrics) => Wire::StreamMetrics(v1::StreamMetrics {
            rows_in: metrics.rows_in,
            rows_out: metrics.rows_out,
            rows_late: metrics.rows_late,
            rows_bad: metrics.rows_bad,
            watermark_ms: metrics.watermark_ms,
            event_time_ms: metrics.event_time_ms,
            state_bytes: metrics.state_bytes,
            restore_bytes: metrics.restore_bytes,
            restored_bytes: metrics.restored_bytes,
            operators: metrics.operators.iter().map(operator_to_wire).collect(),
        }),
        Report::Notice { level, text } => Wire::Notice(v1::Notice {
            level: match level {
                Level::Info => "info",
                Level::Warning => "warning",
                Level::Error => "error",
            }
            .to_string(),
            text: text.clone(),
        }),
        Report::Sampled { id, rows } => Wire::Sampled(sampled_to_wire(*id, rows)),
    };
    Ok(v1::TaskReport { report: Some(report) })
}

pub fn train_report_to_wire(report: TrainReport) -> v1::TaskReport {
    use v1::task_report::Report as Wire;
    let report = match report {
        TrainReport::Ready => Wire::Ready(v1::TaskReady { kind: v1::TaskKind::Train.into() }),
        TrainReport::Metrics(metrics) => Wire::TrainMetrics(v1::TrainMetrics {
            step: metrics.step,
            steps_total: metrics.steps_total,
            loss: metrics.loss,
            metric: metrics.metric,
            metric_name: metrics.metric_name,
            rows_per_second: metrics.rows_per_second,
            learning_rate: metrics.learning_rate,
            epoch: metrics.epoch,
        }),
        TrainReport::ModelWritten { version, metric, metric_name } => {
            Wire::Model(v1::ModelWritten { model: String::new(), version, metric, metric_name })
        }
        TrainReport::Paused { epoch, metric, metric_name } => {
            Wire::TrialPaused(v1::TrialPaused { epoch, metric, metric_name })
        }
        TrainReport::Evaluated(Evaluated { step, epoch, metrics, metric_name }) => {
            Wire::Evaluated(v1::Evaluated { step, epoch, metrics: metrics.into_iter().collect(), metric_name })
        }
        TrainReport::Notice { level, text } => Wire::Notice(v1::Notice { level, text }),
    };
    v1::TaskReport { report: Some(report) }
}

/// `None` for an order that a newer runner may send and this task does not know.
pub fn order_from_wire(order: v1::TaskOrder) -> Option<Order> {
    use v1::task_order::Order as Wire;
    Some(match order.order? {
        Wire::Barrier(barrier) => {
            let versions = barrier.versions.into_iter().collect();
            Order::Barrier { epoch: barrier.epoch, last: barrier.last, versions }
        }
        Wire::Commit(commit) => Order::Commit { epoch: commit.epoch },
        Wire::Stop(_) => Order::Stop,
        Wire::Sample(v1::Sample { id, operator, n_rows }) => Order::Sample { id, operator, n_rows },
    })
}

// ---- what people see of the cluster ----

pub fn cluster_view(state: v1::StateResponse) -> view::ClusterView {
    let names: BTreeMap<String, String> =
        state.frameworks.iter().map(|framework| (framework.framework_id.clone(), framework.name.clone())).collect();
    let roles: BTreeMap<&str, &str> =
        state.frameworks.iter().map(|framework| (framework.framework_id.as_str(), framework.role.as_str())).collect();
    let mut n_tasks: BTreeMap<String, u64> = BTreeMap::new();
    let mut used: BTreeMap<String, BTreeMap<String, Resources>> = BTreeMap::new();
    for task in &state.tasks {
        if task_state_from(task.state).is_ok_and(|state| !state.is_terminal()) {
            *n_tasks.entry(task.agent_id.clone()).or_default() += 1;
            let role = roles.get(task.framework_id.as_str()).copied().unwrap_or_default().to_string();
            let of_agent = used.entry(task.agent_id.clone()).or_default();
            of_agent.entry(role).or_default().add(&resources_seen(task.resources.clone()));
        }
    }
    for v1::VolumeView { agent_id, volume, .. } in &state.volumes {
        if let Some(volume) = volume {
            let of_role = used.entry(agent_id.clone()).or_default().entry(volume.role.clone()).or_default();
            of_role.set_milli("disk", of_role.milli("disk") + volume.disk_milli);
        }
    }
    view::ClusterView {
        leader_epoch: state.leader_epoch,
        agents: state
            .agents
            .into_iter()
            .map(|agent| {
                let info = agent.agent.unwrap_or_default();
                let used_by_role = used.remove(&info.agent_id).unwrap_or_default();
                let used_by_role = used_by_role.into_iter();
                let used_by_role =
                    used_by_role.map(|(role, used)| (role, resources_view(Some(resources_to(&used))))).collect();
                view::AgentView {
                    n_tasks: n_tasks.get(&info.agent_id).copied().unwrap_or(0),
                    id: info.agent_id,
                    host: info.host,
                    state: agent.state,
                    attributes: info.attributes,
                    total: with_lent(resources_view(info.total), [&agent.free, &agent.offered, &agent.used]),
                    free: resources_view(agent.free),
                    offered: resources_view(agent.offered),
                    used: resources_view(agent.used),
                    used_by_role,
                    heard_ms_ago: agent.heard_ms_ago,
                    drains_from_ms: agent.drains_from_ms,
                    drained_by_ms: agent.drained_by_ms,
                    drain_over_ms: agent.drain_over_ms,
                    reserved: (info.reserved.into_iter().map(|reserved| reservation_view(reserved, true)))
                        .chain(agent.reserved.into_iter().map(|reserved| reservation_view(reserved, false)))
                        .collect(),
                    unfilled: agent
                        .unfilled
                        .into_iter()
                        .map(|unfilled| (unfilled.role, amounts_view(unfilled.amounts)))
                        .collect(),
                }
            })
            .collect(),
        frameworks: state
            .frameworks
            .into_iter()
            .map(|framework| view::FrameworkView {
                id: framework.framework_id,
                name: framework.name,
                role: framework.role,
                connected: framework.connected,
                dominant_share: framework.dominant_share,
                waiting: framework.waiting,
            })
            .collect(),
        roles: state.roles.into_iter().map(role_view).collect(),
        volumes: state.volumes.into_iter().map(volume_view).collect(),
        offers: state
            .offers
            .into_iter()
            .map(|offer| {
                let inner = offer.offer.unwrap_or_default();
                view::OfferView {
                    id: inner.offer_id,
                    agent: inner.agent_id,
                    framework_name: names.get(&offer.framework_id).cloned().unwrap_or_default(),
                    framework: offer.framework_id,
                    state: offer.state,
                    resources: resources_view(inner.resources),
                    made_ms_ago: offer.made_ms_ago,
                    tasks: offer.task_ids,
                    refused_for_s: offer.refused_ms.map(|refused_ms| refused_ms as f64 / 1000.0),
                }
            })
            .collect(),
    }
}

fn volume_view(view: v1::VolumeView) -> view::VolumeView {
    let v1::Volume { role, name, disk_milli } = view.volume.unwrap_or_default();
    view::VolumeView {
        name,
        role,
        agent: view.agent_id,
        disk_mib: disk_milli as f64 / 1000.0,
        task: (!view.task_id.is_empty()).then_some(view.task_id),
        leaving: view.leaving,
    }
}

fn amounts_view(scalars: Vec<v1::Scalar>) -> BTreeMap<String, f64> {
    scalars.into_iter().map(|scalar| (scalar.name, scalar.milli as f64 / 1000.0)).collect()
}

fn reservation_view(reservation: v1::Reservation, by_agent: bool) -> view::ReservationView {
    let v1::Reservation { role, amounts, labels } = reservation;
    view::ReservationView { role, amounts: amounts_view(amounts), labels: labels.into_iter().collect(), by_agent }
}

fn role_view(role: v1::RoleView) -> view::RoleView {
    view::RoleView {
        role: role.role,
        weight: role.weight,
        dominant_share: role.dominant_share,
        held: amounts_view(role.held),
        guarantee: amounts_view(role.guarantee),
        limit: amounts_view(role.limit),
        n_frameworks: role.n_frameworks,
    }
}

/// With what the agent lends besides: all of it that anybody has, or could have.
fn with_lent(mut total: view::ResourcesView, parts: [&Option<v1::Resources>; 3]) -> view::ResourcesView {
    for scalar in parts.into_iter().flatten().flat_map(|part| &part.scalars) {
        if is_revocable(&scalar.name) {
            *total.scalars.entry(scalar.name.clone()).or_default() += scalar.milli as f64 / 1000.0;
        }
    }
    total
}

fn resources_view(resources: Option<v1::Resources>) -> view::ResourcesView {
    let resources = resources_seen(resources);
    view::ResourcesView {
        scalars: resources.scalars().map(|(name, milli)| (name.to_string(), milli as f64 / 1000.0)).collect(),
        n_ports: resources.n_ports() as u64,
    }
}
