//! Demands that name volumes: what they come to where the volumes are.
//!
//! Invariant: a demand whose volume is there is met on its agent only, and by nobody while another task has it; one whose
//! volume is not there yet needs its disk besides.

use super::super::Master;
use super::Held;
use crate::model::{Demand, FrameworkEvent};
use crate::volumes::VolumeKey;
use jobs::site::{Constraint, Is};
use jobs::volumes::VolumeClaim;
use jobs::{AgentId, FrameworkId, Resources, Rules};
use std::collections::BTreeMap;

/// What demands of a framework were before they were looked at for where their volumes are, by their place.
pub type Asked = BTreeMap<usize, (Resources, Rules)>;

impl Master {
    /// Puts in place of each demand that names volumes what it comes to now.
    pub(in crate::master) fn resolve(&self, role: &str, demands: &mut [Demand], asked: &Asked) {
        for (at, (shape, rules)) in asked {
            let Some(demand) = demands.get_mut(*at) else { continue };
            (demand.shape, demand.rules) = (shape.clone(), rules.clone());
            for claim in &demand.volumes {
                let (has, agents) = match self.volumes.home(&VolumeKey::of(claim, role)) {
                    None => (0, None),
                    Some((_, Held { is_leaving: true, .. } | Held { user: Some(_), .. })) => {
                        (i64::MAX, Some(Vec::new()))
                    }
                    Some((agent, held)) => (held.disk_milli, Some(vec![agent.to_string()])),
                };
                if claim.disk_milli > has {
                    let disk = demand.shape.milli("disk") + claim.disk_milli - has;
                    demand.shape.set_milli("disk", disk);
                }
                if let Some(agents) = agents {
                    demand.rules.constraints.push(Constraint { key: "agent".into(), is: Is::OneOf(agents) });
                }
            }
        }
    }

    pub(in crate::master) fn asked(demands: &[Demand]) -> Asked {
        let with_volumes = demands.iter().enumerate().filter(|(_, demand)| !demand.volumes.is_empty());
        with_volumes.map(|(at, demand)| (at, (demand.shape.clone(), demand.rules.clone()))).collect()
    }

    pub(in crate::master) fn note_claimer(&mut self, id: &FrameworkId, claims: bool) {
        match claims {
            true => self.volumes.claimers.insert(id.clone()),
            false => self.volumes.claimers.remove(id),
        };
    }

    fn homes(&self, role: &str, demands: &[Demand]) -> BTreeMap<String, AgentId> {
        let claims = demands.iter().flat_map(|demand| &demand.volumes);
        let home =
            |claim: &VolumeClaim| Some((claim.name.clone(), self.volumes.home(&VolumeKey::of(claim, role))?.0.clone()));
        claims.filter_map(home).collect()
    }

    /// Where the volumes of these demands are.
    pub(in crate::master) fn tell_homes(&mut self, id: &FrameworkId, demands: &[Demand]) {
        let Some(framework) = self.frameworks.get(id) else { return };
        let homes = self.homes(&framework.role, demands);
        self.frameworks.known(id).told_homes.clone_from(&homes);
        self.tell(id, FrameworkEvent::VolumesAt { homes });
    }

    /// Volumes came, went, or changed hands: looks anew at the demands that name some.
    pub(in crate::master) fn refresh_claims(&mut self) {
        let changed = std::mem::take(&mut self.volumes.changed);
        if changed.is_empty() || self.volumes.claimers.is_empty() {
            return;
        }
        let claimers = self.volumes.claimers.iter().filter_map(|id| self.frameworks.get(id));
        let claimers = claimers.filter(|claimer| changed.contains(&*claimer.role));
        let mut news: Vec<(FrameworkId, Vec<Demand>)> = Vec::new();
        for claimer in claimers {
            let Some(before) = &claimer.demands else { continue };
            let mut demands = before.clone();
            self.resolve(&claimer.role, &mut demands, &claimer.asked);
            if demands != *before || self.homes(&claimer.role, &demands) != claimer.told_homes {
                news.push((claimer.id.clone(), demands));
            }
        }
        for (id, demands) in news {
            self.tell_homes(&id, &demands);
            self.frameworks.known(&id).demands = Some(demands);
            self.frameworks.touch_wish(&id);
            self.wants_more(&id);
        }
    }
}
