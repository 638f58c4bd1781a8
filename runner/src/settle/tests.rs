//! Whole files, good and bad.

use super::*;
use jobs::train::{Loss, Optimizer};
use jobs::{JobBody, Restart};

pub(super) async fn settled(text: &str, file: &str) -> Settled {
    match settle(text, file, Path::new("/data")).await {
        Ok(settled) => settled,
        Err(diagnostics) => panic!("{file} was refused: {diagnostics:#?}"),
    }
}

/// Each mistake as (the word that it points at, message, help).
pub(super) async fn mistakes(text: &str, file: &str) -> Vec<(String, String, String)> {
    let diagnostics = settle(text, file, Path::new("/data")).await.expect_err("mistakes");
    diagnostics
        .into_iter()
        .map(|diagnostic| {
            let word = diagnostic.span.map_or("", |(start, end)| &text[start..end]);
            (word.to_string(), diagnostic.message, diagnostic.help.unwrap_or_default())
        })
        .collect()
}

#[tokio::test]
async fn the_shipped_fraud_file_is_three_jobs_in_order() {
    let settled = settled(include_str!("../../../examples/fraud.sql"), "fraud.sql").await;
    assert_eq!(settled.group, "fraud");
    let shown: Vec<(&str, &str, u32, Vec<&str>)> = settled
        .jobs
        .iter()
        .map(|job| {
            (job.id.as_str(), job.body.kind(), job.parallelism, job.after.iter().map(|id| id.as_str()).collect())
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("fraud/features", "stream", 2, vec![]),
            ("fraud/fraud", "train", 2, vec!["fraud/features"]),
            ("fraud/scores", "stream", 2, vec!["fraud/fraud"]),
        ]
    );
    for job in &settled.jobs {
        assert_eq!(job.resources.milli("cpus"), 300, "{}", job.id);
        assert_eq!((job.n_ports, job.restart), (1, Restart::OnFailure), "{}", job.id);
    }
    let (JobBody::Stream(features), JobBody::Train(model), JobBody::Stream(scores)) =
        (&settled.jobs[0].body, &settled.jobs[1].body, &settled.jobs[2].body)
    else {
        panic!("{:?}", settled.jobs);
    };
    assert_eq!((features.checkpoint_interval_ms, features.models.len()), (2_000, 0));
    assert_eq!(scores.models, ["fraud"]);
    assert_eq!(scores.statements.len(), 2);
    assert!(!features.fingerprint.is_empty() && features.fingerprint != scores.fingerprint);
    assert_eq!((model.label.as_str(), model.loss, model.min_rows), ("label", Loss::BinaryCrossEntropy, 30_000));
    assert_eq!(model.time_column.as_deref(), Some("window_end"));
    assert!(model.train_query.starts_with("SELECT") && model.train_query.ends_with("FROM features"));
}

