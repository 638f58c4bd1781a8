//! Every row once an epoch, at every world size, and the same after a stop.

use super::*;

fn examples(rows: usize) -> Arc<Examples> {
    let inputs = vec![
        Prepared::Whole(Buffer::Ids((0..rows as u32).collect()), 1),
        Prepared::OneHot { ids: (0..rows as u32).map(|row| row % 3).collect(), width: 1, size: 3 },
    ];
    Arc::new(Examples { inputs, targets: Targets::Values((0..rows).map(|row| row as f32).collect()), rows, places: 1 })
}

fn plan(rows: usize) -> Plan {
    Plan { seed: 3, rows, batch: 4, accumulate: 2, steps_total: 6, world: 1, rank: 0 }
}

/// Rows of each step, in their order.
fn steps(examples: &Arc<Examples>, plan: Plan, from: u64) -> Vec<(u64, Vec<u32>)> {
    let mut steps: Vec<(u64, Vec<u32>)> = Vec::new();
    let mut feed = Feed::start(Arc::clone(examples), plan, from).unwrap();
    while let Some(piece) = feed.next() {
        if piece.index == 0 {
            steps.push((piece.step, Vec::new()));
        }
        let Buffer::Ids(ids) = &piece.batch.inputs[0] else { panic!("ids") };
        let Buffer::Reals(ones) = &piece.batch.inputs[1] else { panic!("numbers") };
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(ones[at * 3 + *id as usize % 3], 1.0);
        }
        assert_eq!(ones.iter().sum::<f32>(), ids.len() as f32);
        assert_eq!(piece.batch.targets, Targets::Values(ids.iter().map(|id| *id as f32).collect()));
        let (_, rows) = steps.last_mut().unwrap();
        if plan.world == 1 {
            assert_eq!(piece.first_row, rows.len());
            assert_eq!(piece.completes_step, rows.len() + ids.len() == piece.global_rows);
        }
        rows.extend(ids);
        feed.give_back(piece.batch);
    }
    steps
}

#[test]
fn every_row_once_an_epoch_and_the_same_after_a_stop() {
    let (examples, plan) = (examples(21), plan(21));
    assert_eq!(plan.steps_per_epoch(), 3);
    let all = steps(&examples, plan, 0);
    assert_eq!(
        all.iter().map(|(step, rows)| (*step, rows.len())).collect::<Vec<_>>(),
        [(0, 8), (1, 8), (2, 5), (3, 8), (4, 8), (5, 5)]
    );
    for epoch in all.chunks(3) {
        let mut rows: Vec<u32> = epoch.iter().flat_map(|(_, rows)| rows.clone()).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..21).collect::<Vec<u32>>());
    }
    assert_ne!(all[0].1, all[3].1);
    assert_eq!(steps(&examples, plan, 4), all[4..]);
    assert_eq!(steps(&examples, plan, 6), []);
    // Two ranks have the rows of one between them.
    let ranks = [0, 1].map(|rank| steps(&examples, Plan { world: 2, rank, ..plan }, 0));
    for (step, (_, rows)) in all.iter().enumerate() {
        let mut both: Vec<u32> = ranks.iter().flat_map(|rank| rank[step].1.clone()).collect();
        let mut rows = rows.clone();
        both.sort_unstable();
        rows.sort_unstable();
        assert_eq!(both, rows);
    }
}

#[test]
fn a_feed_that_nobody_reads_to_the_end_ends() {
    let mut feed = Feed::start(examples(21), Plan { steps_total: 1000, ..plan(21) }, 0).unwrap();
    assert!(feed.next().is_some());
    drop(feed);
}
