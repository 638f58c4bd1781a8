//! Jobs that say where their tasks may run, on agents that are at different places, and agents that keep something for roles.

use crate::cluster::Cluster;
use crate::program::command;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Child, Stdio};

/// One more agent of a cluster, in its folder.
struct Agent(Child);

impl Agent {
    fn start(cluster: &Cluster, name: &str, attributes: &str, more: &[&str]) -> Self {
        let folder = format!("more/{name}");
        let args = [
            "agent",
            "--master",
            &cluster.master,
            "--name",
            name,
            "--data-dir",
            &folder,
            "--resources",
            "cpus=4;mem=1GiB;ports=[31800-31899]",
            "--attributes",
            attributes,
            "--isolation",
            "off",
        ];
        let mut command = command(cluster.folder(), &[&args, more].concat());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// A command that runs until it is stopped.
fn job(parallelism: u32, rules: &str) -> String {
    format!(
        "kind = \"command\"\nargv = [\"sleep\", \"600\"]\n[job]\nparallelism = {parallelism}\ncpus = 0.1\nmem = 16\n{rules}\n"
    )
}

/// One task of so many cores.
fn job_of(cpus: u32, more: &str) -> String {
    format!(
        "kind = \"command\"\nargv = [\"sleep\", \"600\"]\n[job]\nparallelism = 1\ncpus = {cpus}\nmem = 16\n{more}\n"
    )
}

#[test]
fn tasks_run_where_their_job_says() {
    let cluster = Cluster::start();
    let agents_of = |job: &str| -> Vec<String> {
        let job = cluster.wait_until(job, "running");
        let mut agents: Vec<String> = job.tasks.into_iter().map(|task| task.agent).collect();
        agents.sort();
        agents
    };
    let on_one = cluster.submit("one.toml", &job(2, "constraints = \"agent = agent-2\"")).remove(0);
    assert_eq!(agents_of(&on_one), ["agent-2", "agent-2"]);
    let apart = cluster.submit("apart.toml", &job(3, "spread = \"agent:1\"")).remove(0);
    cluster.wait_until_why(&apart, &["at most 1 in one agent", "there is room for 2 of them now"]);
    let in_rack = cluster.submit("rack.toml", &job(2, "together = \"rack\"")).remove(0);
    cluster.wait_until_why(&in_rack, &["all in one rack", "none of the 2 agents is one of these"]);
    let in_zone = cluster.submit("zone.toml", &job(2, "constraints = \"zone in (z1, z2); rack != r3\"")).remove(0);
    cluster.wait_until_why(&in_zone, &["zone in (z1, z2) and rack != r3", "none of the 2 agents is one of these"]);

    let _third = Agent::start(&cluster, "agent-3", "zone:z1;rack:r1", &[]);
    assert_eq!(agents_of(&apart), ["agent-1", "agent-2", "agent-3"]);
    assert_eq!(agents_of(&in_rack), ["agent-3", "agent-3"]);
    assert_eq!(agents_of(&in_zone), ["agent-3", "agent-3"]);
    // Tasks outlive an agent that goes.
    for job in [&apart, &in_rack, &in_zone] {
        cluster.smack(&["stop", job]).expect(0);
        cluster.wait_until(job, "stopped");
    }
}

#[test]
fn places_that_are_none_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let check = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("a file");
        crate::program::smack(folder.path(), &["check", name]).expect(2).err
    };
    let said = check("a.sql", "SET job.constraints = 'zone z1';");
    assert!(said.contains("'zone z1' is no constraint; they are of the forms key = value"), "{said}");
    let said = check("b.toml", &job(1, "spread = \"host:0\"\ntogether = \"a b\""));
    assert!(said.contains("'host:0' is no attribute to spread over"), "{said}");
    assert!(said.contains("'a b' is no attribute of agents"), "{said}");
}