#[tokio::test]
async fn all_shipped_files_have_no_mistakes() {
    let first = settled(include_str!("../../../examples/first.sql"), "first.sql").await;
    assert_eq!((first.jobs.len(), first.queries.len()), (0, 1));
    let kafka = settled(include_str!("../../../examples/kafka.sql"), "kafka.sql").await;
    assert_eq!((kafka.jobs.len(), kafka.jobs[0].parallelism), (1, 2));
    let digits = settled(include_str!("../../../examples/digits.toml"), "digits.toml").await;
    let JobBody::Train(body) = &digits.jobs[0].body else { panic!("{:?}", digits.jobs) };
    assert_eq!(digits.jobs[0].id.as_str(), "digits/digits");
    assert_eq!((body.model.as_str(), body.loss), ("digits", Loss::CrossEntropy));
    assert!(matches!(body.optimizer, Optimizer::AdamW { .. }));
    let ddp = settled(include_str!("../../../examples/ddp.toml"), "ddp.toml").await;
    assert_eq!((ddp.jobs[0].id.as_str(), ddp.jobs[0].parallelism), ("ddp/ddp", 2));
    let JobBody::Command(body) = &ddp.jobs[0].body else { panic!("{:?}", ddp.jobs) };
    assert_eq!(body.env["SMACK_JOB_DIR"], "/data");
    let mirrored = settled(include_str!("../../../examples/mirrored.toml"), "mirrored.toml").await;
    assert_eq!(mirrored.jobs[0].parallelism, 3);
    let images = settled(include_str!("../../../examples/digits_cnn.toml"), "digits_cnn.toml").await;
    let JobBody::Train(body) = &images.jobs[0].body else { panic!("{:?}", images.jobs) };
    assert_eq!((body.inputs[0].dims.as_slice(), body.layers.len()), ([8, 8, 1].as_slice(), 7));
    let sweep = settled(include_str!("../../../examples/digits_sweep.toml"), "digits_sweep.toml").await;
    assert_eq!(sweep.sweep.expect("a sweep").settings.len(), 12);
    let visits = settled(include_str!("../../../examples/wide_and_deep.toml"), "wide_and_deep.toml").await;
    let JobBody::Train(body) = &visits.jobs[0].body else { panic!("{:?}", visits.jobs) };
    assert_eq!((body.inputs.len(), body.layers.len(), body.keep_best), (3, 9, true));
}

#[tokio::test]
async fn a_model_is_checked_against_the_types_of_its_columns() {
    let model = |options: &str| {
        format!(
            "CREATE TABLE t (city VARCHAR, amount DOUBLE, fraud BOOLEAN) WITH (connector = 'datagen', rows = '10');\n\
             CREATE MODEL m WITH (label = 'fraud', task = 'binary'{options}) AS SELECT city, amount, fraud FROM t;"
        )
    };
    let found = mistakes(&model(""), "f.sql").await;
    assert_eq!((found.len(), found[0].0.as_str()), (1, "m"), "{found:?}");
    assert!(found[0].1.contains("column 'city' of type Utf8") && found[0].1.contains("categorical"), "{found:?}");
    let found = mistakes(&model(", categorical = 'town'"), "f.sql").await;
    assert_eq!((found.len(), found[0].0.as_str()), (1, "'town'"), "{found:?}");
    let found = mistakes(&model(", categorical = 'city, amount'"), "f.sql").await;
    assert!(found.len() == 1 && found[0].1.contains("column 'amount' of type Float64 by hash"), "{found:?}");
    let found = mistakes(&model(", categorical = 'city', patience = '3', test_fraction = '0'"), "f.sql").await;
    assert!(found.len() == 1 && found[0].1.contains("test_fraction = 0 holds out none"), "{found:?}");
    let whole = settled(&model(", categorical = 'city'"), "f.sql").await;
    let JobBody::Train(body) = &whole.jobs[0].body else { panic!("{:?}", whole.jobs) };
    assert_eq!(body.inputs.len(), 2);
}

#[tokio::test]
async fn sql_mistakes_have_the_word_and_the_way_out() {
    let unknown = "CREATE TABLE t (a BIGINT) WITH (connector = 'crads');\nINSERT INTO t SELECT a FROM t;";
    assert_eq!(
        mistakes(unknown, "f.sql").await,
        [("'crads'".to_string(), "unknown connector 'crads'".to_string(), "did you mean 'cards'?".to_string())]
    );
    let two = "CREATE TABLE t (id BIGINT) WITH (connector = 'cards', rows = '10', rat = '5');\nSELECT id FROM t;";
    assert_eq!(mistakes(two, "f.sql").await[0].0, "rat");
    let setting = "SET job.paralelism = 2;\nCREATE TABLE t (id BIGINT) WITH (connector = 'cards', rows = '9');\nSELECT id FROM t;";
    assert_eq!(mistakes(setting, "f.sql").await[0].2, "did you mean 'job.parallelism'?");
    assert_eq!(mistakes("", "f.sql").await[0].1, "there is nothing to run in it");
    assert!(mistakes("SELECT 1", "f.txt").await[0].1.contains("says no language"));
}

