//! `smack checkpoint`, `scale`, `plan` and `submit --resume`: no row is lost or doubled when a stream gets other tasks, or
//! another query, in the middle, or goes back to a savepoint.

use crate::cluster::{Cluster, Job};
use crate::rows;
use crate::wait::wait_for;

/// Rows one by one into files, and counts of them, which only add up if the state is found again.
fn job(parallelism: u32, rate: u32, more: &str) -> String {
    format!(
        "SET job.name = 'cards'; SET job.parallelism = '{parallelism}'; SET job.cpus = '0.3';
         SET checkpoint.interval = '1h';
         CREATE TABLE payments (id BIGINT, card BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2 seconds')
         WITH (connector = 'cards', rows = '9000', rate = '{rate}');
         CREATE TABLE all_ids (id BIGINT) WITH (connector = 'files', path = 'ids', format = 'json');
         CREATE TABLE windows (card BIGINT, n BIGINT) WITH (connector = 'files', path = 'windows', format = 'json');
         INSERT INTO all_ids SELECT id FROM payments;
         INSERT INTO windows SELECT card % 3, COUNT(*)
         FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '100 days')) GROUP BY card % 3, window_start;
         {more}"
    )
}

fn each_once(cluster: &Cluster) {
    let ids = rows::of_files(&cluster.path("ids"));
    let mut distinct = ids.clone();
    distinct.dedup();
    assert_eq!(distinct, ids, "each once");
    assert_eq!(ids.len(), 9_000);
    let counts = rows::of_files(&cluster.path("windows"));
    let numbers = counts.iter().filter_map(|row| row.split("n=").nth(1)?.parse::<u64>().ok());
    assert_eq!((counts.len(), numbers.sum::<u64>()), (3, 9_000), "{counts:?}");
}

fn some_rows(job: &Job) -> bool {
    job.metrics.rows_in > 500
}

#[test]
fn a_stream_gets_more_tasks_and_fewer() {
    let cluster = Cluster::start();
    let jobs = cluster.submit("job.sql", &job(1, 400, ""));
    cluster.wait_for(&jobs[0], "rows", some_rows);
    let taken = cluster.smack(&["checkpoint", "cards", "-o", "json"]).expect(0).json();
    assert!(taken[&jobs[0]].as_u64() >= Some(1), "{taken}");
    cluster.smack(&["scale", "cards", "3"]).expect(0);
    cluster.wait_for(&jobs[0], "three tasks", |job| job.state == "running" && job.tasks.len() == 3);
    cluster.smack(&["scale", "cards", "2"]).expect(0);
    cluster.wait_for(&jobs[0], "two tasks", |job| job.state == "running" && job.tasks.len() == 2);
    cluster.smack(&["scale", "cards", "0"]).expect(2);
    cluster.wait_until(&jobs[0], "finished");
    each_once(&cluster);
    assert!(cluster.smack(&["scale", "cards", "2"]).expect(1).err.contains("no stream of 'cards' is at work"));
}

#[test]
fn what_ran_on_an_agent_that_is_gone_starts_elsewhere_at_once() {
    let cluster = Cluster::start();
    let jobs = cluster.submit("job.sql", &job(2, 400, ""));
    let before = cluster.wait_for(&jobs[0], "rows", some_rows);
    cluster.smack(&["checkpoint", "cards"]).expect(0);
    let agent = before.tasks[0].agent.clone();
    cluster.smack(&["gone", &agent]).expect(1).says(&["is connected", "smack drain"]);
    cluster.smack(&["gone", &agent, "--force"]).expect(0);
    let after = cluster.wait_for(&jobs[0], "another generation", |job| job.state == "running" && job.generation > 1);
    assert!(after.tasks.iter().all(|task| task.agent != agent), "{after:?}");
    cluster.smack(&["gone", &agent]).expect(1).says(&["there is no agent"]);
    cluster.wait_until(&jobs[0], "finished");
    each_once(&cluster);
}

