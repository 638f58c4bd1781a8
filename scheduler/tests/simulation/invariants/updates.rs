//! Status updates: persisted before they are sent, received in order, the next only after the one before was
//! acknowledged, and acknowledged only once they were received.

use jobs::FrameworkId;
use scheduler::agent::Record;
use scheduler::model::{TaskKey, TaskStatus};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
struct Stream {
    /// On the agent's disk, in order.
    persisted: Vec<String>,
    /// Of those, how many the framework received at least once.
    n_received: usize,
    n_acknowledged: usize,
}

#[derive(Debug, Default)]
pub struct Updates {
    streams: BTreeMap<TaskKey, Stream>,
    /// The master acknowledges for them.
    ended: BTreeSet<FrameworkId>,
    /// Nobody hears of them any more: their agents were declared gone.
    given_up: BTreeSet<TaskKey>,
    pub n_received: u64,
    pub n_repeated: u64,
}

impl Updates {
    pub fn framework_ended(&mut self, id: FrameworkId) {
        self.ended.insert(id);
    }

    pub fn given_up(&mut self, task: TaskKey) {
        self.given_up.insert(task);
    }

    pub fn persisted(&mut self, record: &Record) {
        match record {
            Record::Update { task, status } => {
                let stream = self.streams.entry(task.clone()).or_default();
                let uuid = status.uuid.clone().unwrap_or_else(|| panic!("{task} persisted {status:?} without uuid"));
                assert!(!stream.persisted.contains(&uuid), "{task} used {uuid} twice");
                stream.persisted.push(uuid);
            }
            Record::Acknowledged { task, uuid } => {
                let is_ended = self.ended.contains(&task.framework_id);
                let stream = self.streams.entry(task.clone()).or_default();
                let expected = stream.persisted.get(stream.n_acknowledged);
                assert!(expected == Some(uuid), "{task} forgets {uuid}, the oldest is {expected:?}");
                assert!(
                    is_ended || stream.n_acknowledged < stream.n_received,
                    "{task} forgets {uuid}, which its framework never received"
                );
                stream.n_acknowledged += 1;
            }
            Record::Removed { task } => {
                let stream = self.streams.entry(task.clone()).or_default();
                let (n, of) = (stream.n_acknowledged, stream.persisted.len());
                assert!(n == of, "{task} is removed with {n} of {of} updates acknowledged");
            }
            Record::Launched { .. } | Record::Started { .. } => {}
        }
    }

    pub fn sent(&self, framework: &FrameworkId, status: &TaskStatus) {
        let task = TaskKey::new(framework.clone(), status.task_id.clone());
        let at = self.place(&task, status);
        let n_acknowledged = self.streams.get(&task).map_or(0, |stream| stream.n_acknowledged);
        assert!(at == n_acknowledged, "{task} sends update {at} while {n_acknowledged} is in flight");
    }

    pub fn received(&mut self, framework: &FrameworkId, status: &TaskStatus) {
        if status.uuid.is_none() {
            return;
        }
        let task = TaskKey::new(framework.clone(), status.task_id.clone());
        let at = self.place(&task, status);
        let stream = self.streams.entry(task.clone()).or_default();
        assert!(at <= stream.n_received, "{task}: update {at} received, {} before it", stream.n_received);
        self.n_received += 1;
        if at == stream.n_received {
            stream.n_received += 1;
        } else {
            self.n_repeated += 1;
        }
    }

    fn place(&self, task: &TaskKey, status: &TaskStatus) -> usize {
        let uuid = status.uuid.as_ref().unwrap_or_else(|| panic!("{task}: an update without uuid: {status:?}"));
        let persisted = self.streams.get(task).map_or(&[][..], |stream| &stream.persisted);
        let place = persisted.iter().position(|known| known == uuid);
        place.unwrap_or_else(|| panic!("{task}: {uuid} is on its way and was never persisted"))
    }

    /// In peace, nothing stays unsaid.
    pub fn check_all_delivered(&self) {
        for (task, stream) in self.streams.iter().filter(|(task, _)| !self.given_up.contains(*task)) {
            let (n, of) = (stream.n_acknowledged, stream.persisted.len());
            assert!(n == of, "{task}: in peace {n} of {of} updates were acknowledged");
        }
    }
}
