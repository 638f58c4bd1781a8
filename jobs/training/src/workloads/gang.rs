//! What is timed of several ranks together, each in a process of its own that calls one of these; and of a checkpoint.

use super::{ADAMW, BATCHES, Workload, mlp, values};
use crate::all_reduce::AllReduce;
use crate::callbacks;
use crate::checkpoint::Place;
use crate::graph::{self, operation};
use crate::mesh::{Gang, Mesh};
use crate::optimizer::Optimizer;
use crate::preprocess::Preprocessing;
use crate::saver::{Learnt, Saver};
use crate::sums::Sums;
use crate::train::Error;
use jobs::Peer;
use jobs::train::Clip;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

const WARM_UP: usize = 20;

/// The median of `blocks` times of `steps` steps, for one.
fn median_of_blocks(
    blocks: usize,
    steps: usize,
    mut step: impl FnMut(u64) -> Result<(), Error>,
) -> Result<Duration, Error> {
    let mut next = 0;
    let mut block = |steps: usize| -> Result<Duration, Error> {
        let began = Instant::now();
        for _ in 0..steps {
            step(next)?;
            next += 1;
        }
        Ok(began.elapsed() / steps as u32)
    };
    block(WARM_UP)?;
    let mut times = (0..blocks).map(|_| block(steps)).collect::<Result<Vec<Duration>, Error>>()?;
    times.sort_unstable();
    Ok(times[blocks / 2])
}

/// The connections of this rank to the others; none where it is alone.
fn join(rank: usize, peers: &[Peer]) -> Result<AllReduce, Error> {
    if peers.len() < 2 {
        return Ok(AllReduce::new(None));
    }
    let listener = Mesh::listen(&peers[rank])?;
    let gang = Gang { job: "bench", generation: 1, rank, peers, tls: None };
    Ok(AllReduce::new(Some(Mesh::join(&gang, &listener, &AtomicBool::new(false))?)))
}

/// One sum of `len` values over all ranks.
pub fn all_reduce(rank: usize, peers: &[Peer], len: usize) -> Result<Duration, Error> {
    let mut ranks = join(rank, peers)?;
    let mut summed = ranks.values(0, len)?;
    // Zeros stay zeros, however often they are summed.
    let steps = (64 << 20) / len.max(1 << 16);
    median_of_blocks(7, steps.max(4), |step| Ok(ranks.sum(step, &mut summed)?))
}

/// One step of the multilayer perceptron with as many rows on each rank, whose gradients are summed.
pub fn mirrored_step(rank: usize, peers: &[Peer]) -> Result<Duration, Error> {
    let mut ranks = join(rank, peers)?;
    let workload = mlp("mirrored", Some(ADAMW), 128);
    let mut graph = workload.graph()?;
    let mut optimizer = Optimizer::new(ADAMW, Clip::None, graph.size());
    let mut sums = if ranks.world() > 1 { Sums::among(&graph, &ranks, 0)? } else { Sums::new(&graph, false) };
    let batches: Vec<_> = (0..BATCHES as u64).map(|index| workload.batch(index, graph.output())).collect();
    let global_rows = workload.batch * ranks.world();
    median_of_blocks(7, 60, |step| {
        let (given, targets) = &batches[step as usize % BATCHES];
        let place = operation::Place { seed: 1, step, first_row: rank * workload.batch, global_rows };
        let one =
            graph::Step { loss: workload.loss, target: targets.as_target(), scale: 1.0 / global_rows as f64, place };
        sums.clear();
        sums.add(|gradients| graph.gradients(&values(given), workload.batch, one, gradients))?;
        sums.over_ranks(&mut ranks, step, false)?;
        let (slots, weights) = graph.weights_mut();
        optimizer.update(1.0, slots, weights, &sums.gradients());
        Ok(())
    })
}

/// How long training waits for a checkpoint of so many MB, and how long until that is on the disk, in a folder.
pub fn checkpoint(folder: &Path, megabytes: usize) -> Result<(Duration, Duration), Error> {
    // With Adam a weight has two moments.
    let side = ((megabytes * 1_000_000 / 12) as f64).sqrt() as usize;
    let mut workload: Workload = mlp("checkpoint", Some(ADAMW), 1);
    workload.sources = vec![super::numbers("features", &[side])];
    workload.layers = jobs::train::chain([jobs::train::Layer::dense(side, jobs::train::Activation::Relu)]);
    let graph = workload.graph()?;
    let optimizer = Optimizer::new(ADAMW, Clip::None, graph.size());
    let mut saver = Saver::new(folder.to_path_buf(), graph.slots(), &Preprocessing { inputs: Vec::new() });
    let (mut waits, mut lasts) = (Vec::new(), Vec::new());
    for step in 0..7 {
        let place = Place {
            format: Place::FORMAT,
            step,
            epoch: 0,
            position: 0,
            optimizer_step: step,
            seed: 1,
            batch: 1,
            data_digest: 0,
            seconds: 0.0,
            callbacks: callbacks::State::default(),
        };
        let moments = optimizer.moments();
        let began = Instant::now();
        saver.begin(Learnt { place, weights: graph.weights(), moments: &moments, best: None })?;
        waits.push(began.elapsed());
        saver.finish()?;
        lasts.push(began.elapsed());
    }
    waits.sort_unstable();
    lasts.sort_unstable();
    Ok((waits[waits.len() / 2], lasts[lasts.len() / 2]))
}
