//! What the threads of this process spend of the processors, by what they do.
//!
//! Invariant: names are those that threads carry without the number behind them, so that threads of a kind add up; a
//! thread that ended in between is left out.

use anyhow::Context as _;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What threads had spent by then, by kind.
pub struct Spent {
    at: Instant,
    by_thread: BTreeMap<String, (String, Duration)>,
}

/// Linux tells times of threads in these, whatever its clock is.
const TICKS_PER_SECOND: u32 = 100;

impl Spent {
    pub fn now() -> anyhow::Result<Self> {
        let mut by_thread = BTreeMap::new();
        for entry in std::fs::read_dir("/proc/self/task").context("failed to read /proc/self/task")? {
            let entry = entry?;
            // A thread may end while it is looked at.
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            if let Some(found) = of(&stat) {
                by_thread.insert(entry.file_name().to_string_lossy().into_owned(), found);
            }
        }
        Ok(Self { at: Instant::now(), by_thread })
    }

    /// Cores that each kind of thread kept busy since, those with the most first.
    pub fn since(&self, before: &Self) -> Vec<(String, f64)> {
        let seconds = (self.at - before.at).as_secs_f64();
        let mut cores: BTreeMap<&str, f64> = BTreeMap::new();
        for (thread, (kind, spent)) in &self.by_thread {
            let earlier = before.by_thread.get(thread).map_or(Duration::ZERO, |(_, spent)| *spent);
            *cores.entry(kind).or_default() += spent.saturating_sub(earlier).as_secs_f64() / seconds;
        }
        let mut cores: Vec<(String, f64)> = cores.into_iter().map(|(kind, cores)| (kind.to_string(), cores)).collect();
        cores.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        cores
    }
}

/// Kind and time of a thread from a line of /proc.
fn of(stat: &str) -> Option<(String, Duration)> {
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    let spent = Duration::from_secs(1) * (ticks()? + ticks()?) / TICKS_PER_SECOND;
    let kind = name.trim_end_matches(|letter: char| letter.is_ascii_digit()).trim_end_matches('-');
    Some((kind.to_string(), spent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read() {
        let line = "77 (read-a b) c-3) S 1 77 77 0 -1 4194560 10 0 0 0 250 51 0 0 20 0 9 0 100 200 300\n";
        assert_eq!(of(line), Some(("read-a b) c".to_string(), Duration::from_millis(3010))));
        assert_eq!(of("77 (x) S 1"), None);
        let before = Spent::now().expect("read");
        assert!(Spent::now().expect("read").since(&before).iter().all(|(_, cores)| *cores >= 0.0));
    }
}
