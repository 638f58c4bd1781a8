//! What processes of tasks use of cores and memory, as the kernel counts it, for an agent that lends what they do not use.
//!
//! Invariant: a task leads a session of its own, so what belongs to it is found without control groups. Who left the session
//! is not counted; memory that several share is counted for each of them.

use jobs::Scalars;
use scheduler::model::TaskKey;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// The leader of each task's session.
type Leaders = BTreeMap<TaskKey, i32>;

/// In thousandths: cores over the time between two looks, and MiB.
pub(super) type Measured = mpsc::Receiver<BTreeMap<TaskKey, Scalars>>;

/// Dropping it ends the looking.
pub(super) struct Gauge(watch::Sender<Leaders>);

impl Gauge {
    /// Must be called within a runtime. Without `every` nobody looks.
    pub fn open(every: Option<Duration>, running: Leaders) -> (Self, Measured) {
        let (leaders, looks) = watch::channel(running);
        let (found, measured) = mpsc::channel(1);
        if let Some(every) = every {
            tokio::spawn(look(looks, every, found));
        }
        (Self(leaders), measured)
    }

    pub fn began(&self, task: &TaskKey, pid: u32) {
        if let Ok(pid) = i32::try_from(pid) {
            self.0.send_modify(|leaders| {
                leaders.insert(task.clone(), pid);
            });
        }
    }

    pub fn ended(&self, task: &TaskKey) {
        self.0.send_modify(|leaders| {
            leaders.remove(task);
        });
    }
}

/// What the processes of a session have used so far, and what they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    ticks: u64,
    pages: u64,
}

/// Looks again and again, until nobody wants to know.
async fn look(leaders: watch::Receiver<Leaders>, every: Duration, found: mpsc::Sender<BTreeMap<TaskKey, Scalars>>) {
    let mut before: HashMap<i32, Used> = HashMap::new();
    let mut at = Instant::now();
    loop {
        tokio::time::sleep(every).await;
        if leaders.has_changed().is_err() {
            return;
        }
        let tasks = leaders.borrow().clone();
        let sessions: Vec<i32> = tasks.values().copied().collect();
        let looked = tokio::task::spawn_blocking(move || (Instant::now(), of_sessions(Path::new("/proc"), &sessions)));
        let Ok((now, used)) = looked.await else { return };
        let seconds = now.duration_since(at).as_secs_f64();
        let known = tasks.into_iter().filter_map(|(task, leader)| {
            let (now, before) = (used.get(&leader)?, before.get(&leader)?);
            Some((task, amounts(*before, *now, seconds)))
        });
        let known = known.collect();
        (before, at) = (used, now);
        if found.send(known).await.is_err() {
            return;
        }
    }
}

fn amounts(before: Used, now: Used, seconds: f64) -> Scalars {
    let per_second = unit(nix::unistd::SysconfVar::CLK_TCK, 100);
    let page_bytes = unit(nix::unistd::SysconfVar::PAGE_SIZE, 4_096);
    let cores = now.ticks.saturating_sub(before.ticks) as f64 / per_second / seconds.max(0.001);
    let mib = now.pages as f64 * page_bytes / f64::from(1 << 20);
    [("cpus", (cores * 1000.0).round() as i64), ("mem", (mib * 1000.0).round() as i64)].into_iter().collect()
}

fn unit(of: nix::unistd::SysconfVar, usual: i64) -> f64 {
    nix::unistd::sysconf(of).ok().flatten().unwrap_or(usual) as f64
}

/// By session, of those that are asked for. A process that ends meanwhile counts for nothing; what its parent waited for is
/// counted with the parent.
fn of_sessions(proc: &Path, sessions: &[i32]) -> HashMap<i32, Used> {
    let mut used: HashMap<i32, Used> = sessions.iter().map(|session| (*session, Used::default())).collect();
    if used.is_empty() {
        return used;
    }
    for process in fs::read_dir(proc).into_iter().flatten().flatten() {
        let is_process =
            process.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_process {
            continue;
        }
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        if let Some((session, own)) = parse(&stat)
            && let Some(sum) = used.get_mut(&session)
        {
            sum.ticks += own.ticks;
            sum.pages += own.pages;
        }
    }
    used
}

/// Of `/proc/PID/stat` (see proc_pid_stat(5)). The name in parentheses may hold anything.
fn parse(stat: &str) -> Option<(i32, Used)> {
    let (_, after) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    // The first after the name is the third of all.
    let number = |at: usize| fields.get(at - 3)?.parse::<i64>().ok();
    let ticks = [14, 15, 16, 17].into_iter().map(number).sum::<Option<i64>>()?;
    Some((i32::try_from(number(6)?).ok()?, Used { ticks: ticks.try_into().ok()?, pages: number(24)?.try_into().ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_read_whatever_the_program_is_called() {
        let stat = "4242 (a) b (c 7) S 1 4240 4241 0 -1 4194304 9 9 9 9 100 20 3 4 20 0 8 0 999 123456 250 18446744073709551615";
        assert_eq!(parse(stat), Some((4_241, Used { ticks: 127, pages: 250 })));
        for wrong in ["", "1 (x", "1 (x) S", "1 (x) S a b c d e f g h i j k l m n o p q r s t u v"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn processes_of_a_session_are_counted_together() {
        let proc = tempfile::tempdir().expect("a directory");
        let line = |pid: u32, session: u32, ticks: u32, pages: u32| {
            format!("{pid} (x) R 1 1 {session} 0 0 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 5 1 {pages} 1")
        };
        for (pid, session, ticks, pages) in [(10, 10, 5, 256), (11, 10, 7, 256), (12, 12, 100, 1)] {
            let dir = proc.path().join(pid.to_string());
            fs::create_dir(&dir)
                .and_then(|()| fs::write(dir.join("stat"), line(pid, session, ticks, pages)))
                .expect("writes");
        }
        fs::create_dir(proc.path().join("self")).expect("a directory");
        let used = of_sessions(proc.path(), &[10, 99]);
        assert_eq!(used, HashMap::from([(10, Used { ticks: 12, pages: 512 }), (99, Used::default())]));
        let later = Used { ticks: 12 + 300, pages: 512 };
        let amounts = amounts(used[&10], later, 2.0);
        assert_eq!(
            (amounts.get("cpus"), amounts.get("mem")),
            (1_500, 2_000),
            "at 100 ticks a second and pages of 4 KiB"
        );
    }
}
