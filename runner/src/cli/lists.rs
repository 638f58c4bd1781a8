//! Reading verbs: `ps`, `why`, `agents`, `offers`, `version`.

use super::agents;
use super::exit::{FAILED, Fail, Result};
use super::human::{amount, bytes, clock, count, duration, now_ms, rate, since};
use super::output::{Output, table};
use crate::client::Client;
use crate::view::{
    ClusterView, EventView, FrameworkView, JobView, JobsView, OfferView, OperatorView, ResourcesView, TaskView,
    VersionView, WhyView,
};
use jobs::text::nearest;
use serde::Serialize;

/// What `ps` lists.
#[derive(Clone, Copy, Debug)]
pub enum Rows {
    Jobs,
    Tasks,
    Operators,
}

/// `subject`: a group or a job; all jobs without one.
pub async fn ps(client: &Client, output: Output, subject: Option<&str>, rows: Rows) -> Result<()> {
    let view = match subject {
        Some(job) if job.contains('/') => JobsView { jobs: vec![client.job(job).await?] },
        Some(group) => JobsView { jobs: of_group(client.jobs().await?, group)? },
        None => client.jobs().await?,
    };
    if output.json {
        return output.json(&view);
    }
    if view.jobs.is_empty() {
        output.progress("no jobs; start one with `smack submit FILE`");
        return Ok(());
    }
    let shown = match rows {
        Rows::Jobs => show_jobs(&view, now_ms()),
        Rows::Tasks => show_tasks(&view),
        Rows::Operators => show_operators(&view),
    };
    output.raw(shown.as_bytes())
}

/// The jobs of a group.
fn of_group(view: JobsView, group: &str) -> Result<Vec<JobView>> {
    let known: Vec<String> = view.jobs.iter().map(|job| job.group.clone()).collect();
    let found: Vec<JobView> = view.jobs.into_iter().filter(|job| job.group == group).collect();
    if found.is_empty() {
        return Err(unknown("group", group, known.iter().map(String::as_str)));
    }
    Ok(found)
}

pub fn unknown<'a>(what: &str, subject: &str, known: impl IntoIterator<Item = &'a str>) -> Fail {
    let way_out = match nearest(subject, known) {
        Some(near) => format!("did you mean '{near}'?"),
        None => "`smack ps` lists them".to_string(),
    };
    Fail::new(FAILED, format!("there is no {what} '{subject}'; {way_out}"))
}

fn show_jobs(view: &JobsView, now_ms: u64) -> String {
    let mut shown = table(
        ["JOB", "KIND", "STATE", "TASKS", "PROGRESS", "LAG", "CHECKPOINT", "RESTARTS", "AGE"],
        view.jobs.iter().map(|job| {
            let running = job.tasks.iter().filter(|task| task.state == "running").count();
            [
                job.id.clone(),
                job.kind.clone(),
                job.state.clone(),
                format!("{running}/{}", job.parallelism),
                progress(job),
                job.metrics.watermark_lag_ms.map_or(String::from("-"), |lag_ms| duration(lag_ms.max(0) as u64)),
                job.metrics.checkpoint_age_ms.map_or(String::from("-"), |age_ms| format!("{} ago", duration(age_ms))),
                job.restarts.to_string(),
                since(job.submitted_ms, now_ms),
            ]
        }),
    );
    // A job that does not do what it should says why without being asked.
    for job in
        view.jobs.iter().filter(|job| !matches!(job.state.as_str(), "running" | "finished") && !job.why.is_empty())
    {
        shown.push_str(&format!("{}: {}\n", job.id, job.why));
    }
    shown
}

