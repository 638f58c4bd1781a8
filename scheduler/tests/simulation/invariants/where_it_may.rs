//! Who has said where its tasks may run is offered nothing anywhere else.

use crate::client::Client;
use jobs::{OfferId, Site};
use scheduler::master::{ClusterView, Command};
use scheduler::model::FrameworkEvent;
use std::collections::BTreeSet;

pub fn check(commands: &[Command], view: &ClusterView, clients: &[Client]) {
    let made = commands.iter().filter_map(|command| match command {
        Command::ToFramework { event: FrameworkEvent::Offer(offer), .. } => Some(&offer.offer_id),
        _ => None,
    });
    let made: BTreeSet<&OfferId> = made.collect();
    for offer in view.offers.iter().filter(|offer| made.contains(&offer.offer.offer_id)) {
        let of = view.frameworks.iter().find(|framework| framework.framework_id == offer.framework_id);
        let framework_id = Some(&offer.framework_id);
        let offer = &offer.offer;
        let site = Site { agent: offer.agent_id.as_str(), host: &offer.host, attributes: &offer.attributes };
        let subscribed = clients.iter().find(|client| client.id.as_ref() == framework_id && !client.posts_demand());
        if let Some(client) = subscribed {
            let (name, agent) = (client.character, &offer.agent_id);
            assert!(client.rules.allow(site), "{name:?} subscribed with {:?} and is offered {agent}", client.rules);
        }
        let Some(of) = of.filter(|framework| !framework.demands.is_empty()) else { continue };
        let may = of.demands.iter().any(|demand| demand.rules.allow(site));
        assert!(may, "{} is offered {} where none of {:?} may run", of.name, offer.agent_id, of.demands);
    }
}
