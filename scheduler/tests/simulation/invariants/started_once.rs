//! No task is ever started twice, anywhere.

use scheduler::model::TaskKey;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct StartedOnce(BTreeMap<TaskKey, usize>);

impl StartedOnce {
    pub fn started(&mut self, task: &TaskKey, host: usize) {
        if let Some(before) = self.0.insert(task.clone(), host) {
            panic!("task {task} was started on agent {before}, and again on agent {host}");
        }
    }

    pub fn n(&self) -> usize {
        self.0.len()
    }
}
