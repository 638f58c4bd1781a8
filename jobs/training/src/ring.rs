//! Who sends which part to whom, and when, so that every rank ends up with the sum.
//!
//! The direct exchange sends everything to everybody: one round, but (W - 1) times the bytes. The ring cuts the array into W
//! parts. In the first W - 1 steps each rank passes a part to the next rank, which adds its own; then every part is whole at
//! one rank, and in another W - 1 steps the whole parts go round. Each rank sends 2 (W - 1) / W times the bytes, whatever W.
//!
//! Invariant: a part is summed in one fixed order of ranks and its bytes are then copied, so all ranks hold the same bits.
//! Pure: knows no sockets.

use std::ops::Range;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What goes to the next rank.
    pub send: Range<usize>,
    /// What comes from the previous rank.
    pub receive: Range<usize>,
    /// Whether what comes is added to one's own, or replaces it.
    pub add: bool,
}

/// The steps of one rank for an array of `len` values.
pub fn schedule(world: usize, rank: usize, len: usize) -> Vec<Step> {
    assert!(rank < world, "rank {rank} in a world of {world}");
    let rounds = world - 1;
    // Counted from `rank + world` down, so that the subtraction stays above zero.
    let part_at = |behind: usize| part(world, (rank + 2 * world - behind) % world, len);
    let adding = (0..rounds).map(|round| Step { send: part_at(round), receive: part_at(round + 1), add: true });
    let copying =
        (0..rounds).map(|round| Step { send: part_at(world + round - 1), receive: part_at(round), add: false });
    adding.chain(copying).collect()
}

/// Part `index` of `world`; the parts differ by one value at most and some are empty when there are few values.
pub fn part(world: usize, index: usize, len: usize) -> Range<usize> {
    let share = len / world;
    let longer = len % world;
    let start = index * share + index.min(longer);
    start..start + share + usize::from(index < longer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs all ranks in lockstep: what rank r sends in a step is what rank r + 1 receives in it.
    fn run(world: usize, len: usize) -> Vec<Vec<f32>> {
        let mut values: Vec<Vec<f32>> =
            (0..world).map(|rank| (0..len).map(|i| 0.1 * (rank + 1) as f32 + i as f32 * 1.7).collect()).collect();
        let schedules: Vec<Vec<Step>> = (0..world).map(|rank| schedule(world, rank, len)).collect();
        for step in 0..2 * (world - 1) {
            let sent: Vec<Vec<f32>> =
                (0..world).map(|rank| values[rank][schedules[rank][step].send.clone()].to_vec()).collect();
            for (rank, values) in values.iter_mut().enumerate() {
                let from = (rank + world - 1) % world;
                let Step { receive, add, .. } = schedules[rank][step].clone();
                assert_eq!(receive, schedules[from][step].send, "W {world} len {len} step {step} rank {rank}");
                for (own, other) in values[receive].iter_mut().zip(&sent[from]) {
                    *own = if add { *other + *own } else { *other };
                }
            }
        }
        values
    }

    #[test]
    fn every_rank_ends_with_the_same_whole_sum() {
        for world in 1..=8 {
            for len in 0..=40 {
                let values = run(world, len);
                for (rank, got) in values.iter().enumerate() {
                    assert_eq!(got, &values[0], "W {world} len {len}: rank {rank} differs in its bits");
                }
                for (i, got) in values[0].iter().enumerate() {
                    let expect: f32 = (0..world).map(|rank| 0.1 * (rank + 1) as f32 + i as f32 * 1.7).sum();
                    assert!((got - expect).abs() < 1e-3, "W {world} len {len} [{i}]: {got}, expected {expect}");
                }
            }
        }
    }

    #[test]
    fn parts_cover_the_array_once() {
        for world in 1..=9 {
            for len in 0..=30 {
                let covered: Vec<usize> = (0..world).flat_map(|index| part(world, index, len)).collect();
                assert_eq!(covered, (0..len).collect::<Vec<_>>(), "W {world} len {len}");
            }
        }
    }
}
