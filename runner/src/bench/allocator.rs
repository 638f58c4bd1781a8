//! Suite `allocator`: the master's machine at sizes that others have published figures for, one thread, no network.
//!
//! Every decline, registration and accept is heard by the machine within what is timed, as many at once as its daemon
//! takes; only the roles' no-op cycles time the allocation by itself. Memory is what the process grew by; that of refusals is
//! too little to be seen so, and counted by `cargo bench -p scheduler --bench memory`.

use super::{Figure, median};
use scheduler::workloads;
use std::time::Instant;

const SUITE: &str = "allocator";

/// Rounds of declines: each leaves as many refusals as there are agents.
const ROUNDS: usize = 40;

pub async fn measure() -> anyhow::Result<Vec<Figure>> {
    Ok(tokio::task::spawn_blocking(all).await?)
}

fn ms(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64() * 1e3
}

fn no_op(cluster: &mut workloads::Cluster) -> f64 {
    ms(|| {
        std::hint::black_box(cluster.no_op_cycle());
    })
}

fn lower(figure: &str, value: f64, unit: &'static str, goal: Option<f64>) -> Figure {
    Figure::lower(SUITE, figure, value, unit, goal)
}

fn all() -> Vec<Figure> {
    let mut figures = Vec::new();
    figures.extend(failover());
    let mut cluster = workloads::declines(10_000, 1_000);
    let cycle = ms(|| cluster.settle());
    let rounds = (0..ROUNDS).map(|_| ms(|| cluster.decline_for_ever())).collect();
    figures.push(lower("decline round, 10,000 agents x 1,000 frameworks", median(rounds), "ms", Some(50.0)));
    figures.push(lower("cycle without refusals, 10,000 agents x 1,000", cycle, "ms", None));
    drop(cluster);
    for (what, with_limits) in [("at limits", true), ("hungry", false)] {
        let mut cluster = workloads::quota_roles(2_500, 500, with_limits);
        let first = ms(|| cluster.settle());
        if !with_limits {
            cluster.use_nearly_all();
        }
        let cycles = (0..20).map(|_| no_op(&mut cluster)).collect();
        figures.push(lower(
            &format!("no-op cycle, 3,000 agents x 3,000 roles {what}"),
            median(cycles),
            "ms",
            Some(5.0),
        ));
        figures.push(lower(&format!("first cycle, 3,000 agents x 3,000 roles {what}"), first, "ms", None));
    }
    let mut cluster = workloads::declines(50_000, 6_000);
    figures.push(lower("full cycle, 50,000 agents x 6,000 frameworks", ms(|| cluster.settle()), "ms", Some(1_000.0)));
    figures.push(lower("the same with refusals", ms(|| cluster.decline_for_ever()), "ms", None));
    drop(cluster);
    let mut cluster = workloads::gang(5_000);
    let offered = ms(|| cluster.want_gang(5_000));
    let mut n_launched = 0;
    let accepted = ms(|| n_launched = cluster.accept_gang());
    assert_eq!(n_launched, 5_000, "the gang is placed whole");
    figures.push(lower("gang of 5,000 tasks over 5,000 agents", offered + accepted, "ms", Some(200.0)));
    figures
}

/// Re-registration, and what is kept of each agent and task.
fn failover() -> Vec<Figure> {
    let before = resident_bytes();
    let mut cluster = workloads::failed_over(40_000, 100);
    let per_agent = (resident_bytes() - before) / 40_000.0;
    let turns = workloads::registrations(40_000, 10, 100);
    let before = resident_bytes();
    let took = ms(|| turns.into_iter().for_each(|turn| cluster.hear(turn)));
    let per_task = (resident_bytes() - before) / 400_000.0;
    vec![
        lower("re-registration, 40,000 agents with 400,000 tasks", took, "ms", Some(3_000.0)),
        lower("memory of an agent", per_agent, "bytes", None),
        lower("memory of a task, less what was freed of its report", per_task, "bytes", None),
    ]
}

/// Of this process; 0 where the system does not say.
fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * 4096.0
}
