//! How often each fault and each state was hit.
//!
//! Invariant: everything that must be hit is listed here with a zero, so that what was never reached shows.

use jobs::{Reason, TaskState};
use scheduler::master::OfferState;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    ConnectionCut,
    CutNoticedLate,
    MasterKilled,
    MasterKilledAmidCommands,
    AgentKilledWithTasks,
    AgentKilledAlone,
    AgentKilledAmidCommands,
    AgentFrozen,
    FrameworkKilled,
    FrameworkAwayTooLong,
    FrameworkTornDown,
    SubscribedTwice,
    TaskCrashed,
    StartFailed,
    FetchFailed,
    FetchGivenUp,
    TermIgnored,
    OfferIgnored,
    AcceptOfGoneOffer,
    AcceptOfTooMuch,
    KillAsked,
    OrderRepeated,
    QuotaSet,
    QuotaRefused,
    QuotaRemoved,
    WeightSet,
    AgentAwayTooLong,
    TaskFoundAlive,
    TaskFoundBeforeItWasWrittenDown,
    TaskEndedUnwatched,
    TaskFoundGone,
    ProbeFailed,
    AgentDrained,
    AgentCordoned,
    DrainCancelled,
    WindowPlanned,
    WindowOpened,
    WindowOver,
    DrainTold,
    DrainKilled,
    PreemptTold,
    PreemptedForGuarantee,
    PreemptObeyed,
    PreemptKilled,
    Reserved,
    Refined,
    Unreserved,
    AgentGone,
    AgentCameBackGone,
    VolumeMade,
    VolumeGrown,
    VolumeFoundAgain,
    VolumeRemoved,
    VolumeGivenUp,
    Operated,
    OperationRefused,
    Overdrawn,
    Lent,
    LentNoMore,
    DemandExpired,
}

/// What a demand was seen to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    Limit,
    Guarantees,
    OthersToLeave,
    WhatIsKept,
    Together,
    Reserved,
    VolumeAway,
    VolumeTaken,
}

const WAITS: [Wait; 8] = [
    Wait::Limit,
    Wait::Guarantees,
    Wait::OthersToLeave,
    Wait::WhatIsKept,
    Wait::Together,
    Wait::Reserved,
    Wait::VolumeAway,
    Wait::VolumeTaken,
];

const FAULTS: [Fault; 60] = [
    Fault::ConnectionCut,
    Fault::CutNoticedLate,
    Fault::MasterKilled,
    Fault::MasterKilledAmidCommands,
    Fault::AgentKilledWithTasks,
    Fault::AgentKilledAlone,
    Fault::AgentKilledAmidCommands,
    Fault::AgentFrozen,
    Fault::FrameworkKilled,
    Fault::FrameworkAwayTooLong,
    Fault::FrameworkTornDown,
    Fault::SubscribedTwice,
    Fault::TaskCrashed,
    Fault::StartFailed,
    Fault::FetchFailed,
    Fault::FetchGivenUp,
    Fault::TermIgnored,
    Fault::OfferIgnored,
    Fault::AcceptOfGoneOffer,
    Fault::AcceptOfTooMuch,
    Fault::KillAsked,
    Fault::OrderRepeated,
    Fault::QuotaSet,
    Fault::QuotaRefused,
    Fault::QuotaRemoved,
    Fault::WeightSet,
    Fault::AgentAwayTooLong,
    Fault::TaskFoundAlive,
    Fault::TaskFoundBeforeItWasWrittenDown,
    Fault::TaskEndedUnwatched,
    Fault::TaskFoundGone,
    Fault::ProbeFailed,
    Fault::AgentDrained,
    Fault::AgentCordoned,
    Fault::DrainCancelled,
    Fault::WindowPlanned,
    Fault::WindowOpened,
    Fault::WindowOver,
    Fault::DrainTold,
    Fault::DrainKilled,
    Fault::PreemptTold,
    Fault::PreemptedForGuarantee,
    Fault::PreemptObeyed,
    Fault::PreemptKilled,
    Fault::Reserved,
    Fault::Refined,
    Fault::Unreserved,
    Fault::AgentGone,
    Fault::AgentCameBackGone,
    Fault::VolumeMade,
    Fault::VolumeGrown,
    Fault::VolumeFoundAgain,
    Fault::VolumeRemoved,
    Fault::VolumeGivenUp,
    Fault::Operated,
    Fault::OperationRefused,
    Fault::Overdrawn,
    Fault::Lent,
    Fault::LentNoMore,
    Fault::DemandExpired,
];

const OFFER_STATES: [OfferState; 5] =
    [OfferState::Outstanding, OfferState::Accepted, OfferState::Declined, OfferState::Rescinded, OfferState::Expired];

#[derive(Clone, Debug)]
pub struct Hits(BTreeMap<String, u64>);

impl Default for Hits {
    fn default() -> Self {
        let states = TaskState::ALL.into_iter().map(of_state);
        let reasons = Reason::ALL.into_iter().map(of_reason);
        let offers = OFFER_STATES.into_iter().map(of_offer);
        let waits = WAITS.into_iter().map(of_wait);
        let names = FAULTS.into_iter().map(of_fault).chain(states).chain(reasons).chain(offers).chain(waits);
        Self(names.map(|name| (name, 0)).collect())
    }
}

fn of_fault(fault: Fault) -> String {
    format!("fault {fault:?}")
}

fn of_state(state: TaskState) -> String {
    format!("task {state}")
}

fn of_reason(reason: Reason) -> String {
    format!("reason {reason:?}")
}

fn of_offer(state: OfferState) -> String {
    format!("offer {}", state.as_str())
}

fn of_wait(wait: Wait) -> String {
    format!("wait {wait:?}")
}

impl Hits {
    pub fn waits(&mut self, wait: Wait) {
        self.count(of_wait(wait), 1);
    }

    pub fn fault(&mut self, fault: Fault) {
        self.count(of_fault(fault), 1);
    }

    pub fn told(&mut self, state: TaskState, reason: Reason) {
        self.count(of_state(state), 1);
        self.count(of_reason(reason), 1);
    }

    pub fn offer(&mut self, state: OfferState, n: u64) {
        self.count(of_offer(state), n);
    }

    /// Something that is only counted for people.
    pub fn count(&mut self, name: String, n: u64) {
        *self.0.entry(name).or_default() += n;
    }

    pub fn add(&mut self, other: &Self) {
        for (name, n) in &other.0 {
            self.count(name.clone(), *n);
        }
    }

    pub fn never(&self) -> Vec<&str> {
        self.0.iter().filter(|(_, n)| **n == 0).map(|(name, _)| name.as_str()).collect()
    }
}

impl fmt::Display for Hits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, n) in &self.0 {
            writeln!(f, "{n:>10}  {name}")?;
        }
        Ok(())
    }
}
