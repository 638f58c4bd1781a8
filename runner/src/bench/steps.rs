//! How long a training step takes, on the threads of this process, beside PyTorch and JAX on as many.

use super::{Figure, peers};
use anyhow::Context;
use std::collections::BTreeMap;
use std::path::Path;
use training::workloads;

const TORCH_SCRIPT: &str = include_str!("../../../tests/peers/steps_torch.py");
const JAX_SCRIPT: &str = include_str!("../../../tests/peers/steps_jax.py");

/// How many times as fast as the best peer a step is to be. Of sparse Adam the only peer is PyTorch.
fn goal(workload: &str) -> f64 {
    match workload {
        "logistic_sgd" | "logistic_adagrad" | "mlp_forward_1" => 2.0,
        "wide_deep_lazy_adam" => 5.0,
        "cnn_adam" | "gpt_adamw" => 0.9,
        "lstm_adam" => 0.8,
        _ => 1.0,
    }
}

pub async fn measure(folder: &Path, with_peers: bool) -> anyhow::Result<Vec<Figure>> {
    let ours = tokio::task::spawn_blocking(|| {
        let one = |workload: workloads::Workload| {
            let time = workload.measure().with_context(|| format!("failed to run {}", workload.name))?;
            anyhow::Ok((workload.name, time))
        };
        workloads::all().into_iter().map(one).collect::<anyhow::Result<Vec<_>>>()
    })
    .await??;
    let mut others: Vec<(&str, BTreeMap<String, f64>)> = Vec::new();
    if with_peers {
        let threads = std::thread::available_parallelism().context("failed to count the processors")?.to_string();
        for (peer, name, script) in
            [(peers::TORCH, "steps_torch.py", TORCH_SCRIPT), (peers::JAX, "steps_jax.py", JAX_SCRIPT)]
        {
            let script_path = folder.join(name);
            std::fs::write(&script_path, script)?;
            others.push((peer.name, peer.run(&script_path, &[&threads])?));
        }
    }
    let figure = |(workload, time): (&'static str, f64)| {
        let best = others
            .iter()
            .filter_map(|(peer, times)| Some((*peer, *times.get(workload)?)))
            .min_by(|(_, left), (_, right)| left.total_cmp(right));
        let what = if workload.contains("forward") { "forward" } else { "step" };
        let goal = best.map(|(_, time)| time / goal(workload));
        let figure = Figure::lower("train", format!("{what}: {workload}"), time, "ms", goal);
        match best {
            Some((peer, time)) => figure.beside(peer, time),
            None => figure,
        }
    };
    Ok(ours.into_iter().map(figure).collect())
}
