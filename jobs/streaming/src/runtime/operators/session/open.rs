//! Which sessions are open: the times of their first and last rows, by key.
//!
//! Invariant: of one key, sessions are at least a gap apart and in order; the end of each is after the time up to which
//! sessions were closed.
//!
//! Where answers may change, sessions stay for a while after they were answered. Then each knows its answers that are out
//! (several, if several became one), and keys are noted that have something to say or will have when the watermark comes
//! to a time.

use super::layers::{Fragment, Layers};
use crate::runtime::operators::encoding::{ROW_OVERHEAD_BYTES, RowBytes};
use crate::runtime::operators::touched::{Selection, selects};
use std::collections::{BTreeMap, BTreeSet, HashMap};

#[derive(Debug)]
pub struct Session {
    pub first: i64,
    pub last: i64,
    /// Those of the live layer come last.
    pub fragments: Vec<Fragment>,
    /// Answers that are out.
    pub said: Vec<RowBytes>,
    /// Its answers are no longer right.
    pub dirty: bool,
    /// Its key is looked at when the watermark comes to its end, or before.
    queued: bool,
}

/// A session that is over.
#[derive(Debug)]
pub struct Closed {
    pub key: RowBytes,
    pub session: Session,
}

/// A session that is open.
#[derive(Debug)]
pub struct Listed {
    pub key: RowBytes,
    pub hash: u64,
    pub first: i64,
    pub last: i64,
}

#[derive(Debug, Default)]
struct OfKey {
    /// In order of time; mostly one.
    sessions: Vec<Session>,
    /// Of the key; known once it was in a snapshot.
    hash: u64,
    /// Whether a row has come, or an answer was given, since the last snapshot.
    touched: bool,
    /// When the key is looked at next: not after the end of any of its sessions.
    check_us: i64,
}

#[derive(Debug)]
pub struct Open {
    gap_us: i64,
    by_key: HashMap<RowBytes, OfKey>,
    /// The keys by when they are looked at. A session that goes on is not moved here with every row, but when its key's
    /// turn comes.
    checks: BTreeSet<(i64, RowBytes)>,
    /// How many sessions begin when.
    starts: BTreeMap<i64, usize>,
    n_sessions: usize,
    keys_bytes: usize,
    answers: Option<Answers>,
}

/// What is to be said, where answers may change.
#[derive(Debug)]
struct Answers {
    watermark_us: i64,
    /// The keys with sessions to answer, by when.
    due: BTreeSet<(i64, RowBytes)>,
    /// The keys with answers that are no longer right.
    touched: BTreeSet<RowBytes>,
    said_bytes: usize,
    /// The hashes of keys whose sessions went that a snapshot had answers of.
    gone: Vec<u64>,
}

/// A session whose answer is asked for, or whose answers are to be taken back.
#[derive(Debug)]
pub struct Asked {
    pub key: RowBytes,
    /// Of the key's sessions which one it is.
    at: usize,
    pub first: i64,
    pub last: i64,
    pub fragments: Vec<Fragment>,
    pub before: Vec<RowBytes>,
    /// The watermark has come to its end.
    pub over: bool,
}

impl Open {
    /// `changes`: whether sessions may be answered more than once.
    pub fn new(gap_us: i64, changes: bool) -> Self {
        let (due, touched) = (BTreeSet::new(), BTreeSet::new());
        let answers = Answers { watermark_us: i64::MIN, due, touched, said_bytes: 0, gone: Vec::new() };
        Self {
            answers: changes.then_some(answers),
            gap_us,
            by_key: HashMap::new(),
            checks: BTreeSet::new(),
            starts: BTreeMap::new(),
            n_sessions: 0,
            keys_bytes: 0,
        }
    }

    pub fn n_sessions(&self) -> usize {
        self.n_sessions
    }

    pub fn first_start(&self) -> Option<i64> {
        self.starts.first_key_value().map(|(start, _)| *start)
    }

    /// Not after the end of any session.
    pub fn next_check(&self) -> Option<i64> {
        self.checks.first().map(|(check_us, _)| *check_us)
    }

    /// When a session is to be answered next, where answers may change.
    pub fn next_due(&self) -> Option<i64> {
        self.answers.as_ref().and_then(|answers| answers.due.first()).map(|(due_us, _)| *due_us)
    }

