//! `smack runner`: job store, the frameworks, the control streams of tasks, the table store and the API.

pub mod api;
pub mod control;
pub mod convert;
pub mod flight;
pub mod frameworks;
pub mod owner;
pub mod queries;
pub mod runs;
pub mod savepoints;
pub mod store;
pub mod upgrade;

use crate::book::job::Record;
use crate::book::{self, Book, Event, Framework};
use crate::traces::export::{self, Exporter};
use anyhow::Context;
use daemon::door::{self, Guard, Token};
use daemon::encrypted::{self, Caller, Encrypted};
use jobs::{FrameworkId, JobBody};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use streaming::control::Manifest;
use streaming::coordinator::manifest;
use streaming::runtime::Folder;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use wire::v1::tasks_server::TasksServer;

/// How often the book looks at its timers (back-off, checkpoint interval, offers held too long).
const TICK_MS: u64 = 50;

/// Calls that are still answered when the runner is asked to end have this long.
const DRAIN: Duration = Duration::from_secs(5);

/// Snapshots travel in one message; a task with very many splits stays far below this.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

#[derive(Clone, Debug)]
pub struct RunnerConfig {
    pub listen: String,
    /// Where tasks reach this runner, `host:port`; the listener's own address when absent.
    pub advertise: Option<String>,
    /// The master, `host:port`.
    pub master: String,
    pub data_dir: PathBuf,
    pub token_file: Option<PathBuf>,
}

