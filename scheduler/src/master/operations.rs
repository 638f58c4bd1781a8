//! What a framework does on agents beside launching: it keeps room for its role there, and has volumes.
//!
//! Invariant: checked all at once before any is done, each after those before it. A framework can keep only what it is
//! offered, for its role or one below it, and touch only what is theirs.

use super::Master;
use super::answers::Pools;
use super::reserved::{add_reservation, check_reservation, take_reservation};
use crate::model::{Operation, Reservation, TaskInfo, What, amount_text, is_below};
use crate::volumes::{Volume, VolumeKey, disk};
use jobs::volumes::{VolumeClaim, check_claims};
use jobs::{AgentId, FrameworkId, Resources};
use std::collections::{BTreeMap, BTreeSet};

/// What an accept does beside launching.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// All that operators and frameworks then reserve on an agent.
    pub reservations: BTreeMap<AgentId, Vec<Reservation>>,
    pub destroyed: Vec<(AgentId, VolumeKey)>,
    /// Made, or grown, with how large they are then.
    pub volumes: BTreeMap<(AgentId, VolumeKey), i64>,
    claimed: BTreeSet<VolumeKey>,
}

impl Master {
    /// Takes what operations need out of the pools. The message says what is wrong.
    pub(super) fn plan_operations(
        &self,
        role: &str,
        operations: &[Operation],
        pools: &mut Pools,
    ) -> Result<Plan, String> {
        let mut plan = Plan::default();
        for Operation { agent_id: agent, what } in operations {
            let Some(pool) = pools.get_mut(agent) else {
                return Err(format!("an operation names agent '{agent}', which none of the offers is of"));
            };
            match what {
                What::Reserve(wanted) => {
                    check_own(role, &wanted.role)?;
                    check_reservation(wanted)?;
                    let pool_has = pool.amounts();
                    if let Some((name, milli)) = wanted.amounts.iter().find(|(name, milli)| pool_has.get(name) < *milli)
                    {
                        let (wanted, has) = (amount_text(name, milli), amount_text(name, pool_has.get(name)));
                        return Err(format!("{wanted} cannot be reserved on agent {agent}: {has} is offered"));
                    }
                    let reservations = plan.reservations_on(self, agent);
                    if let Some(doubt) = self.doubts(agent, wanted, reservations).into_iter().next() {
                        return Err(doubt);
                    }
                    add_reservation(reservations, wanted.clone());
                }
                What::Unreserve(given_up) => {
                    check_own(role, &given_up.role)?;
                    let reservations = plan.reservations_on(self, agent);
                    let mut given_up = given_up.clone();
                    let like = reservations.iter().find(|reservation| reservation.is_like(&given_up));
                    if let Some(like) = like.filter(|_| given_up.amounts.is_empty()) {
                        given_up.amounts.clone_from(&like.amounts);
                    }
                    take_reservation(reservations, agent, &given_up)?;
                }
                What::KeepVolume { name, disk_milli } => {
                    let claim = VolumeClaim { name: name.clone(), disk_milli: *disk_milli, path: String::new() };
                    check_claims(std::slice::from_ref(&claim))?;
                    self.plan_claim(&mut plan, agent, role, &claim, pool)?;
                }
                What::DestroyVolume { name } => {
                    let key = VolumeKey::new(role, name);
                    self.check_unused(agent, &key)?;
                    if plan.destroyed.iter().any(|(_, other)| *other == key) || plan.is_touched(agent, &key) {
                        return Err(format!("volume {name} is named by two operations that cannot both be done"));
                    }
                    plan.destroyed.push((agent.clone(), key));
                }
            }
        }
        Ok(plan)
    }

    /// Takes what volumes of a task need, where they are not there yet, out of the pool of its agent.
    pub(super) fn plan_claims(
        &self,
        plan: &mut Plan,
        role: &str,
        task: &TaskInfo,
        pool: &mut Resources,
    ) -> Result<(), String> {
        check_claims(&task.volumes).map_err(|problem| format!("task {}: {problem}", task.task_id))?;
        for claim in &task.volumes {
            if !plan.claimed.insert(VolumeKey::of(claim, role)) {
                return Err(format!("task {} claims volume {}, which another one does too", task.task_id, claim.name));
            }
            self.plan_claim(plan, &task.agent_id, role, claim, pool)
                .map_err(|problem| format!("task {}: {problem}", task.task_id))?;
        }
        Ok(())
    }

    fn plan_claim(
        &self,
        plan: &mut Plan,
        agent: &AgentId,
        role: &str,
        claim: &VolumeClaim,
        pool: &mut Resources,
    ) -> Result<(), String> {
        let (key, name) = (VolumeKey::of(claim, role), &claim.name);
        self.check_claimed(agent, role, claim)?;
        if plan.destroyed.iter().any(|(_, other)| *other == key) {
            return Err(format!("volume {name} is given up by the same accept"));
        }
        if let Some((home, _)) = plan.volumes.keys().find(|(home, other)| *other == key && home != agent) {
            return Err(format!("volume {name} is made on agent {home} by the same accept"));
        }
        let planned = plan.volumes.get(&(agent.clone(), key.clone())).copied();
        let missing = match planned {
            Some(planned) => (claim.disk_milli - planned).max(0),
            None => self.missing_of(agent, role, claim),
        };
        let more = Resources::new().with_amounts(disk(missing));
        if !pool.contains(&more) {
            let (needs, has) = (amount_text("disk", missing), amount_text("disk", pool.milli("disk")));
            return Err(format!("volume {name} needs {needs}, and {has} of agent {agent} is left to it"));
        }
        pool.subtract(&more);
        if missing > 0 {
            plan.volumes.insert((agent.clone(), key), claim.disk_milli);
        }
        Ok(())
    }

    /// Does what was planned; what it takes is still in offers' books.
    pub(super) fn carry_out(&mut self, framework: &FrameworkId, plan: Plan) {
        let Plan { reservations, destroyed, volumes, claimed: _ } = plan;
        for (agent, reservations) in reservations {
            self.take_on_reservations(&agent, reservations);
        }
        for (agent, key) in destroyed {
            self.give_up_volume(&agent, &key);
        }
        for ((agent, key), disk_milli) in volumes {
            self.keep_volume(framework, &agent, Volume { key, disk_milli });
        }
    }
}

impl Plan {
    fn reservations_on(&mut self, master: &Master, agent: &AgentId) -> &mut Vec<Reservation> {
        let now = || master.reserved.by_operators(agent).to_vec();
        self.reservations.entry(agent.clone()).or_insert_with(now)
    }

    fn is_touched(&self, agent: &AgentId, key: &VolumeKey) -> bool {
        self.volumes.contains_key(&(agent.clone(), key.clone()))
    }
}

fn check_own(role: &str, named: &str) -> Result<(), String> {
    match is_below(named, role) {
        true => Ok(()),
        false => Err(format!("role {named} is neither {role} nor below it")),
    }
}
