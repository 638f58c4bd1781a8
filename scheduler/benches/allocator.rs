//! The allocator at the sizes that others have published figures for.
//!
//! `cargo bench -p scheduler --bench allocator`; `smack bench allocator` prints the same with goals.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use scheduler::workloads;
use std::time::{Duration, Instant};

fn allocator(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("allocator");
    group.sample_size(10);
    group.bench_function("decline round, 10,000 agents x 1,000 frameworks", |bencher| {
        bencher.iter_custom(|n| {
            let mut cluster = workloads::declines(10_000, 1_000);
            cluster.settle();
            let mut spent = Duration::ZERO;
            for _ in 0..n {
                let start = Instant::now();
                cluster.decline_for_ever();
                spent += start.elapsed();
            }
            spent
        });
    });
    for (what, with_limits) in [("at their limits", true), ("that want more", false)] {
        let mut cluster = workloads::quota_roles(2_500, 500, with_limits);
        cluster.settle();
        if !with_limits {
            cluster.use_nearly_all();
        }
        let name = format!("no-op cycle, 3,000 agents x 3,000 roles with quota {what}");
        group.bench_function(name, |bencher| bencher.iter(|| cluster.no_op_cycle()));
    }
    group.bench_function("full cycle, 50,000 agents x 6,000 frameworks", |bencher| {
        let cluster = || workloads::declines(50_000, 6_000);
        bencher.iter_batched_ref(cluster, |cluster| cluster.settle(), BatchSize::PerIteration);
    });
    group.bench_function("re-registration, 40,000 agents with 400,000 tasks", |bencher| {
        let setup = || (workloads::failed_over(40_000, 100), workloads::registrations(40_000, 10, 100));
        let run = |(cluster, turns): &mut (workloads::Cluster, Vec<Vec<_>>)| {
            for turn in turns.drain(..) {
                cluster.hear(turn);
            }
        };
        bencher.iter_batched_ref(setup, run, BatchSize::PerIteration);
    });
    group.bench_function("gang, 5,000 tasks over 5,000 agents", |bencher| {
        let run = |cluster: &mut workloads::Cluster| {
            cluster.want_gang(5_000);
            cluster.accept_gang()
        };
        bencher.iter_batched_ref(|| workloads::gang(5_000), run, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, allocator);
criterion_main!(benches);
