//! Models that get newer versions while streams score with them, and the history of how they were trained.

use crate::cluster::Cluster;
use crate::wait::wait_for;
use std::path::Path;

/// Learns that y is twice a; a seed makes another version of it.
fn trains(seed: u64) -> String {
    format!(
        "SET job.cpus = '0.1'; SET job.mem = '128MiB';
         CREATE TABLE seen (id BIGINT, a BIGINT, y AS a * 2) WITH (connector = 'datagen', rows = '400',
            fields.id.kind = 'sequence', fields.a.min = '0', fields.a.max = '50');
         CREATE MODEL twice WITH (label = 'y', ignore = 'id', task = 'regression', hidden = '4', epochs = '2', seed = '{seed}')
            AS SELECT id, a, y FROM seen;"
    )
}

const SCORES: &str = "SET job.cpus = '0.1'; SET job.mem = '128MiB'; SET checkpoint.interval = '500ms';
    CREATE TABLE arrives (id BIGINT, a BIGINT) WITH (connector = 'datagen', rate = '200', splits = '1',
        fields.id.kind = 'sequence', fields.a.min = '0', fields.a.max = '50');
    CREATE TABLE scored (id BIGINT, v BIGINT, p DOUBLE, PRIMARY KEY (id) NOT ENFORCED);
    INSERT INTO scored SELECT id, predict_version('twice') AS v, predict('twice', a) AS p FROM arrives;";

/// By rising id: the versions by which rows were scored, each once per run of equal ones.
fn versions(cluster: &Cluster) -> Vec<u64> {
    let mut rows: Vec<(u64, u64)> = cluster
        .rows("scored")
        .iter()
        .map(|row| {
            let of =
                |name: &str| row.split(' ').find_map(|cell| cell.strip_prefix(name)?.strip_prefix('=')?.parse().ok());
            (of("id").expect("an id"), of("v").expect("a version"))
        })
        .collect();
    rows.sort_unstable();
    assert!(rows.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0), "no row is lost or doubled");
    let mut versions: Vec<u64> = rows.into_iter().map(|(_, version)| version).collect();
    versions.dedup();
    versions
}

