//! The command line: one flat list of verbs, the same few flags everywhere.
//!
//! Invariant: data goes to standard output and nothing else does; every way to end has the exit code that
//! [`exit::HELP`] says.
//!
//! Does not know how anything is done: each verb is a call into the module that does it.

mod agents;
mod bundle;
mod cert;
mod check;
mod events;
pub mod exit;
pub mod human;
pub mod lists;
mod logs;
mod model;
mod operate;
pub mod output;
mod roles;
mod runs;
mod schedule;
mod sql;
mod start;
mod submit;
mod sweep;
mod top;
mod topics;
mod volumes;

use crate::bench::BenchConfig;
use crate::client::Client;
use crate::view::DrainRequest;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use exit::{FAILED, Fail, Result};
use output::Output;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Streaming SQL and machine-learning training side by side, on a cluster kernel of their own.
#[derive(Debug, Parser)]
#[command(name = "smack", version, after_help = exit::HELP, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Args)]
struct Globals {
    /// How results are written.
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Format::Table, global = true, value_name = "FORMAT")]
    output: Format,
    /// No progress on standard error.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// No bars that are drawn over themselves; words stay.
    #[arg(long, global = true)]
    no_progress: bool,
    /// Address of the runner; without it the cluster that `smack dev` started in this folder, or http://127.0.0.1:5080.
    #[arg(long, env = "SMACK_RUNNER", global = true, value_name = "URL")]
    runner: Option<String>,
    /// File with the cluster's token; needed to listen on, or to talk to, more than this machine.
    #[arg(long, env = "SMACK_TOKEN_FILE", global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A [target.NAME] in smack.toml, beside the job file or here: defaults for WITH (…) by connector.
    #[arg(long, env = "SMACK_TARGET", global = true, value_name = "NAME")]
    target: Option<String>,
    #[command(flatten)]
    tls: TlsArgs,
}

#[derive(Debug, Subcommand)]
enum DebugVerb {
    /// Write what the cluster says of itself (jobs, why, metrics, ends of logs) into one file, with secrets starred.
    Bundle {
        /// The file; smack-debug-TIME.tar.gz here by default.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

/// Connections are encrypted where these are given: all three to members of a cluster, the CA to whoever asks them.
#[derive(Clone, Debug, Args)]
struct TlsArgs {
    /// Certificate of this member, in PEM, with those between it and the CA; `smack cert` makes one.
    #[arg(long, env = "SMACK_TLS_CERT", global = true, value_name = "FILE", hide_short_help = true)]
    tls_cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, env = "SMACK_TLS_KEY", global = true, value_name = "FILE", hide_short_help = true)]
    tls_key: Option<PathBuf>,
    /// Certificate of the CA that signs those of all members.
    #[arg(long, env = "SMACK_TLS_CA", global = true, value_name = "FILE", hide_short_help = true)]
    tls_ca: Option<PathBuf>,
}

