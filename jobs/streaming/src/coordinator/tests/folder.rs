//! A checkpoint folder in memory, and the state of one operator per task that goes there as chains.
//!
//! What is tested is the real account of a slice's chains and the real garbage collection; only what writes files, and what
//! is in them, is a model.

use crate::control::{Chain, Manifest, StateFile};
use crate::coordinator::garbage;
use crate::runtime::archive::account::{Account, Owed};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Manifests that are kept.
const RETAIN: usize = 3;

/// By key.
pub type Rows = BTreeMap<u64, u64>;

fn process(rows: &mut Rows, row: u64) -> u64 {
    let key = row % 7;
    match row % 11 {
        0 => rows.remove(&key),
        _ => rows.insert(key, row),
    };
    key
}

pub fn state_at(n_rows: u64) -> Rows {
    let mut rows = Rows::new();
    for row in 0..n_rows {
        process(&mut rows, row);
    }
    rows
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    touched: Option<BTreeSet<u64>>,
    rows: Rows,
}

fn encode(file: &File) -> Bytes {
    serde_json::to_vec(file).expect("encoded").into()
}

fn fold(files: &[File]) -> File {
    let (mut touched, mut rows) = (Some(BTreeSet::new()), Rows::new());
    for file in files {
        match &file.touched {
            None => {
                rows.clear();
                touched = None;
            }
            Some(keys) => {
                rows.retain(|key, _| !keys.contains(key));
                if let Some(touched) = &mut touched {
                    touched.extend(keys);
                }
            }
        }
        rows.extend(&file.rows);
    }
    File { touched, rows }
}

#[derive(Default)]
pub struct Folder {
    files: BTreeMap<String, Bytes>,
    pub savepoints: Vec<Manifest>,
    /// What was listed by collections of garbage that have not removed anything yet.
    listed: Vec<Vec<String>>,
    /// Writes of tasks that have died.
    orphans: Vec<(String, Bytes)>,
}

impl Folder {
    fn read(&self, name: &str) -> File {
        let bytes = self.files.get(name).unwrap_or_else(|| panic!("{name} is gone"));
        serde_json::from_slice(bytes).expect("decoded")
    }

    fn said(&self, chain: &Chain) -> Rows {
        let files: Vec<File> = chain.files.iter().map(|file| self.read(&file.name)).collect();
        assert!(files.first().is_none_or(|file| file.touched.is_none()), "a chain begins with a base: {chain:?}");
        fold(&files).rows
    }

    /// Whether a restart from here would find all.
    pub fn check(&self, manifest: &Manifest) {
        for task in &manifest.tasks {
            let rows = self.said(&task.state["operator"][0]);
            assert_eq!(rows, state_at(task.positions["source"]["split"]), "epoch {}", manifest.epoch);
        }
    }

    pub fn begin_collecting(&mut self) {
        self.listed.push(self.files.keys().cloned().collect());
    }

    /// Ends a collection that was begun, maybe long ago.
    pub fn collect(&mut self, manifests: &[Manifest]) {
        let Some(latest) = manifests.last() else { return };
        let retained = &manifests[manifests.len().saturating_sub(RETAIN)..];
        if let Some(listed) = self.listed.pop() {
            let kept: Vec<Manifest> = retained.iter().chain(&self.savepoints).cloned().collect();
            for file in garbage::over(&listed, &kept, latest) {
                self.files.remove(file);
            }
            kept.iter().for_each(|manifest| self.check(manifest));
            if self.listed.is_empty() {
                let n_named: usize = kept.iter().map(|manifest| manifest.files().count()).sum();
                assert!(self.files.len() < n_named + 200, "{} files, {n_named} named", self.files.len());
            }
        }
    }

    pub fn orphan(&mut self, mut state: State) {
        while let Some(Owed { name, bytes: Some(bytes), .. }) = state.account.next() {
            self.orphans.push((name.clone(), bytes.clone()));
            state.account.paid();
        }
    }

    pub fn land_orphan(&mut self) {
        self.files.extend(self.orphans.pop());
    }
}

/// What came of writing one file.
pub enum Paid {
    More,
    Failed,
    All(Chain),
}