#[track_caller]
fn wait_for_versions(cluster: &Cluster, expected: &[u64]) {
    wait_for(&format!("rows of versions {expected:?}"), || {
        let found = versions(cluster);
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

#[test]
fn a_stream_scores_with_what_is_trained_promoted_and_rolled_back() {
    let cluster = Cluster::start();
    cluster.submit("train.sql", &trains(1));
    cluster.wait_until("train/twice", "finished");
    cluster.submit("scores.sql", SCORES);
    cluster.wait_until("scores/scored", "running");
    wait_for_versions(&cluster, &[1]);

    // A newer version, without a restart; and what a checkpoint says of it is found again after a kill.
    cluster.submit("train.sql", &trains(2));
    cluster.wait_until("train/twice", "finished");
    wait_for_versions(&cluster, &[1, 2]);
    let job = cluster.look("scores/scored").expect("the job");
    assert_eq!((job.restarts, job.generation), (0, 1), "{}", job.told());
    cluster.task(&job.tasks[0].id).kill();
    cluster.wait_for("scores/scored", "second generation", |job| job.generation > 1 && job.state == "running");
    assert_eq!(versions(&cluster), [1, 2]);

    let said = |args: &[&str]| cluster.smack(args).expect(0).out;
    assert_eq!(said(&["model", "promote", "twice", "1"]), "production of twice is version 1\n");
    wait_for_versions(&cluster, &[1, 2, 1]);
    said(&["model", "promote", "twice", "2"]);
    wait_for_versions(&cluster, &[1, 2, 1, 2]);
    assert_eq!(said(&["model", "rollback", "twice"]), "production of twice is version 1 again\n");
    wait_for_versions(&cluster, &[1, 2, 1, 2, 1]);

    let listed = cluster.smack(&["model", "ls", "-o", "json"]).expect(0).json();
    let of = |at: usize, name: &str| listed[at][name].clone();
    assert_eq!((of(0, "version"), of(1, "version")), (1.into(), 2.into()), "{listed}");
    assert_eq!((&listed[0]["aliases"][0], &listed[0]["used_by"][0]), (&"production".into(), &"scores/scored".into()));
    let shown = cluster.smack(&["model", "show", "twice@2", "-o", "json"]).expect(0).json();
    assert_eq!(shown["manifest"]["seed"], 2);
    assert!(shown["manifest"]["lineage"]["data_digest"].as_str().is_some_and(|digest| digest.len() == 16), "{shown}");
    let refused = cluster.smack(&["model", "rm", "twice", "1"]).expect(1);
    assert!(refused.err.contains("is in use by scores/scored"), "{}", refused.err);
    let refused = cluster.smack(&["model", "rollback", "twice"]).expect(1);
    assert!(refused.err.contains("meant nothing else before"), "{}", refused.err);
    let refused = cluster.smack(&["model", "show", "twcie"]).expect(1);
    assert!(refused.err.contains("did you mean 'twice'?"), "{}", refused.err);
    said(&["model", "rm", "twice", "2"]);

    let runs = cluster.smack(&["runs", "ls", "twice", "-o", "json"]).expect(0).json();
    let names: Vec<&str> =
        runs["runs"].as_array().expect("runs").iter().map(|run| run["id"].as_str().expect("a name")).collect();
    assert_eq!((names.len(), &runs["runs"][0]["outcome"]), (2, &"finished".into()), "{runs}");
    assert_eq!(runs["runs"][0]["versions"][0], 2);
    let compared = cluster.smack(&["runs", "compare", names[1], names[0], "-o", "json"]).expect(0).json();
    assert_eq!(compared["settings"], serde_json::json!([{"name": "seed", "values": ["1", "2"]}]));
    let shown = said(&["runs", "show", names[0]]);
    assert!(shown.contains("finished") && shown.contains("optimizer.learning_rate"), "{shown}");
    let folder = cluster.path(&format!(".smack/runner/runs/{}", names[0]));
    let files = std::fs::read_dir(folder).expect("the run's folder").map(|file| file.expect("a file").file_name());
    assert!(files.into_iter().any(|name| name.to_string_lossy().starts_with("events.out.tfevents.")));
}

/// A network that PyTorch wrote scores a stream, is trained further, and goes out again.
#[test]
fn a_model_of_another_program_is_taken_over() {
    let cluster = Cluster::start();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs/training/data/exchange/torch_mlp_script.onnx");
    let file = file.to_str().expect("a plain name");
    let said = |args: &[&str]| cluster.smack(args).expect(0).out;
    let columns = ["--columns", "a,b,c,d", "--label", "y"];
    let taken = said(&[&["model", "import", file, "--as", "mlp"][..], &columns].concat());
    assert!(taken.ends_with("is version 1 of mlp\n"), "{taken}");
    let shown = cluster.smack(&["model", "show", "mlp", "-o", "json"]).expect(0).json();
    assert_eq!(shown["manifest"]["features"], serde_json::json!(["a", "b", "c", "d"]));
    assert_eq!(shown["manifest"]["job"], "import of torch_mlp_script.onnx");

    let rows = "CREATE TABLE seen (id BIGINT, a BIGINT, b AS a * 2, c AS 1.5, d AS a - 3, y AS a % 3)
        WITH (connector = 'datagen', rows = '400', fields.id.kind = 'sequence', fields.a.min = '0', fields.a.max = '8');";
    let job = "SET job.cpus = '0.1'; SET job.mem = '128MiB';";
    let scores = format!(
        "{job} {rows}
         CREATE TABLE scored (id BIGINT, v BIGINT, p DOUBLE, PRIMARY KEY (id) NOT ENFORCED);
         INSERT INTO scored SELECT id, predict_version('mlp') AS v, predict('mlp', a, b, c, d) AS p FROM seen;"
    );
    cluster.submit("scores.sql", &scores);
    cluster.wait_until("scores/scored", "finished");
    assert_eq!(cluster.rows("scored").len(), 400);
    assert_eq!(versions(&cluster), [1]);

    let train = format!(
        "{job} {rows}
         CREATE MODEL mlp WITH (label = 'y', ignore = 'id', task = 'classes', init = 'mlp@1', epochs = '2')
            AS SELECT id, a, b, c, d, y FROM seen;"
    );
    cluster.submit("train.sql", &train);
    cluster.wait_until("train/mlp", "finished");
    let shown = cluster.smack(&["model", "show", "mlp@2", "-o", "json"]).expect(0).json();
    assert_eq!(shown["manifest"]["lineage"]["init"], "mlp@1");

    let ran = cluster.smack(&["model", "export", "mlp@2", "--to", "mlp.onnx"]).expect(0);
    assert!(ran.err.contains("wrote version 2 of mlp to mlp.onnx"), "{}", ran.err);
    let written = cluster.path("mlp.onnx");
    let written = written.to_str().expect("a plain name");
    assert!(said(&["model", "import", written, "--as", "copy"]).ends_with("is version 1 of copy\n"));
    let copied = cluster.smack(&["model", "show", "copy", "-o", "json"]).expect(0).json();
    assert_eq!(copied["manifest"]["features"], serde_json::json!(["a", "b", "c", "d"]));

    let refused = cluster.smack(&["model", "import", file, "--as", "mlp", "--columns", "a,b"]).expect(2);
    assert!(refused.err.contains("use input 'x': 2 columns are named and a row of it has 4 values"), "{}", refused.err);
    let refused = cluster.smack(&["model", "import", "nothing.onnx", "--as", "mlp"]).expect(2);
    assert!(refused.err.contains("failed to import nothing.onnx: read nothing.onnx"), "{}", refused.err);
    let refused = cluster.smack(&["model", "import", file, "--as", "../mlp"]).expect(2);
    assert!(refused.err.contains("as a model name"), "{}", refused.err);
    let refused = cluster.smack(&["model", "export", "mpl", "--to", "x.onnx"]).expect(1);
    assert!(refused.err.contains("there are copy, mlp"), "{}", refused.err);
}
