//! What happens in a cluster is told to whoever watches, over its runner and over a new master.

use crate::cluster::Cluster;
use crate::program::{command, interrupted};
use serde_json::Value;

fn lines(out: &str) -> Vec<Value> {
    out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn whoever_watches_is_told_what_there_is_and_then_what_changes() {
    let cluster = Cluster::start();
    let before =
        cluster.submit("first.toml", "kind = \"command\"\nargv = [\"sleep\", \"600\"]\n[job]\ncpus = 0.1\nmem = 16\n");
    cluster.wait_until(&before[0], "running");
    let watch = |more: &[&str]| command(cluster.folder(), &[&["events"], more].concat());
    let snapshot = |ran: &crate::program::Ran| lines(&ran.out).iter().any(|line| line["event"] == "snapshot");
    let heard = std::thread::scope(|scope| {
        let watched = scope.spawn(|| {
            let is_over = |line: &Value| line["event"] == "task_updated" && line["state"] == "failed";
            interrupted(watch(&["-o", "json"]), |ran| lines(&ran.out).iter().any(is_over))
        });
        // It begins before the task does, or the task is in what there is: told is it in any case how it ends.
        let text = "kind = \"command\"\nargv = [\"sh\", \"-c\", \"sleep 2; exit 3\"]\n[job]\ncpus = 0.1\nmem = 16\nrestart = \"never\"\n";
        let job = cluster.submit("second.toml", text).remove(0);
        cluster.wait_until(&job, "failed");
        watched.join().expect("it watches")
    });
    assert!(snapshot(&heard), "{}", heard.out);
    let heard = lines(&heard.out);
    assert_eq!(heard[0]["agents"].as_array().map(Vec::len), Some(2), "{}", heard[0]);
    let numbers: Vec<u64> = heard.iter().filter_map(|line| line["number"].as_u64()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "each is told, in order: {numbers:?}");
    let last = heard.iter().rfind(|line| line["state"] == "failed").expect("its end");
    assert_eq!((last["reason"].as_str(), last["exit_code"].as_i64()), (Some("exited"), Some(3)), "{last}");

    // A new master is watched in the place of the one that ended.
    let is_killed = std::cell::Cell::new(false);
    let words = interrupted(watch(&[]), |ran| {
        let snapshots = ran.out.matches("cluster: ").count();
        if snapshots == 1 && !is_killed.replace(true) {
            cluster.member("master").kill();
        }
        snapshots >= 2
    });
    assert!(words.err.contains("the master ended; its successor is watched"), "{}", words.err);
}
