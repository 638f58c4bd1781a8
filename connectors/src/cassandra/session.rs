//! The driver's sessions and the threads on which they run.
//!
//! Invariant: one runtime and, per cluster and user, one session for the whole process; slices share its connections.
//! Everything here blocks its caller, who must not be inside a runtime itself.

use super::encryption::Encryption;
use super::settings::Settings;
use crate::api::{Error, Result};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError};
use scylla::statement::prepared::PreparedStatement;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle, Runtime};
use tracing::debug;

/// One for the connections, one for what slices spawn; the work is copying bytes and waiting.
const THREADS: usize = 2;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a node may take to act on a change of the schema that it has already told of.
const LAG: Duration = Duration::from_secs(10);
const LAG_STEP: Duration = Duration::from_millis(100);

type Key = (Vec<String>, Option<(String, String)>, Option<Encryption>);

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
/// Weak, so that the last sink or source that goes closes the connections.
static SESSIONS: LazyLock<Mutex<HashMap<Key, Weak<Session>>>> = LazyLock::new(Mutex::default);

fn runtime() -> Result<&'static Runtime> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let made = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("cassandra")
        .enable_all()
        .build()
        .map_err(|why| Error::Fatal(format!("threads for Cassandra cannot be started: {why}")))?;
    Ok(RUNTIME.get_or_init(|| made))
}

pub fn handle() -> Result<Handle> {
    Ok(runtime()?.handle().clone())
}

pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(runtime()?.block_on(future))
}

/// The session of the table's cluster, new or shared.
pub fn connect(settings: &Settings) -> Result<Arc<Session>> {
    let key = (settings.contact_points.clone(), settings.user.clone(), settings.encryption.clone());
    // Held while connecting: the slices of a process open at once and shall find the first one's session.
    let mut sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(session) = sessions.get(&key).and_then(Weak::upgrade) {
        return Ok(session);
    }
    let profile = ExecutionProfile::builder().request_timeout(Some(ANSWER_WITHIN)).build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&settings.contact_points)
        .connection_timeout(CONNECT_WITHIN)
        .default_execution_profile_handle(profile.into_handle());
    if let Some((name, password)) = &settings.user {
        builder = builder.user(name, password);
    }
    if let Some(encryption) = &settings.encryption {
        builder = builder.tls_context(Some(encryption.context()?));
    }
    let session = block_on(async { tokio::time::timeout(3 * CONNECT_WITHIN, builder.build()).await })?;
    let place = settings.place();
    let session = session.map_err(|_| Error::Transient(format!("{place} does not answer")))?.map_err(|why| {
        let text = why.to_string();
        if text.to_lowercase().contains("authentic") {
            return Error::Fatal(format!("{place} refuses the log-in: {text}; check options username and password"));
        }
        if settings.encryption.is_some() && text.contains("certificate") {
            return Error::Fatal(format!(
                "{place} and this end do not trust one another: {text}; see ssl.ca.location and ssl.certificate.location, \
                 and ssl.verify_hostname: nodes are known by their IP addresses"
            ));
        }
        Error::Transient(format!("{place} cannot be reached: {text}"))
    })?;
    let session = Arc::new(session);
    sessions.retain(|_, session| session.strong_count() > 0);
    sessions.insert(key, Arc::downgrade(&session));
    Ok(session)
}

/// What a failed request comes to.
pub fn failed(settings: &Settings, doing: &str, why: &ExecutionError) -> Error {
    let text = format!("{}, table {}: {doing}: {why}", settings.place(), settings.quoted_table());
    let hopeless = match why {
        ExecutionError::BadQuery(_) => true,
        ExecutionError::LastAttemptError(attempt) => attempt_hopeless(attempt),
        ExecutionError::PrepareError(prepare) => prepare_hopeless(prepare),
        _ => false,
    };
    if hopeless { Error::Fatal(text) } else { Error::Transient(text) }
}

/// Prepares a statement on a table that was found, which changes nothing when it is executed again: one that reads, or that
/// carries its timestamp. A node tells of a new table a moment before it takes statements on it.
pub async fn prepare(session: &Session, settings: &Settings, statement: &str) -> Result<PreparedStatement> {
    let until = Instant::now() + LAG;
    loop {
        match session.prepare(statement).await {
            Ok(mut prepared) => {
                prepared.set_execution_profile_handle(Some(settings.policies.profile(session, settings.consistency)));
                prepared.set_is_idempotent(true);
                return Ok(prepared);
            }
            Err(PrepareError::AllAttemptsFailed {
                first_attempt: RequestAttemptError::DbError(DbError::Invalid, _),
            }) if Instant::now() < until => {
                tokio::time::sleep(LAG_STEP).await;
            }
            Err(why) => return Err(unprepared(settings, &why)),
        }
    }
}

/// Executes a change of the schema that may be made again. Changes of several clients at once can fail for a moment.
pub async fn change_schema(session: &Session, settings: &Settings, doing: &str, statement: &str) -> Result<()> {
    let until = Instant::now() + LAG;
    loop {
        let why = match session.query_unpaged(statement, ()).await {
            Ok(_) => return Ok(()),
            Err(why) => why,
        };
        let decided = matches!(
            &why,
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(
                DbError::SyntaxError | DbError::Unauthorized | DbError::AuthenticationError,
                _
            ))
        );
        if decided || Instant::now() >= until {
            return Err(failed(settings, doing, &why));
        }
        debug!(table = %settings.name, doing, %why, "a change of the schema is tried again");
        tokio::time::sleep(LAG_STEP).await;
    }
}

pub fn unprepared(settings: &Settings, why: &PrepareError) -> Error {
    let text = format!("{}, table {}: prepare a statement: {why}", settings.place(), settings.quoted_table());
    if prepare_hopeless(why) { Error::Fatal(text) } else { Error::Transient(text) }
}

fn prepare_hopeless(why: &PrepareError) -> bool {
    match why {
        PrepareError::AllAttemptsFailed { first_attempt } => attempt_hopeless(first_attempt),
        _ => false,
    }
}

/// Whether the server said that the request itself is wrong.
fn attempt_hopeless(why: &RequestAttemptError) -> bool {
    match why {
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => true,
        RequestAttemptError::DbError(error, _) => matches!(
            error,
            DbError::SyntaxError
                | DbError::Invalid
                | DbError::AuthenticationError
                | DbError::Unauthorized
                | DbError::ConfigError
        ),
        _ => false,
    }
}
