//! A connection of threads that wait, encrypted or not, that one thread may read while another writes.
//!
//! The naive way puts a lock around the whole stream; then a reader that waits for bytes keeps the writer out, and two ends
//! that both wait to read never write. Here only the cipher is locked, and never while the network is waited for.
//!
//! Invariant: one thread reads and one writes. What the cipher has to say of itself goes out with the writer's next bytes, so
//! records leave in order.

use crate::{Tls, stream::server_name};
use rustls::{ClientConnection, Connection, ServerConnection};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A little more than the largest record.
const READ_BYTES: usize = 18 << 10;

#[derive(Debug)]
pub struct Socket {
    tcp: TcpStream,
    cipher: Option<Cipher>,
}

#[derive(Debug)]
struct Cipher {
    connection: Arc<Mutex<Connection>>,
    /// What came and was not deciphered yet.
    came: Vec<u8>,
    at: usize,
    /// What is to be sent.
    out: Vec<u8>,
}

impl Cipher {
    fn new(connection: Connection) -> Self {
        Self::over(Arc::new(Mutex::new(connection)))
    }

    fn over(connection: Arc<Mutex<Connection>>) -> Self {
        Self { connection, came: Vec::new(), at: 0, out: Vec::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Socket {
    pub fn plain(tcp: TcpStream) -> Self {
        Self { tcp, cipher: None }
    }

    /// The calling end of a connection to `address` (`host:port`). Nothing has been sent yet but, where it is encrypted, the
    /// first word, so that the other end may take its time before it answers.
    pub fn call(tls: Option<&Tls>, tcp: TcpStream, address: &str) -> io::Result<Self> {
        let Some(tls) = tls else { return Ok(Self::plain(tcp)) };
        let client = ClientConnection::new(Arc::clone(&tls.client), server_name(address)?).map_err(io::Error::other)?;
        let mut socket = Self { tcp, cipher: Some(Cipher::new(client.into())) };
        socket.send_what_is_due()?;
        Ok(socket)
    }

    /// The called end, of a connection between members.
    pub fn answer(tls: Option<&Tls>, tcp: TcpStream) -> io::Result<Self> {
        let Some(tls) = tls else { return Ok(Self::plain(tcp)) };
        let member = tls.member.as_ref().ok_or_else(|| io::Error::other("this process has no certificate"))?;
        let server = ServerConnection::new(Arc::clone(&member.members)).map_err(io::Error::other)?;
        Ok(Self { tcp, cipher: Some(Cipher::new(server.into())) })
    }

    /// Ends the handshake, if there is one. To be called by one thread alone, before anything else is read or written.
    pub fn shake_hands(&mut self) -> io::Result<()> {
        let Self { tcp, cipher: Some(cipher) } = self else { return Ok(()) };
        let mut connection = cipher.lock();
        while connection.is_handshaking() {
            if let Err(error) = connection.complete_io(tcp) {
                hang_up(tcp);
                return Err(error);
            }
        }
        while connection.wants_write() {
            connection.write_tls(tcp)?;
        }
        Ok(())
    }

    /// The same connection, for the thread that writes.
    pub fn try_clone(&self) -> io::Result<Self> {
        let cipher = self.cipher.as_ref().map(|cipher| Cipher::over(Arc::clone(&cipher.connection)));
        Ok(Self { tcp: self.tcp.try_clone()?, cipher })
    }

    /// For its settings, and to shut it down.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    fn send_what_is_due(&mut self) -> io::Result<()> {
        let Some(cipher) = &mut self.cipher else { return Ok(()) };
        let mut out = std::mem::take(&mut cipher.out);
        out.clear();
        {
            let mut connection = cipher.lock();
            while connection.wants_write() {
                connection.write_tls(&mut out)?;
            }
        }
        let sent = self.tcp.write_all(&out);
        cipher.out = out;
        sent
    }
}

/// Closing at once, with words of the other end unread, could take the reason away that was just sent there.
fn hang_up(tcp: &mut TcpStream) {
    let mut unread = [0; 4096];
    if tcp.shutdown(Shutdown::Write).is_ok() {
        // As much as belongs to a handshake; who says more is not waited for.
        for _ in 0..16 {
            if !tcp.read(&mut unread).is_ok_and(|read| read > 0) {
                return;
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Self { tcp, cipher } = self;
        let Some(cipher) = cipher else { return tcp.read(into) };
        loop {
            {
                let connection = Arc::clone(&cipher.connection);
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                match connection.reader().read(into) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                }
                if cipher.at < cipher.came.len() {
                    let mut rest = &cipher.came[cipher.at..];
                    cipher.at += connection.read_tls(&mut rest)?;
                    let state = connection.process_new_packets();
                    state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                    continue;
                }
            }
            cipher.came.resize(READ_BYTES, 0);
            cipher.at = 0;
            let read = tcp.read(&mut cipher.came);
            // Also where nothing came because of a time limit.
            cipher.came.truncate(*read.as_ref().unwrap_or(&0));
            if read? == 0 {
                // An end that is not said in the cipher may be anybody's.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let Some(cipher) = &self.cipher else { return self.tcp.write(from) };
        let taken = cipher.lock().writer().write(from)?;
        self.send_what_is_due()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_what_is_due()?;
        self.tcp.flush()
    }
}
