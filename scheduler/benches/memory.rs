//! Bytes that the master keeps for each agent, task, framework and refusal: `cargo bench -p scheduler --bench memory`.
//!
//! Also times every workload once, which is quicker than the statistics of the other bench.

use scheduler::workloads;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator; only a counter is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// Runs it and prints how long it took and how many bytes it left for each of `n`.
fn weigh<T>(what: &str, n: usize, of: &str, run: impl FnOnce() -> T) -> T {
    let (before, start) = (live(), Instant::now());
    let kept = run();
    let (took, bytes) = (start.elapsed(), live().saturating_sub(before));
    println!("{what:<52} {:>9.1} ms {:>9.1} bytes for each {of}", took.as_secs_f64() * 1e3, bytes as f64 / n as f64);
    kept
}

fn main() {
    let mut cluster = weigh("agents of a registry", 40_000, "agent", || workloads::failed_over(40_000, 100));
    let turns = workloads::registrations(40_000, 0, 100);
    weigh("they register without tasks", 40_000, "agent", || turns.into_iter().for_each(|turn| cluster.hear(turn)));
    let turns = workloads::registrations(40_000, 10, 100);
    let mut n = 0;
    let mut again = workloads::failed_over(40_000, 100);
    // What they say is freed while it is heard, so it is said anew, and only the clock of this one means anything.
    weigh("40,000 agents with 400,000 tasks register", 40_000, "agent", || {
        for turn in turns {
            n += turn.len();
            again.hear(turn);
        }
    });
    assert_eq!(n, 40_000);
    let before = live();
    for turn in workloads::registrations(40_000, 10, 100) {
        cluster.hear(turn);
    }
    println!("{:<52} {:>12} {:>9.1} bytes for each task", "tasks", "", (live() - before) as f64 / 400_000.0);
    drop((cluster, again));

    let mut cluster = workloads::Cluster::new([]);
    weigh("frameworks subscribe", 6_000, "framework", || cluster.subscribe(6_000, |_| "*".into()));
    drop(cluster);

    for (what, with_limits) in [("at their limits", true), ("that want more", false)] {
        let mut cluster = workloads::quota_roles(2_500, 500, with_limits);
        weigh("first cycle, 3,000 agents x 3,000 roles with quota", 3_000, "role", || cluster.settle());
        if !with_limits {
            cluster.use_nearly_all();
        }
        let start = Instant::now();
        let n = cluster.no_op_cycle();
        println!("no-op cycle, roles {what}: {:.3} ms, {n} offers", start.elapsed().as_secs_f64() * 1e3);
    }

    let mut cluster = workloads::declines(10_000, 1_000);
    weigh("first cycle, 10,000 agents x 1,000 frameworks", 10_000, "offer", || cluster.settle());
    let (mut before, mut slowest, mut all) = (live(), 0.0f64, Vec::new());
    for round in 0..1_000 {
        let start = Instant::now();
        cluster.decline_for_ever();
        let took = start.elapsed().as_secs_f64() * 1e3;
        slowest = slowest.max(took);
        all.push(took);
        if round == 0 {
            before = live();
        }
        if round == 998 {
            let n = 998.0 * 10_000.0;
            println!("refusals: {:.1} bytes for each", live().saturating_sub(before) as f64 / n);
        }
    }
    all.sort_by(f64::total_cmp);
    println!("decline rounds: median {:.1} ms, slowest {slowest:.1} ms", all[500]);
    drop(cluster);

    let mut cluster = workloads::declines(50_000, 6_000);
    weigh("full cycle, 50,000 agents x 6,000 frameworks", 50_000, "offer", || cluster.settle());
    for _ in 0..3 {
        weigh("the same, after a round of declines", 50_000, "offer", || cluster.decline_for_ever());
    }
    drop(cluster);

    let mut cluster = workloads::gang(5_000);
    weigh("gang of 5,000 is offered", 5_000, "offer", || cluster.want_gang(5_000));
    weigh("gang of 5,000 is accepted", 5_000, "task", || cluster.accept_gang());
}