impl TlsArgs {
    fn files(&self) -> tls::Files {
        tls::Files { cert: self.tls_cert.clone(), key: self.tls_key.clone(), ca: self.tls_ca.clone() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    /// A graph in Graphviz' language: of the EXPLAIN in a file that is `run`.
    Dot,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show it all: a local cluster, a stream of card payments, a model trained on it, alerts.
    Demo(DemoArgs),
    /// Start a cluster on this machine (master, agents, runner) and keep it until Ctrl-C.
    Dev(DevArgs),
    /// Run a job file here, in this process, without a cluster.
    Run {
        /// A .sql, .toml or .yaml file.
        file: PathBuf,
        /// Threads that each hold every operator; as many as cores by default.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
        slices: Option<u32>,
        /// Keep models and the history of training runs here, to be used by the next run; without it they go at the end.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Hand a job file to the cluster.
    Submit {
        /// A .sql, .toml or .yaml file.
        file: PathBuf,
        /// Stay until all its jobs are finished (exit code 0) or one has failed (1).
        #[arg(long)]
        wait: bool,
        /// Go on from the last checkpoints of the same group's earlier, stopped submission, or from a savepoint or an epoch
        /// of it; `smack plan` says with what, `smack checkpoint JOB --ls` lists what there is.
        #[arg(long, value_name = "NAME|EPOCH", num_args = 0..=1)]
        resume: Option<Option<String>>,
    },
    /// Say what a changed job file would find again of its streams' state with `submit --resume`.
    Plan {
        /// A .sql, .toml or .yaml file.
        file: PathBuf,
    },
    /// Look for mistakes in a job file without running it.
    Check {
        /// A .sql, .toml or .yaml file.
        #[arg(required_unless_present = "schema")]
        file: Option<PathBuf>,
        /// Print the JSON Schema of job files in TOML and YAML, for editors.
        #[arg(long)]
        schema: bool,
    },
    /// List jobs.
    Ps {
        /// Only this group or job.
        subject: Option<String>,
        /// List their tasks: where each runs, and on which offer.
        #[arg(long)]
        tasks: bool,
        /// List the operators of streams: how busy each is, where rows pile up, what state it holds.
        #[arg(long, conflicts_with = "tasks")]
        operators: bool,
    },
    /// Print what tasks wrote.
    Logs {
        /// A task, or a job or group for all its tasks.
        subject: String,
        /// Go on until the end of the task or job.
        #[arg(short, long)]
        follow: bool,
        /// Standard error instead of standard output.
        #[arg(long)]
        stderr: bool,
    },
    /// Stop a job, or all jobs of a group, after a last checkpoint.
    Stop {
        /// A group, or `group/name`.
        subject: String,
    },
    /// Take a checkpoint now, and wait until it is durable; with a name, keep it until it is dropped.
    Checkpoint {
        /// A group, or `group/name`.
        subject: String,
        /// Keep it under this name as a savepoint.
        #[arg(long)]
        name: Option<String>,
        /// Keep the savepoint of this name no longer.
        #[arg(long, value_name = "NAME", conflicts_with_all = ["name", "ls"])]
        drop: Option<String>,
        /// List the checkpoints that are kept instead.
        #[arg(long, conflicts_with = "name")]
        ls: bool,
    },
    /// Give a running stream another number of tasks; it goes on from a last checkpoint.
    Scale {
        /// A group, or `group/name`.
        subject: String,
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
        parallelism: u32,
    },
    /// Say in one sentence why a job or task is in its state.
    Why {
        /// A group, a job or a task.
        subject: String,
    },
    /// List agents with what they have, and frameworks with their share.
    Agents,
    /// List roles: what each holds, its share, weight and quota.
    Roles,
    /// Say what a role is guaranteed, and what it never gets more than.
    Quota {
        #[command(subcommand)]
        verb: roles::QuotaVerb,
    },
    /// Say how much of the cluster a role should have, compared with the roles beside it.
    Weight {
        #[command(subcommand)]
        verb: roles::WeightVerb,
    },
    /// Empty an agent, now or in time: it is offered to nobody, and its tasks are moved, streams after a last checkpoint.
    Drain {
        /// As `smack agents` lists it.
        agent: String,
        /// When tasks that are left are ended.
        #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = jobs::text::parse_duration)]
        deadline: Duration,
        /// Offer nothing of it any more, and leave its tasks.
        #[arg(long, conflicts_with = "deadline")]
        keep_tasks: bool,
        /// When it is to be empty: '2026-12-01T02:00:00Z', or a time from now as in '3h'; draining begins the deadline before.
        #[arg(long, value_name = "TIME", value_parser = agents::moment_ms)]
        at: Option<u64>,
        /// How long after that it is offered again by itself.
        #[arg(long = "for", value_name = "DURATION", value_parser = jobs::text::parse_duration)]
        lasts: Option<Duration>,
    },
    /// Offer an agent again that was drained, or is being drained.
    Undrain { agent: String },
    /// Say that an agent does not come back: its tasks are lost and start again elsewhere, and its id is never taken again.
    Gone {
        /// As `smack agents` lists it.
        agent: String,
        /// Also if it is connected; it ends its tasks and itself then.
        #[arg(long)]
        force: bool,
    },
    /// Keep some of an agent for a role and those below it: nobody else is offered it, whether they use it or not.
    Reserve(agents::ReserveArgs),
    /// The volumes that jobs have: directories of agents that outlive tasks.
    Volumes {
        #[command(subcommand)]
        verb: Option<volumes::VolumesVerb>,
    },
    /// Let everybody have again what was reserved.
    Unreserve(agents::UnreserveArgs),
    /// Look at trained models, and say which version is in production.
    Model {
        #[command(subcommand)]
        verb: model::ModelVerb,
    },
    /// Submit training runs and other jobs that end by the clock.
    Schedule {
        #[command(subcommand)]
        verb: schedule::ScheduleVerb,
    },
    /// Train a model many times with other settings, and keep the best.
    Sweep(sweep::SweepArgs),
    /// Look at training runs: how they went, and in what they differ.
    Runs {
        #[command(subcommand)]
        verb: runs::RunsVerb,
    },
    /// List offers: to whom, of what, and what came of them.
    Offers,
    /// Watch what happens to agents, frameworks, tasks, roles and volumes, until Ctrl-C; with -o json a line for each event.
    Events,
    /// Print versions of this binary and of the runner.
    Version,
    /// Print a completion script, for example: smack completions bash > /etc/bash_completion.d/smack
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Watch jobs, operators, tasks, agents and logs on one screen, until `q`.
    Top,
    /// Ask the cluster: a SELECT over its tables, over what the query itself declares, or over both. Without a query a shell.
    Sql {
        /// One SELECT, EXPLAIN, DESCRIBE or SHOW, behind what it declares; what is piped in is one too.
        query: Option<String>,
    },
    /// Help whoever helps.
    Debug {
        #[command(subcommand)]
        verb: DebugVerb,
    },
    /// Look at and make topics of the broker of `smack dev`, or of any Kafka.
    Topics(topics::TopicsArgs),
    /// List connectors, or the options of one.
    Connectors { name: Option<String> },
    /// Make a certificate of a member, and the CA that signs it if the folder has none, to encrypt connections with.
    Cert {
        /// Names and addresses by which others reach the member; this machine's own by default.
        #[arg(value_name = "HOST")]
        hosts: Vec<String>,
        /// Holds ca.pem and ca.key, and gets HOST.pem and HOST.key.
        #[arg(long, value_name = "DIR", default_value = "certificates")]
        dir: PathBuf,
        /// How long the member's certificate is valid.
        #[arg(long, default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// Measure this build on this machine; suites: start, train, gang, decode, nexmark, scale, latency, state, spill, broker,
    /// kafka, allocator, launches, api.
    Bench {
        /// One suite; all by default.
        suite: Option<String>,
        /// Also run the peers, on the same inputs.
        #[arg(long)]
        peers: bool,
        /// How many events the queries of suite nexmark read, 1000000 by default, 20000000 with checkpoints, and rows those of spill, 4000000, and of
        /// kafka, 2000000.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        events: Option<u64>,
        /// Where the events of suite nexmark come from: two files of JSON lines, or of Parquet, for the queries without state, or a
        /// generator inside the job, or this once without checkpoints and once with one each second.
        #[arg(long, value_enum, default_value = "files")]
        source: crate::bench::nexmark::From,
        /// How many keys suite state holds; 10000000 by default.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        keys: Option<u64>,
        /// Suites broker and latency: measure this running broker too, host:port.
        #[arg(long, env = "SMACK_BROKERS", value_name = "HOST:PORT")]
        beside: Option<String>,
        /// Suite cassandra, which has no node of its own: this running one.
        #[arg(long, value_name = "HOST:PORT")]
        cassandra: Option<String>,
        /// Suite kafka: these running brokers instead of one of our own.
        #[arg(long, env = "SMACK_BROKERS", value_name = "HOST:PORT,…")]
        brokers: Option<String>,
    },
    /// Run a master.
    Master(MasterArgs),
    /// Run an agent.
    Agent(Box<AgentArgs>),
    /// Run a runner: job store, frameworks, API and page.
    #[command(name = "runner")]
    Runner(RunnerArgs),
    /// Run a broker that speaks Kafka's protocol, for clients on this machine.
    Broker(BrokerArgs),
    /// Be one rank of what suite gang measures, which starts this.
    #[command(hide = true)]
    BenchRank {
        #[arg(value_enum)]
        what: crate::bench::gang::What,
        #[arg(long)]
        rank: usize,
        /// Of all ranks; none for one that is alone.
        #[arg(value_name = "HOST:PORT")]
        peers: Vec<String>,
    },
    /// Run one task; agents start this.
    #[command(hide = true)]
    Task {
        #[arg(long)]
        plan: PathBuf,
    },
}

#[derive(Debug, Args)]
struct DemoArgs {
    #[arg(default_value = "fraud", value_parser = ["fraud"])]
    name: String,
    /// End after this long, with a summary.
    #[arg(long = "for", value_name = "DURATION", value_parser = jobs::text::parse_duration)]
    duration: Option<Duration>,
    /// Only print the job file that the demo submits.
    #[arg(long)]
    print: bool,
    /// Keep everything in this folder; by default a temporary one that is removed at the end.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct DevArgs {
    /// Where everything is kept.
    #[arg(long, value_name = "DIR", default_value = ".smack")]
    data_dir: PathBuf,
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    agents: u32,
    /// Cores that each agent offers; its share of the machine's by default.
    #[arg(long, value_name = "CPUS", value_parser = positive)]
    cpus: Option<f64>,
    /// Hold tasks to what they asked for, as `smack agent` does.
    #[arg(long, value_enum, default_value_t = Isolation::Off)]
    isolation: Isolation,
    /// Port of the runner's API and page; 0 for any.
    #[arg(long, default_value_t = 5080)]
    port: u16,
    /// Port of the broker that speaks Kafka's protocol; any free one if it is in use.
    #[arg(long, default_value_t = 9092, value_name = "PORT")]
    kafka_port: u16,
    /// Start no broker.
    #[arg(long)]
    no_broker: bool,
    /// Folder of what tasks are told by name, as of `smack agent`.
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct BrokerArgs {
    /// An address of this machine only: Kafka's protocol has no token.
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    listen: std::net::SocketAddr,
    /// Holds topics, records and offsets.
    #[arg(long, value_name = "DIR", default_value = ".smack/broker")]
    data_dir: PathBuf,
    /// Partitions of a topic for which nobody says how many.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: u32,
    /// Topics are only made on purpose, not when somebody first asks for them.
    #[arg(long)]
    no_auto_create: bool,
    /// How long records are kept; for ever without it, unless a topic says otherwise.
    #[arg(long, value_name = "DURATION", value_parser = jobs::text::parse_duration, default_value = "7d")]
    retention: Option<Duration>,
    /// How much a partition keeps, for example 1g.
    #[arg(long = "retention-bytes", value_name = "SIZE", value_parser = memory)]
    retention_mib: Option<f64>,
}

#[derive(Debug, Args)]
struct MasterArgs {
    #[arg(long, default_value = "127.0.0.1:5050", value_name = "HOST:PORT")]
    listen: std::net::SocketAddr,
    /// Holds the registry.
    #[arg(long, value_name = "DIR", default_value = ".smack/master")]
    data_dir: PathBuf,
    /// An agent that was not heard of for this long counts as unreachable.
    #[arg(
        long,
        env = "SMACK_AGENT_TIMEOUT",
        value_name = "DURATION",
        default_value = "5s",
        value_parser = jobs::text::parse_duration
    )]
    agent_timeout: Duration,
    /// How long a task that has to leave for others is given to take a checkpoint and end by itself.
    #[arg(
        long,
        env = "SMACK_PREEMPT_NOTICE",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = jobs::text::parse_duration
    )]
    preempt_notice: Duration,
    /// An offer that no framework answers is taken back after this.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = jobs::text::parse_duration)]
    offer_expiry: Duration,
    /// Resources that do not count for shares, with commas between them: those that few agents have, so that whoever needs
    /// one would have most of the cluster.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_value = "gpus")]
    scarce: Vec<String>,
    /// A task that has run for less does not have to leave for others.
    #[arg(
        long,
        env = "SMACK_PREEMPT_MIN_RUN",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = jobs::text::parse_duration
    )]
    preempt_min_run: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Isolation {
    Auto,
    Off,
}

