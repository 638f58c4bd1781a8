//! Builds the connections of a task before any row flows: one per edge to or from another task.
//!
//! Every task listens at its own address and calls every other one, again and again until all edges stand; the order in
//! which tasks start does not matter. The sender of an edge calls its receiver.
//!
//! Invariant: a caller of another job, of another generation, or without the token is refused, with the reason. A caller
//! that is refused by an *older* generation tries again, since that one is about to go; by a *newer* one it gives up.

use crate::runtime::exchange::EdgeId;
use crate::runtime::exchange::frame::{self, Header, Kind};
use jobs::Peer;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tls::{Socket, Tls};

/// A local answer takes microseconds; a distant one that takes longer than this is tried again.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// Short, because a job's first row waits for it.
const RETRY_WAIT: Duration = Duration::from_millis(10);
const NOTICE_EVERY: Duration = Duration::from_secs(5);
/// The process of the generation before may still hold the address for a moment.
const BIND_PATIENCE: Duration = Duration::from_secs(15);
const MAX_TOKEN_BYTES: u32 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address} for the other tasks of the job; is another program using the port?")]
    Listen {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "connect to task {task} at {address}: it runs generation {theirs} of the job and this is generation {ours}, which is over"
    )]
    Superseded { task: u32, address: String, theirs: u64, ours: u64 },
    #[error("stopped")]
    Stopped,
}

/// Who is connected.
#[derive(Debug)]
pub struct Plan<'a> {
    pub job: &'a str,
    pub generation: u64,
    pub token: Option<&'a str>,
    /// The certificates of this process; absent where connections are not encrypted.
    pub tls: Option<&'a Tls>,
    pub index: u32,
    pub slices: u32,
    pub peers: &'a [Peer],
    /// The exchanges among the dataflow's nodes.
    pub nodes: &'a [u32],
}

#[derive(Debug, Default)]
pub struct Connections {
    pub outgoing: BTreeMap<EdgeId, Socket>,
    pub incoming: BTreeMap<EdgeId, Socket>,
}

impl Plan<'_> {
    fn task_of(&self, slot: u32) -> u32 {
        slot / self.slices
    }

    /// The edges that leave (or reach) this task for (from) others.
    fn edges(&self, outgoing: bool) -> BTreeSet<EdgeId> {
        let n_slots = self.slices * self.peers.len() as u32;
        let mut edges = BTreeSet::new();
        for node in self.nodes.iter().copied() {
            for from_slot in 0..n_slots {
                for to_slot in 0..n_slots {
                    let (near, far) = if outgoing { (from_slot, to_slot) } else { (to_slot, from_slot) };
                    if self.task_of(near) == self.index && self.task_of(far) != self.index {
                        edges.insert(EdgeId { node, from_slot, to_slot });
                    }
                }
            }
        }
        edges
    }

    fn address(&self, task: u32) -> String {
        let Peer { host, port } = &self.peers[task as usize];
        format!("{host}:{port}")
    }

    fn header(&self, edge: EdgeId, kind: Kind, length: usize) -> Header {
        let job = frame::job_hash(self.job);
        Header { job, generation: self.generation, edge, seq: 0, kind, length: length as u32 }
    }
}

/// Connects everything, or fails. `stop` is asked between attempts; `notice` is told what is being waited for.
pub fn connect(
    plan: &Plan<'_>,
    listener: Option<TcpListener>,
    mut stop: impl FnMut() -> bool,
    mut notice: impl FnMut(String),
) -> Result<Connections, Error> {
    let expected = plan.edges(false);
    let mut missing: Vec<EdgeId> = plan.edges(true).into_iter().collect();
    if expected.is_empty() && missing.is_empty() {
        return Ok(Connections::default());
    }
    let listener = match listener {
        Some(listener) => listener,
        None => listen(&plan.address(plan.index), &mut stop)?,
    };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Tasks call each other at the same time, so accepting must not wait for calling.
        let accepting = scope.spawn(|| accept_all(plan, &listener, expected, &over));
        let mut outgoing = BTreeMap::new();
        let mut told = Instant::now();
        let called = loop {
            let mut reasons = BTreeMap::new();
            let mut superseded = None;
            missing.retain(|edge| {
                let task = plan.task_of(edge.to_slot);
                if superseded.is_some() || reasons.contains_key(&task) {
                    return true;
                }
                match call(plan, *edge) {
                    Ok(stream) => {
                        outgoing.insert(*edge, stream);
                        return false;
                    }
                    Err(CallError::Superseded(theirs)) => superseded = Some((task, theirs)),
                    Err(CallError::Later(reason)) => {
                        reasons.insert(task, reason);
                    }
                }
                true
            });
            if let Some((task, theirs)) = superseded {
                let address = plan.address(task);
                break Err(Error::Superseded { task, address, theirs, ours: plan.generation });
            }
            if missing.is_empty() && accepting.is_finished() {
                break Ok(());
            }
            if stop() {
                break Err(Error::Stopped);
            }
            if told.elapsed() >= NOTICE_EVERY {
                told = Instant::now();
                for (task, reason) in reasons {
                    notice(format!("task {task} at {} cannot be reached yet: {reason}", plan.address(task)));
                }
                if missing.is_empty() {
                    notice("waiting for other tasks of the job to connect to this one".to_string());
                }
            }
            std::thread::sleep(RETRY_WAIT);
        };
        over.store(true, Ordering::Relaxed);
        let incoming = match accepting.join() {
            Ok(incoming) => incoming,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        called?;
        Ok(Connections { outgoing, incoming })
    })
}

