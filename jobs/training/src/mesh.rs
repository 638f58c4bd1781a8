//! One TCP connection between every two ranks of a generation.
//!
//! A rank listens on its own address, dials every lower rank and is dialled by every higher one; both sides say who they are
//! before anything else. Reading is done by the caller, writing by one thread per connection: if all ranks wrote before they
//! read in one thread, two large messages would fill both socket buffers and wait for each other for ever.
//!
//! Invariant: a lost or stale peer is an error that names the rank, and the other ranks are told which one it was.

use crate::frame::{self, HEADER_BYTES, Header, Refusal, tag};
use jobs::Peer;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tls::{Socket, Tls};
use xxhash_rust::xxh3::xxh3_64;

/// How long a gang may take to find itself: placement is all-or-none, so all processes start within seconds.
const JOIN_LIMIT: Duration = Duration::from_secs(60);
/// A peer that sends nothing for this long is lost. The chief judges the model while the others wait, hence the length; a
/// killed process is noticed at once, by its closed connection.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);
/// A stranger that connects and says nothing must not hold up the others for long.
const HELLO_LIMIT: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(20);
/// Frames waiting for a writer: the one of this exchange while that of the last is still being read by a slow peer, and an
/// abort. An exchange ends only when the peers' frames of it have arrived, so there can be no more.
const OUTBOX_FRAMES: usize = 2;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address} for the other ranks")]
    Listen { address: String, source: io::Error },
    #[error("form a gang of {world}: rank {rank} at {address} did not answer within {seconds} s{last}")]
    Join { world: usize, rank: usize, address: String, seconds: u64, last: String },
    #[error("wait for the other ranks: the job was stopped")]
    Stopped,
    #[error("go on without rank {rank} ({address}): {reason}")]
    LostPeer { rank: usize, address: String, reason: String },
    #[error("take the gradients of step {step} from rank {rank}: it trains tables of other sizes")]
    Rows { rank: usize, step: u64 },
    #[error("take a frame from rank {rank} ({address}): {refusal}")]
    Refused { rank: usize, address: String, refusal: Refusal },
}

pub struct Mesh {
    rank: usize,
    job: u64,
    generation: u64,
    /// By rank; `None` at this rank's own place.
    links: Vec<Option<Link>>,
}

struct Link {
    address: String,
    /// To end what waits in `reader`.
    tcp: TcpStream,
    /// Read by one thread at a time.
    reader: Mutex<Socket>,
    /// Taken when the mesh ends, which lets the writer finish.
    outbox: Option<SyncSender<Arc<Vec<u8>>>>,
    writer: Option<JoinHandle<()>>,
}

/// Who is to find whom.
pub struct Gang<'a> {
    pub job: &'a str,
    pub generation: u64,
    pub rank: usize,
    pub peers: &'a [Peer],
    /// The certificates of this process; absent where connections are not encrypted.
    pub tls: Option<&'a Tls>,
}

