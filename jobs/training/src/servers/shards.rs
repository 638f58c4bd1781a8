//! Which server holds which parameters.
//!
//! Invariant: a function of the parameters' sizes and the number of servers alone, so that all tasks find the same without
//! asking. Whole parameters: the largest first, each to the server that has least so far.

use crate::graph::Slot;
use std::cmp::Reverse;

/// Of each server the indices of its slots, rising.
pub fn assign(slots: &[Slot], n_servers: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..slots.len()).collect();
    order.sort_by_key(|slot| (Reverse(slots[*slot].range.len()), *slot));
    let mut shards: Vec<(usize, Vec<usize>)> = vec![(0, Vec::new()); n_servers];
    for slot in order {
        if let Some((size, shard)) = shards.iter_mut().min_by_key(|(size, shard)| (*size, shard.len())) {
            *size += slots[slot].range.len();
            shard.push(slot);
        }
    }
    let sorted = |(_, mut shard): (usize, Vec<usize>)| {
        shard.sort_unstable();
        shard
    };
    shards.into_iter().map(sorted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::SlotPlace;
    use crate::graph::operation::Role;

    fn slots(sizes: &[usize]) -> Vec<Slot> {
        let mut start = 0;
        let slot = |(index, size): (usize, &usize)| {
            let range = start..start + size;
            start = range.end;
            let gradient = SlotPlace::Whole(range.clone());
            Slot { name: format!("p{index}"), dims: vec![*size], role: Role::Weight, range, gradient }
        };
        sizes.iter().enumerate().map(slot).collect()
    }

    #[test]
    fn every_parameter_has_one_server_and_none_has_much_more_than_its_share() {
        assert_eq!(assign(&slots(&[10, 90, 30, 40, 20]), 2), [vec![0, 1], vec![2, 3, 4]]);
        assert_eq!(assign(&slots(&[5, 5]), 4), [vec![0], vec![1], vec![], vec![]]);
        assert_eq!(assign(&[], 2), [vec![], vec![]] as [Vec<usize>; 2]);
        let sizes: Vec<usize> = (0..57).map(|index| 1 + index * 7919 % 1000).collect();
        for n_servers in 1..6 {
            let shards = assign(&slots(&sizes), n_servers);
            let mut all: Vec<usize> = shards.iter().flatten().copied().collect();
            all.sort_unstable();
            assert_eq!(all, (0..57).collect::<Vec<usize>>());
            let held = |shard: &Vec<usize>| -> usize { shard.iter().map(|slot| sizes[*slot]).sum() };
            let most = shards.iter().map(held).max().unwrap_or(0);
            assert!(most <= sizes.iter().sum::<usize>() / n_servers + 1000, "{n_servers} servers: {most}");
        }
    }
}
