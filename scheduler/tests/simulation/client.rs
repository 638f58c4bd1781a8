//! One framework: slots that each want one task running, and a character that decides how it treats offers.
//!
//! Invariant: its slots and its id outlive its process. A new task id is taken for every attempt, and attempts that it
//! gave up are killed when they turn up.

use crate::hits::{Fault, Hits};
use crate::world::ZONES;
use jobs::volumes::VolumeClaim;
use jobs::{
    AgentId, Artifact, FrameworkId, HealthCheck, OfferId, Probe, Resources, Rules, Scalars, Site, TaskId, TaskState,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use scheduler::model::{
    Acknowledgement, ConnectionId, Demand, FrameworkCall, FrameworkEvent, Offer, Operation, Reservation, TaskInfo,
    TaskStatus, What,
};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Character {
    /// Never posts demand; takes what it can use and declines the rest at once.
    Greedy,
    /// Posts demand and thinks for a long time about each offer.
    Slow,
    /// Never posts demand, and never answers an offer that it does not use.
    NeverDeclining,
    /// Posts demand and accepts only all that it lacks at once, over several agents.
    Gang,
    /// Posts demand, and is killed often.
    Crashing,
    /// Posts demand for more than there is, of tasks that end by themselves, and takes what is left over. In peace it goes.
    Filler,
}

pub const CHARACTERS: [Character; 6] = [
    Character::Greedy,
    Character::Slow,
    Character::NeverDeclining,
    Character::Gang,
    Character::Crashing,
    Character::Filler,
];

/// Two levels, and one role that has frameworks and a role below it.
pub const ROLES: [&str; 4] = ["ml", "ml/train", "web/front", "web/back"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    Wanting,
    /// This task was launched, or is being launched.
    Filled(TaskId),
    Done,
}

#[derive(Debug)]
pub struct Client {
    pub index: usize,
    pub character: Character,
    pub role: String,
    pub shape: Resources,
    pub priority: i32,
    /// Where its tasks may run, if it posts demand.
    pub rules: Rules,
    /// What each of its slots keeps from task to task, if it posts demand: thousandths of a MiB.
    pub volume_milli: Option<i64>,
    /// Where its volumes are, by their names.
    homes: BTreeMap<String, AgentId>,
    /// Ends its tasks itself when they have to leave.
    pub is_obedient: bool,
    /// Its tasks end by themselves, and are then not wanted any more.
    pub is_batch: bool,
    /// Its tasks may run for so long only, and are started again then.
    pub is_timed: bool,
    /// Its tasks run once they are healthy.
    pub is_watched: bool,
    /// Gives up tasks that are unreachable.
    pub is_impatient: bool,
    pub failover_timeout_ms: u64,
    pub id: Option<FrameworkId>,
    pub slots: Vec<Slot>,
    pub n_attempts: u64,
    pub is_up: bool,
    pub life: u64,
    pub connection: Option<ConnectionId>,
    pub is_subscribed: bool,
    pub has_torn_down: bool,
    offers: BTreeMap<OfferId, Held>,
    last_gone: Option<OfferId>,
    last_demand: Option<Vec<usize>>,
    answer_gang_at_ms: u64,
}

#[derive(Debug)]
struct Held {
    offer: Offer,
    answer_at_ms: u64,
    is_ignored: bool,
}

impl Client {
    pub fn new(rng: &mut ChaCha8Rng, index: usize, character: Character) -> Self {
        let is_filler = character == Character::Filler;
        let n_slots = if is_filler { 30 } else { rng.random_range(2..5) };
        let mut shape = Resources::new();
        shape.set_milli("cpus", rng.random_range(1..=2) * 500);
        shape.set_milli("mem", rng.random_range(1..=4) * 64_000);
        if is_filler && rng.random_bool(0.3) {
            shape = shape.revocable();
        }
        Self {
            index,
            character,
            role: ROLES[rng.random_range(0..ROLES.len())].to_string(),
            shape,
            priority: if is_filler { -1 } else { rng.random_range(0..3) },
            rules: rules(rng, character),
            volume_milli: (matches!(character, Character::Slow | Character::Crashing) && rng.random_bool(0.5))
                .then(|| rng.random_range(1..4) * 100_000),
            homes: BTreeMap::new(),
            is_obedient: rng.random_bool(0.5),
            is_batch: character != Character::Gang && !is_filler && rng.random_bool(0.3),
            is_timed: rng.random_bool(0.2),
            is_watched: rng.random_bool(0.3),
            is_impatient: rng.random_bool(0.5),
            failover_timeout_ms: rng.random_range(20_000..60_000),
            id: None,
            slots: vec![Slot::Wanting; n_slots],
            n_attempts: 0,
            is_up: false,
            life: 0,
            connection: None,
            is_subscribed: false,
            has_torn_down: false,
            offers: BTreeMap::new(),
            last_gone: None,
            last_demand: None,
            answer_gang_at_ms: 0,
        }
    }

    pub fn kill(&mut self) {
        self.is_up = false;
        self.life += 1;
        self.disconnected();
    }

    pub fn disconnected(&mut self) {
        self.connection = None;
        self.is_subscribed = false;
        self.offers.clear();
        self.last_demand = None;
    }

    pub fn subscribe(&self) -> FrameworkCall {
        FrameworkCall::Subscribe {
            framework_id: self.id.clone(),
            name: format!("{:?}-{}", self.character, self.index),
            role: self.role.clone(),
            failover_timeout_ms: self.failover_timeout_ms,
            // Who posts demand says it there.
            constraints: if self.posts_demand() { Vec::new() } else { self.rules.constraints.clone() },
        }
    }

    /// What it answers to an event.
    pub fn hear(
        &mut self,
        rng: &mut ChaCha8Rng,
        hits: &mut Hits,
        now_ms: u64,
        event: FrameworkEvent,
    ) -> Vec<FrameworkCall> {
        match event {
            FrameworkEvent::Subscribed { framework_id, .. } => {
                self.id = Some(framework_id);
                self.is_subscribed = true;
                if self.has_torn_down {
                    return vec![FrameworkCall::Teardown];
                }
                let mut calls = self.demand();
                // What is still there of what it wants, and what is there that it gave up.
                let task_ids: Vec<TaskId> = self.attempts().cloned().collect();
                if !task_ids.is_empty() {
                    calls.push(FrameworkCall::Reconcile { task_ids });
                }
                calls.push(FrameworkCall::Reconcile { task_ids: Vec::new() });
                calls
            }
            FrameworkEvent::Offer(offer) => {
                let think_ms = match self.character {
                    Character::Slow => rng.random_range(500..20_000),
                    Character::Greedy
                    | Character::NeverDeclining
                    | Character::Gang
                    | Character::Crashing
                    | Character::Filler => rng.random_range(0..200),
                };
                if self.offers.is_empty() {
                    self.answer_gang_at_ms = now_ms + rng.random_range(1_000..8_000);
                }
                let held = Held { answer_at_ms: now_ms + think_ms, is_ignored: false, offer };
                self.offers.insert(held.offer.offer_id.clone(), held);
                Vec::new()
            }
            FrameworkEvent::Rescind { offer_id } => {
                self.offers.remove(&offer_id);
                self.last_gone = Some(offer_id);
                Vec::new()
            }
            FrameworkEvent::Update(status) => self.update(hits, status),
            FrameworkEvent::VolumesAt { homes } => {
                self.homes = homes;
                Vec::new()
            }
            FrameworkEvent::Operated { problem, .. } => {
                hits.fault(if problem.is_some() { Fault::OperationRefused } else { Fault::Operated });
                Vec::new()
            }
            FrameworkEvent::Expired { .. } => {
                hits.fault(Fault::DemandExpired);
                self.last_demand = None;
                self.demand()
            }
            FrameworkEvent::AgentDrains { .. } => {
                hits.fault(Fault::DrainTold);
                Vec::new()
            }
            FrameworkEvent::Preempted { task_ids, .. } => {
                hits.fault(Fault::PreemptTold);
                if !self.is_obedient {
                    return Vec::new();
                }
                hits.fault(Fault::PreemptObeyed);
                let kill = |task_id| FrameworkCall::Kill { task_id, grace_ms: Some(500) };
                task_ids.into_iter().map(kill).collect()
            }
            FrameworkEvent::Error { message } => {
                if message.contains("has ended") {
                    self.id = None;
                    for slot in self.slots.iter_mut().filter(|slot| **slot != Slot::Done) {
                        *slot = Slot::Wanting;
                    }
                }
                Vec::new()
            }
            FrameworkEvent::Heartbeat => Vec::new(),
        }
    }

    fn update(&mut self, hits: &mut Hits, status: TaskStatus) -> Vec<FrameworkCall> {
        hits.told(status.state, status.reason);
        let TaskStatus { task_id, agent_id, state, uuid, .. } = status;
        let mut calls = Vec::new();
        if let Some(uuid) = uuid {
            calls.push(FrameworkCall::Acknowledge(Acknowledgement { agent_id, task_id: task_id.clone(), uuid }));
        }
        let slot = self.slots.iter_mut().find(|slot| **slot == Slot::Filled(task_id.clone()));
        let Some(slot) = slot else {
            if !state.is_terminal() && !matches!(state, TaskState::Unknown | TaskState::Killing) {
                calls.push(FrameworkCall::Kill { task_id, grace_ms: None });
            }
            return calls;
        };
        match state {
            TaskState::Finished if self.is_batch => *slot = Slot::Done,
            TaskState::Finished
            | TaskState::Failed
            | TaskState::Killed
            | TaskState::Lost
            | TaskState::Dropped
            | TaskState::Unknown => *slot = Slot::Wanting,
            TaskState::Unreachable if self.is_impatient => {
                *slot = Slot::Wanting;
                calls.push(FrameworkCall::Kill { task_id, grace_ms: Some(500) });
            }
            TaskState::Unreachable
            | TaskState::Staging
            | TaskState::Starting
            | TaskState::Running
            | TaskState::Killing => {}
        }
        calls.extend(self.demand());
        calls
    }

    /// Answers the offers that it has thought about for long enough.
    pub fn answer(&mut self, rng: &mut ChaCha8Rng, hits: &mut Hits, now_ms: u64, is_calm: bool) -> Vec<FrameworkCall> {
        if !self.is_subscribed || self.has_torn_down {
            return Vec::new();
        }
        let mut calls = match self.character {
            Character::Gang => self.answer_as_gang(rng, now_ms),
            Character::Greedy
            | Character::Slow
            | Character::NeverDeclining
            | Character::Crashing
            | Character::Filler => self.answer_each(rng, hits, now_ms),
        };
        if !is_calm && rng.random_bool(0.02) {
            calls.extend(self.misbehave(rng, hits));
        }
        calls.extend(self.demand());
        calls
    }

    fn answer_each(&mut self, rng: &mut ChaCha8Rng, hits: &mut Hits, now_ms: u64) -> Vec<FrameworkCall> {
        let mut calls = Vec::new();
        let due = self.offers.values().filter(|held| held.answer_at_ms <= now_ms && !held.is_ignored);
        for id in due.map(|held| held.offer.offer_id.clone()).collect::<Vec<_>>() {
            let mut room = self.offers[&id].offer.clone();
            let launch = self.place(&mut room);
            let operations = operations(rng, &self.role, &self.offers[&id].offer, self.index);
            if !launch.is_empty() {
                calls.push(FrameworkCall::Accept { offer_ids: vec![id.clone()], operations, launch, refuse_ms: None });
            } else if self.character == Character::NeverDeclining {
                hits.fault(Fault::OfferIgnored);
                if let Some(held) = self.offers.get_mut(&id) {
                    held.is_ignored = true;
                }
                continue;
            } else {
                calls.push(FrameworkCall::Decline { offer_ids: vec![id.clone()], refuse_ms: None });
            }
            self.offers.remove(&id);
            self.last_gone = Some(id);
        }
        calls
    }

    fn answer_as_gang(&mut self, rng: &mut ChaCha8Rng, now_ms: u64) -> Vec<FrameworkCall> {
        if self.offers.is_empty() {
            return Vec::new();
        }
        let before = self.slots.clone();
        let n_wanting = before.iter().filter(|slot| **slot == Slot::Wanting).count();
        let place_of = |held: &Held| {
            let place = self.rules.together.as_ref().and_then(|key| held.offer.attributes.get(key));
            place.cloned().unwrap_or_default()
        };
        let mut places: BTreeMap<String, Vec<Offer>> = BTreeMap::new();
        for held in self.offers.values() {
            places.entry(place_of(held)).or_default().push(held.offer.clone());
        }
        for mut rooms in places.into_values() {
            let launch: Vec<TaskInfo> = rooms.iter_mut().flat_map(|room| self.place(room)).collect();
            if n_wanting > 0 && launch.len() == n_wanting {
                let offer_ids: Vec<OfferId> = rooms.into_iter().map(|offer| offer.offer_id).collect();
                self.offers.retain(|id, _| !offer_ids.contains(id));
                return vec![FrameworkCall::Accept {
                    offer_ids,
                    operations: Vec::new(),
                    launch,
                    refuse_ms: Some(1_000),
                }];
            }
            self.slots.clone_from(&before);
        }
        let offer_ids: Vec<OfferId> = self.offers.keys().cloned().collect();
        if now_ms < self.answer_gang_at_ms && n_wanting > 0 {
            return Vec::new();
        }
        // Another gang may hold what this one lacks: whoever waits at random does not meet it again forever.
        self.offers.clear();
        vec![FrameworkCall::Decline { offer_ids, refuse_ms: Some(rng.random_range(0..6_000)) }]
    }

    /// Fills slots from an offer, which shrinks.
    fn place(&mut self, room: &mut Offer) -> Vec<TaskInfo> {
        let mut launch = Vec::new();
        let site = Site { agent: room.agent_id.as_str(), host: &room.host, attributes: &room.attributes };
        // It may have been offered before it had said where its tasks may run.
        if !self.rules.allow(site) {
            return launch;
        }
        let (id, group) = (self.id.clone().unwrap_or_default(), self.group());
        let volumes: Vec<Vec<VolumeClaim>> = (0..self.slots.len()).map(|at| self.claims(at)).collect();
        let wanting = self.slots.iter_mut().zip(volumes).filter(|(slot, _)| **slot == Slot::Wanting);
        for (slot, volumes) in wanting {
            let mut needs = self.shape.clone();
            for claim in &volumes {
                let there = room.volumes.iter().find(|volume| volume.key.name == claim.name);
                if self.homes.contains_key(&claim.name) && there.is_none() {
                    needs.set_milli("cpus", i64::MAX >> 16);
                }
                needs.set_milli("disk", (claim.disk_milli - there.map_or(0, |there| there.disk_milli)).max(0));
            }
            if !room.resources.contains(&needs) {
                continue;
            }
            room.resources.subtract(&needs);
            self.n_attempts += 1;
            let task_id = TaskId::new(format!("{id}.{}", self.n_attempts));
            *slot = Slot::Filled(task_id.clone());
            launch.push(TaskInfo {
                task_id,
                name: match self.character {
                    Character::Filler => "filler".into(),
                    _ if self.is_batch => "batch".into(),
                    _ => "service".into(),
                },
                agent_id: room.agent_id.clone(),
                resources: self.shape.clone(),
                kill_grace_ms: 1_500,
                // Long enough for a batch task, and services are started again.
                max_completion_ms: if self.is_timed { 45_000 } else { 0 },
                unreachable_kill_ms: if self.is_impatient { 5_000 } else { 0 },
                health: self.is_watched.then(|| {
                    Box::new(HealthCheck {
                        probe: Probe::Tcp { port: 80 },
                        interval_ms: 2_000,
                        timeout_ms: 900,
                        grace_ms: 1_000,
                        failures: 2,
                    })
                }),
                priority: self.priority,
                group: group.clone(),
                volumes,
                artifacts: if self.is_timed { vec![artifact()] } else { Vec::new() },
                ..Default::default()
            });
        }
        launch
    }

    /// What the task of a slot claims.
    pub fn claims(&self, slot: usize) -> Vec<VolumeClaim> {
        let claim = |disk_milli| VolumeClaim {
            name: format!("v-{}-{slot}", self.index),
            // Later ones want more.
            disk_milli: disk_milli + i64::from(self.n_attempts > 6) * 50_000,
            path: String::new(),
        };
        self.volume_milli.map(claim).into_iter().collect()
    }

    /// Of its demand and its tasks.
    fn group(&self) -> String {
        if self.character == Character::Gang { format!("gang-{}", self.index) } else { String::new() }
    }

    /// What a framework with a defect, or with a message on its way, may ask.
    fn misbehave(&mut self, rng: &mut ChaCha8Rng, hits: &mut Hits) -> Vec<FrameworkCall> {
        let attempts: Vec<TaskId> = self.attempts().cloned().collect();
        match rng.random_range(0..4) {
            0 => match attempts.first() {
                Some(task_id) => {
                    hits.fault(Fault::KillAsked);
                    let grace_ms = rng.random_bool(0.5).then(|| rng.random_range(0..3_000));
                    vec![FrameworkCall::Kill { task_id: task_id.clone(), grace_ms }]
                }
                None => vec![FrameworkCall::Revive],
            },
            1 => match self.last_gone.take() {
                Some(gone) => {
                    hits.fault(Fault::AcceptOfGoneOffer);
                    let offer = Offer { resources: self.shape.clone(), ..no_offer(gone.clone()) };
                    let launch = self.place(&mut { offer });
                    vec![FrameworkCall::Accept {
                        offer_ids: vec![gone],
                        operations: Vec::new(),
                        launch,
                        refuse_ms: None,
                    }]
                }
                None => vec![FrameworkCall::Reconcile { task_ids: Vec::new() }],
            },
            2 => match self.offers.pop_first() {
                Some((id, held)) => {
                    hits.fault(Fault::AcceptOfTooMuch);
                    let mut launch = self.place(&mut held.offer.clone());
                    // One of them alone is too much, and all of them must fall with it.
                    if let Some(task) = launch.last_mut() {
                        task.resources.add(&held.offer.resources);
                    }
                    vec![FrameworkCall::Accept {
                        offer_ids: vec![id],
                        operations: Vec::new(),
                        launch,
                        refuse_ms: Some(0),
                    }]
                }
                None => vec![FrameworkCall::Revive],
            },
            _ => vec![FrameworkCall::Suppress, FrameworkCall::Reconcile { task_ids: attempts }, FrameworkCall::Revive],
        }
    }

    pub fn posts_demand(&self) -> bool {
        match self.character {
            Character::Slow | Character::Gang | Character::Crashing | Character::Filler => true,
            Character::Greedy | Character::NeverDeclining => false,
        }
    }

    /// Says what it wants, if it does that and it changed.
    fn demand(&mut self) -> Vec<FrameworkCall> {
        let wanting: Vec<usize> = (0..self.slots.len()).filter(|at| self.slots[*at] == Slot::Wanting).collect();
        if !self.posts_demand() || !self.is_subscribed || self.last_demand.as_ref() == Some(&wanting) {
            return Vec::new();
        }
        let count = wanting.len() as u32;
        let demand = Demand {
            name: format!("slots-{}", self.index),
            shape: self.shape.clone(),
            n_ports: 0,
            count,
            priority: self.priority,
            group: self.group(),
            rules: self.rules.clone(),
            volumes: Vec::new(),
            within_ms: self.is_impatient.then_some(10_000),
        };
        let of_slot = |slot: &usize| Demand { count: 1, volumes: self.claims(*slot), ..demand.clone() };
        let demands = match self.volume_milli {
            Some(_) => wanting.iter().map(of_slot).collect(),
            None if count == 0 => vec![],
            None => vec![demand],
        };
        self.last_demand = Some(wanting);
        vec![FrameworkCall::Demand { demands }]
    }

    pub fn attempts(&self) -> impl Iterator<Item = &TaskId> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Filled(task_id) => Some(task_id),
            Slot::Wanting | Slot::Done => None,
        })
    }
}

