//! One line at the end of standard error that says how far something is, for what takes longer than a second.
//!
//! Invariant: on terminals alone, and not with `-q` or `--no-progress`; whoever says something else takes it away first
//! ([`clear`]), so a line of words never stands behind it.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is over sooner shows nothing.
const FROM: Duration = Duration::from_secs(1);
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Where the terminal does not say.
const WIDTH: u16 = 80;

static ALLOWED: AtomicBool = AtomicBool::new(true);
/// When it was drawn.
static DRAWN: Mutex<Option<Instant>> = Mutex::new(None);

/// `allowed`: whether the user wants bars.
pub fn allow(allowed: bool) {
    ALLOWED.store(allowed, Relaxed);
}

/// Whether bars are drawn at all.
pub fn is_drawn() -> bool {
    ALLOWED.load(Relaxed) && std::io::stderr().is_terminal()
}

/// Draws the line over itself, if what it tells of goes on for long enough and it was not just drawn.
pub fn show(began: Instant, text: impl FnOnce() -> String) {
    if began.elapsed() < FROM || !is_drawn() {
        return;
    }
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    if drawn.is_some_and(|at| at.elapsed() < DRAW_EVERY) {
        return;
    }
    *drawn = Some(Instant::now());
    let width = ratatui::crossterm::terminal::size().map_or(WIDTH, |(width, _)| width);
    // One that wraps would not go away.
    let text: String =
        text().chars().filter(|of| !of.is_control()).take(usize::from(width.saturating_sub(1))).collect();
    // Nobody is there to see it when standard error is closed.
    let _ = std::io::stderr().lock().write_all(format!("\r\x1b[K{text}").as_bytes());
}

/// Takes the line away, if there is one.
pub fn clear() {
    if DRAWN.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
        let _ = std::io::stderr().lock().write_all(b"\r\x1b[K");
    }
}
