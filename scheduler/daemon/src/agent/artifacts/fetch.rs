//! Brings the bytes of an artifact from where it is, once.
//!
//! Invariant: what is written ends where it says that it ends: a connection that broke is an error, and no short file.

use jobs::artifacts::Source;
use object_store::{GetOptions, GetRange, ObjectStore};
use objects::Bucket;
use reqwest::{StatusCode, header};
use ring::digest::{Context, SHA256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_stream::StreamExt;

const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// A source that sends nothing for so long has stopped.
const SILENCE_MOST: Duration = Duration::from_secs(60);

/// What is asked of a store at once: it answers each request within its own time.
const PIECE_BYTES: u64 = 16 << 20;

const TRIES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// What became of a download.
pub enum Got {
    /// What was had before is still what is there.
    Same,
    New {
        sha256: String,
        bytes: u64,
        /// By which the source says whether it is still the same; empty if it does not.
        validator: String,
    },
}

enum Failure {
    /// It may go better the next time.
    Passing(String),
    Lasting(String),
}

/// Writes into `to`, which is empty, unless the source says that it is still what `validator` says. Tries again what may
/// be passing.
pub async fn fetch(source: Source<'_>, validator: &str, to: &File, most_bytes: u64) -> Result<Got, String> {
    let mut wait = FIRST_WAIT;
    for left in (0..TRIES).rev() {
        let fetched = match source {
            Source::Http(url) => from_http(url, validator, to, most_bytes).await,
            Source::Store { bucket, key } => from_store(bucket, key, validator, to, most_bytes).await,
            Source::File(_) => Err(Failure::Lasting("it is on this machine".to_string())),
        };
        match fetched {
            Ok(got) => return Ok(got),
            Err(Failure::Lasting(why)) => return Err(why),
            Err(Failure::Passing(why)) if left == 0 => return Err(why),
            Err(Failure::Passing(_)) => tokio::time::sleep(wait).await,
        }
        wait *= 4;
    }
    Err("it was not tried".to_string())
}

async fn from_http(url: &str, validator: &str, to: &File, most_bytes: u64) -> Result<Got, Failure> {
    let mut request = client().map_err(Failure::Lasting)?.get(url);
    match validator.split_once(' ') {
        Some(("etag", tag)) => request = request.header(header::IF_NONE_MATCH, tag),
        Some(("date", date)) => request = request.header(header::IF_MODIFIED_SINCE, date),
        _ => {}
    }
    let response = request.send().await.map_err(|error| unreached(&error))?;
    let status = response.status();
    if status == StatusCode::NOT_MODIFIED {
        return Ok(Got::Same);
    }
    if !status.is_success() {
        let why = format!("it is answered with {status}");
        let is_passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        return Err(if is_passing { Failure::Passing(why) } else { Failure::Lasting(why) });
    }
    let head = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let validator = match (head(header::ETAG), head(header::LAST_MODIFIED)) {
        (Some(tag), _) => format!("etag {tag}"),
        (None, Some(date)) => format!("date {date}"),
        (None, None) => String::new(),
    };
    if response.content_length().is_some_and(|length| length > most_bytes) {
        return Err(too_large(most_bytes));
    }
    let mut sink = Sink::open(to, most_bytes)?;
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) => sink.take(&chunk).await?,
            Err(error) => {
                sink.settle().await;
                return Err(unreached(&error));
            }
        }
    }
    sink.finish(validator).await
}