#[tokio::test]
async fn a_typo_in_a_column_fails_at_the_desk() {
    let text = "CREATE TABLE t (id BIGINT, amount DOUBLE) WITH (connector = 'cards');\n\
                CREATE TABLE out (id BIGINT, PRIMARY KEY (id) NOT ENFORCED);\n\
                INSERT INTO out SELECT idd FROM t;";
    let found = mistakes(text, "f.sql").await;
    assert_eq!(found[0].0, "idd", "{found:?}");
    assert!(found[0].2.contains("id"), "{found:?}");
}

#[tokio::test]
async fn model_options_are_checked_against_the_query() {
    let text = "CREATE TABLE t (id BIGINT, amount DOUBLE, fraud BOOLEAN) WITH (connector = 'cards', rows = '10');\n\
                CREATE MODEL m WITH (label = 'frod', task = 'binary', epoch = '3', ignore = 'id') AS\n\
                SELECT id, amount, fraud FROM t;";
    let found = mistakes(text, "f.sql").await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0].0, "'frod'", "{found:?}");
    assert!(found[0].1.starts_with("label: "), "{found:?}");
    assert_eq!((found[1].0.as_str(), found[1].2.as_str()), ("epoch", "did you mean 'epochs'?"), "{found:?}");
}

#[tokio::test]
async fn a_circle_is_refused() {
    let text = "CREATE TABLE s (id BIGINT, amount DOUBLE, fraud BOOLEAN) WITH (connector = 'cards');\n\
                CREATE TABLE t (id BIGINT, score DOUBLE, fraud BOOLEAN, PRIMARY KEY (id) NOT ENFORCED);\n\
                CREATE MODEL m WITH (label = 'fraud', task = 'binary') AS SELECT score, fraud FROM t;\n\
                INSERT INTO t SELECT id, predict('m', amount), fraud FROM s;";
    let found = mistakes(text, "f.sql").await;
    assert!(found.iter().any(|(_, message, _)| message.contains("wait for each other")), "{found:?}");
}

const TRAIN: &str = r#"kind = "train"
name = "tiny"
[data]
tables = """
CREATE TABLE t (id BIGINT, amount DOUBLE, fraud BOOLEAN) WITH (connector = 'cards', rows = '100');
"""
train = "SELECT amount, fraud FROM t"
label = "fraud"
[model]
layers = [{ dense = 8, activation = "tanh" }, { dropout = 0.1 }]
task = "binary"
[optimizer]
kind = "sgd"
learning_rate = 0.5
[train]
workers = 3
[job]
cpus = 0.5
restart = "never"
"#;

#[tokio::test]
async fn toml_and_yaml_are_one_schema() {
    let yaml = "kind: train\nname: tiny\ndata:\n  tables: |\n    CREATE TABLE t (id BIGINT, amount DOUBLE, fraud BOOLEAN) \
                WITH (connector = 'cards', rows = '100');\n  train: SELECT amount, fraud FROM t\n  label: fraud\nmodel:\n  \
                layers: [{dense: 8, activation: tanh}, {dropout: 0.1}]\n  task: binary\noptimizer:\n  kind: sgd\n  \
                learning_rate: 0.5\ntrain:\n  workers: 3\njob:\n  cpus: 0.5\n  restart: never\n";
    let mut both = [settled(TRAIN, "a.toml").await, settled(yaml, "a.yaml").await];
    for settled in &mut both {
        let JobBody::Train(body) = &mut settled.jobs[0].body else { panic!("{settled:?}") };
        body.sql = body.sql.trim().to_string();
    }
    assert_eq!(both[0].jobs, both[1].jobs);
    let job = &both[0].jobs[0];
    assert_eq!((job.parallelism, job.restart, job.resources.milli("cpus")), (3, Restart::Never, 500));
    let JobBody::Train(body) = &job.body else { panic!("{job:?}") };
    assert_eq!(body.layers.len(), 2);
    assert_eq!(body.optimizer, Optimizer::Sgd { learning_rate: 0.5, momentum: 0.9, nesterov: false });
}

