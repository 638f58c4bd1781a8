//! How long the digits take and how well they are told apart, over five seeds; and single steps of larger networks.

use super::{Figure, median, peers, steps};
use anyhow::Context;
use connectors::Context as ConnectorContext;
use jobs::train::{Layer, Node, Optimizer};
use jobs::{JobBody, TrainBody};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];
pub const DIGITS: &str = include_str!("../../../examples/digits.toml");
const JAX_SCRIPT: &str = include_str!("../../../tests/peers/digits_jax.py");
const DATA: &str = include_str!("../../../jobs/training/data/digits.csv");

pub async fn measure(with_peers: bool) -> anyhow::Result<Vec<Figure>> {
    // The example reads its data next to it, so both are laid out as in the repository.
    let folder = std::env::temp_dir().join(format!("smack-bench-train-{}", std::process::id()));
    let result = measure_in(&folder, with_peers).await;
    std::fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    result
}

/// The example and its data, as in the repository; the folder of examples.
pub fn lay_out(folder: &Path) -> anyhow::Result<PathBuf> {
    let (examples, data) = (folder.join("examples"), folder.join("jobs/training/data"));
    for folder in [&examples, &data] {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    std::fs::write(data.join("digits.csv"), DATA)?;
    std::fs::write(examples.join("digits.toml"), DIGITS)?;
    Ok(examples)
}

async fn measure_in(folder: &Path, with_peers: bool) -> anyhow::Result<Vec<Figure>> {
    let examples = lay_out(folder)?;
    let settled = crate::settle::settle(DIGITS, "digits.toml", &examples)
        .await
        .map_err(|wrong| anyhow::anyhow!("failed to settle the example: {wrong:?}"))?;
    let Some(JobBody::Train(body)) = settled.jobs.into_iter().next().map(|job| job.body) else {
        anyhow::bail!("failed to find a training job in the example");
    };
    let mut seconds = Vec::new();
    let mut accuracies = Vec::new();
    for seed in SEEDS {
        let mut body = body.clone();
        body.seed = seed;
        let context = ConnectorContext {
            job: "bench/digits".to_string(),
            generation: 1,
            claimed_us: 0,
            begun_us: 0,
            slot: 0,
            n_slots: 1,
            base_dir: examples.clone(),
            tables_endpoint: None,
            token: None,
        };
        let data = crate::training_data::read(&body, &context).await.map_err(anyhow::Error::msg)?;
        let task = training::TrainTask {
            job: "bench/digits".to_string(),
            submission: String::new(),
            generation: 1,
            rank: 0,
            world: 1,
            peers: Vec::new(),
            checkpoint_dir: folder.join(format!("seed-{seed}/checkpoints")),
            model_dir: folder.join(format!("seed-{seed}/models")),
            pause_after: None,
            has_evaluator: false,
        };
        let started = Instant::now();
        let outcome = tokio::task::spawn_blocking(move || {
            training::train(&body, data, &task, &mut |_| {}, &AtomicBool::new(false))
        })
        .await??;
        seconds.push(started.elapsed().as_secs_f64());
        accuracies.push(outcome.metric.context("failed to measure accuracy: there are no held-out rows")?);
    }
    let mut time = Figure::lower("train", "digits: training time, median of 5 seeds", median(seconds), "s", Some(10.0));
    let mut accuracy = Figure::higher(
        "train",
        "digits: held-out accuracy, median of 5 seeds",
        median(accuracies),
        "share",
        Some(0.96),
    );
    if with_peers {
        let jax = jax(folder, &folder.join("jobs/training/data/digits.csv"), &body)?;
        time = time.beside(peers::JAX.name, jax.seconds);
        accuracy = accuracy.beside(peers::JAX.name, jax.accuracy);
    }
    let mut figures = vec![time, accuracy];
    figures.extend(steps::measure(folder, with_peers).await?);
    Ok(figures)
}

#[derive(serde::Deserialize)]
struct Measured {
    seconds: f64,
    accuracy: f64,
}

/// The same rows, network, optimizer and seeds in JAX.
fn jax(folder: &Path, digits: &Path, body: &TrainBody) -> anyhow::Result<Measured> {
    let [Node { layer: Layer::Dense { units, .. }, .. }] = body.layers.as_slice() else {
        anyhow::bail!("failed to compare: the example is no longer one hidden layer, as the peer's script is");
    };
    let Optimizer::AdamW { learning_rate, .. } = body.optimizer else {
        anyhow::bail!("failed to compare: the example no longer uses AdamW, as the peer's script does");
    };
    let script = folder.join("digits_jax.py");
    std::fs::write(&script, JAX_SCRIPT)?;
    let digits = digits.display().to_string();
    let numbers = [body.epochs.to_string(), body.batch.to_string(), learning_rate.to_string(), units.to_string()];
    let args: Vec<&str> = [digits.as_str()].into_iter().chain(numbers.iter().map(String::as_str)).collect();
    peers::JAX.run(&script, &args)
}
