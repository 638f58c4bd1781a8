//! Volumes, and what frameworks do on agents beside launching.

use super::{Converted, Malformed, required, roles};
use jobs::volumes::VolumeClaim;
use scheduler::master::VolumeView;
use scheduler::model::{Operation, What};
use scheduler::volumes::{Volume, VolumeKey};
use wire::v1;
use wire::v1::operation;

pub(super) fn volume_from(wire: v1::Volume) -> Volume {
    Volume { key: VolumeKey { role: wire.role, name: wire.name }, disk_milli: wire.disk_milli }
}

pub(super) fn volume_to(volume: Volume) -> v1::Volume {
    let Volume { key: VolumeKey { role, name }, disk_milli } = volume;
    v1::Volume { role, name, disk_milli }
}

pub(super) fn claims_from(wire: Vec<v1::VolumeClaim>) -> Vec<VolumeClaim> {
    let claim = |v1::VolumeClaim { name, disk_milli, path }| VolumeClaim { name, disk_milli, path };
    wire.into_iter().map(claim).collect()
}

pub fn claims_to(claims: Vec<VolumeClaim>) -> Vec<v1::VolumeClaim> {
    let claim = |VolumeClaim { name, disk_milli, path }| v1::VolumeClaim { name, disk_milli, path };
    claims.into_iter().map(claim).collect()
}

pub(super) fn operation_from(wire: v1::Operation) -> Converted<Operation> {
    let inside = |name: &'static str| move |malformed: Malformed| malformed.inside(name);
    // The role is the framework's, whatever it wrote into the message.
    let what = match required(wire.what, "what")? {
        operation::What::Reserve(wire) => What::Reserve(roles::reservation_from(wire).map_err(inside("reserve"))?),
        operation::What::Unreserve(wire) => {
            What::Unreserve(roles::reservation_from(wire).map_err(inside("unreserve"))?)
        }
        operation::What::KeepVolume(v1::Volume { role: _, name, disk_milli }) => What::KeepVolume { name, disk_milli },
        operation::What::DestroyVolume(v1::DestroyVolume { role: _, name }) => What::DestroyVolume { name },
    };
    Ok(Operation { agent_id: wire.agent_id.into(), what })
}

pub(super) fn volume_view_to(view: VolumeView) -> v1::VolumeView {
    let (framework_id, task_id) =
        view.user.map(|user| (user.framework_id.to_string(), user.task_id.to_string())).unwrap_or_default();
    v1::VolumeView {
        agent_id: view.agent_id.to_string(),
        volume: Some(volume_to(view.volume)),
        framework_id,
        task_id,
        leaving: view.is_leaving,
    }
}
