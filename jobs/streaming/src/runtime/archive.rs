//! Writes down what one slice gives to checkpoints, away from the slice's thread, and keeps account of its chains.
//!
//! What a slice gives is a change since what it gave before, whether that was ever published or not. So its parts are
//! written one after another; what could not be written is kept and goes first with the next part, and a chain is told
//! only when every file of it is in the store. A chain may therefore name files of epochs that were given up. Where too
//! much is owed, the slice is asked for a base, which stands for all before it.
//!
//! A chain that has become long, or whose changes outweigh its base, is folded meanwhile ([`fold`]), at most one per
//! slice at a time, with what rows leave of the processors ([`idle`]).
//!
//! Invariant: the files of a chain that is told say, in order, what the operator's state was at the barrier of the epoch.

pub mod account;
mod fold;
mod idle;

use crate::control::{Chain, Level, TaskSnapshot};
use crate::runtime::shared::{Event, Shared};
use crate::runtime::snapshot::{Part, Taken};
use crate::state::file;
use account::{Account, Owed};
use bytes::Bytes;
use fold::Folded;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const PUT_ATTEMPTS: u32 = 3;
const PUT_WAIT: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 300 });
/// A write without an answer for so long has failed, as far as its epoch is concerned.
const PUT_PATIENCE: Duration = Duration::from_secs(60);

/// Parts of a slice, and what came of folding. There are few at a time: one epoch is taken after another.
#[derive(Debug)]
enum Work {
    Part(Box<Part>),
    Folded(Box<Folded>),
}

/// Takes the parts of one slice, in the order in which they were completed.
#[derive(Debug)]
pub struct Archive(UnboundedSender<Work>);

impl Archive {
    pub fn open(shared: &Arc<Shared>, slot: u32) -> Self {
        let (work, todo) = unbounded_channel();
        let account = |operator: &String| {
            let chain = shared.restored.goes_on(operator, slot, shared.n_slots())?;
            Some((operator.clone(), Account::new(chain.clone())))
        };
        let accounts = shared.restored.state.keys().filter_map(account).collect();
        let shared = Arc::clone(shared);
        let io = shared.io.clone();
        let writer = Writer { shared, slot, accounts, folding: false, n_folds: 0, work: work.clone() };
        io.spawn(writer.run(todo));
        Self(work)
    }

    /// Answered by [`Event::Stored`].
    pub fn store(&self, part: Part) {
        // It ends with the task.
        let _ = self.0.send(Work::Part(Box::new(part)));
    }
}

struct Writer {
    shared: Arc<Shared>,
    slot: u32,
    /// By operator id.
    accounts: BTreeMap<String, Account>,
    folding: bool,
    /// Begun by this slice: no two have the same name.
    n_folds: u64,
    work: UnboundedSender<Work>,
}

impl Writer {
    async fn run(mut self, mut todo: UnboundedReceiver<Work>) {
        while let Some(work) = todo.recv().await {
            match work {
                Work::Part(part) => {
                    let epoch = part.epoch;
                    let result = self.write(*part).await.map(Box::new);
                    self.shared.tell(Event::Stored { epoch, result });
                }
                Work::Folded(folded) => self.settle(*folded).await,
            }
            self.begin_fold();
        }
    }

    async fn write(&mut self, part: Part) -> Result<TaskSnapshot, String> {
        let mut snapshot = TaskSnapshot {
            index: self.shared.config.index,
            versions: part.versions,
            positions: part.positions,
            splits: part.splits,
            watermarks: part.watermarks,
            ..TaskSnapshot::default()
        };
        let operators: Vec<String> = part.state.keys().cloned().collect();
        // First all is owed: what was taken must not be lost with what could not be written before it.
        let mut owing = Ok(());
        for (operator, taken) in part.state {
            for taken in taken {
                owing = owing.and(self.owe(&operator, taken).await);
            }
        }
        owing?;
        for operator in operators {
            let Some(account) = self.accounts.get_mut(&operator) else { continue };
            while let Some(owed) = account.next() {
                if let Some(bytes) = &owed.bytes {
                    put(&self.shared, &owed.name, bytes).await?;
                }
                snapshot.bytes_written += account.paid();
            }
            if !account.is_settled() {
                return Err(format!("the state of operator {operator} waits for a base"));
            }
            snapshot.state.insert(operator, vec![account.chain().clone()]);
        }
        let folder = format!("epochs/{:010}/{}", part.epoch, self.shared.folder());
        for (operator, bytes) in part.prepared {
            let name = format!("{folder}/{operator}-{}.sink", part.slot);
            let n_bytes = bytes.len() as u64;
            put(&self.shared, &name, &Bytes::from(bytes)).await?;
            snapshot.prepared.entry(operator).or_default().push(name);
            snapshot.prepared_bytes += n_bytes;
            snapshot.bytes_written += n_bytes;
        }
        Ok(snapshot)
    }