#[tokio::test]
async fn every_mistake_of_a_training_file_at_its_place() {
    let text = TRAIN
        .replace("dropout = 0.1", "drop = 0.1")
        .replace("SELECT amount, fraud", "SELECT amont, fraud")
        .replace("workers = 3", "worker = 3")
        .replace("[job]", "[jobs]");
    let found = mistakes(&text, "a.toml").await;
    let places: Vec<(&str, &str)> = found.iter().map(|(word, _, help)| (word.as_str(), help.as_str())).collect();
    assert!(places.contains(&("worker", "did you mean 'workers'?")), "{found:?}");
    assert!(places.contains(&("drop", "did you mean 'dropout'?")), "{found:?}");
    assert!(places.contains(&("jobs", "did you mean 'job'?")), "{found:?}");
    assert!(places.iter().any(|(word, help)| *word == "amont" && help.contains("amount")), "{found:?}");
}

#[tokio::test]
async fn a_stream_in_toml_has_sql_inline_or_in_a_file() {
    let sql = "SET job.cpus = 2;\nSET checkpoint.dir = 'kept';\nCREATE TABLE s (id BIGINT) WITH (connector = 'cards');\n\
               CREATE TABLE t (id BIGINT, PRIMARY KEY (id) NOT ENFORCED);\nINSERT INTO t SELECT id FROM s;\n";
    let outer = |sql: &str| {
        format!(
            "kind = \"stream\"\nname = \"copy\"\nsql = '''\n{sql}'''\n[job]\ncpus = 1\nparallelism = 2\n[checkpoint]\ninterval = \"1s\"\n"
        )
    };
    let inline = settled(&outer(sql), "a.toml").await;
    let job = &inline.jobs[0];
    assert_eq!((job.id.as_str(), job.parallelism, job.resources.milli("cpus")), ("copy/t", 2, 2_000));
    let JobBody::Stream(body) = &job.body else { panic!("{job:?}") };
    assert_eq!((body.sql.as_str(), body.checkpoint_interval_ms), (sql, 1_000));

    // Relative to the file, wherever a task runs.
    assert_eq!(body.checkpoint_dir.as_deref(), Some("/data/kept"));

    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("copy.sql"), sql).expect("written");
    let named = "kind = \"stream\"\nfile = \"copy.sql\"\n[job]\nparallelism = 2\n";
    let from_file = settle(named, "copy.toml", folder.path()).await.expect("settles");
    assert_eq!(from_file.jobs[0].parallelism, 2);

    let wrong = outer(&sql.replace("SELECT id", "SELECT idd"));
    let found = mistakes(&wrong, "a.toml").await;
    assert_eq!(found[0].0, "idd", "{found:?}");
    let neither = mistakes("kind = \"stream\"\n", "a.toml").await;
    assert!(neither[0].1.contains("neither"), "{neither:?}");
}

#[tokio::test]
async fn where_checkpoints_go_and_how_many_are_kept() {
    let file = |settings: &str| {
        format!(
            "{settings};\nCREATE TABLE s (id BIGINT) WITH (connector = 'cards');\n\
             CREATE TABLE t (id BIGINT, PRIMARY KEY (id) NOT ENFORCED);\nINSERT INTO t SELECT id FROM s;\n"
        )
    };
    let found = settled(&file("SET checkpoint.dir = 's3://bucket/a/b'; SET checkpoint.retain = 7"), "a.sql").await;
    let JobBody::Stream(body) = &found.jobs[0].body else { panic!("{found:?}") };
    assert_eq!((body.checkpoint_dir.as_deref(), body.checkpoint_retain), (Some("s3://bucket/a/b"), 7));
    let found = settled(&file("SET checkpoint.dir = 'kept'"), "a.sql").await;
    let JobBody::Stream(body) = &found.jobs[0].body else { panic!("{found:?}") };
    assert_eq!((body.checkpoint_dir.as_deref(), body.checkpoint_retain), (Some("/data/kept"), 3));
    for (setting, word, text) in [
        ("SET checkpoint.dir = 'gs://bucket/a'", "'gs://bucket/a'", "there is no store 'gs://'"),
        ("SET checkpoint.dir = 's3://'", "'s3://'", "names no bucket"),
        ("SET checkpoint.retain = 0", "0", "not a number of checkpoints"),
    ] {
        let found = mistakes(&file(setting), "a.sql").await;
        assert!(found[0].0 == word && found[0].1.contains(text), "{found:?}");
    }
    let toml = "kind = \"stream\"\nsql = 'SELECT 1'\n[checkpoint]\ndir = \"gs://x\"\n";
    let found = mistakes(toml, "a.toml").await;
    assert!(found.iter().any(|mistake| mistake.1.contains("there is no store 'gs://'")), "{found:?}");
}

