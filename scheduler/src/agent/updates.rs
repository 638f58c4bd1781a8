//! The status updates of one task: at least once, in order, one in flight.
//!
//! Invariant: an update enters only after it was handed out to be persisted, leaves only by its own acknowledgement,
//! and the next is sent only after that. How it is persisted and sent is not known here.

use crate::model::TaskStatus;
use std::collections::VecDeque;

#[derive(Debug)]
pub struct Updates {
    /// Not acknowledged, oldest first. A task makes at most running, killing and one end.
    queue: VecDeque<TaskStatus>,
    /// Ever made, also before a restart: their uuids are never used again.
    made: u64,
    /// Wait before the first is sent again.
    wait_ms: u64,
}

/// What an acknowledgement changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// Not the update in flight: a repeated or late word.
    Ignored,
    /// The next is to be sent, if there is one.
    Next,
    /// It was the task's end.
    Last,
}

impl Updates {
    pub fn new(queue: impl IntoIterator<Item = TaskStatus>, made: u64) -> Self {
        Self { queue: queue.into_iter().collect(), made, wait_ms: 0 }
    }

    /// Gives the update its uuid and queues it; the caller persists it before anything else.
    pub fn push(&mut self, mut status: TaskStatus) -> &TaskStatus {
        self.made += 1;
        status.uuid = Some(format!("{}-{}", status.task_id, self.made));
        let at = self.queue.len();
        self.queue.push_back(status);
        &self.queue[at]
    }

    /// Whether nothing is in flight but the newest.
    pub fn is_single(&self) -> bool {
        self.queue.len() == 1
    }

    /// The update to send now, and how long to wait before it is sent again: doubled each time.
    pub fn send(&mut self, first_ms: u64, most_ms: u64) -> Option<(&TaskStatus, u64)> {
        let status = self.queue.front()?;
        self.wait_ms = if self.wait_ms == 0 { first_ms } else { (self.wait_ms * 2).min(most_ms) };
        Some((status, self.wait_ms))
    }

    /// The next sending is a first one again: the master is new, or just back.
    pub fn start_over(&mut self) {
        self.wait_ms = 0;
    }

    pub fn acknowledge(&mut self, uuid: &str) -> Acknowledged {
        match self.queue.pop_front_if(|status| status.uuid.as_deref() == Some(uuid)) {
            None => Acknowledged::Ignored,
            Some(status) if status.state.is_terminal() => Acknowledged::Last,
            Some(_) => {
                self.wait_ms = 0;
                Acknowledged::Next
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jobs::{Reason, TaskState};

    fn status(state: TaskState) -> TaskStatus {
        TaskStatus {
            task_id: "t".into(),
            agent_id: "a".into(),
            state,
            reason: Reason::None,
            message: String::new(),
            uuid: None,
            at_ms: 0,
            exit_code: 0,
        }
    }

    #[test]
    fn the_next_waits_for_the_first() {
        let mut updates = Updates::new([], 4);
        updates.push(status(TaskState::Running));
        assert!(updates.is_single());
        updates.push(status(TaskState::Finished));
        assert!(!updates.is_single());
        let sent = |updates: &mut Updates| {
            let (status, wait_ms) = updates.send(1_000, 60_000).expect("one is queued");
            (status.state, status.uuid.clone().expect("it has one"), wait_ms)
        };
        assert_eq!(sent(&mut updates), (TaskState::Running, "t-5".into(), 1_000));
        assert_eq!(updates.acknowledge("t-6"), Acknowledged::Ignored);
        assert_eq!(updates.acknowledge("t-5"), Acknowledged::Next);
        assert_eq!(updates.acknowledge("t-5"), Acknowledged::Ignored);
        assert_eq!(sent(&mut updates), (TaskState::Finished, "t-6".into(), 1_000));
        assert_eq!(updates.acknowledge("t-6"), Acknowledged::Last);
        assert!(updates.send(1_000, 60_000).is_none());
    }

    #[test]
    fn waits_double_up_to_the_most() {
        let mut updates = Updates::new([status(TaskState::Running)], 1);
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.extend(updates.send(1_000, 60_000).map(|(_, wait_ms)| wait_ms));
        }
        assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        updates.start_over();
        assert_eq!(updates.send(1_000, 60_000).map(|(_, wait_ms)| wait_ms), Some(1_000));
    }
}