impl Isolation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Off => "off",
        }
    }
}

#[derive(Debug, Args)]
struct AgentArgs {
    /// The master's address.
    #[arg(long, env = "SMACK_MASTER", default_value = "127.0.0.1:5050", value_name = "HOST:PORT")]
    master: String,
    /// Its id; by default the one kept in its folder, or a new one.
    #[arg(long)]
    name: Option<String>,
    /// Where the logs of its tasks are served; port 0 for any.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    listen: std::net::SocketAddr,
    /// Holds its id and the sandboxes of its tasks.
    #[arg(long, value_name = "DIR", default_value = ".smack/agent")]
    data_dir: PathBuf,
    /// Host under which its tasks are reached; that of --listen by default.
    #[arg(long)]
    host: Option<String>,
    /// Cores that it offers; the machine's by default.
    #[arg(long, value_parser = positive)]
    cpus: Option<f64>,
    /// Memory that it offers, for example 4g; most of the machine's by default.
    #[arg(long, value_parser = memory)]
    mem: Option<f64>,
    /// Disk that it offers, for sandboxes and volumes, for example 100g; most of what is free at its first start by default.
    #[arg(long, value_parser = memory)]
    disk: Option<f64>,
    /// Ports that its tasks may use; 31000-32000 by default.
    #[arg(long, value_name = "LOW-HIGH", value_parser = ports)]
    ports: Option<(u16, u16)>,
    /// All that it offers in one line; cpus, mem, disk and ports as found where it does not name them. For example
    /// 'cpus=4;mem=8GiB;ports=[31000-32000];gpus=[a100:80GiB,a100:80GiB];licences={x,y}', or gpus=2 of no model.
    #[arg(long, value_parser = jobs::amounts::parse_resources, conflicts_with_all = ["cpus", "mem", "disk", "ports"])]
    resources: Option<jobs::Resources>,
    /// What frameworks are told about it, for example --attribute zone=a.
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// The same in one line, for example 'region:eu;zone:z1;rack:r1'.
    #[arg(long = "attributes", value_name = "KEY:VALUE;…", value_parser = attributes)]
    attribute_list: Option<Attributes>,
    /// What it keeps for a role and those below it, for example --reserve 'ml/train:cpus=4;mem=8GiB'.
    #[arg(long = "reserve", value_name = "ROLE:AMOUNTS", value_parser = reservation)]
    reserved: Vec<scheduler::model::Reservation>,
    /// How much of what its tasks were given and do not use it offers once more, to jobs that say `revocable`: 0.8 is four
    /// fifths. They are ended when it is used after all.
    #[arg(long, value_name = "PART", default_value_t = 0.0, value_parser = part)]
    lend: f64,
    /// What was not used for so long is offered once more.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = jobs::text::parse_duration)]
    lend_after: Duration,
    /// How long its tasks go on when it is gone and not started again in its folder.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = jobs::text::parse_duration)]
    recovery_timeout: Duration,
    /// Hold tasks to what they asked for, by control groups, where this machine permits that.
    #[arg(long, value_enum, default_value_t = Isolation::Auto)]
    isolation: Isolation,
    /// Tasks get no more cpus than they asked for, also while nobody else wants them.
    #[arg(long)]
    cpu_quota: bool,
    /// What the output of a task may take on the disk, for example 256m; the oldest goes first.
    #[arg(long, value_name = "SIZE", default_value = "256m", value_parser = memory)]
    output_limit: f64,
    /// How long the folders of tasks that ended are kept, while the disk is not full.
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = jobs::text::parse_duration)]
    keep_sandboxes: Duration,
    /// User as whom tasks run that do not say; without it as the agent does. An agent that is not root has no choice.
    #[arg(long, value_name = "USER", value_parser = user)]
    task_user: Option<String>,
    /// Users as whom tasks may run that say so, with commas between them, besides --task-user; without it nobody else. Where
    /// neither is said, tasks may run as anybody.
    #[arg(long, value_name = "USER,…", value_delimiter = ',', value_parser = user, requires = "task_user")]
    users: Option<Vec<String>>,
    /// Folder of what tasks are told by name, one file for each secret; those of a role are in a folder of its name.
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
    /// What was fetched for tasks is kept for others, up to so much.
    #[arg(long, value_name = "SIZE", default_value = "10g", value_parser = memory)]
    artifact_cache: f64,
    /// A file that somebody keeps locked; when nobody does, all tasks end at once.
    #[arg(long, value_name = "FILE", hide = true)]
    leash: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunnerArgs {
    #[arg(long, default_value = "127.0.0.1:5080", value_name = "HOST:PORT")]
    listen: String,
    /// Where tasks reach it; that of --listen by default.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// The master's address.
    #[arg(long, env = "SMACK_MASTER", default_value = "127.0.0.1:5050", value_name = "HOST:PORT")]
    master: String,
    /// Holds jobs, checkpoints, models and the table store.
    #[arg(long, value_name = "DIR", default_value = ".smack/runner")]
    data_dir: PathBuf,
}