#[tokio::test]
async fn commands_and_services() {
    let command = "kind = \"command\"\nargv = [\"echo\", \"hi\"]\n[env]\nA = 1\n[job]\nparallelism = 3\n";
    let command = settled(command, "say hi.toml").await;
    assert_eq!(command.jobs[0].id.as_str(), "say-hi/say-hi");
    assert_eq!((command.jobs[0].n_ports, command.jobs[0].restart), (0, Restart::OnFailure));
    let JobBody::Command(body) = &command.jobs[0].body else { panic!("{command:?}") };
    assert_eq!((body.argv.join(" "), body.env["A"].as_str()), ("echo hi".to_string(), "1"));
    let service = settled("kind: service\nname: web\nargv: [serve]\njob:\n  name: site\n", "a.yml").await;
    assert_eq!((service.jobs[0].id.as_str(), service.jobs[0].restart), ("site/web", Restart::Always));

    let text = "kind: service\nname: web\nargv: [serve]\njob: {kill_grace: 9s, max_completion: 1h}\n\
                health: {http: 8080/live, interval: 2s, failures: 5}\n";
    let service = settled(text, "a.yml").await;
    assert_eq!((service.jobs[0].kill_grace_ms, service.jobs[0].max_completion_ms), (9_000, 3_600_000));
    let JobBody::Service(body) = &service.jobs[0].body else { panic!("{service:?}") };
    let probe = jobs::Probe::Http { port: 8080, path: "/live".into() };
    let expected = jobs::HealthCheck { probe, interval_ms: 2_000, timeout_ms: 5_000, grace_ms: 10_000, failures: 5 };
    assert_eq!(body.health, Some(expected));
    for (health, message) in [
        ("{}", "[health] says one of 'command', 'tcp', 'http' and 'grpc'"),
        ("{tcp: 80, command: [\"true\"]}", "[health] says one of 'command', 'tcp', 'http' and 'grpc'"),
        ("{http: localhost}", "http is 'localhost', not a port and a path"),
        ("{tcp: 0}", "tcp is 0, not a whole number from 1 to 65535"),
        ("{grpc: \"x/y\"}", "grpc is 'x/y', not a port, or a port and a service"),
        ("{exec: 80}", "[health] has no 'exec'"),
    ] {
        let found = mistakes(&format!("kind: service\nargv: [serve]\nhealth: {health}\n"), "a.yml").await;
        assert!(found.iter().any(|mistake| mistake.1 == message), "{health}: {found:?}");
    }

    let found = mistakes("kind = \"servise\"\n", "a.toml").await;
    assert_eq!((found[0].0.as_str(), found[0].2.as_str()), ("\"servise\"", "did you mean 'service'?"));
    let found = mistakes("kind = \"command\"\nargv = []\nparalelism = 2\n", "a.toml").await;
    assert_eq!(found.len(), 2, "{found:?}");
}

