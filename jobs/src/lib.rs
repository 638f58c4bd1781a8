//! What is wanted: ids, resources, job specs, task plans, task states, and how a mistake is shown.
//!
//! Invariant: pure. No sockets, files, clocks or runtimes; every other crate may depend on this one and this one on none.
//!
//! Glossary, one word per idea:
//! - **group**: all jobs of one file; **job**: one INSERT set, model or command; **task**: one process of a job.
//! - **generation**: all tasks of a job from one start to the next; a restart is a new generation, and an older one is refused
//!   everywhere. **life**: one process of a task in a generation, where a task can start again alone.
//! - **agent**, **offer**, **role**, **framework**, **gang**: as in Apache Mesos.
//! - **epoch**: one checkpoint of a job; **barrier**: its mark in the stream; **manifest**: the file that publishes it.
//! - **watermark**: no row with an earlier event time is expected any more.

pub mod amounts;
pub mod artifacts;
pub mod cron;
pub mod diagnostic;
pub mod gang;
pub mod health;
pub mod ids;
pub mod plan;
pub mod resources;
pub mod revocable;
pub mod rights;
pub mod scalars;
pub mod site;
pub mod spec;
pub mod state;
pub mod text;
pub mod things;
pub mod train;
pub mod volumes;

pub use artifacts::Artifact;
pub use diagnostic::Diagnostic;
pub use gang::{Distributed, Gang, GangRole, Member};
pub use health::{HealthCheck, Probe};
pub use ids::{AgentId, FrameworkId, JobId, OfferId, TaskId};
pub use plan::{Peer, TaskBody, TaskPlan, TrialPlan};
pub use resources::Resources;
pub use scalars::Scalars;
pub use site::{Rules, Site};
pub use spec::{CommandBody, JobBody, JobSpec, Need, Restart, StreamBody};
pub use state::{Reason, TaskState};
pub use things::Gpu;
pub use train::TrainBody;