fn positive(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("not a number above 0".to_string()),
    }
}

fn user(text: &str) -> std::result::Result<String, String> {
    jobs::rights::check_user(text).map(|()| text.to_string())
}

fn memory(text: &str) -> std::result::Result<f64, String> {
    match jobs::text::parse_mem_mib(text)? {
        mib if mib > 0.0 => Ok(mib),
        _ => Err("not more than 0 MiB".to_string()),
    }
}

fn ports(text: &str) -> std::result::Result<(u16, u16), String> {
    let parsed = text.split_once('-').and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    match parsed {
        Some((low, high)) if 0 < low && low <= high => Ok((low, high)),
        _ => Err("not a range of ports; for example 31000-31999".to_string()),
    }
}

/// A type of its own, so that a list is one value of its flag.
#[derive(Clone, Debug)]
struct Attributes(Vec<(String, String)>);

fn attributes(text: &str) -> std::result::Result<Attributes, String> {
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| match part.split_once(':') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err(format!("'{part}' is not of the form key:value")),
    };
    Ok(Attributes(parts.map(pair).collect::<std::result::Result<_, _>>()?))
}

fn part(text: &str) -> std::result::Result<f64, String> {
    let part = text.parse::<f64>().ok().filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| format!("'{text}' is no part of something: a number from 0 to 1"))
}