#[tokio::test]
async fn commands_ask_for_gpus_and_ports() {
    let file = |job: &str| format!("kind = \"command\"\nargv = [\"train\"]\n[job]\n{job}\n");
    let job = settled(&file("gpus = 2\ngpu_model = \"a100\"\nports = 3"), "a.toml").await.jobs.remove(0);
    let gpus = (job.resources.milli("gpus"), job.resources.milli("gpus:a100"));
    assert_eq!((gpus, job.n_ports), ((2_000, 2_000), 3));
    let job = settled(&file("gpus = 1\ncpus = 2\nmem = 100\nrevocable = true"), "a.toml").await.jobs.remove(0);
    let lent = ["cpus", "cpus:revocable", "mem:revocable", "gpus"].map(|name| job.resources.milli(name));
    assert_eq!(lent, [0, 2_000, 100_000, 1_000], "cores and memory are lent, a GPU is not");
    for (job, text) in [
        ("revocable = 3", "true or false"),
        ("gpu_model = \"a100\"", "no gpus are asked for"),
        ("gpus = 1\ngpu_model = \"a 100\"", "no name of a model"),
        ("gpus = 0.5", "gpus"),
    ] {
        let found = mistakes(&file(job), "a.toml").await;
        assert!(found.iter().any(|mistake| mistake.1.contains(text)), "{job}: {found:?}");
    }
}

#[tokio::test]
async fn commands_want_files_secrets_and_a_user() {
    let file = |more: &str| format!("kind = \"service\"\nargv = [\"serve\"]\n{more}\n");
    let sum = "0f".repeat(32);
    let more = format!(
        "artifacts.model = {{ from = \"s3://models/7.tar.zst\", unpack = true }}\nartifacts.\"etc/words\" = \"words\"\n\
         artifacts.tool = {{ from = \"https://h/t\", sha256 = \"{}\", executable = true }}\n\
         secrets.DB_PASSWORD = \"db.password\"\njob.user = \"nobody\"",
        sum.to_uppercase()
    );
    let job = settled(&file(&more), "/jobs/a.toml").await.jobs.remove(0);
    assert_eq!(job.user.as_deref(), Some("nobody"));
    let JobBody::Service(body) = job.body else { panic!("a service") };
    let names: Vec<_> = body.artifacts.iter().map(|one| (one.path.as_str(), one.unpack, one.executable)).collect();
    assert_eq!(names, [("model", true, false), ("etc/words", false, false), ("tool", false, true)]);
    assert!(body.artifacts[1].from.starts_with('/') && body.artifacts[1].from.ends_with("/words"), "{body:?}");
    assert_eq!(
        (body.artifacts[2].sha256.as_str(), body.secrets["DB_PASSWORD"].as_str()),
        (sum.as_str(), "db.password")
    );
    for (more, text) in [
        ("artifacts = \"words\"", "a table of tables"),
        ("artifacts.a = 3", "a text or a table"),
        ("artifacts.a = { sha256 = \"00\" }", "'from' is missing in an artifact"),
        ("artifacts.a = { from = \"a.zip\", unpack = true }", "cannot be unpacked"),
        ("secrets.\"A-B\" = \"x\"", "cannot be the environment variable"),
        ("secrets.A = \"../x\"", "no name of a secret"),
        ("job.user = \"0\"", "'0' is no name of a user"),
    ] {
        let found = mistakes(&file(more), "a.toml").await;
        assert!(found.iter().any(|mistake| mistake.1.contains(text)), "{more}: {found:?}");
    }
}

