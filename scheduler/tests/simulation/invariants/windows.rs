//! An agent is held back from when its drain begins, and only then; a drain whose window is over is forgotten.

use crate::hits::{Fault, Hits};
use scheduler::master::{AgentState, ClusterView};

/// Longer than there is no master in the simulation.
const NO_MASTER_MS: u64 = 60_000;

pub fn check(view: &ClusterView, now_ms: u64, hits: &mut Hits) {
    for agent in &view.agents {
        let id = &agent.agent.agent_id;
        let has_begun = agent.drain.is_some_and(|drain| drain.from_ms.is_none_or(|from_ms| from_ms <= now_ms));
        match agent.state {
            AgentState::Active => assert!(!has_begun, "{id} is offered, and was to be empty: {:?}", agent.drain),
            AgentState::Draining | AgentState::Drained => {
                assert!(has_begun, "{id} is held back at {now_ms}, and nobody wants it: {:?}", agent.drain);
                if agent.drain.is_some_and(|drain| drain.from_ms.is_some()) {
                    hits.fault(Fault::WindowOpened);
                }
            }
            AgentState::Disconnected | AgentState::Unreachable => {}
        }
        if let Some(over_ms) = agent.drain.and_then(|drain| drain.over_ms) {
            assert!(over_ms + NO_MASTER_MS >= now_ms, "{id}: its window was over at {over_ms}, and it is {now_ms}");
        }
    }
}
