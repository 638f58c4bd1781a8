//! What operators say about roles reaches the master, is kept, and is refused with its reason.

use super::world::World;
use daemon::client;
use wire::v1;
use wire::v1::operate_request::Call;

fn scalar(name: &str, milli: i64) -> v1::Scalar {
    v1::Scalar { name: name.into(), milli }
}

fn quota(guarantee: i64, limit: i64) -> Call {
    let (guarantee, limit) = (vec![scalar("cpus", guarantee)], vec![scalar("cpus", limit)]);
    Call::SetQuota(v1::SetQuota { role: "ml/train".into(), guarantee, limit, force: false })
}

/// Asks a new connection; answers the warnings, or what the master said.
async fn operate(world: &World, call: Call) -> Result<Vec<String>, String> {
    let mut master =
        client::master(&world.master().address().to_string(), None).await.map_err(|error| error.to_string())?;
    let request = v1::OperateRequest { protocol_version: wire::PROTOCOL_VERSION, call: Some(call) };
    let answer = master.operate(request).await.map_err(|status| status.message().to_string())?;
    Ok(answer.into_inner().warnings)
}

async fn roles(world: &World) -> Vec<v1::RoleView> {
    let mut master =
        client::master(&world.master().address().to_string(), None).await.expect("the master can be reached");
    master.state(v1::StateRequest {}).await.expect("the master answers").into_inner().roles
}

#[tokio::test]
async fn quotas_and_weights_are_kept_by_a_master_that_crashes() {
    let mut world = World::start().await;
    assert_eq!(operate(&world, quota(0, 1_000)).await, Ok(vec![]));
    let weight = Call::SetWeight(v1::SetWeight { role: "ml".into(), weight_milli: 2_500 });
    assert_eq!(operate(&world, weight).await, Ok(vec![]));
    let expected = "role ml/train: its guarantee of 2 cpus is above its limit of 1 cpus";
    assert_eq!(operate(&world, quota(2_000, 1_000)).await, Err(expected.into()));

    world.crash_master().await;
    world.start_master().await;
    let known = roles(&world).await;
    let names: Vec<&str> = known.iter().map(|role| role.role.as_str()).collect();
    assert_eq!(names, ["ml", "ml/train"]);
    assert_eq!((known[0].weight, known[1].weight), (2.5, 1.0));
    assert_eq!((&known[1].guarantee, &known[1].limit), (&vec![], &vec![scalar("cpus", 1_000)]));

    let remove = || Call::RemoveQuota(v1::RemoveQuota { role: "ml/train".into() });
    assert_eq!(operate(&world, remove()).await, Ok(vec![]));
    assert_eq!(operate(&world, remove()).await, Err("role ml/train has no quota".into()));
    let names: Vec<String> = roles(&world).await.into_iter().map(|role| role.role).collect();
    assert_eq!(names, ["ml"]);
}