/// A zone, or two, or one that all tasks share.
fn rules(rng: &mut ChaCha8Rng, character: Character) -> Rules {
    let zone = format!("z{}", rng.random_range(0..ZONES));
    let text = match character {
        Character::Gang if rng.random_bool(0.5) => {
            return Rules { together: Some("zone".into()), ..Rules::default() };
        }
        Character::Slow | Character::Crashing | Character::Greedy | Character::NeverDeclining
            if rng.random_bool(0.5) =>
        {
            if rng.random_bool(0.5) {
                format!("zone = {zone}")
            } else {
                format!("zone != {zone}")
            }
        }
        _ => return Rules::default(),
    };
    Rules { constraints: vec![text.parse().expect("a constraint")], ..Rules::default() }
}

/// What a framework now and then does beside launching: some of it cannot be done.
fn operations(rng: &mut ChaCha8Rng, role: &str, offer: &Offer, index: usize) -> Vec<Operation> {
    if !rng.random_bool(0.04) {
        return Vec::new();
    }
    let (agent_id, name) = (offer.agent_id.clone(), format!("extra-{index}"));
    let mut reservation = Reservation { role: role.to_string(), ..Reservation::default() };
    reservation.amounts.set("cpus", rng.random_range(1..4) * 500);
    let what = match rng.random_range(0..5) {
        0 => What::Reserve(reservation),
        1 => What::Unreserve(Reservation { amounts: Scalars::new(), ..reservation }),
        2..4 => What::KeepVolume { name, disk_milli: rng.random_range(1..4) * 50_000 },
        _ => What::DestroyVolume { name },
    };
    vec![Operation { agent_id, what }]
}

fn no_offer(offer_id: OfferId) -> Offer {
    Offer {
        offer_id,
        agent_id: "agent-0".into(),
        host: "".into(),
        role: "".into(),
        resources: Resources::new(),
        attributes: BTreeMap::new().into(),
        expires_in_ms: 0,
        drains_in_ms: None,
        volumes: Vec::new(),
    }
}

fn artifact() -> Artifact {
    Artifact { from: "https://h/a".into(), path: "a".into(), ..Artifact::default() }
}