    /// The live fragment of the session that a row belongs to. None if the row is late: sessions that end at or before
    /// `settled_us` are over.
    pub fn place(&mut self, key: &[u8], time: i64, settled_us: i64, layers: &mut Layers) -> Option<u32> {
        let gap_us = self.gap_us;
        if time + gap_us <= settled_us {
            let of_key = self.by_key.get_mut(key)?;
            let sessions = &mut of_key.sessions;
            let within = sessions.iter().position(|session| session.first <= time && time <= session.last)?;
            let fragment = layers.live_fragment(&mut sessions[within].fragments);
            of_key.touched = true;
            self.changed(key, within);
            return Some(fragment);
        }
        let of_key = match self.by_key.get_mut(key) {
            Some(of_key) => of_key,
            None => {
                let key = RowBytes::from(key);
                self.keys_bytes += key.len();
                let check_us = time + gap_us;
                self.checks.insert((check_us, RowBytes::clone(&key)));
                let sessions = Vec::with_capacity(1);
                self.by_key.entry(key).or_insert(OfKey { sessions, check_us, ..OfKey::default() })
            }
        };
        of_key.touched = true;
        let sessions = &mut of_key.sessions;
        let at = sessions.partition_point(|session| session.last + gap_us <= time);
        let mut check_us = of_key.check_us;
        match sessions.get_mut(at).filter(|session| session.first - gap_us < time) {
            Some(session) => {
                if time < session.first {
                    forget_start(&mut self.starts, session.first);
                    *self.starts.entry(time).or_default() += 1;
                    session.first = time;
                }
                session.last = session.last.max(time);
                // The row may have closed the gap to the next session; to the one before it cannot.
                let last = session.last;
                if sessions.get(at + 1).is_some_and(|next| next.first - gap_us < last) {
                    let next = sessions.remove(at + 1);
                    forget_start(&mut self.starts, next.first);
                    self.n_sessions -= 1;
                    sessions[at].absorb(next, layers);
                }
            }
            None => {
                sessions.insert(at, Session::new(time, time, Vec::with_capacity(1)));
                self.n_sessions += 1;
                *self.starts.entry(time).or_default() += 1;
                check_us = check_us.min(time + gap_us);
            }
        }
        let fragment = layers.live_fragment(&mut sessions[at].fragments);
        if check_us < of_key.check_us {
            self.check_at(key, check_us);
        }
        self.changed(key, at);
        Some(fragment)
    }

    /// A row has come for this session of the key.
    fn changed(&mut self, key: &[u8], at: usize) {
        let Some(answers) = &mut self.answers else { return };
        let Some((key, _)) = self.by_key.get_key_value(key) else { return };
        let key = RowBytes::clone(key);
        let Some(session) = self.by_key.get_mut(&key).and_then(|of_key| of_key.sessions.get_mut(at)) else { return };
        let end = session.last + self.gap_us;
        let over = end <= answers.watermark_us;
        if !session.dirty && (over || !session.said.is_empty()) {
            session.dirty = true;
            answers.touched.insert(RowBytes::clone(&key));
        }
        if !over && !session.queued {
            session.queued = true;
            answers.due.insert((end, key));
        }
    }

    /// The watermark has come this far: sessions whose ends it has passed are to be answered.
    pub fn advance(&mut self, watermark_us: i64) {
        let Some(answers) = &mut self.answers else { return };
        answers.watermark_us = watermark_us;
        while answers.due.first().is_some_and(|(due_us, _)| *due_us <= watermark_us) {
            let Some((_, key)) = answers.due.pop_first() else { break };
            let Some(of_key) = self.by_key.get_mut(&key) else { continue };
            for session in of_key.sessions.iter_mut().filter(|session| session.queued) {
                let end = session.last + self.gap_us;
                if end <= watermark_us {
                    (session.queued, session.dirty) = (false, true);
                    answers.touched.insert(RowBytes::clone(&key));
                } else {
                    // It went on since it was noted, or is another of the key's.
                    answers.due.insert((end, RowBytes::clone(&key)));
                }
            }
        }
    }

    /// The keys that have something to say.
    pub fn n_touched(&self) -> usize {
        self.answers.as_ref().map_or(0, |answers| answers.touched.len())
    }

    /// Takes out what is to be said, in the order of ends; [`Open::said`] wants the answers.
    pub fn asked(&mut self) -> Vec<Asked> {
        let Some(answers) = &mut self.answers else { return Vec::new() };
        let mut asked = Vec::new();
        for key in std::mem::take(&mut answers.touched) {
            let Some(of_key) = self.by_key.get_mut(&key) else { continue };
            for (at, session) in of_key.sessions.iter_mut().enumerate().filter(|(_, session)| session.dirty) {
                session.dirty = false;
                of_key.touched = true;
                let before = std::mem::take(&mut session.said);
                answers.said_bytes -= before.iter().map(|row| row.len() + ROW_OVERHEAD_BYTES).sum::<usize>();
                let Session { first, last, .. } = *session;
                let over = last + self.gap_us <= answers.watermark_us;
                let fragments = session.fragments.clone();
                asked.push(Asked { key: RowBytes::clone(&key), at, first, last, fragments, before, over });
            }
        }
        asked.sort_by(|a, b| (a.last, &a.key).cmp(&(b.last, &b.key)));
        asked
    }

