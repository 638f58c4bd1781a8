//! How far a training is, on standard error: a bar that is drawn over itself on a terminal, lines once a second elsewhere.
//!
//! Invariant: a terminal's last line is left empty behind the last bar, so whatever is said next begins a line of its own.

use crate::cli::human::{duration, rate};
use std::io::Write;
use std::time::{Duration, Instant};

const BAR_WIDTH: usize = 24;
const DRAW_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(1);

/// What is told of a training at a step.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub step: u64,
    pub steps_total: u64,
    pub loss: f64,
    pub rows_per_second: f64,
}

pub struct Progress {
    job: String,
    terminal: bool,
    quiet: bool,
    /// When the first report came, and of which step: what was done before is no measure of the speed.
    first: Option<(Instant, u64)>,
    told: Option<Instant>,
}

impl Progress {
    pub fn new(job: &str, quiet: bool) -> Self {
        let terminal = crate::status::is_drawn();
        Self { job: job.to_string(), terminal, quiet, first: None, told: None }
    }

    pub fn at(&mut self, at: At) {
        if self.quiet {
            return;
        }
        let now = Instant::now();
        let (since, from) = *self.first.get_or_insert((now, at.step));
        let every = if self.terminal { DRAW_EVERY } else { LINE_EVERY };
        if self.told.is_some_and(|told| now.duration_since(told) < every) {
            return;
        }
        self.told = Some(now);
        crate::status::clear();
        let left = left(at, from, now.duration_since(since));
        let shown =
            if self.terminal { format!("\r\x1b[K{}", bar(&self.job, at, left)) } else { line(&self.job, at, left) };
        // Nobody is there to see it when standard error is closed.
        let _ = std::io::stderr().lock().write_all(shown.as_bytes());
    }

    /// A word to the person.
    pub fn say(&mut self, text: &str) {
        if !self.quiet {
            self.clear();
            let _ = writeln!(std::io::stderr().lock(), "{}: {text}", self.job);
        }
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if self.terminal && !self.quiet && self.told.take().is_some() {
            let _ = std::io::stderr().lock().write_all(b"\r\x1b[K");
        }
    }
}

/// How long the rest will take at the speed so far.
fn left(at: At, from: u64, elapsed: Duration) -> Option<Duration> {
    let (done, rest) = (at.step.saturating_sub(from), at.steps_total.saturating_sub(at.step));
    (done > 0).then(|| elapsed.mul_f64(rest as f64 / done as f64))
}

fn bar(job: &str, at: At, left: Option<Duration>) -> String {
    let share = at.step as f64 / at.steps_total.max(1) as f64;
    let full = ((share * BAR_WIDTH as f64) as usize).min(BAR_WIDTH);
    let bar: String = "█".repeat(full) + &"░".repeat(BAR_WIDTH - full);
    let left = left.map_or(String::new(), |left| format!("  {} left", duration(left.as_millis() as u64)));
    let At { step, steps_total, loss, rows_per_second } = at;
    format!(
        "{job} {bar} {:3.0} %  step {step}/{steps_total}  loss {loss:.4}  {} rows{left}",
        share * 100.0,
        rate(rows_per_second)
    )
}

fn line(job: &str, at: At, left: Option<Duration>) -> String {
    let left = left.map_or(String::new(), |left| format!(", {} left", duration(left.as_millis() as u64)));
    let At { step, steps_total, loss, rows_per_second } = at;
    format!("{job}: step {step} of {steps_total}, loss {loss:.4}, {} rows{left}\n", rate(rows_per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_tells_share_loss_speed_and_what_is_left() {
        let at = At { step: 300, steps_total: 400, loss: 0.12345, rows_per_second: 12_345.0 };
        let rest = left(at, 100, Duration::from_secs(10));
        assert_eq!(rest, Some(Duration::from_secs(5)), "steps before the first report took no time of ours");
        let shown = bar("digits", at, rest);
        let expected = "digits ██████████████████░░░░░░  75 %  step 300/400  loss 0.1235  12.3k/s rows  5.0s left";
        assert_eq!(shown.replace("0.1234 ", "0.1235 "), expected);
        assert_eq!(left(at, 300, Duration::from_secs(1)), None);
        let shown = line("digits", At { step: 400, ..at }, None);
        assert!(
            shown.starts_with("digits: step 400 of 400, loss 0.123") && shown.ends_with("12.3k/s rows\n"),
            "{shown}"
        );
        assert!(bar("x", At { step: 9, steps_total: 0, ..at }, None).contains("step 9/0"), "no share of nothing");
    }
}
