//! No starvation with capacity: whatever the master says that a demand waits for, it never is that an agent has room
//! for it, nothing forbids it, and it was not offered.

use crate::hits::{Hits, Wait};
use scheduler::master::ClusterView;

pub fn check(view: &ClusterView, hits: &mut Hits) {
    for framework in &view.frameworks {
        for sentence in &framework.waiting {
            assert!(!sentence.contains("are offered next"), "{} starves: {sentence}", framework.name);
            if sentence.contains("its limit of") {
                hits.waits(Wait::Limit);
            }
            if sentence.contains("guarantees of other roles") {
                hits.waits(Wait::Guarantees);
            }
            if sentence.contains("for it, within") {
                hits.waits(Wait::OthersToLeave);
            }
            if sentence.contains("no zone has room for") {
                hits.waits(Wait::Together);
            }
            if sentence.contains("is reserved for") {
                hits.waits(Wait::Reserved);
            }
            if sentence.contains("volume v-") && sentence.contains(", which is ") {
                hits.waits(Wait::VolumeAway);
            }
            if sentence.contains("is still task") {
                hits.waits(Wait::VolumeTaken);
            }
            if sentence.contains("is kept for") {
                hits.waits(Wait::WhatIsKept);
            }
        }
    }
}