fn reservation(text: &str) -> std::result::Result<scheduler::model::Reservation, String> {
    let (role, amounts) = text
        .split_once(':')
        .ok_or_else(|| format!("'{text}' is not ROLE:AMOUNTS, for example 'ml:cpus=4;mem=8GiB'"))?;
    let amounts = jobs::amounts::parse_amounts(amounts)?;
    let milli = |(name, amount): (&String, &f64)| (name.clone(), (amount * 1000.0).round() as i64);
    let amounts: Vec<(String, i64)> = amounts.iter().map(milli).collect();
    let reservation = scheduler::model::Reservation {
        role: role.to_string(),
        amounts: amounts.iter().map(|(name, milli)| (name.as_str(), *milli)).collect(),
        labels: std::collections::BTreeMap::new(),
    };
    scheduler::master::check_reservation(&reservation)?;
    Ok(reservation)
}

fn attribute(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err("not of the form key=value".to_string()),
    }
}

/// The whole program. Never returns an error: it is told on standard error and becomes the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    crate::status::allow(!cli.globals.quiet && !cli.globals.no_progress);
    let output = Output {
        json: cli.globals.output == Format::Json,
        dot: cli.globals.output == Format::Dot,
        quiet: cli.globals.quiet,
    };
    match dispatch(cli, output) {
        Ok(code) => ExitCode::from(code),
        Err(fail) => {
            eprint_all(&fail.render(output.json, crate::caret::stderr_has_colour()));
            ExitCode::from(fail.code())
        }
    }
}