    /// This answer is out for a session that was asked for since rows came last.
    pub fn said(&mut self, asked: &Asked, row: RowBytes) {
        let sessions = self.by_key.get_mut(&asked.key).map(|of_key| {
            of_key.touched = true;
            &mut of_key.sessions
        });
        if let (Some(answers), Some(session)) = (&mut self.answers, sessions.and_then(|all| all.get_mut(asked.at))) {
            answers.said_bytes += row.len() + ROW_OVERHEAD_BYTES;
            session.said.push(row);
        }
    }

    /// This answer is out for the session of the key that begins then.
    pub fn restore_said(&mut self, key: &[u8], first: i64, row: RowBytes) {
        let sessions = self.by_key.get_mut(key).map(|of_key| &mut of_key.sessions);
        let session = sessions.and_then(|all| all.iter_mut().find(|session| session.first == first));
        if let (Some(answers), Some(session)) = (&mut self.answers, session) {
            answers.said_bytes += row.len() + ROW_OVERHEAD_BYTES;
            session.said.push(row);
        }
    }

    /// After all sessions and answers were restored: those that are not over are answered when they are.
    pub fn restored(&mut self, watermark_us: i64) {
        let Some(answers) = &mut self.answers else { return };
        answers.watermark_us = watermark_us;
        for (key, of_key) in &mut self.by_key {
            for session in of_key.sessions.iter_mut().filter(|session| session.last + self.gap_us > watermark_us) {
                session.queued = true;
                answers.due.insert((session.last + self.gap_us, RowBytes::clone(key)));
            }
        }
    }

    /// The answers that are out, of the selected keys. No key is touched.
    pub fn answers<'a>(&'a self, selection: Option<&'a Selection>) -> impl Iterator<Item = &'a RowBytes> {
        let of_keys = self.by_key.values().filter(move |of_key| selects(selection, of_key.hash));
        of_keys.flat_map(|of_key| of_key.sessions.iter().flat_map(|session| &session.said))
    }

    /// The hashes of keys whose sessions went since it was asked last, of which a snapshot had answers.
    pub fn take_gone(&mut self) -> Vec<u64> {
        self.answers.as_mut().map_or_else(Vec::new, |answers| std::mem::take(&mut answers.gone))
    }

    /// Takes out the sessions that end at or before the watermark, in the order of their ends.
    pub fn close(&mut self, watermark_us: i64) -> Vec<Closed> {
        let mut closed = Vec::new();
        while self.checks.first().is_some_and(|(check_us, _)| *check_us <= watermark_us) {
            let Some((_, key)) = self.checks.pop_first() else { break };
            let Some(of_key) = self.by_key.get_mut(&key) else { continue };
            let n_over = of_key.sessions.partition_point(|session| session.last + self.gap_us <= watermark_us);
            for session in of_key.sessions.drain(..n_over) {
                forget_start(&mut self.starts, session.first);
                self.n_sessions -= 1;
                if let Some(answers) = &mut self.answers {
                    answers.said_bytes -= session.said.iter().map(|row| row.len() + ROW_OVERHEAD_BYTES).sum::<usize>();
                    // Without a hash no snapshot has had the key.
                    answers.gone.extend((!session.said.is_empty() && of_key.hash != 0).then_some(of_key.hash));
                }
                closed.push(Closed { key: RowBytes::clone(&key), session });
            }
            match of_key.sessions.first() {
                Some(session) => {
                    of_key.check_us = session.last + self.gap_us;
                    self.checks.insert((of_key.check_us, key));
                }
                None => {
                    self.keys_bytes -= key.len();
                    self.by_key.remove(&key);
                }
            }
        }
        if self.by_key.capacity() > 4 * (self.by_key.len() + 1024) {
            self.by_key.shrink_to_fit();
        }
        closed.sort_by(|a, b| (a.session.last, &a.key).cmp(&(b.session.last, &b.key)));
        closed
    }

