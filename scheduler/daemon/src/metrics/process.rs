//! What the process costs, under the names that Prometheus' own clients use. Read from `/proc`, of which nothing is said
//! where it is not there.

use super::Family;
use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// `role`: "master", "agent" or "runner".
pub fn process(role: &str) -> Vec<Family> {
    let mut build = Family::gauge("smack_build_info", "Which program this is; the number is 1.");
    build.add(&[("version", env!("CARGO_PKG_VERSION")), ("role", role)], 1.0);
    let mut families = vec![build];
    let page = sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let tick = sysconf(nix::unistd::SysconfVar::CLK_TCK);
    if let Some(stat) = Stat::read() {
        families.extend([
            Family::counter("process_cpu_seconds_total", "Time of all cores together.").of(stat.cpu_ticks / tick),
            Family::gauge("process_resident_memory_bytes", "Memory that is there.").of(stat.resident_pages * page),
            Family::gauge("process_virtual_memory_bytes", "Memory that is reserved.").of(stat.virtual_bytes),
            Family::gauge("process_threads", "Threads.").of(stat.threads),
        ]);
        if let Some(started) = started(stat.start_ticks / tick) {
            families.push(Family::gauge("process_start_time_seconds", "Since the epoch.").of(started));
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the folder itself.
        let open = open.count().saturating_sub(1) as f64;
        families.push(Family::gauge("process_open_fds", "Files and sockets that are open.").of(open));
    }
    if let Ok((most, _)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        families.push(Family::gauge("process_max_fds", "How many it may open.").of(most as f64));
    }
    families
}

fn sysconf(variable: nix::unistd::SysconfVar) -> f64 {
    nix::unistd::sysconf(variable).ok().flatten().unwrap_or(1) as f64
}

/// When a process began that did so this long after the machine. Worked out once: the clocks that it is worked out by move
/// in steps of their own.
fn started(after_boot_seconds: f64) -> Option<f64> {
    static STARTED: OnceLock<Option<f64>> = OnceLock::new();
    *STARTED.get_or_init(|| began(after_boot_seconds))
}

fn began(after_boot_seconds: f64) -> Option<f64> {
    let up = fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = up.split(' ').next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(now.as_secs_f64() - up + after_boot_seconds)
}

struct Stat {
    cpu_ticks: f64,
    threads: f64,
    start_ticks: f64,
    virtual_bytes: f64,
    resident_pages: f64,
}

impl Stat {
    /// See proc(5); the name, in brackets, may hold anything.
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}