/// Like `eprint!`, but a closed standard error is no reason to panic.
fn eprint_all(text: &str) {
    use std::io::Write;
    crate::status::clear();
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn dispatch(cli: Cli, output: Output) -> Result<u8> {
    let Cli { globals, verb } = cli;
    // The processes of a cluster are told by whoever starts them.
    if !matches!(verb, Verb::Task { .. } | Verb::Runner(_) | Verb::Dev(_))
        && let Some(kafka) = crate::dev::of_folder(Path::new(".")).and_then(|dev| dev.kafka)
    {
        connectors::usual_brokers::say(kafka);
    }
    if matches!(verb, Verb::Check { .. }) {
        // Only the declaration is looked at: where such a file runs, there is a broker.
        connectors::usual_brokers::make_with(|| Some("127.0.0.1:9092".to_string()));
    }
    let done = |result: Result<()>| result.map(|()| 0);
    let target = globals.target.as_deref();
    if output.dot && !matches!(verb, Verb::Run { .. }) {
        let error = "-o dot is for `smack run` of a file with an EXPLAIN; other commands have -o table and -o json";
        return Err(Fail::new(exit::BAD_INPUT, error));
    }
    match verb {
        // A task builds its own threads; nothing may run before it has chosen how many.
        Verb::Task { plan } => start::task(&plan, &globals),
        Verb::Master(args) => done(start::master(args, &globals)),
        Verb::Agent(args) => done(start::agent(*args, &globals)),
        Verb::Runner(args) => done(start::runner(args, &globals)),
        Verb::Broker(args) => done(start::broker(args)),
        Verb::Dev(args) => done(start::dev(args, &globals)),
        Verb::Demo(args) => {
            if target.is_some() {
                settle_tls(&globals)?;
            }
            start::demo(args, &globals, output)
        }
        Verb::Run { file, slices, data_dir } => start::run(&file, target, slices, data_dir, output),
        Verb::Bench { suite, peers, events, source, keys, beside, brokers, cassandra } => {
            let json = output.json;
            done(start::bench(BenchConfig { suite, peers, events, source, keys, beside, brokers, cassandra, json }))
        }
        Verb::BenchRank { what, rank, peers } => match crate::bench::gang::rank(what, rank, &peers) {
            Ok(seconds) => done(output.raw(format!("{seconds}\n").as_bytes())),
            Err(error) => Err(Fail::new(FAILED, format!("{error:#}"))),
        },
        Verb::Check { file: None, .. } | Verb::Check { schema: true, .. } => {
            done(output.json(&crate::settle::json_schema()))
        }
        Verb::Check { file: Some(file), schema: false } => done(on_one_thread(check::check(output, &file, target))?),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "smack", &mut script);
            done(output.raw(&script))
        }
        Verb::Connectors { name } => done(check::connectors(output, name.as_deref())),
        Verb::Topics(args) => done(topics::topics(args, output)),
        Verb::Cert { dir, hosts, days } => done(cert::cert(output, &dir, &hosts, days)),
        asking => done(on_one_thread(ask(asking, &globals, output))?),
    }
}

