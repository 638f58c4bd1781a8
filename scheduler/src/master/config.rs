//! The master's numbers, with their defaults.

use jobs::Resources;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often agents are asked to be heard, and frameworks hear from the master.
    pub heartbeat_ms: u64,
    /// Heartbeats that may be missed before an agent is unreachable.
    pub missed_heartbeats: u64,
    /// An offer that nobody answers returns to the pool after this.
    pub offer_expiry_ms: u64,
    /// How long a refusal lasts that does not say.
    pub default_refuse_ms: u64,
    /// How long after its start a master expects agents and frameworks of its predecessor to come back.
    pub recovery_ms: u64,
    /// A framework that only its tasks are known of, because the registry has no record of it, is given this long to
    /// come back.
    pub orphan_timeout_ms: u64,
    /// What is less than each of these is not offered: 0.01 cpus or 32 MiB.
    pub min_allocatable: Vec<Resources>,
    /// Resources that do not count for shares: those that few agents have, and whoever needs them would hold most of.
    pub scarce: Vec<String>,
    /// Ended offers that are kept for people.
    pub offer_history: usize,
    /// How long a demand waits before others have to leave for it.
    pub preempt_after_ms: u64,
    /// No task that has run for less has to leave.
    pub preempt_min_run_ms: u64,
    /// How long a task that has to leave is given to do so by itself.
    pub preempt_notice_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat_ms: 1_000,
            missed_heartbeats: 5,
            offer_expiry_ms: 30_000,
            default_refuse_ms: 5_000,
            recovery_ms: 10_000,
            orphan_timeout_ms: 600_000,
            min_allocatable: vec![Resources::new().cpus(0.01), Resources::new().mem_mib(32.0)],
            scarce: vec!["gpus".to_string()],
            offer_history: 1_000,
            preempt_after_ms: 1_000,
            preempt_min_run_ms: 30_000,
            preempt_notice_ms: 30_000,
        }
    }
}
