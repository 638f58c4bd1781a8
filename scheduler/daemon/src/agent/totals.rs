//! What this machine has, and what it is called.

use crate::files::{self, FileError};
use jobs::Resources;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// Left for the system, the agent and whatever else runs here.
const MEMORY_SHARE: f64 = 0.8;
/// Left for the system, its logs, and what the agent keeps of tasks that ended.
const DISK_SHARE: f64 = 0.8;
const DISK_FILE: &str = "disk-total";
const PORTS: (u16, u16) = (31_000, 32_000);

/// All cores that this process may use, 80 % of the memory, and ports 31000 to 32000.
pub fn detected() -> Resources {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let memory_mib = memory_bytes().unwrap_or(1 << 30) as f64 / f64::from(1 << 20);
    Resources::new().cpus(cpus as f64).mem_mib((memory_mib * MEMORY_SHARE).floor()).with_ports([PORTS])
}

/// Most of what is free on the disk of a directory when this is first asked, and from then on the same: what was promised of
/// it stays promised. MiB.
pub fn disk_mib(dir: &Path) -> Result<f64, FileError> {
    let path = dir.join(DISK_FILE);
    if let Some(mib) = files::read_text(&path)?.and_then(|text| text.parse().ok()) {
        return Ok(mib);
    }
    let read = |source: nix::errno::Errno| FileError::Read { path: dir.into(), source: source.into() };
    let disk = nix::sys::statvfs::statvfs(dir).map_err(read)?;
    let free = disk.blocks_available() as f64 * disk.fragment_size() as f64 / f64::from(1 << 20);
    let mib = (free * DISK_SHARE).floor();
    files::write(&path, mib.to_string().as_bytes())?;
    Ok(mib)
}

/// The machine's memory, or the control group's limit if that is less.
fn memory_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total: u64 = total.trim().trim_end_matches("kB").trim().parse().ok()?;
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    Some((total * 1024).min(limit.unwrap_or(u64::MAX)))
}

/// How others reach what listens on `ip`.
pub fn host_of(ip: IpAddr) -> String {
    if !ip.is_unspecified() {
        return ip.to_string();
    }
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_string() } else { name.trim().to_string() }
}

/// `host:port`, with brackets round an IPv6 address.
pub fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