/// Whoever asks needs the CA alone; that of the cluster in this folder is known.
fn settle_tls(globals: &Globals) -> Result<()> {
    let mut files = globals.tls.files();
    if globals.runner.is_none() && files == tls::Files::default() {
        files.ca = crate::dev::of_folder(Path::new(".")).and_then(|dev| dev.tls_ca);
    }
    tls::settle(files).map_err(|error| Fail::new(FAILED, format!("failed to {error}")))
}

/// The verbs that ask a runner.
async fn ask(verb: Verb, globals: &Globals, output: Output) -> Result<()> {
    settle_tls(globals)?;
    let client = Client::new(globals.runner.as_deref(), globals.token_file.as_deref())?;
    let target = globals.target.as_deref();
    match verb {
        Verb::Submit { file, wait, resume } => submit::submit(&client, output, (&file, target), wait, resume).await,
        Verb::Plan { file } => operate::plan(&client, output, &file, target).await,
        Verb::Checkpoint { subject, ls: true, .. } => operate::kept(&client, output, &subject).await,
        Verb::Checkpoint { subject, drop: Some(name), .. } => {
            operate::drop_kept(&client, output, &subject, &name).await
        }
        Verb::Checkpoint { subject, name, .. } => operate::checkpoint(&client, output, &subject, name.as_deref()).await,
        Verb::Scale { subject, parallelism } => operate::scale(&client, output, &subject, parallelism).await,
        Verb::Ps { subject, tasks, operators } => {
            let rows = match (tasks, operators) {
                (true, _) => lists::Rows::Tasks,
                (_, true) => lists::Rows::Operators,
                _ => lists::Rows::Jobs,
            };
            lists::ps(&client, output, subject.as_deref(), rows).await
        }
        Verb::Logs { subject, follow, stderr } => {
            logs::logs(&client, output, &logs::LogsOptions { subject, follow, stderr }).await
        }
        Verb::Stop { subject } => submit::stop(&client, output, &subject).await,
        Verb::Why { subject } => lists::why(&client, output, &subject).await,
        Verb::Agents => lists::agents(&client, output).await,
        Verb::Offers => lists::offers(&client, output).await,
        Verb::Events => events::events(&client, output).await,
        Verb::Roles => roles::roles(&client, output).await,
        Verb::Quota { verb } => roles::quota(&client, output, verb).await,
        Verb::Weight { verb } => roles::weight(&client, output, verb).await,
        Verb::Drain { agent, deadline, keep_tasks, at, lasts } => {
            let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            let deadline_ms = (!keep_tasks).then(|| millis(deadline));
            let request = DrainRequest { deadline_ms, at_ms: at, for_ms: lasts.map(millis) };
            agents::drain(&client, output, &agent, &request).await
        }
        Verb::Undrain { agent } => agents::undrain(&client, output, &agent).await,
        Verb::Gone { agent, force } => agents::gone(&client, output, &agent, force).await,
        Verb::Reserve(args) => agents::reserve(&client, output, args).await,
        Verb::Volumes { verb } => volumes::volumes(&client, output, verb.unwrap_or(volumes::VolumesVerb::Ls)).await,
        Verb::Unreserve(args) => agents::unreserve(&client, output, args).await,
        Verb::Model { verb } => model::model(&client, output, verb).await,
        Verb::Schedule { verb } => schedule::schedule(&client, output, verb, target).await,
        Verb::Sweep(args) => sweep::sweep(&client, output, args, target).await,
        Verb::Runs { verb } => runs::runs(&client, output, verb).await,
        Verb::Sql { query } => sql::sql(client, output, query).await,
        Verb::Top => top::top(&client).await,
        Verb::Debug { verb: DebugVerb::Bundle { to } } => bundle::bundle(&client, output, to).await,
        Verb::Version => lists::version(&client, output).await,
        other => unreachable!("{other:?} asks no runner"),
    }
}