/// What a job has done so far, in the words of its kind.
pub fn progress(job: &JobView) -> String {
    let metrics = &job.metrics;
    match job.kind.as_str() {
        "stream" => {
            if let (Some(read), Some(all)) = (metrics.restored_bytes, metrics.restore_bytes) {
                let share = 100.0 * read as f64 / all.max(1) as f64;
                return format!("restoring its state: {share:.0} %, {} of {}", bytes(read), bytes(all));
            }
            let mut parts = vec![
                format!("{} in, {} out", count(metrics.rows_in), count(metrics.rows_out)),
                rate(metrics.rows_per_second),
            ];
            for (rows, what) in [(metrics.rows_late, "late"), (metrics.rows_bad, "bad")] {
                if rows > 0 {
                    parts.push(format!("{} {what}", count(rows)));
                }
            }
            parts.join(", ")
        }
        "train" => {
            let mut parts = vec![format!("step {}/{}", metrics.step, metrics.steps_total)];
            parts.extend(metrics.loss.map(|loss| format!("loss {loss:.4}")));
            if let Some(metric) = metrics.metric.filter(|metric| metric.is_finite()) {
                parts.push(format!("{} {metric:.4}", metrics.metric_name));
            }
            parts.extend(metrics.model_version.map(|version| format!("model v{version}")));
            parts.join(", ")
        }
        _ => "-".to_string(),
    }
}

fn show_tasks(view: &JobsView) -> String {
    let row = |task: &TaskView| {
        [
            task.id.clone(),
            task.job.clone(),
            format!("{} {}", task.kind, task.member).trim_end().to_string(),
            task.state.clone(),
            task.agent.clone(),
            task.offer.clone(),
            count(task.rows_in),
            count(task.rows_out),
            if task.message.is_empty() && task.reason != "None" { task.reason.clone() } else { task.message.clone() },
        ]
    };
    table(
        ["TASK", "JOB", "KIND", "STATE", "AGENT", "OFFER", "IN", "OUT", "WORD"],
        view.jobs.iter().flat_map(|job| &job.tasks).map(row),
    )
}

fn show_operators(view: &JobsView) -> String {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let row = |job: &JobView, operator: &OperatorView| {
        [
            job.id.clone(),
            operator.id.clone(),
            percent(operator.busy),
            percent(operator.blocked),
            percent(operator.idle),
            rate(operator.rows_in_per_second),
            rate(operator.rows_out_per_second),
            match (operator.state_bytes, operator.spilled_bytes) {
                (0, 0) => "-".to_string(),
                (memory, 0) => bytes(memory),
                (memory, disk) => format!("{}, {} on disk", bytes(memory), bytes(disk)),
            },
            match operator.lookups_per_second > 0.0 {
                true => format!("{}, {} remembered", rate(operator.lookups_per_second), percent(operator.cache_hits)),
                false => "-".to_string(),
            },
        ]
    };
    let mut shown = table(
        ["JOB", "OPERATOR", "BUSY", "BLOCKED", "IDLE", "IN", "OUT", "STATE", "LOOKUPS"],
        view.jobs.iter().flat_map(|job| job.operators.iter().map(move |operator| row(job, operator))),
    );
    let mut splits = Vec::new();
    for (job, operator) in view.jobs.iter().flat_map(|job| job.operators.iter().map(move |operator| (job, operator))) {
        for split in &operator.splits {
            let behind = split.behind.map_or("-".to_string(), count);
            splits.push([job.id.clone(), operator.id.clone(), split.name.clone(), rate(split.rows_per_second), behind]);
        }
    }
    if !splits.is_empty() {
        shown.push('\n');
        shown.push_str(&table(["JOB", "SOURCE", "SPLIT", "IN", "BEHIND"], splits));
    }
    shown
}

pub async fn why(client: &Client, output: Output, subject: &str) -> Result<()> {
    let view = client.why(subject).await?;
    output.either(&view, show_why)
}

fn show_why(view: &WhyView) -> String {
    let mut shown = format!("{}: {}\n", view.subject, view.sentence);
    for detail in &view.details {
        shown.push_str(&format!("  {detail}\n"));
    }
    if !view.events.is_empty() {
        shown.push('\n');
        for event in &view.events {
            shown.push_str(&show_event(event));
        }
    }
    shown
}

