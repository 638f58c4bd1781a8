//! Verbs that start something which lasts: daemons, the dev cluster, a task, a local run.
//!
//! Each gets a runtime of its own size: a daemon waits most of the time, and every thread costs memory on the laptop
//! that runs four of them. What starts child processes runs on one thread, because they end with the thread that
//! started them.

use super::exit::{BAD_INPUT, FAILED, Fail, Result};
use super::output::Output;
use super::submit::read_file;
use super::{AgentArgs, Attributes, BrokerArgs, DemoArgs, DevArgs, Globals, Isolation, MasterArgs, RunnerArgs};
use crate::client::bare;
use crate::settle::settle;
use anyhow::Context;
use daemon::agent::AgentConfig;
use daemon::door::Token;
use jobs::AgentId;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn on_threads<T>(n_threads: usize, work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(n_threads)
        .enable_all()
        .build()
        .map_err(|error| Fail::new(FAILED, format!("failed to start: {error}")))?;
    Ok(runtime.block_on(work))
}

/// Daemons and tasks log to standard error; `SMACK_LOG` filters, for example `SMACK_LOG=debug`. With
/// `SMACK_LOG_FORMAT=json`, which tasks get from their agents, each line is an object.
fn log(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SMACK_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    // Colours are for terminals; these lines mostly go to files that people search.
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let format = std::env::var("SMACK_LOG_FORMAT").unwrap_or_default();
    // Whoever started this process may have set up its own log already.
    let _ = match format.as_str() {
        "json" => lines.json().flatten_event(true).with_span_list(false).try_init(),
        _ => lines.try_init(),
    };
    if !matches!(format.as_str(), "" | "text" | "json") {
        tracing::warn!("SMACK_LOG_FORMAT is '{format}'; it is text or json, and text is written");
    }
}

/// A member of a cluster whose connections are encrypted has all three files.
fn settle_tls(globals: &Globals) -> Result<()> {
    let files = globals.tls.files();
    let member = files.cert.is_some() || files.ca.is_none();
    let settled = match member {
        true => tls::settle(files),
        false => Err(tls::Error::Missing { given: "--tls-ca", missing: "--tls-cert" }),
    };
    settled.map_err(|error| Fail::from(anyhow::Error::from(error).context("failed to start")))
}

fn token(globals: &Globals) -> Result<Option<Token>> {
    let read = globals.token_file.as_deref().map(Token::read).transpose();
    read.map_err(|error| Fail::from(anyhow::Error::from(error).context("failed to start")))
}

/// The exit code is that of the task, which its runner reads.
pub fn task(plan: &Path, globals: &Globals) -> Result<u8> {
    log("info");
    settle_tls(globals)?;
    let code = crate::task::task(plan)?;
    Ok(u8::try_from(code).unwrap_or(FAILED))
}

pub fn master(args: MasterArgs, globals: &Globals) -> Result<()> {
    log("info");
    settle_tls(globals)?;
    let mut config = daemon::master::MasterConfig::new(args.data_dir);
    config.listen = args.listen;
    config.token = token(globals)?;
    let machine = &mut config.machine;
    machine.missed_heartbeats = missed_heartbeats(args.agent_timeout, machine.heartbeat_ms);
    machine.offer_expiry_ms = millis(args.offer_expiry).max(1);
    machine.scarce = args.scarce.into_iter().filter(|name| !name.is_empty()).collect();
    machine.preempt_notice_ms = millis(args.preempt_notice);
    machine.preempt_min_run_ms = millis(args.preempt_min_run);
    // A new master gives those of its predecessor no less time to come back.
    machine.recovery_ms = machine.recovery_ms.max(machine.heartbeat_ms * machine.missed_heartbeats);
    on_threads(2, daemon::master::serve(config))?
        .map_err(|error| anyhow::Error::from(error).context("failed to run the master").into())
}

