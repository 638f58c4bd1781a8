//! What ranks that train together cost each other, and what a checkpoint costs them.
//!
//! Invariant: each rank is a process of its own with one thread, this program as `smack bench-rank`; a step of two ranks is held
//! against that of two which run at the same time and share nothing but the machine.

use super::Figure;
use super::topics::free_port;
use anyhow::{Context, bail};
use clap::ValueEnum;
use jobs::Peer;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use training::workloads::gang;

/// What a rank is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Sum 4 MB over all ranks.
    Sum4,
    /// Sum 64 MB over all ranks.
    Sum64,
    /// A step of the multilayer perceptron.
    Step,
}

const WORLD: usize = 2;

pub async fn measure() -> anyhow::Result<Vec<Figure>> {
    let small = together(What::Sum4).await?;
    let large = together(What::Sum64).await?;
    let apart = apart().await?;
    let step = together(What::Step).await?;
    let folder = std::env::temp_dir().join(format!("smack-bench-gang-{}", std::process::id()));
    let saved = {
        let folder = folder.clone();
        tokio::task::spawn_blocking(move || gang::checkpoint(&folder, 100)).await?
    };
    std::fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    let (waits, lasts) = saved?;
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    Ok(vec![
        Figure::lower("gang", "all-reduce of 4 MB between two processes", ms(small), "ms", Some(1.0)),
        Figure::lower("gang", "all-reduce of 64 MB between two processes", ms(large), "ms", Some(20.0)),
        Figure::lower("gang", "step of the MLP: two workers, gradients summed", ms(step), "ms", None)
            .beside("two apart", ms(apart)),
        Figure::higher(
            "gang",
            "the same, of what two apart do",
            apart.as_secs_f64() / step.as_secs_f64() * 100.0,
            "%",
            Some(80.0),
        ),
        Figure::lower("gang", "checkpoint of 100 MB: training waits", ms(waits), "ms", Some(50.0)),
        Figure::lower("gang", "checkpoint of 100 MB: until it is on the disk", ms(lasts), "ms", None),
    ])
}

/// What a rank of `smack bench-rank` prints: seconds.
pub fn rank(what: What, rank: usize, peers: &[String]) -> anyhow::Result<f64> {
    let peer = |text: &String| -> anyhow::Result<Peer> {
        let (host, port) = text.rsplit_once(':').with_context(|| format!("failed to read the address {text}"))?;
        Ok(Peer { host: host.to_string(), port: port.parse()? })
    };
    let peers = peers.iter().map(peer).collect::<anyhow::Result<Vec<Peer>>>()?;
    if rank >= peers.len().max(1) {
        bail!("failed to be rank {rank} of {}", peers.len());
    }
    let took = match what {
        What::Sum4 => gang::all_reduce(rank, &peers, 4 << 18)?,
        What::Sum64 => gang::all_reduce(rank, &peers, 64 << 18)?,
        What::Step => gang::mirrored_step(rank, &peers)?,
    };
    Ok(took.as_secs_f64())
}

async fn together(what: What) -> anyhow::Result<Duration> {
    let peers = (0..WORLD).map(|_| Ok(format!("127.0.0.1:{}", free_port()?))).collect::<anyhow::Result<Vec<_>>>()?;
    all((0..WORLD).map(|rank| command(what, rank, &peers)).collect::<anyhow::Result<_>>()?).await
}

async fn apart() -> anyhow::Result<Duration> {
    all((0..WORLD).map(|_| command(What::Step, 0, &[])).collect::<anyhow::Result<_>>()?).await
}

fn command(what: What, rank: usize, peers: &[String]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("failed to find this program")?);
    let what = what.to_possible_value().context("failed to name the work")?;
    command.args(["bench-rank", what.get_name(), "--rank", &rank.to_string()]).args(peers);
    command.env("RAYON_NUM_THREADS", "1").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

/// The slowest of some ranks that run at the same time.
async fn all(commands: Vec<Command>) -> anyhow::Result<Duration> {
    let ranks =
        commands.into_iter().map(|mut command| command.spawn().context("failed to start a rank")).collect::<Vec<_>>();
    let mut slowest = Duration::ZERO;
    for rank in ranks {
        let out = rank?.wait_with_output().await?;
        if !out.status.success() {
            bail!("a rank ended with {}", out.status);
        }
        let seconds: f64 =
            String::from_utf8_lossy(&out.stdout).trim().parse().context("failed to read a rank's time")?;
        slowest = slowest.max(Duration::from_secs_f64(seconds));
    }
    Ok(slowest)
}
