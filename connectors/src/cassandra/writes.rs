//! What one request to the server writes: one row, or several of one partition in an unlogged batch.
//!
//! A batch of one partition costs the server about as much as one row does, and it applies it as a whole; over several
//! partitions it would only make one node the others' coordinator, so there is none.
//!
//! Invariant: rows of one request have different keys, so their order does not matter.

use super::cells::Encoded;
use super::session::failed;
use super::settings::Settings;
use crate::api::Error;
use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use std::time::Duration;

/// Attempts at one request, on top of the driver's own, before the runtime is told; some 1.5 s with the back-off.
const ATTEMPTS: u32 = 5;
const BACK_OFF: Duration = Duration::from_millis(100);

/// Of one batch: the server refuses 50 KiB (`batch_size_fail_threshold`), and beyond this many rows it saves nothing more.
const MOST_ROWS: usize = 50;
const MOST_BYTES: usize = 24 * 1024;

/// Rows with what writes each.
#[derive(Clone, Debug)]
pub struct Request(Vec<(PreparedStatement, Encoded)>);

impl Request {
    pub fn n_rows(&self) -> usize {
        self.0.len()
    }
}

/// The rows of one partition as few requests.
pub fn requests(rows: Vec<(PreparedStatement, Encoded)>) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        let more = row.1.len();
        match requests.last_mut() {
            Some(last) if last.n_rows() < MOST_ROWS && bytes + more <= MOST_BYTES => {
                last.0.push(row);
                bytes += more;
            }
            _ => {
                requests.push(Request(vec![row]));
                bytes = more;
            }
        }
    }
    requests
}

pub async fn execute(session: &Session, settings: &Settings, request: &Request) -> Result<(), ExecutionError> {
    let mut back_off = BACK_OFF;
    let mut attempt = 1;
    loop {
        let why = match once(session, request).await {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        if attempt == ATTEMPTS || matches!(failed(settings, "write", &why), Error::Fatal(_)) {
            return Err(why);
        }
        tokio::time::sleep(back_off).await;
        back_off *= 2;
        attempt += 1;
    }
}

async fn once(session: &Session, request: &Request) -> Result<(), ExecutionError> {
    if let [(statement, row)] = request.0.as_slice() {
        return session.execute_unpaged(statement, row).await.map(|_| ());
    }
    let mut batch = Batch::new(BatchType::Unlogged);
    let profile = request.0.first().and_then(|(statement, _)| statement.get_execution_profile_handle());
    batch.set_execution_profile_handle(profile.cloned());
    // Each of its statements carries its own timestamp.
    batch.set_is_idempotent(true);
    let mut values = Vec::with_capacity(request.n_rows());
    for (statement, row) in &request.0 {
        batch.append_statement(statement.clone());
        values.push(row);
    }
    session.batch(&batch, values).await.map(|_| ())
}
