//! Programs of others that train together: small ones that look at what they are told, in place of TensorFlow and PyTorch
//! (`tests/frameworks/run` has those).

use crate::cluster::Cluster;
use serde_json::Value;

/// Meets the others at rank 0's port, as `init_process_group` does. The first time, rank 1 fails once all have met.
const MEET: &str = r#"
import os, socket, sys
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
told = [os.environ[name] for name in ("TORCHELASTIC_RESTART_COUNT", "PET_NODE_RANK", "OMP_NUM_THREADS", "OWN")]
if rank == 0:
    with socket.create_server(where) as server:
        met = [server.accept()[0] for _ in range(world - 1)]
        for peer in met:
            peer.sendall(b"hello")
else:
    for _ in range(600):
        try:
            peer = socket.create_connection(where)
            break
        except OSError:
            __import__("time").sleep(0.05)
    assert peer.recv(5) == b"hello"
print("rank", rank, "of", world, *told, flush=True)
if told[0] == "0":
    if rank == 1:
        sys.exit(3)
    __import__("time").sleep(600)
"#;

#[test]
fn a_gang_finds_itself_and_is_started_again_together() {
    let cluster = Cluster::start();
    cluster.write("meet.py", MEET);
    let text = format!(
        "kind = \"command\"\ndistributed = \"torch\"\nargv = [\"python3\", '{}']\nenv = {{ OWN = \"mine\" }}\n\
         [job]\nparallelism = 2\ncpus = 0.2\nmem = 64\n",
        cluster.path("meet.py").display()
    );
    let jobs = cluster.submit("meet.toml", &text);
    let job = cluster.wait_until(&jobs[0], "finished");
    assert_eq!((job.generation, job.restarts, job.tasks.len()), (2, 1, 2), "{}", job.told());
    assert!(job.told().contains("exited with code 3; starting again"), "{}", job.told());
    for (rank, task) in job.tasks.iter().enumerate() {
        let logs = cluster.smack(&["logs", &task.id]).expect(0);
        assert_eq!(logs.out, format!("rank {rank} of 2 1 {rank} 1 mine\n"));
    }
    let tasks = cluster.smack(&["ps", "meet", "--tasks"]).expect(0);
    assert!(tasks.out.contains("command worker 1"), "{}", tasks.out);
}

#[test]
fn each_role_runs_its_own_and_ends_when_the_work_is_done() {
    let cluster = Cluster::start();
    // Whoever has spoken makes a file here, and the chief, whose end is that of the work, waits for the four others.
    let there = cluster.path("there");
    std::fs::create_dir(&there).expect("a folder");
    let there = there.display();
    let text = format!(
        r#"kind = "command"
distributed = "tensorflow"
argv = ["/bin/sh", "-c", 'echo "$TF_CONFIG"; while [ $(ls "{there}" | wc -l) -lt 4 ]; do sleep 0.05; done']
[roles.chief]
[roles.worker]
argv = ["/bin/sh", "-c", 'echo "$TF_CONFIG"; : > "{there}/$SMACK_TASK_ID"; exec sleep 600']
count = 2
[roles.ps]
argv = ["/bin/sh", "-c", 'echo "$TF_CONFIG $GRPC_FAIL_FAST $SMACK_PORTS"; : > "{there}/$SMACK_TASK_ID"; exec sleep 600']
ports = 1
[roles.evaluator]
argv = ["/bin/sh", "-c", 'echo "$TF_CONFIG"; : > "{there}/$SMACK_TASK_ID"; sleep 1; echo judged']
[job]
cpus = 0.1
mem = 32
"#
    );
    let jobs = cluster.submit("roles.toml", &text);
    let job = cluster.wait_until(&jobs[0], "finished");
    assert_eq!((job.restarts, job.tasks.len()), (0, 5), "{}", job.told());
    let logs = |index: usize| cluster.smack(&["logs", &job.tasks[index].id]).expect(0).out;
    let said = |index: usize| -> Value {
        let logs = logs(index);
        let config = logs.split_whitespace().next().unwrap_or_default();
        serde_json::from_str(config).unwrap_or_else(|error| panic!("task {index}: {error}: {logs}"))
    };
    let cluster_of_all = &said(0)["cluster"];
    let count = |role: &str| cluster_of_all[role].as_array().map_or(0, Vec::len);
    assert_eq!(["chief", "worker", "ps", "evaluator"].map(count), [1, 2, 1, 0], "{cluster_of_all}");
    for (index, (role, at)) in
        [("chief", 0), ("worker", 0), ("worker", 1), ("ps", 0), ("evaluator", 0)].iter().enumerate()
    {
        let config = said(index);
        assert_eq!((&config["cluster"], &config["task"]["type"]), (cluster_of_all, &Value::from(*role)));
        assert_eq!(config["task"]["index"], *at);
    }
    assert!(logs(4).ends_with("judged\n"), "an evaluator has its time");
    let server = logs(3);
    let words: Vec<&str> = server.split_whitespace().collect();
    assert_eq!(words[1], "use_caller");
    let ports: Vec<&str> = words[2].split(',').collect();
    assert_eq!(ports.len(), 2, "one by which it is found, and one that it asked for: {server}");
    let address = cluster_of_all["ps"][0].as_str().expect("an address");
    assert!(address.ends_with(&format!(":{}", ports[0])), "{address}: {server}");
}