fn listen(address: &str, stop: &mut impl FnMut() -> bool) -> Result<TcpListener, Error> {
    let begin = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(_) if stop() => return Err(Error::Stopped),
            Err(source) if begin.elapsed() > BIND_PATIENCE || source.kind() != io::ErrorKind::AddrInUse => {
                return Err(Error::Listen { address: address.to_string(), source });
            }
            Err(_) => std::thread::sleep(RETRY_WAIT),
        }
    }
}

fn accept_all(
    plan: &Plan<'_>,
    listener: &TcpListener,
    expected: BTreeSet<EdgeId>,
    over: &AtomicBool,
) -> BTreeMap<EdgeId, Socket> {
    let mut incoming = BTreeMap::new();
    if let Err(error) = listener.set_nonblocking(true) {
        tracing::warn!(%error, "listening socket cannot be polled");
    }
    while incoming.len() < expected.len() && !over.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, from)) => match answer(plan, &expected, stream) {
                // A caller that did not wait for our answer calls again: the later connection counts.
                Ok((edge, stream)) => drop(incoming.insert(edge, stream)),
                Err(error) => tracing::warn!(%from, reason = reason(&error), "caller refused"),
            },
            Err(_) => std::thread::sleep(RETRY_WAIT / 2),
        }
    }
    incoming
}

fn answer(plan: &Plan<'_>, expected: &BTreeSet<EdgeId>, stream: TcpStream) -> io::Result<(EdgeId, Socket)> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    let mut stream = Socket::answer(plan.tls, stream)?;
    stream.shake_hands()?;
    let hello = frame::read_header(&mut stream)?;
    if hello.kind != Kind::Hello || hello.length > MAX_TOKEN_BYTES {
        return Err(frame::malformed(format!("a connection begins with {hello:?}")));
    }
    let mut token = vec![0; hello.length as usize];
    stream.read_exact(&mut token)?;
    let ours = plan.header(hello.edge, Kind::Accepted, 0);
    let refusal = if hello.job != ours.job {
        Some("this task belongs to another job".to_string())
    } else if hello.generation != ours.generation {
        Some(format!("this task is of generation {}, not {}", ours.generation, hello.generation))
    } else if !same_secret(&token, plan.token.unwrap_or_default().as_bytes()) {
        Some("the token is another one".to_string())
    } else if !expected.contains(&hello.edge) {
        Some(format!("no connection is expected for {}", hello.edge))
    } else {
        None
    };
    match refusal {
        None => {
            frame::write(&mut stream, &ours, &[])?;
            stream.tcp().set_read_timeout(None)?;
            Ok((hello.edge, stream))
        }
        Some(reason) => {
            frame::write(&mut stream, &plan.header(hello.edge, Kind::Refused, reason.len()), &[reason.as_bytes()])?;
            Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
        }
    }
}

enum CallError {
    Superseded(u64),
    Later(String),
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        Self::Later(reason(&error))
    }
}

fn call(plan: &Plan<'_>, edge: EdgeId) -> Result<Socket, CallError> {
    let name = plan.address(plan.task_of(edge.to_slot));
    let Peer { host, port } = &plan.peers[plan.task_of(edge.to_slot) as usize];
    let address = (host.as_str(), *port).to_socket_addrs()?.next();
    let address = address.ok_or_else(|| CallError::Later(format!("{host} has no address")))?;
    let stream = TcpStream::connect_timeout(&address, ANSWER_WAIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    let mut stream = Socket::call(plan.tls, stream, &name)?;
    stream.shake_hands()?;
    let token = plan.token.unwrap_or_default().as_bytes();
    frame::write(&mut stream, &plan.header(edge, Kind::Hello, token.len()), &[token])?;
    let answer = frame::read_header(&mut stream)?;
    match answer.kind {
        Kind::Accepted => {
            stream.tcp().set_read_timeout(None)?;
            Ok(stream)
        }
        Kind::Refused if answer.job == frame::job_hash(plan.job) && answer.generation > plan.generation => {
            Err(CallError::Superseded(answer.generation))
        }
        Kind::Refused => {
            let mut reason = vec![0; answer.length.min(1024) as usize];
            stream.read_exact(&mut reason)?;
            Err(CallError::Later(String::from_utf8_lossy(&reason).into_owned()))
        }
        other => Err(CallError::Later(format!("it answered with {other:?}"))),
    }
}

fn reason(error: &io::Error) -> String {
    tls::explain(error).unwrap_or_else(|| error.to_string())
}

/// Takes as long for a wrong secret as for the right one.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}