/// Runs a verb that only waits for answers.
fn on_one_thread<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fail::new(FAILED, format!("failed to start: {error}")))?;
    Ok(runtime.block_on(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_before_and_after_the_verb() {
        let cli = Cli::try_parse_from(["smack", "-o", "json", "ps", "fraud", "--tasks", "-q"]).unwrap();
        assert_eq!(cli.globals.output, Format::Json);
        assert!(cli.globals.quiet && matches!(cli.verb, Verb::Ps { tasks: true, .. }));
        let cli = Cli::try_parse_from(["smack", "demo", "fraud", "--for", "30s", "-o", "json"]).unwrap();
        assert!(matches!(&cli.verb, Verb::Demo(args) if args.duration == Some(Duration::from_secs(30))));
        assert!(Cli::try_parse_from(["smack", "demo", "--for", "30"]).is_err());
        assert!(Cli::try_parse_from(["smack", "check"]).is_err());
        assert!(Cli::try_parse_from(["smack", "sweep", "digits.toml", "--wait"]).is_ok());
        assert!(Cli::try_parse_from(["smack", "sweep", "show", "digits"]).is_ok());
        assert!(Cli::try_parse_from(["smack", "sweep"]).is_err());
        assert!(Cli::try_parse_from(["smack", "check", "--schema"]).is_ok());
        assert!(Cli::try_parse_from(["smack", "agent", "--ports", "9-1"]).is_err());
        let cli = Cli::try_parse_from(["smack", "master", "--agent-timeout", "1m"]).unwrap();
        assert!(matches!(&cli.verb, Verb::Master(args) if args.agent_timeout == Duration::from_secs(60)));
        assert!(Cli::try_parse_from(["smack", "master", "--agent-timeout", "60"]).is_err());
    }
}
