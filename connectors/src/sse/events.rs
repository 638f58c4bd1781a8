//! The latest events, for all who read them.
//!
//! Invariant: at most so many bytes are kept, whoever reads slowly; a reader that was overtaken hears how many events it missed.

use axum::body::Bytes;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// As much is given to a reader at once.
const CHUNK_BYTES: usize = 256 << 10;

pub struct Events {
    kept: Mutex<Kept>,
    /// How many there ever were, and whether no more will come.
    news: watch::Sender<(u64, bool)>,
    keep_bytes: usize,
}

#[derive(Default)]
struct Kept {
    /// The number of the oldest of these.
    first: u64,
    /// Whole, as they are sent.
    events: VecDeque<Bytes>,
    bytes: usize,
}

impl Kept {
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}

/// What a reader gets next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Text(Bytes),
    Nothing,
    /// No more will come.
    End,
}

impl Events {
    pub fn new(keep_bytes: usize) -> Self {
        Self { kept: Mutex::default(), news: watch::Sender::new((0, false)), keep_bytes }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One event for each line; `series` and the line's number after `from` are its id.
    pub fn tell(&self, lines: &[u8], series: &str, from: u64) -> u64 {
        let mut n = from;
        let mut kept = self.kept();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let mut text = String::with_capacity(line.len() + series.len() + 32);
            let _ = write!(text, "id: {series}-{n}\ndata: {}\n\n", String::from_utf8_lossy(line));
            n += 1;
            kept.bytes += text.len();
            kept.events.push_back(Bytes::from(text));
        }
        // The latest stays, however long it is.
        while kept.bytes > self.keep_bytes && kept.events.len() > 1 {
            let oldest = kept.events.pop_front().map_or(0, |event| event.len());
            kept.bytes -= oldest;
            kept.first += 1;
        }
        let end = kept.end();
        drop(kept);
        self.news.send_modify(|(n_events, _)| *n_events = end);
        n
    }

    /// Who reads hears what is kept, and then that it is over.
    pub fn close(&self) {
        self.news.send_modify(|(_, is_over)| *is_over = true);
    }

    pub fn subscribe(&self) -> watch::Receiver<(u64, bool)> {
        self.news.subscribe()
    }

    pub fn earliest(&self) -> u64 {
        self.kept().first
    }

    pub fn latest(&self) -> u64 {
        self.kept().end()
    }

    /// The place behind an event with this id; the earliest, if it is not kept any more, or was of another life.
    pub fn after(&self, id: &str) -> u64 {
        let kept = self.kept();
        let begins = format!("id: {id}\n");
        let at = kept.events.iter().rposition(|event| event.starts_with(begins.as_bytes()));
        at.map_or(kept.first, |at| kept.first + at as u64 + 1)
    }

    /// What comes at a place, which moves on.
    pub fn next(&self, place: &mut u64) -> Next {
        let kept = self.kept();
        let mut text = Vec::new();
        if *place < kept.first {
            let n = kept.first - *place;
            text.extend_from_slice(format!("event: missed\ndata: {{\"missed\":{n}}}\n\n").as_bytes());
            *place = kept.first;
        }
        let events = kept.events.iter().skip((*place - kept.first) as usize);
        for event in events {
            if !text.is_empty() && text.len() + event.len() > CHUNK_BYTES {
                break;
            }
            text.extend_from_slice(event);
            *place += 1;
        }
        let is_over = self.news.borrow().1;
        match text.is_empty() {
            false => Next::Text(text.into()),
            true if is_over => Next::End,
            true => Next::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(events: &Events, place: &mut u64) -> String {
        match events.next(place) {
            Next::Text(text) => String::from_utf8(text.to_vec()).expect("text"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whoever_comes_back_goes_on_where_it_was() {
        let events = Events::new(1 << 20);
        assert_eq!(events.tell(b"{\"a\":1}\n{\"a\":2}\n", "9-0", 0), 2);
        assert_eq!(events.tell(b"{\"a\":3}\n", "9-0", 2), 3);
        let mut place = events.after("9-0-1");
        assert_eq!(text(&events, &mut place), "id: 9-0-2\ndata: {\"a\":3}\n\n");
        assert_eq!((place, events.next(&mut place)), (events.latest(), Next::Nothing));
        for unknown in ["9-0", "8-0-1", ""] {
            assert_eq!(events.after(unknown), 0, "{unknown:?}: all that is kept");
        }
        events.close();
        assert_eq!(events.next(&mut place), Next::End);
        assert_eq!(
            events.next(&mut 2),
            Next::Text("id: 9-0-2\ndata: {\"a\":3}\n\n".into()),
            "what is kept is told first"
        );
    }

    #[test]
    fn who_is_overtaken_hears_how_much_it_missed() {
        let events = Events::new(100);
        for n in 0..50 {
            events.tell(b"{\"abc\":12345}\n", "1-1", n);
        }
        assert!(events.kept().bytes <= 100);
        let (earliest, mut place) = (events.earliest(), 10);
        let told = text(&events, &mut place);
        assert!(told.starts_with(&format!("event: missed\ndata: {{\"missed\":{}}}\n\n", earliest - 10)), "{told}");
        assert_eq!((told.matches("id: ").count() as u64, place), (50 - earliest, 50));
        events.tell(&[&b"{\"long\":\""[..], &[b'x'; 500], b"\"}\n"].concat(), "1-1", 50);
        assert_eq!(events.earliest(), 50, "the latest stays, however long it is");
    }

    #[test]
    fn a_reader_gets_pieces() {
        let events = Events::new(1 << 30);
        let line = [&[b'x'; 1_000][..], b"\n"].concat();
        for n in 0..1_000 {
            events.tell(&line, "1-1", n);
        }
        let (mut place, mut n_pieces) = (0, 0);
        while let Next::Text(piece) = events.next(&mut place) {
            assert!(piece.len() <= CHUNK_BYTES);
            n_pieces += 1;
        }
        assert_eq!((place, n_pieces), (1_000, 4));
    }
}
