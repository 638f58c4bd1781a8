//! The agent in numbers, for Prometheus: counted by its owner, read when somebody asks.

use super::artifacts::{Cache, Counted};
use super::sandboxes::Sandboxes;
use crate::metrics::{self, Family};
use jobs::Resources;
use scheduler::agent::Exit;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Debug, Default)]
pub(super) struct Counts(Arc<Mutex<Numbers>>);

#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    pub running: u64,
    pub started: u64,
    pub not_started: u64,
    /// By how.
    pub ended: BTreeMap<&'static str, u64>,
    pub connected: bool,
    pub connections: u64,
}

const ENDS: [&str; 5] = ["done", "failed", "signal", "out of memory", "unseen"];

impl Numbers {
    pub fn exited(&mut self, exit: &Exit) {
        let how = match exit {
            Exit::Code(0) => "done",
            Exit::Code(_) => "failed",
            Exit::Signal(_) => "signal",
            Exit::OutOfMemory { .. } => "out of memory",
            Exit::Abandoned | Exit::Unseen => "unseen",
        };
        *self.ended.entry(how).or_default() += 1;
    }
}

impl Counts {
    pub fn change(&self, change: impl FnOnce(&mut Numbers)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn numbers(&self) -> Numbers {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the disk too, so not on a thread that others wait for.
    pub fn families(&self, total: &Resources, sandboxes: &Sandboxes, cache: &Cache) -> Vec<Family> {
        let numbers = self.numbers();
        let Counted { fetched, fetched_bytes, found, kept_bytes } = cache.counted();
        let mut resources =
            Family::gauge("smack_agent_resource", "What the agent offers, in units, mem and disk in MiB.");
        for (name, milli) in total.scalars() {
            resources.add(&[("resource", name)], milli as f64 / 1000.0);
        }
        let mut ended = Family::counter("smack_agent_tasks_ended_total", "Processes of tasks that are over, by how.");
        for how in ENDS {
            ended.add(&[("how", how)], numbers.ended.get(how).copied().unwrap_or(0) as f64);
        }
        let mut families = metrics::process("agent");
        families.extend([
            Family::gauge("smack_agent_connected", "Whether the master is there.")
                .of(f64::from(u8::from(numbers.connected))),
            Family::counter("smack_agent_connections_total", "Connections to a master.").of(numbers.connections as f64),
            resources,
            Family::gauge("smack_agent_tasks_running", "Processes of tasks.").of(numbers.running as f64),
            Family::counter("smack_agent_tasks_started_total", "Processes that were started.")
                .of(numbers.started as f64),
            Family::counter("smack_agent_tasks_not_started_total", "Tasks that failed to start.")
                .of(numbers.not_started as f64),
            ended,
            Family::counter("smack_agent_artifacts_fetched_total", "Files that were fetched for tasks.")
                .of(fetched as f64),
            Family::counter("smack_agent_artifacts_fetched_bytes_total", "What they had.").of(fetched_bytes as f64),
            Family::counter("smack_agent_artifacts_found_total", "Files that tasks wanted and that were there.")
                .of(found as f64),
            Family::gauge("smack_agent_artifacts_kept_bytes", "What was fetched and may be wanted again.")
                .of(kept_bytes as f64),
            Family::gauge("smack_agent_sandboxes", "Folders of tasks, of those that are over too.")
                .of(sandboxes.all().len() as f64),
        ]);
        if let Ok(disk) = nix::sys::statvfs::statvfs(sandboxes.root()) {
            let bytes = |blocks: u64| blocks as f64 * disk.fragment_size() as f64;
            families.push(
                Family::gauge("smack_agent_disk_free_bytes", "Of the disk that sandboxes are on, for us.")
                    .of(bytes(disk.blocks_available())),
            );
            families.push(
                Family::gauge("smack_agent_disk_total_bytes", "Of the disk that sandboxes are on.")
                    .of(bytes(disk.blocks())),
            );
        }
        families
    }
}