impl Mesh {
    /// Listens on this rank's own address. A process of the last generation may hold the port for a moment longer.
    pub fn listen(own: &Peer) -> Result<TcpListener, Error> {
        let address = address_of(own);
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match TcpListener::bind(&address) {
                Ok(listener) => return Ok(listener),
                Err(source) if source.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                    std::thread::sleep(RETRY);
                }
                Err(source) => return Err(Error::Listen { address, source }),
            }
        }
    }

    /// Waits until every rank of the gang is connected.
    pub fn join(gang: &Gang<'_>, listener: &TcpListener, stop: &AtomicBool) -> Result<Self, Error> {
        let world = gang.peers.len();
        let deadline = Instant::now() + JOIN_LIMIT;
        let mut mesh = Self {
            rank: gang.rank,
            job: xxh3_64(gang.job.as_bytes()),
            generation: gang.generation,
            links: (0..world).map(|_| None).collect(),
        };
        // Lower ranks first: rank 0 dials nobody and so always answers, then rank 1 does, and so on up.
        for rank in 0..gang.rank {
            let address = address_of(&gang.peers[rank]);
            let stream = mesh.dial(rank, &address, gang, deadline, stop)?;
            mesh.links[rank] = Some(Link::new(stream, address.clone()).map_err(|error| lost(rank, &address, error))?);
        }
        let listening = |source| Error::Listen { address: address_of(&gang.peers[gang.rank]), source };
        listener.set_nonblocking(true).map_err(listening)?;
        while let Some(missing) = (gang.rank + 1..world).find(|rank| mesh.links[*rank].is_none()) {
            match listener.accept() {
                Ok((stream, _)) => {
                    if let Some((rank, stream)) = mesh.welcome(stream, gang) {
                        let address = address_of(&gang.peers[rank]);
                        let link = Link::new(stream, address.clone()).map_err(|error| lost(rank, &address, error))?;
                        mesh.links[rank] = Some(link);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let address = address_of(&gang.peers[missing]);
                    wait_or_fail(stop, deadline, || join_error(world, missing, address, String::new()))?;
                }
                Err(error) => return Err(listening(error)),
            }
        }
        Ok(mesh)
    }

    pub fn rank(&self) -> usize {
        self.rank
    }

    pub fn world(&self) -> usize {
        self.links.len()
    }

    /// All ranks but this one, in order.
    pub fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.rank;
        (0..self.links.len()).filter(move |rank| *rank != own)
    }

    /// A whole frame, ready to be sent to any number of ranks. `reuse` gives its memory when nobody reads it any more.
    pub fn frame(&self, step: u64, tag: u32, payload: &[u8], reuse: Option<Arc<Vec<u8>>>) -> Arc<Vec<u8>> {
        let mut frame = reuse.and_then(|frame| Arc::try_unwrap(frame).ok()).unwrap_or_default();
        frame.clear();
        frame.reserve_exact(HEADER_BYTES + payload.len());
        frame.extend_from_slice(&self.header(step, tag, payload).to_bytes());
        frame.extend_from_slice(payload);
        Arc::new(frame)
    }

    fn header(&self, step: u64, tag: u32, payload: &[u8]) -> Header {
        Header {
            job: self.job,
            generation: self.generation,
            step,
            tag,
            from: self.rank as u32,
            len: payload.len() as u64,
            checksum: frame::checksum(payload),
        }
    }

    pub fn send(&self, to: usize, frame: &Arc<Vec<u8>>) -> Result<(), Error> {
        let link = self.link(to);
        let outbox = link.outbox.as_ref().expect("the outbox lives as long as the mesh");
        outbox.send(Arc::clone(frame)).map_err(|_| self.told(to, "its connection no longer takes anything".to_string()))
    }

    /// Reads the frame that is due from a rank, of exactly this length.
    pub fn receive_exact(&self, from: usize, step: u64, tag: u32, into: &mut [u8]) -> Result<(), Error> {
        let header = self.receive_header(from, step, tag)?;
        if header.len != into.len() as u64 {
            let expected = into.len() as u64;
            return Err(self.refuse(from, Refusal::Length { got: header.len, expected }));
        }
        self.link(from).reader().read_exact(into).map_err(|error| self.told(from, why(&error)))?;
        self.check_payload(from, &header, into)
    }

    /// Reads the frame that is due from a rank, of whatever length. Memory grows with what arrives, not with what the header
    /// claims.
    pub fn receive(&self, from: usize, step: u64, tag: u32) -> Result<Vec<u8>, Error> {
        let header = self.receive_header(from, step, tag)?;
        self.receive_payload(from, &header)
    }

    /// Reads the next frame of a rank, whatever it is: its step, its tag and what it carries.
    pub fn receive_any(&self, from: usize) -> Result<(u64, u32, Vec<u8>), Error> {
        let header = self.read_header(from)?;
        let due = Header { from: from as u32, ..self.header(0, tag::HELLO, &[]) };
        header.check_sender(&due).map_err(|refusal| self.refuse(from, refusal))?;
        self.heed_abort(from, &header)?;
        Ok((header.step, header.tag, self.receive_payload(from, &header)?))
    }

    /// Whether there is something to read of a rank, if only that it is no longer there.
    #[cfg(target_os = "linux")]
    pub fn has_news(&self, from: usize) -> bool {
        let mut byte = [0_u8];
        let socket = self.link(from).tcp.as_raw_fd();
        // SAFETY: one byte of our own is written at most.
        let seen = unsafe { libc::recv(socket, byte.as_mut_ptr().cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
        let nothing =
            || matches!(io::Error::last_os_error().kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
        seen >= 0 || !nothing()
    }

    /// Why a rank from which nothing is due does not come, though it has news or has been waited for so long.
    #[cfg(target_os = "linux")]
    pub fn absence(&self, from: usize, has_news: bool, waited: Duration) -> Result<(), Error> {
        if has_news {
            let (_, got, _) = self.receive_any(from)?;
            return Err(self.refuse(from, Refusal::Tag { got, expected: tag::ABORT }));
        }
        match waited >= SILENCE_LIMIT {
            true => Err(self.told(from, why(&io::ErrorKind::TimedOut.into()))),
            false => Ok(()),
        }
    }

    /// Those who read are told that nothing comes any more; what was sent still goes out.
    pub fn stop_reading(&self) {
        for link in self.links.iter().flatten() {
            if let Err(error) = link.tcp.shutdown(Shutdown::Read) {
                tracing::debug!(%error, address = link.address, "a connection was closed already");
            }
        }
    }

    fn receive_payload(&self, from: usize, header: &Header) -> Result<Vec<u8>, Error> {
        let mut payload = Vec::new();
        let mut reader = self.link(from).reader();
        let read = Read::by_ref(&mut *reader).take(header.len).read_to_end(&mut payload);
        drop(reader);
        read.map_err(|error| self.told(from, why(&error)))?;
        if payload.len() as u64 != header.len {
            return Err(self.told(from, "it closed the connection in the middle of a frame".to_string()));
        }
        self.check_payload(from, header, &payload)?;
        Ok(payload)
    }

    fn receive_header(&self, from: usize, step: u64, tag: u32) -> Result<Header, Error> {
        let header = self.read_header(from)?;
        let due = Header { from: from as u32, ..self.header(step, tag, &[]) };
        header.check(&due).map_err(|refusal| self.refuse(from, refusal))?;
        self.heed_abort(from, &header)?;
        Ok(header)
    }

    fn read_header(&self, from: usize) -> Result<Header, Error> {
        let mut bytes = [0; HEADER_BYTES];
        let read = self.link(from).reader().read_exact(&mut bytes);
        read.map_err(|error| self.told(from, why(&error)))?;
        Header::from_bytes(&bytes).map_err(|refusal| self.refuse(from, refusal))
    }

    /// A rank that gives up says on whom.
    fn heed_abort(&self, from: usize, header: &Header) -> Result<(), Error> {
        if header.tag == tag::ABORT {
            let payload = self.receive_payload(from, header)?;
            let culprit = payload.try_into().map_or(from, |four| u32::from_le_bytes(four) as usize);
            if culprit >= self.links.len() || culprit == self.rank {
                return Err(self.told(from, format!("it gave up on rank {culprit}")));
            }
            return Err(self.told(culprit, format!("rank {from} lost it")));
        }
        Ok(())
    }

    fn check_payload(&self, from: usize, header: &Header, payload: &[u8]) -> Result<(), Error> {
        if frame::checksum(payload) == header.checksum {
            return Ok(());
        }
        Err(self.refuse(from, Refusal::Checksum { len: header.len }))
    }

    /// The error for what a rank sent, after telling the others which one it was.
    pub fn refuse(&self, rank: usize, refusal: Refusal) -> Error {
        self.abort(rank);
        Error::Refused { rank, address: self.link(rank).address.clone(), refusal }
    }

    /// The error for a lost rank, after telling the others which one it is: each of them would otherwise see only that the
    /// rank before it went away.
    fn told(&self, rank: usize, reason: String) -> Error {
        self.abort(rank);
        Error::LostPeer { rank, address: self.link(rank).address.clone(), reason }
    }

    fn abort(&self, culprit: usize) {
        let frame = self.frame(0, tag::ABORT, &(culprit as u32).to_le_bytes(), None);
        for other in self.others().filter(|other| *other != culprit) {
            if let Some(outbox) = self.links[other].as_ref().and_then(|link| link.outbox.as_ref())
                && let Err(TrySendError::Full(_)) = outbox.try_send(Arc::clone(&frame))
            {
                tracing::debug!(rank = other, "no room to tell of a lost rank");
            }
        }
    }

    fn link(&self, rank: usize) -> &Link {
        self.links[rank].as_ref().unwrap_or_else(|| panic!("rank {} has no connection to rank {rank}", self.rank))
    }

    /// Connects to a lower rank, again and again until it answers as a rank of this generation.
    fn dial(
        &self,
        rank: usize,
        address: &str,
        gang: &Gang<'_>,
        deadline: Instant,
        stop: &AtomicBool,
    ) -> Result<Socket, Error> {
        loop {
            let last = match self.dial_once(rank, address, gang.tls, deadline, stop) {
                Ok(stream) => return Ok(stream),
                Err(error) => format!(" (last: {})", tls::explain(&error).unwrap_or_else(|| error.to_string())),
            };
            wait_or_fail(stop, deadline, || join_error(gang.peers.len(), rank, address.to_string(), last))?;
        }
    }

    fn dial_once(
        &self,
        rank: usize,
        address: &str,
        tls: Option<&Tls>,
        deadline: Instant,
        stop: &AtomicBool,
    ) -> io::Result<Socket> {
        let resolved = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let stream = TcpStream::connect_timeout(&resolved, Duration::from_secs(5))?;
        let hello = self.header(0, tag::HELLO, &[]).to_bytes();
        // Where it is encrypted the first word of the handshake is what waits for an answer.
        let mut stream = Socket::call(tls, stream, address)?;
        if tls.is_none() {
            stream.write_all(&hello)?;
        }
        // The answer comes once that rank has found the ranks below it. Until then the connection is kept: one dropped and
        // dialled again would leave a dead connection in line before the living one.
        stream.tcp().set_read_timeout(Some(RETRY))?;
        while let Err(error) = stream.tcp().peek(&mut [0]) {
            let waiting = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
            if !waiting || Instant::now() >= deadline || stop.load(Ordering::Relaxed) {
                return Err(error);
            }
        }
        stream.tcp().set_read_timeout(Some(HELLO_LIMIT))?;
        if tls.is_some() {
            stream.shake_hands()?;
            stream.write_all(&hello)?;
        }
        let header = read_hello(&mut stream)?;
        let due = Header { from: rank as u32, ..self.header(0, tag::HELLO, &[]) };
        header.check(&due).map_err(io::Error::other)?;
        Ok(stream)
    }

    /// The rank of whoever connected, after answering; `None` for one that is not of this generation, which is let go.
    fn welcome(&self, stream: TcpStream, gang: &Gang<'_>) -> Option<(usize, Socket)> {
        let world = gang.peers.len();
        let greet = || -> io::Result<(usize, Socket)> {
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(HELLO_LIMIT))?;
            let mut stream = Socket::answer(gang.tls, stream)?;
            stream.shake_hands()?;
            let header = read_hello(&mut stream)?;
            let due = Header { from: header.from, ..self.header(0, tag::HELLO, &[]) };
            header.check(&due).map_err(io::Error::other)?;
            let rank = header.from as usize;
            if rank <= self.rank || rank >= world {
                return Err(io::Error::other(format!("rank {rank} of {world} has no business dialling here")));
            }
            stream.write_all(&self.header(0, tag::HELLO, &[]).to_bytes())?;
            Ok((rank, stream))
        };
        let turned_away = |error: &io::Error| {
            let reason = tls::explain(error).unwrap_or_else(|| error.to_string());
            tracing::warn!(reason, "turned away a connection to the gang");
        };
        greet().inspect_err(turned_away).ok()
    }
}

impl Drop for Mesh {
    /// Lets the writers send what is still queued, then ends them.
    fn drop(&mut self) {
        for link in self.links.iter_mut().flatten() {
            link.outbox = None;
        }
        for link in self.links.iter_mut().flatten() {
            if let Some(writer) = link.writer.take()
                && writer.join().is_err()
            {
                tracing::error!(address = link.address, "the writer to a rank ended badly");
            }
        }
    }
}

impl Link {
    fn new(stream: Socket, address: String) -> io::Result<Self> {
        stream.tcp().set_nodelay(true)?;
        stream.tcp().set_nonblocking(false)?;
        stream.tcp().set_read_timeout(Some(SILENCE_LIMIT))?;
        stream.tcp().set_write_timeout(Some(SILENCE_LIMIT))?;
        let mut sender = stream.try_clone()?;
        let tcp = stream.tcp().try_clone()?;
        let (outbox, frames) = sync_channel::<Arc<Vec<u8>>>(OUTBOX_FRAMES);
        let writer = std::thread::Builder::new().name("gradient-writer".to_string()).spawn(move || {
            for frame in frames {
                if let Err(error) = sender.write_all(&frame) {
                    // The reader of this connection sees the same end and reports it with the rank.
                    tracing::debug!(%error, "a rank takes no more frames");
                    return;
                }
            }
        })?;
        Ok(Self { address, tcp, reader: Mutex::new(stream), outbox: Some(outbox), writer: Some(writer) })
    }

    fn reader(&self) -> MutexGuard<'_, Socket> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_hello(stream: &mut impl Read) -> io::Result<Header> {
    let mut bytes = [0; HEADER_BYTES];
    stream.read_exact(&mut bytes)?;
    Header::from_bytes(&bytes).map_err(io::Error::other)
}

fn wait_or_fail(stop: &AtomicBool, deadline: Instant, error: impl FnOnce() -> Error) -> Result<(), Error> {
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Stopped);
    }
    if Instant::now() >= deadline {
        return Err(error());
    }
    std::thread::sleep(RETRY);
    Ok(())
}

fn join_error(world: usize, rank: usize, address: String, last: String) -> Error {
    Error::Join { world, rank, address, seconds: JOIN_LIMIT.as_secs(), last }
}

fn lost(rank: usize, address: &str, error: io::Error) -> Error {
    Error::LostPeer { rank, address: address.to_string(), reason: error.to_string() }
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => "it closed the connection".to_string(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("it sent nothing for {} s", SILENCE_LIMIT.as_secs())
        }
        _ => error.to_string(),
    }
}

fn address_of(peer: &Peer) -> String {
    if peer.host.contains(':') && !peer.host.starts_with('[') {
        return format!("[{}]:{}", peer.host, peer.port);
    }
    format!("{}:{}", peer.host, peer.port)
}