#[derive(Default)]
pub struct State {
    index: u32,
    /// Generation and life.
    owner: String,
    rows: Rows,
    touched: BTreeSet<u64>,
    wants_all: bool,
    /// What was taken for a part that is not complete.
    taken: Vec<Owed>,
    /// What was handed over, and by which part.
    handed: Vec<Owed>,
    account: Account,
    /// The place of the files that are being folded, and they.
    folding: Option<(usize, Vec<String>)>,
    n_folds: u64,
}

impl State {
    pub fn new(index: u32, owner: String) -> Self {
        let chain = Chain { slot: index, n_slots: 1, ..Chain::default() };
        Self { index, owner, wants_all: true, account: Account::new(chain), ..Self::default() }
    }

    pub fn restore(&mut self, folder: &Folder, chain: &Chain, goes_on: bool) {
        self.rows = folder.said(chain);
        if goes_on {
            self.account = Account::new(chain.clone());
            self.wants_all = false;
        }
    }

    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    pub fn process(&mut self, row: u64) {
        let key = process(&mut self.rows, row);
        self.touched.insert(key);
    }

    /// The barrier of an epoch has come.
    pub fn take(&mut self, epoch: u64) {
        let touched = std::mem::take(&mut self.touched);
        let is_base = std::mem::take(&mut self.wants_all);
        let name = format!("epochs/{epoch:010}/{}/operator-{}.state", self.owner, self.index);
        let mut rows = self.rows.clone();
        if is_base {
            self.taken.clear();
        } else {
            rows.retain(|key, _| touched.contains(key));
        }
        let says_nothing = !is_base && touched.is_empty();
        let file = File { touched: (!is_base).then_some(touched), rows };
        let bytes = (!says_nothing).then(|| encode(&file));
        self.taken.push(Owed { name, bytes, is_base, watermark_us: 0 });
    }

    /// The part is complete.
    pub fn hand_over(&mut self) {
        self.handed.append(&mut self.taken);
    }

    /// The first thing that was handed over cannot be written at all.
    pub fn lose(&mut self) {
        if !self.handed.is_empty() {
            self.handed.remove(0);
            self.account.lose();
        }
    }

    /// Writes the next file. `lands`: whether one that fails is in the store all the same.
    pub fn pay(&mut self, folder: &mut Folder, epoch: u64, fails: bool, lands: bool) -> Paid {
        // Parts are written one after another.
        let number = |owed: &Owed| owed.name.split('/').nth(1).and_then(|epoch| epoch.parse::<u64>().ok());
        while self.handed.first().and_then(number).is_some_and(|of| of <= epoch) {
            self.account.owe(self.handed.remove(0));
        }
        self.wants_all |= self.account.wants_base();
        if let Some(Owed { name, bytes, .. }) = self.account.next() {
            if let Some(bytes) = bytes.as_ref().filter(|_| lands || !fails) {
                folder.files.insert(name.clone(), bytes.clone());
            }
            if fails {
                return Paid::Failed;
            }
            self.account.paid();
            return Paid::More;
        }
        if !self.account.is_settled() { Paid::Failed } else { Paid::All(self.account.chain().clone()) }
    }

    /// Begins to fold a long chain, or ends it.
    pub fn fold(&mut self, folder: &mut Folder, ends: bool) {
        let Some((from, names)) = self.folding.take_if(|_| ends) else {
            if let (Some(from), None) = (self.account.fold_due(), &self.folding) {
                let names = self.account.chain().files[from..].iter().map(|file| file.name.clone()).collect();
                self.folding = Some((from, names));
            }
            return;
        };
        // Somebody else's base may have come, and the files may have gone.
        if names.iter().any(|name| !folder.files.contains_key(name)) {
            assert!(!self.account.chain().files.iter().any(|file| names.contains(&file.name)), "{names:?}");
            return;
        }
        let files: Vec<File> = names.iter().map(|name| folder.read(name)).collect();
        let bytes = encode(&fold(&files));
        let number = names.last().and_then(|name| name.split('/').nth(1)).expect("a number");
        let name = format!("folds/{number}/{}/operator-{}.{}.state", self.owner, self.index, self.n_folds);
        self.n_folds += 1;
        let file = StateFile { name: name.clone(), bytes: bytes.len() as u64 };
        folder.files.insert(name.clone(), bytes);
        if !self.account.folded(from, &names, file) {
            folder.files.remove(&name);
        }
    }
}