#[test]
fn the_schema_names_every_kind_and_its_keys() {
    let schema = json_schema();
    let kinds = schema["oneOf"].as_array().expect("kinds");
    assert_eq!(kinds.len(), 4);
    let train = kinds.iter().find(|kind| kind["properties"]["kind"]["const"] == "train").expect("train");
    assert_eq!(train["properties"]["train"]["properties"]["epochs"]["default"], 20);
    assert_eq!(train["additionalProperties"], false);
    assert_eq!(train["properties"]["data"]["required"], serde_json::json!(["tables", "train", "label"]));
    let layers = train["properties"]["model"]["properties"]["layers"]["items"]["anyOf"].as_array().expect("layers");
    assert_eq!(layers.len(), 24, "23 kinds, and bare words");
    let conv2d = layers.iter().find(|layer| layer["title"] == "conv2d").expect("conv2d");
    assert_eq!(conv2d["properties"]["kernel"]["default"], 3);
    assert_eq!(conv2d["required"], serde_json::json!(["conv2d"]));
    let words = layers.last().expect("bare words")["enum"].as_array().expect("words");
    assert!(words.contains(&"flatten".into()) && !words.contains(&"dense".into()), "{words:?}");
}

#[tokio::test]
async fn queries_that_declare_their_table_are_jobs_and_what_only_shows_is_none() {
    let text = "CREATE TABLE readings (sensor BIGINT, value DOUBLE) WITH (connector = 'datagen', rows = 10);
        SHOW TABLES;
        CREATE MATERIALIZED VIEW sums AS SELECT sensor, SUM(value) AS total FROM readings GROUP BY sensor;
        CREATE TABLE high AS SELECT sensor FROM sums WHERE total > 3;
        DESCRIBE sums;
        EXPLAIN SELECT sensor FROM sums;";
    let settled = settled(text, "sums.sql").await;
    let [job] = settled.jobs.as_slice() else { panic!("{:?}", settled.jobs) };
    assert_eq!((job.id.as_str(), job.body.kind()), ("sums/sums", "stream"));
    let JobBody::Stream(body) = &job.body else { panic!("{job:?}") };
    assert_eq!((body.statements.as_slice(), body.bounded), ([2, 3].as_slice(), true));
    assert_eq!(settled.queries, [1, 4, 5]);
    assert_eq!(
        mistakes("DESCRIBE nothing; SHOW JOBS", "nothing.sql").await,
        [("nothing".into(), "unknown table 'nothing'".into(), String::new())]
    );
}

#[tokio::test]
async fn a_time_to_live_around_the_sql_goes_with_it() {
    let file = |state: &str, watermark: &str, set: &str| {
        format!(
            "kind = \"stream\"\nsql = '''\n{set}CREATE TABLE t (k BIGINT, ts TIMESTAMP{watermark}) WITH (connector = 'datagen');\n\
             CREATE TABLE out (k BIGINT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED);\n\
             INSERT INTO out SELECT k, count(*) FROM t GROUP BY k -- all\n'''\n[state]\n{state}\n"
        )
    };
    let watermark = ", WATERMARK FOR ts AS ts";
    let sql = async |text: String| {
        let JobBody::Stream(body) = &settled(&text, "job.toml").await.jobs[0].body else { panic!("no stream") };
        body.sql.clone()
    };
    assert!(sql(file("ttl = \"90 min\"", watermark, "")).await.ends_with("SET state.ttl = '90 min';\n"));
    let own = sql(file("ttl = \"90 min\"", watermark, "SET state.ttl = '1h';\n")).await;
    assert!(own.contains("'1h'") && !own.contains("90 min"), "{own}");
    assert!(!sql(file("memory = \"1g\"", "", "")).await.contains("ttl"));
    let refused = mistakes(&file("ttl = \"90 min\"", "", ""), "job.toml").await;
    assert!(refused[0].1.contains("table 't' that feeds it has no event time"), "{refused:?}");
    let refused = mistakes(&file("ttl = \"soon\"", watermark, ""), "job.toml").await;
    assert!(refused[0].0.contains("soon"), "{refused:?}");
}