    async fn owe(&mut self, operator: &str, taken: Taken) -> Result<(), String> {
        let Taken { epoch, watermark_us, snapshot } = taken;
        let owner = (self.slot, self.shared.n_slots());
        let contents = snapshot.into_contents(operator, watermark_us, owner);
        let is_base = contents.touched.is_none();
        let encode = move || match contents.says_nothing() {
            true => Ok(None),
            false => file::encode(&contents).map(|bytes| Some(Bytes::from(bytes))),
        };
        let encoded = tokio::task::spawn_blocking(encode).await;
        let bytes = match encoded {
            Ok(Ok(bytes)) => bytes,
            failed => {
                // Only a base can stand for what cannot be told.
                self.account(operator).lose();
                self.shared.want_base(self.slot, operator);
                let error = match failed {
                    Ok(result) => result.err().map(|error| chain_of(&error)).unwrap_or_default(),
                    Err(error) => error.to_string(),
                };
                return Err(format!("state of operator {operator} cannot be encoded: {error}"));
            }
        };
        let name = format!("epochs/{epoch:010}/{}/{operator}-{}.state", self.shared.folder(), self.slot);
        let account = self.account(operator);
        account.owe(Owed { name, bytes, is_base, watermark_us });
        let wants_base = account.wants_base();
        if wants_base {
            self.shared.want_base(self.slot, operator);
        }
        Ok(())
    }

    fn account(&mut self, operator: &str) -> &mut Account {
        let (slot, n_slots) = (self.slot, self.shared.n_slots());
        let empty = || Account::new(Chain { slot, n_slots, ..Chain::default() });
        self.accounts.entry(operator.to_string()).or_insert_with(empty)
    }

    /// A fold has come to its end: the chain begins with it, unless it has another beginning by now.
    async fn settle(&mut self, folded: Folded) {
        self.folding = false;
        let Folded { operator, from, names, result } = folded;
        let account = self.accounts.get_mut(&operator);
        let file = match result {
            Ok(file) => file,
            // With another beginning of the chain, files may be gone that it no longer has.
            Err(_) if !account.is_some_and(|account| account.holds(from, &names)) => return,
            Err(text) => {
                let text = format!("the state files of operator {operator} cannot be folded, and stay many: {text}");
                return self.shared.notice(Level::Warning, text);
            }
        };
        let name = file.name.clone();
        if !account.is_some_and(|account| account.folded(from, &names, file)) {
            // Nothing names it; if it cannot be removed now, it goes with other old files.
            let _ = self.shared.config.checkpoints.delete(&name).await;
        }
    }

    fn begin_fold(&mut self) {
        if self.folding || self.shared.stopped() {
            return;
        }
        let due = |(operator, account): (&String, &Account)| Some((operator.clone(), account.fold_due()?));
        let Some((operator, from)) = self.accounts.iter().find_map(due) else { return };
        let Some(chain) = self.accounts.get(&operator).map(Account::chain) else { return };
        self.folding = true;
        let (shared, work) = (Arc::clone(&self.shared), self.work.clone());
        let (files, watermark_us) = (chain.files[from..].to_vec(), chain.watermark_us);
        let writer = format!("{operator}-{}.{}", self.slot, self.n_folds);
        self.n_folds += 1;
        self.shared.io.spawn(async move {
            let folded = fold::run(&shared, &writer, operator, from, files, watermark_us).await;
            let _ = work.send(Work::Folded(Box::new(folded)));
        });
    }
}

async fn put(shared: &Shared, name: &str, bytes: &Bytes) -> Result<(), String> {
    for attempt in 1.. {
        let put = shared.config.checkpoints.put(name, Bytes::clone(bytes));
        let error = match tokio::time::timeout(PUT_PATIENCE, put).await {
            Ok(Ok(())) => break,
            Ok(Err(error)) => format!("{error}: {}", error.source),
            Err(_) => format!("write {name}: no answer for {} s", PUT_PATIENCE.as_secs()),
        };
        if attempt == PUT_ATTEMPTS {
            return Err(error);
        }
        tokio::time::sleep(PUT_WAIT).await;
    }
    Ok(())
}

/// The error and what caused it.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