pub fn show_event(event: &EventView) -> String {
    let level = if event.level == "info" { String::new() } else { format!("{}: ", event.level) };
    format!("{}  {level}{}\n", clock(event.at_ms), event.text)
}

pub async fn agents(client: &Client, output: Output) -> Result<()> {
    #[derive(Serialize)]
    struct Agents<'a> {
        leader_epoch: u64,
        agents: &'a [crate::view::AgentView],
        frameworks: &'a [FrameworkView],
    }
    let cluster = client.cluster().await?;
    let view = Agents { leader_epoch: cluster.leader_epoch, agents: &cluster.agents, frameworks: &cluster.frameworks };
    output.either(&view, |_| show_agents(&cluster, now_ms()))
}

fn show_agents(cluster: &ClusterView, now_ms: u64) -> String {
    let mut shown = table(
        ["AGENT", "HOST", "STATE", "CPUS", "MEM", "GPUS", "PORTS", "TASKS", "ISOLATION", "HEARD"],
        cluster.agents.iter().map(|agent| {
            let scalar = |view: &ResourcesView, name: &str| view.scalars.get(name).copied().unwrap_or(0.0);
            let of =
                |name: &str| format!("{} of {}", amount(scalar(&agent.used, name)), amount(scalar(&agent.total, name)));
            [
                agent.id.clone(),
                agent.host.clone(),
                agents::state(agent, now_ms),
                of("cpus"),
                format!("{} MiB", of("mem")),
                of("gpus"),
                format!("{} of {}", agent.used.n_ports, agent.total.n_ports),
                agent.n_tasks.to_string(),
                agent.attributes.get("isolation").cloned().unwrap_or_else(|| "-".to_string()),
                format!("{} ago", duration(agent.heard_ms_ago)),
            ]
        }),
    );
    if let Some(reserved) = agents::show_reserved(&cluster.agents) {
        shown.push('\n');
        shown.push_str(&reserved);
    }
    if let Some(lent) = agents::show_lent(&cluster.agents) {
        shown.push('\n');
        shown.push_str(&lent);
    }
    if !cluster.frameworks.is_empty() {
        shown.push('\n');
        shown.push_str(&table(
            ["FRAMEWORK", "NAME", "ROLE", "CONNECTED", "SHARE", "WAITS FOR"],
            cluster.frameworks.iter().map(|framework| {
                [
                    framework.id.clone(),
                    framework.name.clone(),
                    framework.role.clone(),
                    if framework.connected { "yes" } else { "no" }.to_string(),
                    format!("{:.1} %", framework.dominant_share * 100.0),
                    if framework.waiting.is_empty() { "-".to_string() } else { framework.waiting.join("; ") },
                ]
            }),
        ));
    }
    shown
}

pub async fn offers(client: &Client, output: Output) -> Result<()> {
    let offers = client.cluster().await?.offers;
    if offers.is_empty() && !output.json {
        output.progress("no offers: nobody wants anything, or nothing is free");
    }
    output.either(&offers, |offers| show_offers(offers))
}

fn show_offers(offers: &[OfferView]) -> String {
    table(
        ["OFFER", "AGENT", "FRAMEWORK", "STATE", "RESOURCES", "MADE", "TASKS"],
        offers.iter().map(|offer| {
            let framework = if offer.framework_name.is_empty() { &offer.framework } else { &offer.framework_name };
            [
                offer.id.clone(),
                offer.agent.clone(),
                framework.clone(),
                offer.state.clone(),
                resources(&offer.resources),
                format!("{} ago", duration(offer.made_ms_ago)),
                if offer.tasks.is_empty() { "-".to_string() } else { offer.tasks.join(" ") },
            ]
        }),
    )
}

fn resources(view: &ResourcesView) -> String {
    let mut parts: Vec<String> = view
        .scalars
        .iter()
        .map(|(name, value)| {
            let unit = if name == "mem" || name == "disk" { " MiB" } else { "" };
            format!("{name} {}{unit}", amount(*value))
        })
        .collect();
    if view.n_ports > 0 {
        parts.push(format!("{} ports", view.n_ports));
    }
    parts.join(", ")
}