/// The folder, wherever a member works.
fn readable(dir: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(dir).map_err(|error| Fail::new(FAILED, format!("failed to read {}: {error}", dir.display())))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// As many as fill the time. At least two, for one may be late on any machine; at most so many that it is for ever to
/// people and no sum of times overflows.
fn missed_heartbeats(agent_timeout: Duration, heartbeat_ms: u64) -> u64 {
    let n = agent_timeout.as_millis().div_ceil(u128::from(heartbeat_ms));
    u64::try_from(n).unwrap_or(u64::MAX).clamp(2, 1 << 32)
}

pub fn agent(args: AgentArgs, globals: &Globals) -> Result<()> {
    log("info");
    settle_tls(globals)?;
    let mut config = AgentConfig::new(args.master, args.data_dir)
        .map_err(|error| Fail::new(FAILED, format!("failed to find this program's own file: {error}")))?;
    config.listen = args.listen;
    config.host = args.host;
    config.agent_id = args.name.map(AgentId::new);
    config.token = token(globals)?;
    let listed = args.attribute_list.into_iter().flat_map(|Attributes(list)| list);
    config.attributes = args.attributes.into_iter().chain(listed).collect();
    config.reserved = args.reserved;
    config.lend = args.lend;
    config.lend_after = args.lend_after;
    (config.task_user, config.users) = (args.task_user, args.users);
    config.secrets = args.secrets.as_deref().map(readable).transpose()?;
    config.artifacts_most_bytes = (args.artifact_cache * 1_048_576.0) as u64;
    config.recovery_timeout_ms = millis(args.recovery_timeout);
    config.leash = args.leash;
    config.isolation.cgroups = args.isolation == Isolation::Auto;
    config.isolation.cpu_quota = args.cpu_quota;
    config.output_most_bytes = (args.output_limit * 1_048_576.0) as u64;
    config.sandboxes_kept_for = args.keep_sandboxes;
    let detected = config.total;
    let mut total = args.resources.unwrap_or_default();
    if let Some(mib) = args.disk {
        total = total.with("disk", mib);
    }
    for (name, said) in [("cpus", args.cpus), ("mem", args.mem)] {
        if total.milli(name) == 0 {
            total = total.with(name, said.unwrap_or_else(|| detected.amount(name)));
        }
    }
    if total.ports().is_empty() {
        total = total.with_ports(args.ports.map_or_else(|| detected.ports().to_vec(), |range| vec![range]));
    }
    config.total = total;
    on_threads(2, daemon::agent::serve(config))?
        .map_err(|error| anyhow::Error::from(error).context("failed to run the agent").into())
}

pub fn runner(args: RunnerArgs, globals: &Globals) -> Result<()> {
    log("info");
    settle_tls(globals)?;
    let config = crate::server::RunnerConfig {
        listen: args.listen,
        advertise: args.advertise.as_deref().map(|address| bare(address).to_string()),
        master: bare(&args.master).to_string(),
        data_dir: args.data_dir,
        token_file: globals.token_file.clone(),
    };
    on_threads(2, crate::server::serve(config))?.map_err(Fail::from)
}

/// Kafka's clients bring many connections and partitions many files; the soft limit is often 1,024.
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write the struct that they are given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            // Without it the broker works, with fewer connections.
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

pub fn broker(args: BrokerArgs) -> Result<()> {
    log("info");
    raise_file_limit();
    let mut config = broker::Config::new(args.listen, args.data_dir);
    config.auto_create = !args.no_auto_create;
    config.partitions = args.partitions as i32;
    config.retention_ms = args.retention.map(|kept| i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
    config.retention_bytes = args.retention_mib.map(|mib| (mib * 1_048_576.0) as i64);
    on_threads(2, async {
        let broker = broker::Broker::start(config).await.context("failed to run the broker")?;
        tracing::info!(address = %broker.addr, "listening");
        crate::signal::ended().await;
        broker.stop().await;
        Ok::<(), anyhow::Error>(())
    })?
    .map_err(Fail::from)
}

pub fn dev(args: DevArgs, globals: &Globals) -> Result<()> {
    log("warn");
    settle_tls(globals)?;
    let config = crate::dev::DevConfig {
        data_dir: args.data_dir,
        agents: args.agents,
        cpus_per_agent: args.cpus,
        isolation: args.isolation.as_str(),
        listen_port: args.port,
        kafka_port: (!args.no_broker).then_some(args.kafka_port),
        token_file: globals.token_file.clone(),
        secrets: args.secrets.as_deref().map(readable).transpose()?,
    };
    super::on_one_thread(crate::dev::dev(config))?.map_err(Fail::from)
}

/// The exit code is that of the demo.
pub fn demo(args: DemoArgs, globals: &Globals, output: Output) -> Result<u8> {
    log("error");
    let config = crate::demo::DemoConfig {
        name: args.name,
        duration: args.duration,
        json: output.json,
        print: args.print,
        data_dir: args.data_dir,
        quiet: output.quiet,
        target: globals.target.clone(),
        runner: globals.runner.clone(),
        token_file: globals.token_file.clone(),
    };
    let code = super::on_one_thread(crate::demo::demo(config))??;
    Ok(u8::try_from(code).unwrap_or(FAILED))
}

pub fn bench(config: crate::bench::BenchConfig) -> Result<()> {
    super::on_one_thread(crate::bench::bench(config))?.map_err(Fail::from)
}

/// The exit code is that of the run.
pub fn run(
    file: &Path,
    target: Option<&str>,
    slices: Option<u32>,
    data_dir: Option<PathBuf>,
    output: Output,
) -> Result<u8> {
    log("warn");
    let request = read_file(file, target)?;
    let base_dir = Path::new(&request.base_dir).to_path_buf();
    let work = async {
        let settled = settle(&request.text, &request.file, &base_dir)
            .await
            .map_err(|diagnostics| Fail::mistakes(&request.file, &request.text, diagnostics))?;
        if settled.sweep.is_some() {
            return Err(Fail::new(BAD_INPUT, crate::settle::is_a_sweep(&request.file)));
        }
        let config = crate::run::RunConfig {
            text: settled.text.clone().unwrap_or_else(|| request.text.clone()),
            settled,
            base_dir: base_dir.clone(),
            slices,
            json: output.json,
            data_dir,
            dot: output.dot,
            quiet: output.quiet,
        };
        crate::run::run(config).await.map_err(Fail::from)
    };
    let folder = std::env::temp_dir().join(format!("smack-run-{}-broker", std::process::id()));
    let broker = crate::run::broker::OwnBroker::offer(&folder, output.quiet);
    let code = on_threads(crate::run::threads(slices).max(2) as usize, work);
    broker.end();
    let code = code??;
    // Codes of a process are bytes; whatever does not fit is a failure.
    Ok(u8::try_from(code).unwrap_or(FAILED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_given_whole_heartbeats() {
        let missed = |timeout_ms| missed_heartbeats(Duration::from_millis(timeout_ms), 1_000);
        assert_eq!([0, 1_000, 5_000, 5_001, 60_000].map(missed), [2, 2, 5, 6, 60]);
        assert_eq!(missed(u64::MAX), 1 << 32);
        // What `smack master` does when it is not told otherwise.
        let usual = scheduler::master::Config::default();
        assert_eq!(missed_heartbeats(Duration::from_secs(5), usual.heartbeat_ms), usual.missed_heartbeats);
    }
}
