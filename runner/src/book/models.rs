//! Newer versions of the models that streams score with.
//!
//! Invariant: which version a row is scored with is the coordinator's word alone; here it is only asked, about once a second,
//! which ones there are, and the answer is given to it. A job that scores rows which may be taken back never asks.

use super::{Book, Command};
use jobs::{JobBody, JobId};
use streaming::coordinator;
use streaming::functions::Versions;

/// Between looks for newer versions.
const LOOK_EVERY_MS: u64 = 1_000;

impl Book {
    pub(super) fn look_for_models(&mut self, now_ms: u64, id: &JobId, commands: &mut Vec<Command>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let (JobBody::Stream(body), Some(coordinator)) = (&job.record.spec.body, &job.coordinator) else { return };
        if body.keeps_versions || coordinator.versions().is_empty() || now_ms < job.models_due_ms {
            return;
        }
        job.models_due_ms = now_ms + LOOK_EVERY_MS;
        commands.push(Command::LookUpModels { job: id.clone(), in_use: coordinator.versions().clone() });
    }

    pub(super) fn models_wanted(
        &mut self,
        now_ms: u64,
        id: &JobId,
        versions: Versions,
        stays: Vec<String>,
        commands: &mut Vec<Command>,
    ) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if job.stays != stays {
            stays.iter().for_each(|text| job.note(now_ms, "warning", text.clone()));
            job.stays = stays;
        }
        let Some(coordinator) = &mut job.coordinator else { return };
        let before = coordinator.versions().clone();
        let asked = coordinator.apply(now_ms, coordinator::Event::VersionsWanted { versions });
        let adopted: Vec<String> = coordinator
            .versions()
            .iter()
            .filter(|(name, version)| before.get(*name) != Some(version))
            .map(|(name, version)| format!("model {name} version {version}"))
            .collect();
        if !adopted.is_empty() {
            job.note(now_ms, "info", format!("scores with {} from the next checkpoint on", adopted.join(", ")));
        }
        self.coordinated(now_ms, id, asked, commands);
    }
}
