//! A task's share of a checkpoint: gathered from its slices, written, and put together.
//!
//! Invariant: a share is complete only when the part of every slice is written. A part that could not be written costs
//! its epoch and nothing else; the coordinator tries a higher one.

use crate::control::TaskSnapshot;
use crate::runtime::shared::{Event, Shared};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What one slice gives to an epoch.
#[derive(Debug, Default)]
pub struct Part {
    pub slot: u32,
    pub epoch: u64,
    pub last: bool,
    /// By operator id, by table: the bytes of the state file.
    pub state: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// By operator id: what the sink prepared.
    pub prepared: BTreeMap<String, Vec<u8>>,
    pub positions: BTreeMap<String, BTreeMap<String, u64>>,
    pub watermarks: BTreeMap<String, BTreeMap<String, i64>>,
}

const PUT_ATTEMPTS: u32 = 3;
const PUT_WAIT: Duration = Duration::from_millis(300);

/// Writes a part in the background and tells when it is done.
pub fn store(shared: &Arc<Shared>, part: Part) {
    let shared = Arc::clone(shared);
    let io = shared.io.clone();
    io.spawn(async move {
        let epoch = part.epoch;
        let result = write(&shared, part).await.map(Box::new);
        shared.tell(Event::Stored { epoch, result });
    });
}

async fn write(shared: &Shared, part: Part) -> Result<TaskSnapshot, String> {
    let folder = format!("epochs/{:010}/{}", part.epoch, shared.config.generation);
    let mut snapshot = TaskSnapshot {
        index: shared.config.index,
        positions: part.positions,
        watermarks: part.watermarks,
        ..TaskSnapshot::default()
    };
    for (operator, tables) in part.state {
        for (table, bytes) in tables {
            let name = format!("{folder}/{operator}-{}.{table}.state", part.slot);
            put(shared, &name, bytes).await?;
            snapshot.state.entry(operator.clone()).or_default().push(name);
        }
    }
    for (operator, bytes) in part.prepared {
        let name = format!("{folder}/{operator}-{}.sink", part.slot);
        put(shared, &name, bytes).await?;
        snapshot.prepared.entry(operator).or_default().push(name);
    }
    Ok(snapshot)
}

async fn put(shared: &Shared, name: &str, bytes: Vec<u8>) -> Result<(), String> {
    for attempt in 1.. {
        match shared.config.checkpoints.put(name, bytes.clone()).await {
            Ok(()) => break,
            Err(error) if attempt == PUT_ATTEMPTS => return Err(format!("{error}: {}", error.source)),
            Err(_) => tokio::time::sleep(PUT_WAIT).await,
        }
    }
    Ok(())
}

/// Puts the parts of a task's slices together.
#[derive(Debug)]
pub struct Gathering {
    slices: u32,
    epoch: u64,
    n_parts: u32,
    snapshot: TaskSnapshot,
}

impl Gathering {
    pub fn new(slices: u32) -> Self {
        Self { slices, epoch: 0, n_parts: 0, snapshot: TaskSnapshot::default() }
    }

    /// The whole share, once the part of the last slice is in. Parts of an epoch that a higher one has overtaken are
    /// forgotten.
    pub fn add(&mut self, epoch: u64, part: TaskSnapshot) -> Option<TaskSnapshot> {
        if epoch < self.epoch {
            return None;
        }
        if epoch > self.epoch {
            (self.epoch, self.n_parts) = (epoch, 0);
            self.snapshot = TaskSnapshot { index: part.index, ..TaskSnapshot::default() };
        }
        for (operator, files) in part.state {
            self.snapshot.state.entry(operator).or_default().extend(files);
        }
        for (operator, files) in part.prepared {
            self.snapshot.prepared.entry(operator).or_default().extend(files);
        }
        for (operator, positions) in part.positions {
            self.snapshot.positions.entry(operator).or_default().extend(positions);
        }
        for (operator, watermarks) in part.watermarks {
            self.snapshot.watermarks.entry(operator).or_default().extend(watermarks);
        }
        self.n_parts += 1;
        (self.n_parts == self.slices).then(|| self.snapshot.clone())
    }
}
