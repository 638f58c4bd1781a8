//! A task is lost, and the others can go on without it: from where its next life begins.
//!
//! Invariant: a life begins from the newest manifest and from no other. From an older one, what the sinks had prepared for
//! the newest would be taken for left over, and a later crash would miss it.

use super::{Command, Coordinator, Current, Stage};

impl Coordinator {
    pub(super) fn task_lost(&mut self, index: u32, commands: &mut Vec<Command>) {
        self.ready.remove(&index);
        self.input_ended.remove(&index);
        let last = match &self.current {
            Some(Current { stage: Stage::Manifest { .. }, .. }) => {
                self.lost.insert(index);
                return;
            }
            Some(Current { stage: Stage::Snapshots { .. }, .. }) => {
                self.give_up_epoch();
                false
            }
            Some(Current { last, stage: Stage::Commits { .. }, .. }) => *last,
            None => false,
        };
        commands.push(self.again(index, last));
    }

    /// `last`: the others end with the epoch that is being committed, and no epoch would come after it.
    pub(super) fn again(&self, index: u32, last: bool) -> Command {
        let alone = self.certain && !last && !self.stopping && self.ended.is_empty();
        match self.view.epoch.filter(|_| alone) {
            Some(epoch) => Command::Restart { index, epoch },
            None => Command::RestartAll,
        }
    }
}
