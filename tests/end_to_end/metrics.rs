//! `/metrics` of every member: in Prometheus' format, with counters that never fall, and named in the dashboard as they are.

use crate::cluster::Cluster;
use crate::wait::wait_for;
use std::collections::{BTreeMap, BTreeSet};

const JOB: &str = "counted/counts";

/// Held to be what Prometheus takes: each family is described once and before its numbers, no series comes twice, and
/// counters are called so.
fn read(text: &str) -> BTreeMap<String, f64> {
    let (mut kinds, mut series) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').expect("a kind");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(kinds.insert(name.to_string(), kind.to_string()).is_none(), "{name} comes twice");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (labelled, value) = line.rsplit_once(' ').expect("a number");
        let name = labelled.split('{').next().expect("a name");
        assert!(kinds.contains_key(name), "{name} is not described before {line}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(series.insert(labelled.to_string(), value).is_none(), "{labelled} comes twice");
    }
    series
}

fn scraped(cluster: &Cluster, member: &str) -> BTreeMap<String, f64> {
    let text = cluster.get_of(member, "/metrics").unwrap_or_else(|error| panic!("metrics of {member}: {error}"));
    read(&String::from_utf8(text).expect("text"))
}

fn of(series: &BTreeMap<String, f64>, begins: &str) -> Option<f64> {
    series.range(begins.to_string()..).next().filter(|(name, _)| name.starts_with(begins)).map(|(_, value)| *value)
}

#[test]
fn every_member_is_counted_and_no_counter_falls_when_a_task_is_killed() {
    let cluster = Cluster::start();
    cluster.submit(
        "counted.sql",
        "SET job.name = 'counted'; SET job.parallelism = '2'; SET job.cpus = '0.3'; SET checkpoint.interval = '300ms';
         CREATE TABLE rolls (id BIGINT, a BIGINT) WITH (connector = 'datagen', rate = '2000', splits = '2',
           fields.id.kind = 'sequence', fields.a.min = '0', fields.a.max = '9');
         CREATE TABLE elsewhere (a BIGINT) WITH (connector = 'kafka', bootstrap.servers = 'localhost:1', topic = 't',
           format = 'json', properties.sasl.password = 'not-to-be-shown');
         CREATE TABLE counts (a BIGINT PRIMARY KEY, n BIGINT);
         INSERT INTO counts SELECT a, COUNT(*) FROM rolls WHERE id % 3 <> 1 GROUP BY a;",
    );
    cluster.wait_for(JOB, "first checkpoint", |job| job.metrics.checkpoint_epoch >= Some(1));
    let job = format!("{{job=\"{JOB}\"");
    let before = wait_for("numbers of the operators", || {
        let series = scraped(&cluster, &cluster.runner);
        let busy = of(&series, &format!("smack_operator_busy_seconds_total{job},operator=\"group"));
        if busy > Some(0.0) { Ok(series) } else { Err(format!("{series:?}")) }
    });
    for begins in
        ["smack_job_rows_in_total", "smack_checkpoint_epoch", "smack_checkpoint_size_bytes", "smack_job_state"]
    {
        assert!(of(&before, &format!("{begins}{job}")) > Some(0.0), "{begins} in {before:?}");
    }
    assert_eq!(before[&format!("smack_job_restarts_total{job}}}")], 0.0);

    // The operators' ids are those of the dataflow.
    let dataflow = cluster.get(&format!("/api/v1/jobs/{JOB}/dataflow")).expect("its dataflow");
    let dataflow: serde_json::Value = serde_json::from_slice(&dataflow).expect("JSON");
    assert!(dataflow["text"].as_str().is_some_and(|text| text.contains("FROM rolls")), "{dataflow}");
    assert!(!dataflow.to_string().contains("not-to-be-shown"), "{dataflow}");
    let nodes = dataflow["nodes"].as_array().expect("nodes");
    assert!(nodes.iter().any(|node| node["kind"] == "exchange"), "{dataflow}");
    for node in nodes {
        let id = node["id"].as_str().expect("an id");
        let name = format!("smack_operator_rows_in_total{job},operator=\"{id}\"}}");
        assert!(before.contains_key(&name), "{name} in {before:?}");
    }

    let running = cluster.look(JOB).expect("the job");
    cluster.task(&running.tasks[1].id).kill();
    let again = cluster.wait_for(JOB, "next generation that counts", |job| {
        job.restarts == 1 && job.state == "running" && job.metrics.checkpoint_epoch > running.metrics.checkpoint_epoch
    });
    let after = scraped(&cluster, &cluster.runner);
    assert_eq!(after[&format!("smack_job_restarts_total{job}}}")], again.restarts as f64);
    let counters =
        before.iter().filter(|(name, _)| name.split('{').next().is_some_and(|name| name.ends_with("_total")));
    // Epochs that were given up are those of the generation.
    for (name, value) in counters.filter(|(name, _)| !name.starts_with("smack_checkpoint_failures_total")) {
        assert!(after.get(name) >= Some(value), "{name} fell from {value} to {:?}", after.get(name));
    }

    let nothing = cluster.get("/api/v1/nothing").expect_err("nothing is there");
    assert!(nothing.contains("404") && nothing.contains("there is nothing at /api/v1/nothing"), "{nothing}");

    // The other members, found as Prometheus finds them.
    let targets: serde_json::Value =
        serde_json::from_slice(&cluster.get("/api/v1/targets").expect("targets")).expect("JSON");
    let (mut roles, mut said) = (BTreeSet::new(), BTreeSet::new());
    for target in targets.as_array().expect("a list") {
        let role = target["labels"]["role"].as_str().expect("a role");
        let address = target["targets"][0].as_str().expect("an address");
        let series = scraped(&cluster, &format!("http://{address}"));
        assert!(of(&series, "smack_build_info{version=").is_some(), "{series:?}");
        assert!(of(&series, "process_resident_memory_bytes") > Some(1e6), "{series:?}");
        match role {
            "master" => assert!(of(&series, "smack_tasks_launched_total") >= Some(3.0), "{series:?}"),
            "agent" => assert_eq!(of(&series, "smack_agent_connected"), Some(1.0), "{series:?}"),
            _ => assert!(of(&series, &format!("smack_job_state{job}")).is_some(), "{series:?}"),
        }
        roles.insert(role.to_string());
        said.extend(series.into_keys().filter_map(|name| name.split('{').next().map(str::to_string)));
    }
    assert_eq!(roles.iter().map(String::as_str).collect::<Vec<_>>(), ["agent", "master", "runner"]);

    // What the dashboard draws is there under these names.
    let dashboard = include_str!("../../docs/grafana.json");
    let _: serde_json::Value = serde_json::from_str(dashboard).expect("JSON");
    let told = include_str!("../../docs/metrics.md");
    let names = |text: &str| -> BTreeSet<String> {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        words.filter(|word| word.starts_with("smack_") || word.starts_with("process_")).map(str::to_string).collect()
    };
    let told = names(told);
    assert!(names(dashboard).len() > 20, "{:?}", names(dashboard));
    assert_eq!(names(dashboard).difference(&told).collect::<Vec<_>>(), Vec::<&String>::new(), "not in docs/metrics.md");
    assert_eq!(said.difference(&told).collect::<Vec<_>>(), Vec::<&String>::new(), "not in docs/metrics.md");
}
