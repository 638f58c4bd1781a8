//! What the broker must find again besides records: topics, committed offsets, transactions. Keys and values in one
//! append-only file, all of them in memory.
//!
//! Invariant: when `put` returns, the change is in the file (in the system's page cache, as with records); a file that a
//! crash tore is read up to the torn line, and a damaged line costs what it says and nothing else.
//! Why no database: each commit of an offset would wait for the disk. Here, as in Kafka, it waits for a `write`.
//!
//! A line is the CRC-32C of the rest in hexadecimal, then a JSON array: `[key]` for what is gone, `[key, value]`.
//! Memory: the live keys and values, some 150 bytes for each committed offset.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rewritten when it is larger than this and mostly history.
const REWRITE_BYTES: u64 = 8 << 20;

#[derive(Debug)]
pub struct Facts {
    path: PathBuf,
    file: Arc<File>,
    n_bytes: u64,
    n_bytes_live: u64,
    live: BTreeMap<String, Box<str>>,
    dirty: bool,
}

fn line(json: &str) -> String {
    format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes()))
}

/// The JSON of a sound line.
fn sound(line: &str) -> Option<&str> {
    let (sum, json) = line.split_once(' ')?;
    (u32::from_str_radix(sum, 16).ok()? == crc32c::crc32c(json.as_bytes())).then_some(json)
}

/// Takes a line into what lives; none if it is damaged.
fn apply(line: &[u8], live: &mut BTreeMap<String, Box<str>>) -> Option<()> {
    let json = sound(std::str::from_utf8(line).ok()?)?;
    match serde_json::from_str::<Vec<serde_json::Value>>(json).ok()?.as_slice() {
        [serde_json::Value::String(key), value] => live.insert(key.clone(), value.to_string().into_boxed_str()),
        [serde_json::Value::String(key)] => live.remove(key),
        _ => return None,
    };
    Some(())
}

impl Facts {
    pub fn open(path: &Path) -> io::Result<Self> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut live: BTreeMap<String, Box<str>> = BTreeMap::new();
        let mut whole = 0;
        while let Some(length) = bytes[whole..].iter().position(|byte| *byte == b'\n') {
            let line = &bytes[whole..whole + length];
            if apply(line, &mut live).is_none() {
                // Each line stands by itself, so the later ones still count.
                tracing::error!(file = %path.display(), at = whole, "a damaged line is left out");
            }
            whole += length + 1;
        }
        if whole < bytes.len() {
            tracing::warn!(file = %path.display(), kept = whole, found = bytes.len(), "the end is not whole and is left out");
        }
        let file = File::options().create(true).append(true).open(path)?;
        file.set_len(whole as u64)?;
        let n_bytes_live = live.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        Ok(Self {
            path: path.to_path_buf(),
            file: Arc::new(file),
            n_bytes: whole as u64,
            n_bytes_live,
            live,
            dirty: false,
        })
    }

    pub fn get<T: DeserializeOwned>(&self, key: &str) -> io::Result<Option<T>> {
        Ok(self.live.get(key).map(|value| serde_json::from_str(value)).transpose()?)
    }

    /// All whose keys begin with `prefix`, with the rest of their keys.
    pub fn scan<T: DeserializeOwned>(&self, prefix: &str) -> io::Result<Vec<(String, T)>> {
        let from = self.live.range(prefix.to_string()..).take_while(|(key, _)| key.starts_with(prefix));
        from.map(|(key, value)| Ok((key[prefix.len()..].to_string(), serde_json::from_str(value)?))).collect()
    }

    pub fn put<T: Serialize>(&mut self, key: &str, value: &T) -> io::Result<()> {
        let json = serde_json::to_string(value)?;
        self.write(&format!("[{},{json}]", serde_json::to_string(key)?))?;
        self.n_bytes_live += (key.len() + json.len()) as u64;
        if let Some(before) = self.live.insert(key.to_string(), json.into_boxed_str()) {
            self.n_bytes_live -= (key.len() + before.len()) as u64;
        }
        self.rewrite_if_due()
    }

    pub fn remove(&mut self, key: &str) -> io::Result<()> {
        if !self.live.contains_key(key) {
            return Ok(());
        }
        self.write(&format!("[{}]", serde_json::to_string(key)?))?;
        if let Some(before) = self.live.remove(key) {
            self.n_bytes_live -= (key.len() + before.len()) as u64;
        }
        self.rewrite_if_due()
    }

    fn write(&mut self, json: &str) -> io::Result<()> {
        let line = line(json);
        if let Err(error) = (&*self.file).write_all(line.as_bytes()) {
            // Half a line would hide all later ones.
            self.file.set_len(self.n_bytes)?;
            return Err(error);
        }
        self.n_bytes += line.len() as u64;
        self.dirty = true;
        Ok(())
    }

    fn rewrite_if_due(&mut self) -> io::Result<()> {
        if self.n_bytes > REWRITE_BYTES.max(4 * self.n_bytes_live) { self.rewrite() } else { Ok(()) }
    }

    /// Writes what lives into a new file, which then takes the old one's name.
    fn rewrite(&mut self) -> io::Result<()> {
        let mut text = String::new();
        for (key, value) in &self.live {
            text.push_str(&line(&format!("[{},{value}]", serde_json::to_string(key)?)));
        }
        let new = self.path.with_extension("new");
        let file = File::options().create(true).truncate(true).write(true).open(&new)?;
        (&file).write_all(text.as_bytes())?;
        file.sync_data()?;
        std::fs::rename(&new, &self.path)?;
        self.file = Arc::new(File::options().append(true).open(&self.path)?);
        self.n_bytes = text.len() as u64;
        Ok(())
    }

    /// The file, if it was written since this was last asked.
    pub fn take_unflushed(&mut self) -> Option<Arc<File>> {
        std::mem::take(&mut self.dirty).then(|| Arc::clone(&self.file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_again_what_was_put() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("facts");
        let mut facts = Facts::open(&path).unwrap();
        facts.put("a/1", &1).unwrap();
        facts.put("a/2", &2).unwrap();
        facts.put("b", &"x\ny").unwrap();
        facts.remove("a/1").unwrap();
        facts.rewrite().unwrap();
        facts.put("a/3", &3).unwrap();
        drop(facts);
        // A line that a crash tore.
        (&File::options().append(true).open(&path).unwrap()).write_all(b"00000000 [\"a/4\",4]").unwrap();
        let mut facts = Facts::open(&path).unwrap();
        assert_eq!(facts.scan::<u32>("a/").unwrap(), [("2".to_string(), 2), ("3".to_string(), 3)]);
        assert_eq!(facts.get::<String>("b").unwrap().as_deref(), Some("x\ny"));
        facts.put("a/5", &5).unwrap();
        drop(facts);
        assert_eq!(Facts::open(&path).unwrap().scan::<u32>("a/").unwrap().len(), 3);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[12] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let facts = Facts::open(&path).unwrap();
        assert_eq!(facts.scan::<u32>("a/").unwrap(), [("3".to_string(), 3), ("5".to_string(), 5)]);
    }

    #[test]
    fn history_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("facts");
        let mut facts = Facts::open(&path).unwrap();
        let long = "x".repeat(1 << 20);
        for _ in 0..20 {
            facts.put("k", &long).unwrap();
        }
        assert!(path.metadata().unwrap().len() < 10 << 20);
        assert_eq!(Facts::open(&path).unwrap().get::<String>("k").unwrap(), Some(long));
    }
}
