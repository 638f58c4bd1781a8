//! An accept launches all its tasks or none.

use scheduler::master::Command;
use scheduler::model::{AgentOrder, FrameworkCall};

pub fn check(call: &FrameworkCall, commands: &[Command]) {
    let FrameworkCall::Accept { launch, .. } = call else { return };
    let is_launch = |command: &&Command| matches!(command, Command::ToAgent { order: AgentOrder::Launch { .. }, .. });
    let n = commands.iter().filter(is_launch).count();
    assert!(n == 0 || n == launch.len(), "an accept of {} tasks launched {n}: {call:?}", launch.len());
}
