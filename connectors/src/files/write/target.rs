//! Where the bytes of a file go: a hidden file of a folder, or an upload to a store.
//!
//! Invariant: nothing of a target is visible to readers until it is published by [`super::place`].

use bytes::Bytes;
use object_store::PutPayload;
use object_store::path::Path as Key;
use objects::Bucket;
use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::PathBuf;
use tokio::task::JoinHandle;

/// Bytes of one piece of an upload. Stores take at least 5 MiB and at most 10,000 pieces, so a file may have 80 GB; a
/// slice holds two pieces of each file that it writes.
const PIECE: usize = 8 << 20;

#[derive(Debug)]
pub enum Target {
    /// The file is closed once it is durable.
    Folder {
        path: PathBuf,
        file: Option<BufWriter<File>>,
        bytes: u64,
    },
    Store(Upload),
}

impl Target {
    /// For people.
    pub fn name(&self) -> String {
        match self {
            Self::Folder { path, .. } => path.display().to_string(),
            Self::Store(upload) => upload.location(),
        }
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Self::Folder { bytes, .. } => *bytes,
            Self::Store(upload) => upload.bytes,
        }
    }
}

impl Write for Target {
    fn write(&mut self, content: &[u8]) -> Result<usize> {
        match self {
            Self::Folder { file, bytes, .. } => {
                let closed = || std::io::Error::other("the file is closed");
                let n = file.as_mut().ok_or_else(closed)?.write(content)?;
                *bytes += n as u64;
                Ok(n)
            }
            Self::Store(upload) => {
                upload.take(content);
                Ok(content.len())
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Folder { file, .. } => file.as_mut().map_or(Ok(()), BufWriter::flush),
            Self::Store(_) => Ok(()),
        }
    }
}

/// An object that comes to be in pieces, and is there when the upload is completed.
#[derive(Debug)]
pub struct Upload {
    pub bucket: Bucket,
    pub key: Key,
    pub id: String,
    /// How the store calls the pieces that it has.
    pub pieces: Vec<String>,
    bytes: u64,
    filling: Vec<u8>,
    /// The piece that is on its way. One at a time: while it travels the next one is filled.
    sending: Option<Sending>,
}

#[derive(Debug)]
struct Sending {
    piece: PutPayload,
    /// Absent after a failure, until it is sent again.
    answer: Option<JoinHandle<object_store::Result<String>>>,
}

impl Upload {
    pub fn new(bucket: Bucket, key: Key, id: String) -> Self {
        Self { bucket, key, id, pieces: Vec::new(), bytes: 0, filling: Vec::new(), sending: None }
    }

    pub fn location(&self) -> String {
        format!("{}{}/{}", objects::S3, self.bucket.name, self.key)
    }

    /// Never fails: a piece that does not arrive is kept, and told of by [`Upload::settle`].
    fn take(&mut self, content: &[u8]) {
        self.filling.extend_from_slice(content);
        self.bytes += content.len() as u64;
        if self.filling.len() >= PIECE && self.arrived().is_ok() {
            self.send();
        }
    }

    /// Sends what was filled; the one before has arrived.
    fn send(&mut self) {
        let piece = Bytes::from(std::mem::take(&mut self.filling));
        self.sending = Some(Sending { piece: piece.into(), answer: None });
        self.send_again();
    }

    fn send_again(&mut self) {
        let number = self.pieces.len();
        if let Some(sending) = self.sending.as_mut().filter(|sending| sending.answer.is_none()) {
            let (store, key, id, piece) =
                (self.bucket.store.clone(), self.key.clone(), self.id.clone(), sending.piece.clone());
            let sent = async move { store.put_part(&key, &id, number, piece).await.map(|piece| piece.content_id) };
            sending.answer = Some(self.bucket.handle.spawn(sent));
        }
    }

    /// Waits for the piece that is on its way.
    fn arrived(&mut self) -> object_store::Result<()> {
        self.send_again();
        let Some(answer) = self.sending.as_mut().and_then(|sending| sending.answer.take()) else { return Ok(()) };
        let gone = |why: tokio::task::JoinError| object_store::Error::JoinError { source: why };
        let piece = self.bucket.block_on(answer).map_err(gone)??;
        self.pieces.push(piece);
        self.sending = None;
        Ok(())
    }

    /// Where more is filled than is on its way: waits for that, so that a store which does not answer fills no memory.
    pub fn catch_up(&mut self) -> object_store::Result<()> {
        if self.filling.len() >= PIECE {
            self.arrived()?;
            self.send();
        }
        Ok(())
    }

    /// Sends the rest and waits for all. What failed may be tried again.
    pub fn settle(&mut self) -> object_store::Result<()> {
        self.arrived()?;
        if !self.filling.is_empty() || self.pieces.is_empty() {
            self.send();
            self.arrived()?;
        }
        Ok(())
    }
}