async fn from_store(bucket: &str, key: &str, validator: &str, to: &File, most_bytes: u64) -> Result<Got, Failure> {
    use object_store::Error as E;
    let failed = |error: E| Failure::Lasting(error.to_string());
    let bucket = Bucket::open(bucket).map_err(failed)?;
    let key = object_store::path::Path::parse(key).map_err(|error| Failure::Lasting(error.to_string()))?;
    let tag = (!validator.is_empty()).then(|| validator.to_string());
    let options = GetOptions { if_none_match: tag, head: true, ..GetOptions::default() };
    let found = match bucket.store.get_opts(&key, options).await {
        Ok(found) => found.meta,
        Err(E::NotModified { .. }) => return Ok(Got::Same),
        Err(E::NotFound { .. }) => return Err(Failure::Lasting("there is no such object".to_string())),
        // The client has tried it again itself.
        Err(error) => return Err(failed(error)),
    };
    if found.size > most_bytes {
        return Err(too_large(most_bytes));
    }
    let mut sink = Sink::open(to, most_bytes)?;
    while sink.bytes < found.size {
        let end = found.size.min(sink.bytes + PIECE_BYTES);
        // Of another object under the name there is no piece.
        let range = Some(GetRange::Bounded(sink.bytes..end));
        let options = GetOptions { if_match: found.e_tag.clone(), range, ..GetOptions::default() };
        let piece = match bucket.store.get_opts(&key, options).await {
            Ok(piece) => piece.bytes().await,
            Err(error) => Err(error),
        };
        match piece {
            Ok(piece) => sink.take(&piece).await?,
            Err(error) => return Err(sink.broken(error.to_string()).await),
        }
    }
    sink.finish(found.e_tag.unwrap_or_default()).await
}

fn client() -> Result<&'static reqwest::Client, String> {
    static CLIENT: OnceLock<Result<reqwest::Client, String>> = OnceLock::new();
    let open = || {
        let builder = reqwest::Client::builder().connect_timeout(CONNECT_WITHIN).read_timeout(SILENCE_MOST);
        builder.user_agent(concat!("smack/", env!("CARGO_PKG_VERSION"))).build().map_err(|error| error.to_string())
    };
    CLIENT.get_or_init(open).as_ref().map_err(Clone::clone)
}

/// With its causes, and without the address, which may have a secret in it.
fn unreached(error: &reqwest::Error) -> Failure {
    use std::error::Error;
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    let why = match causes.is_empty() {
        true if error.is_timeout() => "it does not answer in time".to_string(),
        true => "it cannot be reached".to_string(),
        false => format!("it cannot be reached: {}", causes.join(": ")),
    };
    if error.is_builder() || error.is_redirect() { Failure::Lasting(why) } else { Failure::Passing(why) }
}

fn too_large(most_bytes: u64) -> Failure {
    Failure::Lasting(format!("it is larger than the {most_bytes} bytes that there is room for"))
}

/// Bytes on their way to a file, counted and summed.
struct Sink {
    file: tokio::fs::File,
    sum: Context,
    bytes: u64,
    most_bytes: u64,
}

impl Sink {
    /// What an earlier try left is overwritten.
    fn open(to: &File, most_bytes: u64) -> Result<Self, Failure> {
        use std::io::Seek;
        let mut file = to.try_clone().map_err(unwritten)?;
        file.set_len(0).and_then(|()| file.rewind()).map_err(unwritten)?;
        Ok(Self { file: file.into(), sum: Context::new(&SHA256), bytes: 0, most_bytes })
    }

    async fn take(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        self.bytes += chunk.len() as u64;
        if self.bytes > self.most_bytes {
            return Err(too_large(self.most_bytes));
        }
        self.sum.update(chunk);
        self.file.write_all(chunk).await.map_err(unwritten)
    }

    /// Nothing of this try is written any more when the next one begins.
    async fn settle(&mut self) {
        // The next one writes it all again.
        let _ = self.file.flush().await;
    }

    async fn broken(mut self, why: String) -> Failure {
        self.settle().await;
        Failure::Passing(why)
    }

    async fn finish(mut self, validator: String) -> Result<Got, Failure> {
        self.file.flush().await.map_err(unwritten)?;
        self.file.sync_all().await.map_err(unwritten)?;
        Ok(Got::New { sha256: hex(self.sum), bytes: self.bytes, validator })
    }
}

fn unwritten(error: io::Error) -> Failure {
    Failure::Lasting(format!("it cannot be written: {error}"))
}

fn hex(sum: Context) -> String {
    let mut text = String::with_capacity(64);
    for byte in sum.finish().as_ref() {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

/// Of a whole file, which is then at its beginning again. Blocks.
pub fn sha256_of(file: &mut File) -> io::Result<String> {
    use std::io::Seek;
    let mut sum = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => sum.update(&buffer[..n]),
        }
    }
    file.rewind()?;
    Ok(hex(sum))
}
