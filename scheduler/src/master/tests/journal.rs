//! What watchers are told, change by change.

use super::*;

fn told(master: &mut Master) -> Vec<String> {
    let said = |noted: Noted| match noted.change {
        Change::AgentAdded(agent) => format!("+{} {}", agent.agent.agent_id, agent.state.as_str()),
        Change::AgentChanged(agent) => format!("{} {}", agent.agent.agent_id, agent.state.as_str()),
        Change::AgentRemoved { agent_id } => format!("-{agent_id}"),
        Change::FrameworkAdded(framework) => format!("+{} in {}", framework.framework_id, framework.role),
        Change::FrameworkChanged(WatchedFramework { framework_id, connected, suppressed, .. }) => {
            format!("{framework_id} {connected} {suppressed}")
        }
        Change::FrameworkRemoved { framework_id } => format!("-{framework_id}"),
        Change::TaskAdded(task) => format!("+{} {}", task.task_id, task.state),
        Change::TaskUpdated { status, .. } => {
            assert_eq!(status.uuid, None, "only its framework acknowledges it");
            format!("{} {} {:?}", status.task_id, status.state, status.reason)
        }
        Change::TaskLeaves { task, leave_by_ms } => format!("{task} leaves {leave_by_ms:?}"),
        Change::TaskForgotten { task } => format!("-{task}"),
        Change::RoleAdded(role) => format!("+role {}", role.role),
        Change::RoleChanged(role) => format!("role {} {}", role.role, role.weight),
        Change::RoleRemoved { role } => format!("-role {role}"),
        Change::VolumeAdded(view) => format!("+{}", view.volume.key),
        Change::VolumeChanged(view) => format!("{}", view.volume.key),
        Change::VolumeRemoved { key, .. } => format!("-{key}"),
    };
    master.take_changes().into_iter().map(said).collect()
}

#[test]
fn what_changes_is_told_after_what_it_names_and_only_while_somebody_watches() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    assert!(told(&mut desk.master).is_empty());
    desk.master.watch(true);
    assert!(told(&mut desk.master).is_empty(), "what is there is in the view");
    let id = desk.subscribe(10, None, "ml/train", 60_000);
    assert_eq!(told(&mut desk.master), ["+role ml", "+role ml/train", "+f-1-1 in ml/train"]);
    desk.want(10, &[demand(1.0, 1)]);
    let offer = desk.offers_to(10).remove(0);
    assert!(told(&mut desk.master).is_empty(), "demands and offers are left out");
    desk.accept(10, &[&offer], vec![task("t", "a", 1.0)]);
    assert_eq!(told(&mut desk.master), ["+t staging"]);
    desk.framework(10, FrameworkCall::Suppress);
    desk.framework(10, FrameworkCall::Suppress);
    assert_eq!(told(&mut desk.master), ["f-1-1 true true"]);
    let weight = OperatorCall::SetWeight { role: "ml".into(), weight_milli: 2_000 };
    desk.apply(Event::FromOperator { request: RequestId(1), call: weight });
    assert_eq!(told(&mut desk.master), ["role ml 2"]);
    let gone = OperatorCall::Gone { agent_id: "a".into(), force: true };
    desk.apply(Event::FromOperator { request: RequestId(2), call: gone });
    assert_eq!(told(&mut desk.master), ["t lost AgentRemoved", "-f-1-1/t", "-a"]);
    let before = desk.master.latest_change();
    desk.master.watch(false);
    desk.framework(10, FrameworkCall::Teardown);
    assert!(told(&mut desk.master).is_empty());
    assert_eq!(desk.master.latest_change(), before);
    desk.master.watch(true);
    desk.register(2, "b", 4.0, vec![]);
    assert_eq!(desk.master.take_changes()[0].number, before + 1);
    assert_eq!(desk.master.view(desk.now_ms).frameworks.len(), 0, "and {id} is no more");
}

#[test]
fn each_state_of_a_task_is_told_once_also_within_one_turn() {
    let (mut desk, id) = with_running_task();
    desk.master.watch(true);
    let update = |task: &str, state: TaskState| {
        let (message, uuid) = (String::new(), Some(format!("{task}-{state}")));
        let (task_id, agent_id) = (task.into(), "a".into());
        let status =
            TaskStatus { task_id, agent_id, state, reason: Reason::None, message, uuid, at_ms: 1, exit_code: 0 };
        let call = AgentCall::Update { framework_id: id.clone(), status };
        Event::FromAgent { connection: ConnectionId(1), call }
    };
    let turn = [
        update("t", TaskState::Running),
        update("t", TaskState::Killing),
        update("t", TaskState::Finished),
        update("t", TaskState::Finished),
    ];
    desk.master.apply_all(1, turn);
    assert_eq!(told(&mut desk.master), ["t killing None", "t finished None"]);
    desk.acknowledge(10, "a", "t", TaskState::Finished);
    assert_eq!(told(&mut desk.master), ["-f-1-1/t"]);

    // Its agent is ahead of its updates: that it has ended is told first, and how when the update says so.
    desk.register(2, "a", 4.0, vec![reported(&id, "u", TaskState::Running)]);
    desk.register(3, "a", 4.0, vec![reported(&id, "u", TaskState::Failed)]);
    assert_eq!(told(&mut desk.master), ["+u running", "u failed Reconciliation"]);
    for state in [TaskState::Killing, TaskState::Failed, TaskState::Failed] {
        desk.report(3, &id, "u", state);
    }
    assert_eq!(told(&mut desk.master), ["u failed None"]);
}

#[test]
fn what_an_agent_takes_along_is_told() {
    let (mut desk, id) = with_running_task();
    desk.master.watch(true);
    desk.close(1);
    assert_eq!(told(&mut desk.master), ["a disconnected"]);
    desk.pass(200_000, &[]);
    assert_eq!(told(&mut desk.master), ["a unreachable", "t unreachable AgentUnreachable"]);
    desk.register(2, "a", 4.0, vec![reported(&id, "t", TaskState::Running)]);
    assert_eq!(told(&mut desk.master), ["a active", "t running Reconciliation"]);
    let call = OperatorCall::Drain { agent_id: "a".into(), deadline_ms: None, window: Window::default() };
    desk.apply(Event::FromOperator { request: RequestId(1), call });
    assert_eq!(told(&mut desk.master), ["a draining"]);
    desk.report(2, &id, "t", TaskState::Finished);
    assert_eq!(told(&mut desk.master), ["a drained", "t finished None"]);
    desk.register(3, "a", 4.0, vec![]);
    assert_eq!(told(&mut desk.master), ["-f-1-1/t"], "it had ended, and is lost no more");
}
