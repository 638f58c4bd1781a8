//! Which offers hold the tasks of a job: all of them or none.
//!
//! Invariant: pure; takes nothing from an offer that it does not return in a placement.

use jobs::{AgentId, Need, OfferId, Resources, Rules, Site, things};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// An offer that a framework holds and has not answered.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldOffer {
    pub id: OfferId,
    pub agent: AgentId,
    pub host: String,
    pub resources: Resources,
    /// Of its agent.
    pub attributes: BTreeMap<String, String>,
    /// The volumes of its role there that no task has, with how large they are in thousandths of a MiB.
    pub volumes: BTreeMap<String, i64>,
    /// It is planned that its agent is to be empty.
    pub drains: bool,
    pub held_since_ms: u64,
}

impl HeldOffer {
    fn site(&self) -> Site<'_> {
        Site { agent: self.agent.as_str(), host: &self.host, attributes: &self.attributes }
    }
}

/// Where one task goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    pub offer: OfferId,
    pub agent: AgentId,
    pub host: String,
    /// The job's shape with the ports and GPUs that were chosen.
    pub resources: Resources,
    pub ports: Vec<u16>,
}

/// Places all tasks that are needed where they may be, spread over as many agents as can be, or gives `None`. In the order of
/// the tasks. `homes`: where volumes are; those that are not there are made where their tasks are placed.
pub fn place(
    offers: &[HeldOffer],
    needs: &[Need<'_>],
    rules: &Rules,
    homes: &BTreeMap<String, AgentId>,
) -> Option<Vec<Placement>> {
    let offers: Vec<&HeldOffer> = offers.iter().filter(|offer| rules.allow(offer.site())).collect();
    let Some(key) = &rules.together else { return place_on(&offers, needs, rules, homes) };
    let values: BTreeSet<&str> = offers.iter().filter_map(|offer| offer.site().get(key)).collect();
    values.into_iter().find_map(|value| {
        let there: Vec<&HeldOffer> =
            offers.iter().copied().filter(|offer| offer.site().get(key) == Some(value)).collect();
        place_on(&there, needs, rules, homes)
    })
}

/// Where tasks are that were placed, by agent and by the value that they are spread over.
struct Spreading {
    /// Of each offer's agent, as a number.
    value_of: Vec<usize>,
    agent_of: Vec<usize>,
    on_agent: Vec<usize>,
    /// How many tasks are where it has a value, and how many of them are of the role at hand.
    all: Vec<usize>,
    of_role: Vec<usize>,
    most: usize,
}

impl Spreading {
    fn new(offers: &[&HeldOffer], rules: &Rules) -> Self {
        let mut numbers: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        let value_of = offers.iter().map(|offer| {
            let value = rules.spread.as_ref().and_then(|spread| offer.site().get(&spread.key));
            let next = numbers.len();
            *numbers.entry(value).or_insert(next)
        });
        let value_of: Vec<usize> = value_of.collect();
        let mut agents: BTreeMap<&AgentId, usize> = BTreeMap::new();
        let agent_of = offers.iter().map(|offer| {
            let next = agents.len();
            *agents.entry(&offer.agent).or_insert(next)
        });
        let agent_of: Vec<usize> = agent_of.collect();
        let on_agent = vec![0; agents.len()];
        let (all, of_role) = (vec![0; numbers.len()], vec![0; numbers.len()]);
        let most = rules.spread.as_ref().and_then(|spread| spread.most).map_or(usize::MAX, |most| most as usize);
        Self { value_of, agent_of, on_agent, all, of_role, most }
    }

    fn begin_role(&mut self) {
        self.of_role.fill(0);
    }

    fn place(&mut self, at: usize) {
        self.all[self.value_of[at]] += 1;
        self.of_role[self.value_of[at]] += 1;
        self.on_agent[self.agent_of[at]] += 1;
    }

    fn is_full(&self, at: usize) -> bool {
        self.of_role[self.value_of[at]] >= self.most
    }

    /// Where it has the same value, then on the same agent. Without a word of spreading all values are alike.
    fn load(&self, at: usize) -> (usize, usize) {
        (self.all[self.value_of[at]], self.on_agent[self.agent_of[at]])
    }
}

fn place_on(
    offers: &[&HeldOffer],
    needs: &[Need<'_>],
    rules: &Rules,
    homes: &BTreeMap<String, AgentId>,
) -> Option<Vec<Placement>> {
    let mut left: Vec<(usize, Resources)> = offers.iter().map(|offer| (0, offer.resources.clone())).collect();
    let mut spreading = Spreading::new(offers, rules);
    // What is large is placed first: what is small finds room beside it, and not the other way round.
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|role| Reverse(size(needs[*role].resources)));
    let mut placements: Vec<Vec<Placement>> = vec![Vec::new(); needs.len()];
    for role in order {
        spreading.begin_role();
        for _ in 0..needs[role].count {
            let placed = place_one(offers, &mut left, &needs[role], homes, &mut spreading)?;
            placements[role].push(placed);
        }
    }
    Some(placements.into_iter().flatten().collect())
}

/// GPUs are the scarcest, then cores.
fn size(shape: &Resources) -> [i64; 3] {
    [things::GPUS, "cpus", "mem"].map(|name| shape.milli(name))
}

fn place_one(
    offers: &[&HeldOffer],
    left: &mut [(usize, Resources)],
    need: &Need<'_>,
    homes: &BTreeMap<String, AgentId>,
    spreading: &mut Spreading,
) -> Option<Placement> {
    let (at, disk, resources) = left
        .iter()
        .enumerate()
        .filter(|(at, _)| !spreading.is_full(*at))
        .filter_map(|(at, (used, free))| {
            let disk = disk_of(need, offers[at], homes)?;
            let place = |room: &Resources| room.place(need.resources, need.n_ports as usize);
            let placed = match disk.is_empty() {
                true => place(free)?,
                false => {
                    let mut room = free.clone();
                    room.contains(&disk).then(|| room.subtract(&disk))?;
                    place(&room)?
                }
            };
            Some((*used, at, disk, placed))
        })
        .min_by_key(|(used, at, ..)| {
            let offer = offers[*at];
            // Where there is a choice nothing begins that would soon have to move.
            (offer.drains, spreading.load(*at), *used, *at)
        })
        .map(|(_, at, disk, resources)| (at, disk, resources))?;
    spreading.place(at);
    let ports = resources.ports().iter().flat_map(|(low, high)| *low..=*high).collect();
    left[at].1.subtract(&resources);
    left[at].1.subtract(&disk);
    left[at].0 += 1;
    Some(Placement {
        offer: offers[at].id.clone(),
        agent: offers[at].agent.clone(),
        host: offers[at].host.clone(),
        resources,
        ports,
    })
}

/// What of a task's volumes is not there yet on the agent of an offer; `None` if they are elsewhere, or another task's.
fn disk_of(need: &Need<'_>, offer: &HeldOffer, homes: &BTreeMap<String, AgentId>) -> Option<Resources> {
    let mut disk = Resources::new();
    for claim in need.claims.iter().flat_map(|(_, claims)| claims) {
        let has = match (homes.get(&claim.name), offer.volumes.get(&claim.name)) {
            (_, Some(milli)) => *milli,
            (None, None) => 0,
            (Some(_), None) => return None,
        };
        disk.set_milli("disk", disk.milli("disk") + (claim.disk_milli - has).max(0));
    }
    Some(disk)
}

#[cfg(test)]
mod tests {
    use super::{place as place_at, *};
    use jobs::volumes::VolumeClaim;

    fn place(offers: &[HeldOffer], needs: &[Need<'_>], rules: &Rules) -> Option<Vec<Placement>> {
        place_at(offers, needs, rules, &BTreeMap::new())
    }

    fn offer(id: &str, agent: &str, cpus: f64) -> HeldOffer {
        HeldOffer {
            id: id.into(),
            agent: agent.into(),
            host: "127.0.0.1".into(),
            resources: Resources::new().cpus(cpus).mem_mib(1000.0).with_ports([(31000, 31001)]),
            attributes: BTreeMap::new(),
            volumes: BTreeMap::new(),
            drains: false,
            held_since_ms: 0,
        }
    }

    fn need(resources: &Resources, n_ports: u32, count: u32) -> Need<'_> {
        Need { member: None, count, resources, n_ports, claims: None }
    }

    #[test]
    fn spreads_over_agents() {
        let offers = [offer("o1", "a1", 2.0), offer("o2", "a2", 2.0)];
        let placed = place(&offers, &[need(&Resources::new().cpus(0.5), 1, 2)], &Rules::default()).unwrap();
        assert_ne!(placed[0].agent, placed[1].agent);
    }

    #[test]
    fn an_agent_that_is_to_be_empty_soon_comes_last() {
        let one = Resources::new().cpus(1.0);
        let offers = [HeldOffer { drains: true, ..offer("o1", "a1", 4.0) }, offer("o2", "a2", 2.0)];
        let agents = |count| -> Vec<String> {
            let placed = place(&offers, &[need(&one, 0, count)], &Rules::default()).expect("there is room");
            placed.into_iter().map(|placed| placed.agent.to_string()).collect()
        };
        assert_eq!(agents(2), ["a2", "a2"]);
        assert_eq!(agents(3), ["a2", "a2", "a1"], "rather there than nowhere");
    }

    #[test]
    fn large_roles_are_placed_first_and_stand_in_their_order() {
        let offers = [offer("o1", "a1", 2.0), offer("o2", "a2", 3.0)];
        let (small, large) = (Resources::new().cpus(0.5), Resources::new().cpus(3.0));
        let placed = place(&offers, &[need(&small, 1, 2), need(&large, 1, 1)], &Rules::default()).unwrap();
        let places: Vec<(&str, f64)> =
            placed.iter().map(|placed| (placed.agent.as_str(), placed.resources.cores())).collect();
        assert_eq!(places, [("a1", 0.5), ("a1", 0.5), ("a2", 3.0)]);
        assert!(
            place(&offers, &[need(&small, 1, 1), need(&large, 1, 2)], &Rules::default()).is_none(),
            "all of them or none"
        );
    }

    #[test]
    fn all_or_none() {
        let offers = [offer("o1", "a1", 1.0), offer("o2", "a2", 1.0)];
        let (whole, tenth) = (Resources::new().cpus(1.0), Resources::new().cpus(0.1));
        assert!(place(&offers, &[need(&whole, 1, 3)], &Rules::default()).is_none());
        // Ports bound a placement as much as cpus do.
        assert!(place(&offers, &[need(&tenth, 1, 5)], &Rules::default()).is_none());
        let four = place(&offers, &[need(&tenth, 1, 4)], &Rules::default()).unwrap();
        let mut ports: Vec<_> = four.iter().map(|placed| (placed.agent.clone(), placed.ports[0])).collect();
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), 4, "no port is given twice on one agent");
    }

    fn in_rack(id: &str, agent: &str, cpus: f64, rack: &str) -> HeldOffer {
        HeldOffer { attributes: BTreeMap::from([("rack".to_string(), rack.to_string())]), ..offer(id, agent, cpus) }
    }

    fn agents(placed: Option<Vec<Placement>>) -> Option<Vec<String>> {
        placed.map(|placed| placed.into_iter().map(|placed| placed.agent.to_string()).collect())
    }

    #[test]
    fn tasks_are_where_they_may_be() {
        let offers = [
            in_rack("o1", "a1", 1.0, "r1"),
            in_rack("o2", "a2", 1.0, "r2"),
            in_rack("o3", "a3", 1.0, "r2"),
            offer("o4", "a4", 4.0),
        ];
        let one = Resources::new().cpus(1.0);
        let on = |text: &str, together: Option<&str>, spread: Option<&str>, count| {
            let constraints = if text.is_empty() { vec![] } else { jobs::site::parse_constraints(text).unwrap() };
            let spread = spread.map(|spread| spread.parse().unwrap());
            let rules = Rules { constraints, together: together.map(str::to_string), spread };
            agents(place(&offers, &[need(&one, 0, count)], &rules))
        };
        assert_eq!(on("rack = r1", None, None, 1), Some(vec!["a1".into()]));
        assert_eq!(on("rack = r1", None, None, 2), None);
        assert_eq!(on("rack != r2; agent != a4", None, None, 1), Some(vec!["a1".into()]));
        assert_eq!(on("", Some("rack"), None, 2), Some(vec!["a2".into(), "a3".into()]), "all in one rack");
        assert_eq!(on("", Some("rack"), None, 3), None);
        assert_eq!(on("rack exists", None, Some("rack"), 2), Some(vec!["a1".into(), "a2".into()]));
        assert_eq!(on("agent = a4", None, Some("agent:2"), 2), Some(vec!["a4".into(), "a4".into()]));
        assert_eq!(on("agent = a4", None, Some("agent:2"), 3), None);
        assert_eq!(on("rack exists", None, Some("rack:1"), 3), None, "there are two racks");
    }

    #[test]
    fn tasks_are_where_their_volumes_are() {
        let with = |id: &str, agent: &str, volumes: &[(&str, i64)]| HeldOffer {
            resources: Resources::new().cpus(4.0).with("disk", 10.0),
            volumes: volumes.iter().map(|(name, milli)| (name.to_string(), *milli)).collect(),
            ..offer(id, agent, 4.0)
        };
        let one = Resources::new().cpus(1.0);
        let need = |index: u32, mib: i64| {
            let claim = VolumeClaim { name: format!("v{index}"), disk_milli: mib * 1000, path: String::new() };
            Need { claims: Some((index, vec![claim])), ..need(&one, 0, 1) }
        };
        let offers = [with("o1", "a1", &[]), with("o2", "a2", &[("v0", 8_000)])];
        let homes = |name: &str, agent: &str| BTreeMap::from([(name.to_string(), AgentId::from(agent))]);
        let place = |needs: &[Need<'_>], homes| agents(place_at(&offers, needs, &Rules::default(), &homes));
        assert_eq!(place(&[need(0, 8), need(1, 8)], homes("v0", "a2")), Some(vec!["a2".into(), "a1".into()]));
        assert_eq!(place(&[need(0, 18)], homes("v0", "a2")), Some(vec!["a2".into()]), "it grows there");
        assert_eq!(place(&[need(0, 19)], homes("v0", "a2")), None, "there is no disk for that");
        assert_eq!(place(&[need(1, 8)], homes("v1", "a2")), None, "it is there and not offered: another task has it");
        assert_eq!(place(&[need(1, 8), need(2, 8)], BTreeMap::new()), Some(vec!["a1".into(), "a2".into()]));
        let placed = place_at(&offers, &[need(1, 8)], &Rules::default(), &BTreeMap::new()).expect("there is room");
        assert_eq!(placed[0].resources, one, "the disk of a volume is not the task's");
    }
}