#[test]
fn a_changed_file_goes_on_from_the_checkpoint() {
    let cluster = Cluster::start();
    cluster.write("job.sql", &job(2, 400, ""));
    let text = cluster.smack(&["submit", "job.sql", "--resume"]).expect(1).err;
    assert!(text.contains("there is no stream of group 'cards' to go on from"), "{text}");
    let jobs = cluster.submit("job.sql", &job(2, 400, ""));
    cluster.wait_for(&jobs[0], "rows", some_rows);
    cluster.smack(&["stop", "cards"]).expect(0);
    cluster.wait_until(&jobs[0], "stopped");

    // Another number of tasks, another rate, and one query more over the same rows.
    let more = "CREATE TABLE large (n BIGINT) WITH (connector = 'files', path = 'large', format = 'json');
         INSERT INTO large SELECT COUNT(*) FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '200 days'))
         GROUP BY window_start;";
    cluster.write("job.sql", &job(1, 0, more));
    let plan = cluster.smack(&["plan", "job.sql", "-o", "json"]).expect(0).json();
    let operators = plan["jobs"][0]["operators"].as_array().expect("operators").clone();
    let count = |state: &str| operators.iter().filter(|operator| operator["state"] == state).count();
    assert_eq!((count("reuse"), count("rebuild"), count("drop")), (2, 1, 0), "{plan}");
    cluster.smack(&["submit", "job.sql", "--resume"]).expect(0);
    let job = cluster.wait_until(&jobs[0], "finished");
    assert!(job.told().contains("goes on from checkpoint"), "{}", job.told());
    each_once(&cluster);
    assert_eq!(job.metrics.rows_in, 9_000, "over both lives");
}

#[test]
fn a_savepoint_stays_and_is_gone_back_to() {
    let cluster = Cluster::start();
    let more = "SET checkpoint.retain = '2';";
    // Slow, for it is to last through all that is asked of it before it is stopped.
    let jobs = cluster.submit("job.sql", &job(1, 200, more));
    cluster.wait_for(&jobs[0], "rows", some_rows);
    let text = cluster.smack(&["checkpoint", "cards", "--name", "41"]).expect(2).err;
    assert!(text.contains("a number alone means an epoch"), "{text}");
    let made = cluster.smack(&["checkpoint", "cards", "--name", "before-upgrade", "-o", "json"]).expect(0).json();
    let epoch = made["checkpoints"][0]["epoch"].as_u64().expect("an epoch");
    for _ in 0..3 {
        cluster.smack(&["checkpoint", "cards"]).expect(0);
    }
    let text = cluster.smack(&["checkpoint", "cards", "--name", "before-upgrade"]).expect(1).err;
    assert!(text.contains("drop it first"), "{text}");
    let shown = cluster.smack(&["checkpoint", "cards", "--ls"]).expect(0).out;
    assert!(shown.contains("before-upgrade") && shown.lines().count() >= 3, "{shown}");
    let job_now = cluster.smack(&["ps", "-o", "json"]).expect(0).json();
    let metrics = &job_now["jobs"][0]["metrics"];
    let (all, new) = (metrics["checkpoint_bytes"].as_u64(), metrics["checkpoint_bytes_written"].as_u64());
    assert!(new > Some(0) && all >= new, "{metrics}");
    cluster.smack(&["stop", "cards"]).expect(0);
    cluster.wait_until(&jobs[0], "stopped");
    let listed = cluster.smack(&["checkpoint", "cards", "--ls", "-o", "json"]).expect(0).json();
    let listed = listed["checkpoints"].as_array().expect("checkpoints").clone();
    let epochs: Vec<u64> = listed.iter().filter_map(|one| one["epoch"].as_u64()).collect();
    assert!(listed.len() == 3 && epochs[0] == epoch && epochs[1] > epoch, "{listed:?}");

    let text = cluster.smack(&["submit", "job.sql", "--resume", "elsewhere"]).expect(1).err;
    assert!(text.contains("elsewhere") && text.contains("--ls"), "{text}");
    // What is left may come as fast as it can.
    cluster.write("job.sql", &job(1, 0, more));
    cluster.smack(&["submit", "job.sql", "--resume", "before-upgrade"]).expect(0);
    let job = cluster.wait_until(&jobs[0], "finished");
    assert!(job.told().contains(&format!("goes on from checkpoint {}", epochs[2] + 1)), "{}", job.told());
    let counts = rows::of_files(&cluster.path("windows"));
    let numbers = counts.iter().filter_map(|row| row.split("n=").nth(1)?.parse::<u64>().ok());
    assert_eq!((counts.len(), numbers.sum::<u64>()), (3, 9_000), "{counts:?}");
    let ids = rows::of_files(&cluster.path("ids"));
    assert!(ids.len() > 9_000, "what came after the savepoint was read again, {} rows", ids.len());
    cluster.smack(&["checkpoint", "cards", "--drop", "before-upgrade"]).expect(0);
    let text = cluster.smack(&["checkpoint", "cards", "--drop", "before-upgrade"]).expect(1).err;
    assert!(text.contains("no savepoint"), "{text}");
}

