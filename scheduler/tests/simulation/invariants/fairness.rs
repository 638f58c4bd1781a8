//! The fairness bound: among siblings that all want whatever they can get, the next offer goes to one whose share by
//! weight is the least. So no role gets ahead of another by more than one offer.

use jobs::Scalars;
use std::collections::BTreeMap;

/// What hungry roles hold and how they weigh.
#[derive(Debug, Default)]
pub struct Shares {
    pub total: Scalars,
    pub weights: BTreeMap<String, f64>,
    /// By the frameworks of the role itself.
    pub held: BTreeMap<String, Scalars>,
}

impl Shares {
    fn of(&self, role: &str) -> f64 {
        let mut held = Scalars::new();
        for (other, amounts) in &self.held {
            if other == role || other.strip_prefix(role).is_some_and(|rest| rest.starts_with('/')) {
                held.add(amounts);
            }
        }
        held.largest_part_of(&self.total) / self.weights.get(role).copied().unwrap_or(1.0)
    }

    /// An offer to a role, before it is counted.
    pub fn check(&self, role: &str) {
        for (at, _) in role.match_indices('/').chain([(role.len(), "")]) {
            let (chosen, above) = (&role[..at], role[..at].rsplit_once('/').map(|(above, _)| above));
            let siblings = self.held.keys().filter_map(|other| {
                let rest = match above {
                    Some(above) => other.strip_prefix(above)?.strip_prefix('/')?,
                    None => other.as_str(),
                };
                let depth = above.map_or(0, |above| above.len() + 1);
                Some(&other[..depth + rest.find('/').unwrap_or(rest.len())])
            });
            for sibling in siblings {
                let (chosen_share, share) = (self.of(chosen), self.of(sibling));
                assert!(
                    chosen_share <= share + 1e-9,
                    "{chosen} has {chosen_share} by weight and is offered more before {sibling}, which has {share}"
                );
            }
        }
    }
}