/// Our own version always, the runner's where one answers: asking for a version must work on a bare machine.
pub async fn version(client: &Client, output: Output) -> Result<()> {
    #[derive(Serialize)]
    struct Versions {
        version: &'static str,
        runner: Option<VersionView>,
    }
    let view = Versions { version: env!("CARGO_PKG_VERSION"), runner: client.version().await.ok() };
    output.either(&view, |view| {
        let mut shown = format!("smack {}\n", view.version);
        match &view.runner {
            Some(runner) => {
                shown.push_str(&format!("runner {} at {} (api {})\n", runner.version, client.url(), runner.api));
            }
            None => shown.push_str(&format!("no runner answers at {}\n", client.url())),
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{JobMetrics, SplitView};

    fn job(id: &str, kind: &str, state: &str) -> JobView {
        let (group, name) = id.split_once('/').unwrap();
        JobView {
            id: id.to_string(),
            group: group.to_string(),
            name: name.to_string(),
            kind: kind.to_string(),
            state: state.to_string(),
            parallelism: 2,
            why: format!("because of {state}"),
            ..JobView::default()
        }
    }

    #[test]
    fn ps_tells_progress_in_the_words_of_the_kind() {
        let mut stream = job("fraud/features", "stream", "running");
        stream.metrics = JobMetrics {
            rows_in: 1_500_000,
            rows_out: 20,
            rows_bad: 3,
            rows_per_second: 20_000.0,
            ..JobMetrics::default()
        };
        let mut train = job("fraud/model", "train", "waiting");
        train.metrics =
            JobMetrics { step: 5, steps_total: 10, loss: Some(0.25), metric: Some(f64::NAN), ..JobMetrics::default() };
        let shown = show_jobs(&JobsView { jobs: vec![stream, train] }, 5_000);
        assert!(shown.contains("1.50M in, 20 out, 20.0k/s, 3 bad"), "{shown}");
        assert!(shown.contains("step 5/10, loss 0.2500 "), "{shown}");
        assert!(shown.contains("fraud/model: because of waiting"), "{shown}");
        assert!(!shown.contains("because of running"), "{shown}");
    }

    #[test]
    fn operators_are_listed_with_their_shares() {
        let mut stream = job("fraud/features", "stream", "running");
        stream.operators = vec![OperatorView {
            id: "window-1".to_string(),
            busy: 0.25,
            blocked: 0.5,
            idle: 0.2,
            rows_in_per_second: 20_000.0,
            rows_out_per_second: 10.0,
            state_bytes: 3 << 20,
            spilled_bytes: 5 << 30,
            splits: vec![SplitView { name: "3".to_string(), rows_per_second: 10.0, behind: Some(7) }],
            ..OperatorView::default()
        }];
        stream.operators.push(OperatorView {
            id: "lookup-1".to_string(),
            lookups_per_second: 300.0,
            cache_hits: 0.93,
            ..OperatorView::default()
        });
        let shown = show_operators(&JobsView { jobs: vec![stream] });
        let split: Vec<&str> = shown.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(split.join(" "), "fraud/features window-1 3 10/s 7", "{shown}");
        let row = |at: usize| shown.lines().nth(at).unwrap().split_whitespace().collect::<Vec<&str>>().join(" ");
        let expected = "fraud/features window-1 25 % 50 % 20 % 20.0k/s 10/s 3.0 MiB, 5.0 GiB on disk -";
        assert_eq!(row(1), expected, "{shown}");
        assert!(row(2).ends_with(" - 300/s, 93 % remembered"), "{shown}");
    }

    #[test]
    fn a_near_name_is_suggested() {
        let view = JobsView { jobs: vec![job("fraud/features", "stream", "running")] };
        let fail = of_group(view, "fruad").unwrap_err().render(false, false);
        assert!(fail.contains("did you mean 'fraud'?"), "{fail}");
    }
}
