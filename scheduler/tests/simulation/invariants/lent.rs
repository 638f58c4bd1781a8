//! What is only lent is offered to nobody but those who name it, and nobody else is ended for it.

use jobs::{OfferId, Reason};
use scheduler::master::{ClusterView, Command};
use scheduler::model::FrameworkEvent;
use std::collections::BTreeSet;

pub fn check(commands: &[Command], view: &ClusterView) {
    let mut made: BTreeSet<&OfferId> = BTreeSet::new();
    for command in commands {
        match command {
            Command::ToFramework { event: FrameworkEvent::Offer(offer), .. } if offer.resources.is_revocable() => {
                made.insert(&offer.offer_id);
            }
            Command::ToFramework { event: FrameworkEvent::Update(status), .. } if status.reason == Reason::Revoked => {
                let task = view.tasks.iter().find(|task| task.task_id == status.task_id);
                assert!(task.is_none_or(|task| task.resources.is_revocable()), "{status:?}, of {task:?}");
            }
            _ => {}
        }
    }
    for offer in view.offers.iter().filter(|offer| made.contains(&offer.offer.offer_id)) {
        let of = view.frameworks.iter().find(|framework| framework.framework_id == offer.framework_id);
        let names_it = of.is_some_and(|of| of.demands.iter().any(|demand| demand.shape.is_revocable()));
        assert!(names_it, "{} is offered to {of:?}, which does not want what is lent", offer.offer.resources);
    }
}
