//! What operators say about roles and agents, and what they are shown.

use super::{Converted, Malformed, check_version, required};
use jobs::Scalars;
use scheduler::master::RoleView;
use scheduler::model::{OperatorCall, Quota, Reservation, Window};
use scheduler::volumes::VolumeKey;
use std::collections::BTreeMap;
use wire::v1;
use wire::v1::operate_request::Call;

pub fn operator_call_from(wire: v1::OperateRequest) -> Converted<OperatorCall> {
    check_version(wire.protocol_version)?;
    Ok(match required(wire.call, "call")? {
        Call::SetQuota(v1::SetQuota { role, guarantee, limit, force }) => {
            let inside = |malformed: Malformed| malformed.inside("set_quota");
            let guarantee = scalars_from(guarantee, "guarantee").map_err(inside)?;
            let limit = amounts_from(limit, "limit").map_err(inside)?;
            OperatorCall::SetQuota { role, quota: Quota { guarantee, limit }, force }
        }
        Call::RemoveQuota(v1::RemoveQuota { role }) => OperatorCall::RemoveQuota { role },
        Call::SetWeight(v1::SetWeight { role, weight_milli }) => OperatorCall::SetWeight { role, weight_milli },
        Call::Drain(v1::DrainAgent { agent_id, deadline_ms, at_ms, for_ms }) => {
            OperatorCall::Drain { agent_id: agent_id.into(), deadline_ms, window: Window { at_ms, for_ms } }
        }
        Call::Undrain(v1::UndrainAgent { agent_id }) => OperatorCall::Undrain { agent_id: agent_id.into() },
        Call::Gone(v1::GoneAgent { agent_id, force }) => OperatorCall::Gone { agent_id: agent_id.into(), force },
        Call::Reserve(v1::Reserve { agent_id, reservation, from, force }) => OperatorCall::Reserve {
            agent_id: agent_id.into(),
            reservation: named_reservation(reservation).map_err(|malformed| malformed.inside("reserve"))?,
            from: (!from.is_empty()).then_some(from),
            force,
        },
        Call::RemoveVolume(v1::RemoveVolume { role, name, agent_id }) => OperatorCall::RemoveVolume {
            key: VolumeKey { role, name },
            agent_id: (!agent_id.is_empty()).then(|| agent_id.into()),
        },
        Call::Unreserve(v1::Unreserve { agent_id, reservation }) => OperatorCall::Unreserve {
            agent_id: agent_id.into(),
            reservation: named_reservation(reservation).map_err(|malformed| malformed.inside("unreserve"))?,
        },
    })
}

fn named_reservation(wire: Option<v1::Reservation>) -> Converted<Reservation> {
    reservation_from(required(wire, "reservation")?).map_err(|malformed| malformed.inside("reservation"))
}

pub(super) fn reservation_from(wire: v1::Reservation) -> Converted<Reservation> {
    let amounts = scalars_from(wire.amounts, "amounts")?;
    Ok(Reservation { role: wire.role, amounts, labels: wire.labels })
}

pub(super) fn reservations_from(wire: Vec<v1::Reservation>, path: &str) -> Converted<Vec<Reservation>> {
    let one = |(at, reservation)| {
        reservation_from(reservation).map_err(|malformed: Malformed| malformed.inside(format!("{path}[{at}]")))
    };
    wire.into_iter().enumerate().map(one).collect()
}

pub(super) fn reservation_to(reservation: Reservation) -> v1::Reservation {
    let Reservation { role, amounts, labels } = reservation;
    v1::Reservation { role, amounts: amounts_to(&amounts), labels }
}

pub(super) fn unfilled_to((role, amounts): (String, Scalars)) -> v1::Reservation {
    reservation_to(Reservation { role, amounts, labels: BTreeMap::new() })
}

pub(super) fn amounts_to(scalars: &Scalars) -> Vec<v1::Scalar> {
    scalars.iter().map(|(name, milli)| v1::Scalar { name: name.to_string(), milli }).collect()
}

pub(super) fn scalars_from(wire: Vec<v1::Scalar>, path: &str) -> Converted<Scalars> {
    Ok(amounts_from(wire, path)?.iter().map(|(name, milli)| (name.as_str(), *milli)).collect())
}

fn amounts_from(wire: Vec<v1::Scalar>, path: &str) -> Converted<BTreeMap<String, i64>> {
    let mut amounts = BTreeMap::new();
    for (at, v1::Scalar { name, milli }) in wire.into_iter().enumerate() {
        if amounts.insert(name.clone(), milli).is_some() {
            return Err(Malformed::new(format!("{path}[{at}].name"), format!("is {name:?} for the second time")));
        }
    }
    Ok(amounts)
}

pub(super) fn role_view_to(view: RoleView) -> v1::RoleView {
    let RoleView { role, weight, dominant_share, held, guarantee, limit, n_frameworks } = view;
    v1::RoleView {
        role,
        weight,
        dominant_share,
        held: amounts_to(&held),
        guarantee: amounts_to(&guarantee),
        limit: limit.into_iter().map(|(name, milli)| v1::Scalar { name, milli }).collect(),
        n_frameworks: n_frameworks.try_into().unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(name: &str, milli: i64) -> v1::Scalar {
        v1::Scalar { name: name.into(), milli }
    }

    fn set_quota(limit: Vec<v1::Scalar>) -> v1::OperateRequest {
        let quota = v1::SetQuota { role: "ml".into(), guarantee: vec![scalar("cpus", 1_000)], limit, force: false };
        v1::OperateRequest { protocol_version: wire::PROTOCOL_VERSION, call: Some(Call::SetQuota(quota)) }
    }

    #[test]
    fn a_limit_of_nothing_is_a_limit() {
        let call = operator_call_from(set_quota(vec![scalar("gpus", 0)]));
        let Ok(OperatorCall::SetQuota { quota, .. }) = call else { panic!("{call:?} is no quota") };
        assert_eq!(quota.limit, BTreeMap::from([("gpus".to_string(), 0)]));
        assert_eq!(quota.guarantee.get("cpus"), 1_000);
    }

    #[test]
    fn what_is_malformed_is_named() {
        let twice = operator_call_from(set_quota(vec![scalar("cpus", 1), scalar("cpus", 2)]));
        let text = twice.map_err(|malformed| malformed.to_string());
        assert_eq!(text, Err("field set_quota.limit[1].name: is \"cpus\" for the second time".into()));
        let nothing = v1::OperateRequest { protocol_version: wire::PROTOCOL_VERSION, call: None };
        let text = operator_call_from(nothing).map_err(|malformed| malformed.to_string());
        assert_eq!(text, Err("field call: is missing".into()));
    }
}