/// Serves until SIGTERM or SIGINT. Tasks are left running: the next runner of this folder finds them again.
pub async fn serve(config: RunnerConfig) -> anyhow::Result<()> {
    let token = config.token_file.as_deref().map(Token::read).transpose().context("failed to start the runner")?;
    let listen: SocketAddr = config
        .listen
        .parse()
        .with_context(|| format!("failed to start the runner: --listen '{}' is not host:port", config.listen))?;
    // A door that may not be opened leaves no folder behind.
    door::check_listen(listen, token.as_ref()).context("failed to start the runner")?;
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("failed to make the folder {}", config.data_dir.display()))?;
    let data_dir = std::fs::canonicalize(&config.data_dir)
        .with_context(|| format!("failed to find the folder {}", config.data_dir.display()))?;
    let store = store::Store::open(&data_dir).context("failed to start the runner")?;
    let tables = Arc::new(tables::Store::open(&data_dir.join("tables")).context("failed to start the runner")?);
    let listener = door::listen(listen, "--listen", token.as_ref()).await.context("failed to start the runner")?;
    let address = listener.local_addr().context("failed to read the listener's address")?;
    let master = frameworks::Master { address: config.master.clone(), token: token.clone() };

    let model_dir = crate::predict::model_dir(&data_dir);
    let runs_dir = crate::runs::runs_dir(&data_dir);
    let (owner, inbox) = owner::channel();
    let streams = control::Streams::default();
    let endpoint = match &config.advertise {
        Some(advertise) => format!("{}://{advertise}", tls::scheme()),
        None => format!("{}://{}", tls::scheme(), reached_at(address)),
    };
    let shown = token.as_ref().map(|token| token.reveal().to_string());
    let queries = queries::Queries::new(
        Arc::clone(&tables),
        Some(owner.clone()),
        endpoint.clone(),
        shown,
        model_dir.clone(),
        data_dir.clone(),
    )
    .context("failed to make room for queries")?;
    let book_config = book::Config { endpoint, data_dir, hold_ms: 3_000 };
    let ids = store.frameworks().context("failed to start the runner")?;
    let records = with_manifests(&book_config, store.jobs().context("failed to start the runner")?).await;
    let token_file = config.token_file.as_ref().map(std::fs::canonicalize).transpose()?;
    let schedules = store.schedules().context("failed to start the runner")?;
    let sweeps = store.sweeps().context("failed to start the runner")?;
    let book = Book::new(book_config.clone(), ids, records).with_schedules(owner::now_ms(), schedules);
    let book = book.with_sweeps(sweeps);
    let link = |(framework, id): (Framework, Option<FrameworkId>)| {
        (framework.clone(), frameworks::start(framework, id, master.clone(), owner.clone()))
    };
    let links = book.frameworks().into_iter().map(link).collect();
    let traces = export::Config::from(|name| std::env::var(name).ok());
    let traces = traces.map_err(|error| anyhow::anyhow!(error)).context("failed to start the runner")?;
    let exporter = traces.map(|config| {
        tracing::info!(endpoint = config.endpoint, "traces are sent");
        // Not the client for members of the cluster: a collector has a certificate that the world knows.
        Exporter::start(config, reqwest::Client::new())
    });
    let hands = owner::Hands {
        config: book_config,
        store,
        streams: streams.clone(),
        links,
        master: master.clone(),
        token_file,
        runs: Mutex::new(runs::Runs::new(runs_dir.clone())),
        exporter,
        runtime: tokio::runtime::Handle::current(),
    };
    owner::spawn(&owner, inbox, book, hands).context("failed to start the owner's thread")?;
    frameworks::watch_waiting(master.clone(), owner.clone());
    tick(owner.clone());

    let tasks = TasksServer::new(control::Tasks::new(owner.clone(), streams.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let tasks = InterceptedService::new(tasks, Guard::new(token.clone()));
    let tasks = Routes::new(tasks).into_axum_router().reset_fallback();
    let tasks = tasks.layer(axum::middleware::from_fn(encrypted::members_only));
    let flight = InterceptedService::new(flight::service(queries.clone()), Guard::new(token.clone()));
    let flight = Routes::new(flight).into_axum_router().reset_fallback();
    let http = match tls::http_client() {
        Some(config) => reqwest::Client::builder().use_preconfigured_tls(config).build(),
        None => reqwest::Client::builder().build(),
    };
    let http = http.context("failed to make a client for the agents' logs")?;
    let api = api::Api { owner, master, http, model_dir, runs_dir, queries, streams };
    let guarded = api::router(api)
        .merge(tables::router(tables))
        .layer(axum::middleware::from_fn_with_state(token.clone(), door::require_token));
    // The page is no secret: it asks for the token that it needs to show anything.
    let mut app = guarded.merge(api::page()).merge(tasks).merge(flight).fallback(api::nothing_there);
    if token.is_none() {
        app = app.layer(axum::middleware::from_fn(api::local_only));
    }
    tracing::info!(%address, "runner serves");
    let (end, ending) = watch::channel(false);
    let mut asked_to_end = ending.clone();
    let graceful = async move {
        // An error means that nobody can ask any more.
        let _ = asked_to_end.wait_for(|ending| *ending).await;
    };
    let serving: Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>> = match tls::door(false) {
        None => Box::pin(axum::serve(listener, app).with_graceful_shutdown(graceful).into_future()),
        Some(config) => {
            let app = app.into_make_service_with_connect_info::<Caller>();
            let listener = Encrypted::open(listener, config);
            Box::pin(axum::serve(listener, app).with_graceful_shutdown(graceful).into_future())
        }
    };
    let served = tokio::select! {
        served = serving => served,
        // Who still reads after that is cut off.
        () = async {
            crate::signal::ended().await;
            end.send_replace(true);
            tokio::time::sleep(DRAIN).await;
        } => Ok(()),
    };
    served.context("failed to serve the runner's API")
}

/// Each record with the newest manifest of its job. One that cannot be read is left out: the next generation reads it
/// again and then says what is wrong.
async fn with_manifests(config: &book::Config, records: Vec<Record>) -> Vec<(Record, Option<Manifest>)> {
    let mut with = Vec::with_capacity(records.len());
    for record in records {
        let latest = match (&record.spec.body, Folder::open(&book::checkpoint_folder(config, &record))) {
            (JobBody::Stream(_), Ok(checkpoints)) => manifest::latest(&checkpoints).await.ok().flatten(),
            _ => None,
        };
        with.push((record, latest));
    }
    with
}

fn tick(owner: owner::Owner) {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            owner.tell(Event::Tick).await;
        }
    });
}

/// Where tasks reach a listener: an address that means "all" is not one to connect to.
fn reached_at(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), address.port())
    } else {
        address
    }
}
