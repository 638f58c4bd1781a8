//! Encrypted connections of one cluster: its certificates, and what servers and clients make of them.
//!
//! Every member (master, agent, runner, task) has a certificate that one CA has signed, and shows it both as a server and
//! as a client. Whoever only asks the runner (the command line, a browser) needs the CA to know it by, and the token.
//!
//! Invariant: which certificates a process has is settled once, before its first connection: it is a member of one
//! cluster. Where it has none, nothing is encrypted, and nothing here does anything.
//! Invariant: an error says which file or which end is wrong, and the way out ([`explain`]).
//!
//! *Absent:* tokens, protocols, jobs.

mod error;
mod files;
mod incoming;
mod socket;
mod stream;
#[cfg(test)]
mod tests;

pub use error::explain;
pub use files::{Error, Files};
pub use incoming::{Incoming, Peer};
pub use socket::Socket;
pub use stream::{Stream, connect};

pub use rustls::{ClientConfig, ServerConfig};
use std::sync::{Arc, OnceLock};

/// What this process has.
#[derive(Debug)]
pub struct Tls {
    /// Where it was read from; tasks are told.
    pub files: Files,
    pub client: Arc<ClientConfig>,
    /// Absent where only the CA is known.
    pub member: Option<Member>,
}

/// The two ways in which a member serves.
#[derive(Clone, Debug)]
pub struct Member {
    /// For members alone: who has no certificate of the CA is refused.
    pub members: Arc<ServerConfig>,
    /// For everybody; a certificate that is shown must be the CA's all the same.
    pub everybody: Arc<ServerConfig>,
}

static PROCESS: OnceLock<Tls> = OnceLock::new();

/// Settles what this process has. `files`: nothing in them means that nothing is encrypted.
pub fn settle(files: Files) -> Result<(), Error> {
    if let Some(tls) = Tls::load(files)? {
        // Said again only by a test; the first word counts.
        let _ = PROCESS.set(tls);
    }
    Ok(())
}

/// What this process has, if anything.
pub fn process() -> Option<&'static Tls> {
    PROCESS.get()
}

/// How a door of this process is served, if it is encrypted: to `members` alone, or to everybody.
pub fn door(members: bool) -> Option<Arc<ServerConfig>> {
    let member = process()?.member.as_ref()?;
    Some(Arc::clone(if members { &member.members } else { &member.everybody }))
}

/// `https` where doors of the cluster are encrypted, else `http`.
pub fn scheme() -> &'static str {
    if process().is_some() { "https" } else { "http" }
}

/// The settings of an HTTP client that speaks with the cluster, if it is encrypted.
pub fn http_client() -> Option<ClientConfig> {
    process().map(|tls| ClientConfig::clone(&tls.client))
}
