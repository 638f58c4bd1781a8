//! Jobs that are programs of others: a command that ends, and a service that is started again.

use crate::cluster::Cluster;
use crate::wait::wait_for;

#[test]
fn a_command_runs_to_its_end_and_its_output_is_kept() {
    let cluster = Cluster::start();
    let jobs = cluster.submit(
        "job.toml",
        "kind = \"command\"\nname = \"greet\"\nargv = [\"/bin/sh\", \"-c\", \"echo hello $WHOM; echo oh >&2\"]\n\
         [env]\nWHOM = \"world\"\n",
    );
    let followed = cluster.smack(&["logs", "greet", "--follow"]).expect(0);
    let job = cluster.wait_until(&jobs[0], "finished");
    let task = &job.tasks[0].id;
    assert_eq!(followed.out, format!("{task} | hello world\n"), "of a group, each line says whose it is");
    assert_eq!(cluster.smack(&["logs", task]).expect(0).out, "hello world\n");
    assert_eq!(cluster.smack(&["logs", task, "--stderr"]).expect(0).out, "oh\n");
}

#[test]
fn a_service_that_ends_is_started_again_until_it_is_stopped() {
    let cluster = Cluster::start();
    let runs = cluster.path("runs");
    let script = format!("echo run >> '{}'; sleep 0.1", runs.display());
    let text = format!("kind = \"service\"\nname = \"server\"\nargv = [\"/bin/sh\", \"-c\", \"{script}\"]\n");
    let jobs = cluster.submit("job.toml", &text);
    wait_for("third run", || {
        let n = std::fs::read_to_string(&runs).unwrap_or_default().lines().count();
        if n >= 3 { Ok(()) } else { Err(format!("{n} runs")) }
    });
    cluster.smack(&["stop", "server"]).expect(0);
    let job = cluster.wait_until(&jobs[0], "stopped");
    assert!(job.restarts >= 2, "{job:?}");
}

#[test]
fn a_command_of_hundreds_of_tasks_runs_each_once_though_its_runner_is_killed() {
    const TASKS: usize = 180;
    let cluster = Cluster::start();
    let runs = cluster.path("runs");
    let text = format!(
        "kind = \"command\"\nname = \"many\"\nargv = [\"/bin/sh\", \"-c\", \"echo $SMACK_TASK_ID >> '{}'\"]\n\
         [job]\nparallelism = {TASKS}\ncpus = 0.01\nmem = 1\nrestart = \"never\"\n",
        runs.display()
    );
    let jobs = cluster.submit("many.toml", &text);
    let ran =
        || -> Vec<String> { std::fs::read_to_string(&runs).unwrap_or_default().lines().map(str::to_owned).collect() };
    wait_for("some tasks", || if ran().len() >= TASKS / 4 { Ok(()) } else { Err(format!("{}", ran().len())) });
    let runner = cluster.member("runner");
    runner.kill();
    cluster.wait_for_new("runner", &runner);
    let job = cluster.wait_until(&jobs[0], "finished");
    assert_eq!((job.generation, job.restarts, job.tasks.len()), (1, 0, TASKS), "{:?}", job.events);
    let mut all = ran();
    all.sort();
    all.dedup();
    assert_eq!((ran().len(), all.len()), (TASKS, TASKS), "each once");
}
