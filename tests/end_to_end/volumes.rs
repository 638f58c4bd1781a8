//! Volumes of jobs, and disk that their tasks may write.

use crate::cluster::Cluster;
use std::collections::BTreeSet;

/// Two tasks, each of which counts in its volume how often it ran.
const COUNTS: &str = r#"kind = "command"
argv = ["sh", "-c", "n=$(cat data/n 2>/dev/null || echo 0); echo $((n + 1)) > $SMACK_VOLUME_DATA/n"]
[job]
parallelism = 2
cpus = 0.1
mem = 16
[volumes]
data = "8m"
"#;

impl Cluster {
    /// Where each volume is, and what its tasks counted.
    fn counted(&self) -> BTreeSet<(String, String, String)> {
        let listed = self.smack(&["volumes", "-o", "json"]).expect(0).json();
        let volumes = listed.as_array().expect("a list").iter().map(|volume| {
            let text = |key: &str| volume[key].as_str().expect("a text").to_string();
            let (name, agent) = (text("name"), text("agent"));
            assert_eq!((volume["disk_mib"].as_f64(), text("role")), (Some(8.0), "default".to_string()));
            let n = self.path(&format!(".smack/{agent}/volumes/default/{name}/data/n"));
            let n = std::fs::read_to_string(&n).unwrap_or_else(|error| panic!("{}: {error}", n.display()));
            (name, agent, n.trim().to_string())
        });
        volumes.collect()
    }

    fn count_again(&self) {
        let job = self.submit("counts.toml", COUNTS).remove(0);
        self.wait_until(&job, "finished");
    }
}

#[test]
fn what_tasks_keep_is_theirs_again_the_next_time() {
    let mut cluster = Cluster::start();
    cluster.count_again();
    let first = cluster.counted();
    let names: Vec<&str> = first.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["counts.counts.data.0", "counts.counts.data.1"]);
    assert!(first.iter().all(|(.., n)| n == "1"), "{first:?}");
    cluster.count_again();
    // Another master, runner and agents, of the same folders.
    cluster.crash();
    cluster.count_again();
    let third = cluster.counted();
    let places = |counted: &BTreeSet<(String, String, String)>| -> Vec<(String, String)> {
        counted.iter().map(|(name, agent, _)| (name.clone(), agent.clone())).collect()
    };
    assert_eq!(places(&third), places(&first));
    assert!(third.iter().all(|(.., n)| n == "3"), "{third:?}");

    let holds = COUNTS.replace("n + 1)) >", "n + 1)); sleep 600; echo >");
    let job = cluster.submit("counts.toml", &holds).remove(0);
    cluster.wait_until(&job, "running");
    let name = "counts.counts.data.0";
    cluster.smack(&["volumes", "rm", name]).expect(1).says(&[name, "is task"]);
    cluster
        .smack(&["volumes", "rm", "counts.data"])
        .expect(1)
        .says(&["there is no volume counts.data of role default"]);
    cluster.smack(&["stop", &job]).expect(0);
    cluster.wait_until(&job, "stopped");
    cluster.smack(&["volumes", "rm", name]).expect(0).says(&["is removed"]);
    cluster.count_again();
    let counted: Vec<String> = cluster.counted().into_iter().map(|(.., n)| n).collect();
    assert_eq!(counted, ["1", "4"], "one of them is new");
}

#[test]
fn a_volume_that_is_away_is_waited_for() {
    let cluster = Cluster::start();
    let one = COUNTS.replace("parallelism = 2", "parallelism = 1");
    let job = cluster.submit("counts.toml", &one).remove(0);
    cluster.wait_until(&job, "finished");
    let (_, agent, _) = cluster.counted().pop_first().expect("a volume");
    cluster.smack(&["drain", &agent]).expect(0);
    let job = cluster.submit("counts.toml", &one).remove(0);
    cluster.wait_until_why(&job, &["volume counts.counts.data.0 is on", &agent, "which is draining"]);
    cluster.smack(&["undrain", &agent]).expect(0);
    cluster.wait_until(&job, "finished");
    assert_eq!(cluster.counted().pop_first().map(|(.., n)| n), Some("2".to_string()));
}

#[test]
fn who_writes_more_than_it_may_is_ended() {
    let cluster = Cluster::start();
    let job = "kind = \"command\"\nargv = [\"sh\", \"-c\", \"head -c 4000000 /dev/urandom > much; sleep 600\"]\n\
               [job]\ncpus = 0.1\nmem = 16\ndisk = \"2m\"\nrestart = \"never\"\n";
    let job = cluster.submit("fills.toml", job).remove(0);
    cluster.wait_until(&job, "failed");
    let why = cluster.why(&job);
    assert!(why.contains("its sandbox has ") && why.contains("may have 2 MiB"), "{why}");
}

#[test]
fn volumes_that_are_none_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let check = |volumes: &str| {
        let text = COUNTS.replace("data = \"8m\"", volumes);
        std::fs::write(folder.path().join("a.toml"), text).expect("a file");
        crate::program::smack(folder.path(), &["check", "a.toml"]).expect(2).err
    };
    let said = check("data = \"much\"");
    assert!(said.contains("volume data: 'much' does not begin with a number"), "{said}");
    let said = check("\"../x\" = \"8m\"");
    assert!(said.contains("'../x' cannot be a volume's name"), "{said}");
    let said = check("data = \"0\"");
    assert!(said.contains("volume data cannot have 0 MiB of disk"), "{said}");
}