#[tokio::test]
async fn what_only_a_local_run_can_do_is_refused_for_a_cluster() {
    let tables = "CREATE TABLE readings (sensor BIGINT, value DOUBLE) WITH (connector = 'datagen', rows = 10);
        CREATE TABLE kept (sensor BIGINT, value DOUBLE) WITH (connector = 'files', path = 'kept');";
    let insert = "INSERT INTO kept SELECT sensor, SUM(value) FROM readings GROUP BY sensor ORDER BY 2 LIMIT 3;";
    let batch = format!("SET execution.mode = 'batch'; {tables} {insert}");
    let JobBody::Stream(body) = &settled(&batch, "sums.sql").await.jobs[0].body else { panic!("no stream") };
    assert!(body.batch && body.bounded && body.fingerprint.is_empty());
    // Rows that are appended cannot be taken back by a stream.
    assert!(mistakes(&format!("{tables} {insert}"), "sums.sql").await[0].1.contains("takes appended rows only"));
    let temporary = format!("{tables} CREATE TEMPORARY TABLE t (k BIGINT); INSERT INTO t SELECT sensor FROM readings;");
    for (text, wanted) in [
        (batch.as_str(), "execution.mode = 'batch' is for `smack run`: a cluster runs streams"),
        (temporary.as_str(), "'t' is TEMPORARY, and a cluster keeps the rows of its tables"),
    ] {
        settled(text, "sums.sql").await;
        let refused = settle_for_cluster(text, "sums.sql", Path::new("/data")).await.expect_err("a mistake");
        assert_eq!(refused[0].message, wanted);
    }
    settle_for_cluster("SELECT 1;", "one.sql", Path::new("/data")).await.expect("nothing to refuse");
}

#[tokio::test]
async fn tables_without_columns_have_those_of_their_files() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("rides.csv"), "id,at,fare\n1,2026-01-01T00:00:00Z,9.5\n").expect("a file");
    let settle = async |text: &str, file: &str| settle(text, file, folder.path()).await;
    let text = "CREATE TABLE rides (WATERMARK FOR at AS at - INTERVAL '1 minute')
WITH (connector = 'files', path = 'rides.csv', format = 'csv');
CREATE TABLE out (id BIGINT, fare DOUBLE) WITH (connector = 'blackhole');
INSERT INTO out SELECT id, fare FROM rides;
SELECT COUNT(*) FROM rides;";
    let settled = settle(text, "rides.sql").await.expect("it is sound");
    let whole = settled.text.expect("a SQL file has one");
    assert!(whole.starts_with("CREATE TABLE rides (id BIGINT, at TIMESTAMP, fare DOUBLE, WATERMARK FOR at"), "{whole}");
    let JobBody::Stream(stream) = &settled.jobs[0].body else { panic!("{:?}", settled.jobs) };
    assert_eq!(stream.sql, whole, "tasks ask nobody again");

    // Mistakes have their places in the text as it was written.
    let wrong = settle(&text.replace("id, fare FROM", "id, fair FROM"), "rides.sql").await.expect_err("no such column");
    let (from, to) = wrong[0].span.expect("it has a place");
    assert_eq!(&text.replace("id, fare FROM", "id, fair FROM")[from..to], "fair");

    let training = "kind = \"train\"\n[data]\ntables = \"CREATE TABLE rides WITH (connector = 'files', path = 'rides.csv', format = 'csv')\"\n\
                    train = \"SELECT id, fare FROM rides\"\nlabel = \"fare\"\n[model]\nlayers = [{ dense = 4 }]\ntask = \"regression\"\n";
    let settled = settle(training, "fares.toml").await.expect("it is sound");
    let JobBody::Train(body) = &settled.jobs[0].body else { panic!("{:?}", settled.jobs) };
    assert!(body.sql.contains("(id BIGINT, at TIMESTAMP, fare DOUBLE)"), "{}", body.sql);

    let nowhere = text.replace("'rides.csv'", "'nowhere.csv'");
    let wrong = settle(&nowhere, "rides.sql").await.expect_err("there is no such file");
    let (from, to) = wrong[0].span.expect("it has a place");
    assert_eq!((&nowhere[from..to], wrong.len()), ("rides", 1), "{wrong:?}");
    assert!(
        wrong[0].message.contains("the columns of 'rides' cannot be found out")
            && wrong[0].message.contains("nowhere.csv")
    );
}
