//! Demands that have to be met within a time, or are wanted no longer.
//!
//! Invariant: of a group all or none expires. Time is counted from when something of it was first posted, however often it is
//! posted again; what has expired and is posted anew begins anew.

use super::preemption::key_of;
use super::{Alarm, Master};
use crate::model::{Demand, FrameworkEvent};
use jobs::FrameworkId;
use std::collections::{BTreeMap, BTreeSet};

/// By when each group, or demand that is alone, is to be met, of those that have to be.
fn due_ms(demands: &[Demand], posted_ms: &BTreeMap<String, u64>, now_ms: u64) -> BTreeMap<String, u64> {
    let mut due: BTreeMap<String, u64> = BTreeMap::new();
    for demand in demands.iter().filter(|demand| demand.count > 0) {
        let Some(within_ms) = demand.within_ms else { continue };
        let key = key_of(demand);
        let at_ms = posted_ms.get(key).copied().unwrap_or(now_ms).saturating_add(within_ms.max(1));
        due.entry(key.to_string()).and_modify(|earliest| *earliest = at_ms.min(*earliest)).or_insert(at_ms);
    }
    due
}

impl Master {
    /// What a framework wants has changed.
    pub(super) fn note_deadlines(&mut self, id: &FrameworkId) {
        let now_ms = self.now_ms;
        let framework = self.frameworks.known(id);
        let due = due_ms(framework.demands.as_deref().unwrap_or_default(), &framework.posted_ms, now_ms);
        if due.is_empty() && framework.posted_ms.is_empty() {
            return;
        }
        framework.posted_ms.retain(|key, _| due.contains_key(key));
        for key in due.keys() {
            framework.posted_ms.entry(key.clone()).or_insert(now_ms);
        }
        match due.into_values().min() {
            Some(at_ms) => self.alarms.set(Alarm::DemandsDue(id.clone()), at_ms),
            None => self.alarms.cancel(&Alarm::DemandsDue(id.clone())),
        }
    }

    pub(super) fn demands_due(&mut self, id: &FrameworkId) {
        let now_ms = self.now_ms;
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let demands = framework.demands.as_deref_mut().unwrap_or_default();
        let due = due_ms(demands, &framework.posted_ms, now_ms);
        let over: BTreeSet<String> =
            due.into_iter().filter(|(_, at_ms)| *at_ms <= now_ms).map(|(key, _)| key).collect();
        let mut names = Vec::new();
        for demand in demands.iter_mut().filter(|demand| demand.count > 0 && over.contains(key_of(demand))) {
            demand.count = 0;
            names.push(demand.name.clone());
        }
        self.frameworks.touch_wish(id);
        self.note_wants(id);
        if !names.is_empty() {
            self.tell(id, FrameworkEvent::Expired { names });
        }
    }
}