#[test]
fn an_agent_is_empty_for_a_window_and_comes_back_by_itself() {
    let cluster = Cluster::start();
    let service =
        "kind = \"service\"\nargv = [\"sleep\", \"600\"]\n[job]\nmem = 16\nconstraints = \"agent != agent-2\"\n";
    let job = cluster.submit("stays.toml", service).remove(0);
    cluster.wait_until(&job, "running");
    let said = cluster.smack(&["drain", "agent-1", "--at", "yesterday"]).expect(2).err;
    assert!(said.contains("'yesterday' is neither a time"), "{said}");
    let said = cluster.smack(&["drain", "agent-1", "--at", "2020-01-01T00:00:00Z"]).expect(1).err;
    assert!(said.contains("in the past"), "{said}");

    let state = || {
        let agents = cluster.smack(&["agents"]).expect(0).out;
        agents.lines().find(|line| line.starts_with("agent-1")).expect("the agent").to_string()
    };
    let until = |words: &str| {
        wait_for(words, || Some(state()).filter(|state| state.contains(words)).ok_or_else(state));
    };
    cluster.smack(&["drain", "agent-1", "--at", "4s", "--deadline", "1s", "--for", "3s"]).expect(0);
    until("active, drains in");
    until("drained, back in");
    cluster.wait_until(&job, "placing");
    until(" active ");
    cluster.wait_until(&job, "running");
}

#[test]
fn an_agent_is_drained_and_its_stream_goes_on_elsewhere() {
    let cluster = Cluster::start();
    let jobs = cluster.submit("job.sql", &job(2, 300, ""));
    let before = cluster.wait_for(&jobs[0], "rows", some_rows);
    assert_ne!(before.tasks[0].agent, before.tasks[1].agent, "tasks are spread over agents");
    let text = cluster.smack(&["drain", "agent-11"]).expect(1).err;
    assert!(text.contains("there is no agent 'agent-11'; did you mean 'agent-1'?"), "{text}");
    let text = cluster.smack(&["undrain", "agent-1"]).expect(1).err;
    assert!(text.contains("agent agent-1 is not being drained"), "{text}");

    cluster.smack(&["drain", "agent-1", "--deadline", "10m"]).expect(0);
    let moved = cluster.wait_for(&jobs[0], "second generation", |job| job.state == "running" && job.generation == 2);
    assert!(moved.tasks.len() == 2 && moved.tasks.iter().all(|task| task.agent == "agent-2"), "{:?}", moved.tasks);
    assert!(moved.told().contains("agent agent-1 is drained; its tasks move"), "{}", moved.told());
    assert!(moved.told().contains("goes on from checkpoint"), "{}", moved.told());
    let agents = cluster.smack(&["agents"]).expect(0).out;
    assert!(agents.lines().any(|line| line.starts_with("agent-1") && line.contains("drained")), "{agents}");

    cluster.smack(&["undrain", "agent-1"]).expect(0);
    let job = cluster.wait_until(&jobs[0], "finished");
    assert_eq!(job.restarts, 0, "nothing failed");
    each_once(&cluster);
}
