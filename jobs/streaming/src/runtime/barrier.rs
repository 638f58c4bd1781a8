//! Which operators of a slice have seen a barrier on all their inputs, and which inputs must wait meanwhile.
//!
//! A channel (a source, or the edge from one other slice) that has delivered the barrier of an epoch is not read until
//! every operator that its rows reach has seen that barrier on all channels that reach it. Waiting for all of them,
//! rather than for each in turn, costs nothing (the others' barriers come anyhow) and needs no row to be set aside.
//!
//! Invariant: an operator completes each epoch at most once, and epochs rise. A barrier of a higher epoch abandons a
//! lower one that is still incomplete: its channels are read again at once, so an epoch that some task never heard of
//! cannot hold the stream.

use crate::runtime::graph::Graph;

#[derive(Debug)]
pub struct Alignment {
    graph: Graph,
    /// By channel: its entry, and the highest epoch it delivered.
    channels: Vec<(usize, u64)>,
    /// By node: the last epoch it completed.
    completed: Vec<u64>,
    epoch: u64,
}

impl Alignment {
    /// `entry_of_channel`: by channel, the index of its entry. `epoch`: the one that was restored, or 0.
    pub fn new(graph: &Graph, entry_of_channel: &[usize], epoch: u64) -> Self {
        Self {
            graph: graph.clone(),
            channels: entry_of_channel.iter().map(|entry| (*entry, epoch)).collect(),
            completed: vec![epoch; graph.readers.len()],
            epoch,
        }
    }

    /// The epoch of the latest barrier seen on any channel.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The highest epoch that this channel delivered.
    pub fn delivered(&self, channel: usize) -> u64 {
        self.channels[channel].1
    }

    /// A barrier came on `channel`: the nodes that are complete by it, inputs before their readers.
    pub fn deliver(&mut self, channel: usize, epoch: u64) -> Vec<usize> {
        let delivered = &mut self.channels[channel].1;
        assert!(epoch > *delivered, "barrier {epoch} on channel {channel} after barrier {delivered}");
        *delivered = epoch;
        self.epoch = self.epoch.max(epoch);
        if epoch < self.epoch {
            return Vec::new();
        }
        let complete: Vec<usize> = (0..self.completed.len()).filter(|node| self.is_complete_by_now(*node)).collect();
        complete.iter().for_each(|node| self.completed[*node] = self.epoch);
        complete
    }

    /// Whether this channel waits for the barriers of others.
    pub fn waits(&self, channel: usize) -> bool {
        let (entry, delivered) = self.channels[channel];
        delivered == self.epoch
            && self.graph.entries[entry].reaches.iter().any(|node| self.completed[*node] < self.epoch)
    }

    /// Whether every operator of the slice has completed the current epoch.
    pub fn complete(&self) -> bool {
        self.completed.iter().all(|completed| *completed == self.epoch)
    }

    fn is_complete_by_now(&self, node: usize) -> bool {
        self.completed[node] < self.epoch
            && self
                .channels
                .iter()
                .all(|(entry, delivered)| *delivered == self.epoch || !self.graph.reached_from[node].contains(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::graph::Entry;

    /// Two sources (0, 1) meet in a union (2) before an exchange (3); behind it a sink (4). Two slices.
    fn graph() -> Graph {
        Graph {
            readers: vec![vec![(2, 0)], vec![(2, 1)], vec![(3, 0)], vec![(4, 0)], vec![]],
            late: vec![None; 5],
            entries: vec![
                Entry { node: 3, reaches: vec![4], exchanges: vec![], leaves: false },
                Entry { node: 1, reaches: vec![1, 2, 3], exchanges: vec![3], leaves: true },
                Entry { node: 0, reaches: vec![0, 2, 3], exchanges: vec![3], leaves: true },
            ],
            reached_from: vec![vec![2], vec![1], vec![1, 2], vec![1, 2], vec![0]],
        }
    }

    /// Channels: 0 and 1 are the edges from both slices, 2 is source 1, 3 is source 0.
    const CHANNELS: [usize; 4] = [0, 0, 1, 2];

    #[test]
    fn waits_until_all_inputs_delivered() {
        let mut alignment = Alignment::new(&graph(), &CHANNELS, 0);
        assert_eq!(alignment.deliver(2, 1), [1]);
        assert!(alignment.waits(2), "source 0 is still missing at the union");
        assert!(!alignment.waits(3) && !alignment.waits(0));
        assert_eq!(alignment.deliver(3, 1), [0, 2, 3]);
        assert!(!alignment.waits(2) && !alignment.complete());
        assert_eq!(alignment.deliver(1, 1), Vec::<usize>::new());
        assert!(alignment.waits(1) && !alignment.waits(0));
        assert_eq!(alignment.deliver(0, 1), [4]);
        assert!(alignment.complete() && (0..4).all(|channel| !alignment.waits(channel)));
    }

    #[test]
    fn a_higher_epoch_abandons_a_lower_one() {
        let mut alignment = Alignment::new(&graph(), &CHANNELS, 0);
        alignment.deliver(0, 1);
        assert!(alignment.waits(0));
        alignment.deliver(1, 2);
        assert!(!alignment.waits(0) && alignment.waits(1), "epoch 1 is given up");
        assert_eq!(alignment.deliver(0, 2), [4]);
        alignment.deliver(2, 2);
        assert_eq!(alignment.deliver(3, 2), [0, 2, 3]);
        assert!(alignment.complete());
    }
}