#[test]
fn what_is_reserved_is_for_its_role_alone() {
    let cluster = Cluster::start();
    let _kept = Agent::start(&cluster, "kept", "zone:z9", &["--reserve", "ml:cpus=2"]);
    let job = |role: &str, cpus: u32| {
        let job = format!("constraints = \"agent = kept\"\nrole = \"{role}\"");
        job_of(cpus, &job)
    };
    let waiting = cluster.submit("large.toml", &job("other", 3)).remove(0);
    cluster.wait_until_why(&waiting, &["what is free on kept is reserved for ml"]);
    let below = cluster.submit("below.toml", &job("ml/train", 2)).remove(0);
    cluster.wait_until(&below, "running");

    let said = cluster.smack(&["reserve", "kept", "web", "cpus=3"]).expect(1).err;
    assert!(
        said.contains("on agent kept 5 cpus would be reserved, of its 4 cpus") && said.contains("--force"),
        "{said}"
    );
    let said = cluster.smack(&["reserve", "keptt", "web", "cpus=1"]).expect(1).err;
    assert!(said.contains("did you mean 'kept'?"), "{said}");
    cluster.smack(&["reserve", "kept", "web", "cpus=1", "--label", "disk=fast"]).expect(0);
    let listed = cluster.smack(&["agents"]).expect(0).out;
    for part in ["RESERVED FOR", "disk=fast", "the agent", "an operator"] {
        assert!(listed.contains(part), "{part} in {listed}");
    }
    let small = cluster.submit("small.toml", &job("other", 2)).remove(0);
    cluster.wait_until_why(&small, &["what is free on kept is reserved for web"]);

    let said = cluster.smack(&["unreserve", "kept", "ml"]).expect(1).err;
    assert!(said.contains("changed where it is started (--reserve)"), "{said}");
    cluster.smack(&["unreserve", "kept", "web", "--label", "disk=fast"]).expect(0);
    cluster.wait_until(&small, "running");
}

#[test]
fn what_tasks_do_not_use_is_lent_to_jobs_that_can_do_with_it() {
    let cluster = Cluster::start();
    let job = |argv: &str, resources: &str| {
        format!("kind = \"command\"\nargv = [{argv}]\n[job]\n{resources}\nconstraints = \"agent = lender\"\n")
    };
    let _lender = Agent::start(&cluster, "lender", "zone:z9", &["--lend", "0.8", "--lend-after", "1s"]);
    let guest = job("\"sleep\", \"600\"", "cpus = 1\nmem = 512\nrevocable = true");
    let guest = cluster.submit("guest.toml", &guest).remove(0);
    cluster.wait_until_why(&guest, &["cpus:revocable 1, mem:revocable 512 MiB", "no agent lends any now"]);
    let go = cluster.folder().join("go");
    // All of the agent's memory is given to it, and it takes little of that before it is told.
    let wait = format!("while ! [ -e {} ]; do sleep 0.2; done", go.display());
    let script = format!("{wait}; (head -c 700000000 /dev/zero; exec sleep 600) | tail");
    let owner = job(&format!("\"sh\", \"-c\", \"{script}\""), "cpus = 4\nmem = 1024");
    let owner = cluster.submit("owner.toml", &owner).remove(0);
    cluster.wait_until(&owner, "running");
    cluster.wait_until(&guest, "running");
    let listed = cluster.smack(&["agents"]).expect(0).out;
    assert!(listed.contains("OF WHICH TASKS USE") && listed.contains("mem:revocable"), "{listed}");
    std::fs::write(&go, "").expect("a file");
    let is_told = |job: &crate::cluster::Job| job.events.iter().any(|event| event.text.contains("was only lent"));
    cluster.wait_for(&guest, "was told that it had to go", is_told);
    cluster.wait_until(&owner, "running");
}

#[test]
fn a_job_that_finds_no_room_in_time_has_failed() {
    let cluster = Cluster::start();
    let job = cluster.submit("large.toml", &job_of(900, "start_within = \"2s\"")).remove(0);
    cluster.wait_until(&job, "failed");
    cluster.wait_until_why(&job, &["there was no room for it within 2 s", "900"]);
    let job = cluster.submit("small.toml", &job_of(1, "start_within = \"1m\"")).remove(0);
    cluster.wait_until(&job, "running");
}