    pub fn restore(&mut self, key: &[u8], hash: u64, (first, last): (i64, i64), fragment: Fragment) {
        let session = Session::new(first, last, vec![fragment]);
        let end = last + self.gap_us;
        match self.by_key.get_mut(key) {
            Some(of_key) => {
                let at = of_key.sessions.partition_point(|session| session.first < first);
                of_key.sessions.insert(at, session);
                if end < of_key.check_us {
                    self.check_at(key, end);
                }
            }
            None => {
                let key = RowBytes::from(key);
                self.keys_bytes += key.len();
                self.checks.insert((end, RowBytes::clone(&key)));
                self.by_key.insert(key, OfKey { sessions: vec![session], hash, touched: false, check_us: end });
            }
        }
        *self.starts.entry(first).or_default() += 1;
        self.n_sessions += 1;
    }

    pub fn n_keys(&self) -> usize {
        self.by_key.len()
    }

    /// Keys that rows have come for since the last snapshot.
    pub fn touched_keys(&self) -> Vec<RowBytes> {
        let touched = self.by_key.iter().filter(|(_, of_key)| of_key.touched);
        touched.map(|(key, _)| RowBytes::clone(key)).collect()
    }

    /// These keys have these hashes, and are not touched any more.
    pub fn settle(&mut self, keys: &[RowBytes], hashes: &[u64]) {
        for (key, hash) in keys.iter().zip(hashes) {
            if let Some(of_key) = self.by_key.get_mut(key) {
                (of_key.hash, of_key.touched) = (*hash, false);
            }
        }
    }

    /// The sessions of the selected keys. No key is touched.
    pub fn list(&self, selection: Option<&Selection>) -> Vec<Listed> {
        let by_key = self.by_key.iter().filter(|(_, of_key)| selects(selection, of_key.hash));
        let sessions =
            by_key.flat_map(|(key, of_key)| of_key.sessions.iter().map(move |session| (key, of_key, session)));
        let listed = |(key, of_key, session): (&RowBytes, &OfKey, &Session)| Listed {
            key: RowBytes::clone(key),
            hash: of_key.hash,
            first: session.first,
            last: session.last,
        };
        sessions.map(listed).collect()
    }

    /// The fragments of all sessions, or of those of the selected keys, in the same order as they are listed.
    pub fn fragments_mut(&mut self, selection: Option<&Selection>) -> Vec<&mut Vec<Fragment>> {
        let by_key = self.by_key.values_mut().filter(|of_key| selects(selection, of_key.hash));
        by_key.flat_map(|of_key| &mut of_key.sessions).map(|session| &mut session.fragments).collect()
    }

    pub fn memory_bytes(&self) -> usize {
        let fragments = size_of::<Fragment>() + ROW_OVERHEAD_BYTES;
        let of_answers = |answers: &Answers| {
            let entries = answers.due.len() + answers.touched.len();
            answers.said_bytes + entries * (size_of::<(i64, RowBytes)>() + ROW_OVERHEAD_BYTES)
        };
        self.answers.as_ref().map_or(0, of_answers)
            + self.keys_bytes
            + self.by_key.capacity() * size_of::<(RowBytes, OfKey)>()
            + self.checks.len() * (size_of::<(i64, RowBytes)>() + ROW_OVERHEAD_BYTES)
            + self.n_sessions * (size_of::<Session>() + fragments)
    }

    fn check_at(&mut self, key: &[u8], check_us: i64) {
        let Some((key, _)) = self.by_key.get_key_value(key) else { return };
        let key = RowBytes::clone(key);
        let Some(of_key) = self.by_key.get_mut(&key) else { return };
        let entry = (of_key.check_us, key);
        self.checks.remove(&entry);
        of_key.check_us = check_us;
        self.checks.insert((check_us, entry.1));
    }
}

impl Session {
    fn new(first: i64, last: i64, fragments: Vec<Fragment>) -> Self {
        Self { first, last, fragments, said: Vec::new(), dirty: false, queued: false }
    }

    /// The session after this one has become part of it.
    fn absorb(&mut self, next: Self, layers: &Layers) {
        self.last = next.last;
        self.said.extend(next.said);
        self.dirty |= next.dirty;
        self.queued |= next.queued;
        let mut fragments = next.fragments;
        if self.fragments.last().is_some_and(|fragment| layers.is_live(*fragment)) {
            std::mem::swap(&mut self.fragments, &mut fragments);
        }
        self.fragments.append(&mut fragments);
    }
}

fn forget_start(starts: &mut BTreeMap<i64, usize>, start: i64) {
    if let Some(count) = starts.get_mut(&start) {
        *count -= 1;
        if *count == 0 {
            starts.remove(&start);
        }
    }
}
