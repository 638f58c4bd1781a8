//! `smack run`: a file in one process, without a cluster, with the same results.

use crate::cluster::Cluster;
use crate::program::{command, ended, example, interrupted};
use crate::rows;
use std::path::Path;

/// Runs with a temporary folder of its own, in which nothing may be left.
fn run(folder: &Path, args: &[&str]) -> crate::program::Ran {
    let temporary = tempfile::tempdir().expect("a folder");
    let mut run = command(folder, &["run"]);
    run.args(args).env("TMPDIR", temporary.path());
    let ran = ended(run);
    assert_eq!(std::fs::read_dir(temporary.path()).expect("the folder").count(), 0, "stray files");
    ran
}

#[test]
fn the_first_example_prints_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = example("first.sql");
    let first = first.to_str().expect("a plain name");
    let shown = run(folder.path(), &[first]).expect(0);
    let mut lines = shown.out.lines();
    let heading: Vec<&str> = lines.next().expect("a heading").split_whitespace().collect();
    assert_eq!(heading, ["window_start", "country", "payments", "turnover", "largest"]);
    let told = run(folder.path(), &[first, "-o", "json"]).expect(0);
    assert_eq!(rows::canonical(&told.out).len(), lines.count());
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "stray files");
}

#[test]
fn an_endless_query_prints_rows_until_ctrl_c() {
    // A slow one, and one that has the next rows ready at any time.
    for rate in ["1000", "0"] {
        let (folder, temporary) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let text = format!(
            "CREATE TABLE numbers (id BIGINT) WITH (connector = 'datagen', rate = '{rate}'); SELECT id FROM numbers;"
        );
        std::fs::write(folder.path().join("endless.sql"), text).expect("a file");
        let mut run = command(folder.path(), &["run", "endless.sql", "-o", "json"]);
        run.env("TMPDIR", temporary.path());
        let ran = interrupted(run, |ran| ran.out.lines().count() > 100).expect(0);
        assert!(rows::canonical(&ran.out).len() > 100);
        assert_eq!(std::fs::read_dir(temporary.path()).expect("the folder").count(), 0, "stray files");
    }
}

/// Two examples whose inputs are more than numbers, made short, and categories in SQL with scores from them.
#[test]
fn models_read_texts_and_images() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = std::fs::read_to_string(example("wide_and_deep.toml")).expect("the example");
    let short = text.replace("rows = '20000'", "rows = '4000'").replace("epochs = 12", "epochs = 6");
    assert!(short.contains("'4000'") && short.contains("epochs = 6"), "the example has changed");
    std::fs::write(folder.path().join("visits.toml"), short).expect("a file");
    let told = run(folder.path(), &["visits.toml"]).expect(0);
    assert!(auc(&told.err) > 0.85, "{}", told.err);

    let text = "
        CREATE TABLE visits (city VARCHAR, price DOUBLE) WITH (
            connector = 'datagen', rows = '3000', 'fields.city.distinct' = '20', 'fields.price.min' = '0', 'fields.price.max' = '100');
        CREATE MODEL buys WITH (label = 'bought', task = 'binary', categorical = 'city', hash_buckets = '512', embedding = '4',
            hidden = '16', learning_rate = '0.02', epochs = '6') AS
        SELECT city, price, ascii(city) % 2 = 0 AND price < 60 AS bought FROM visits;
        SELECT AVG(CASE WHEN bought THEN score END) AS yes, AVG(CASE WHEN bought THEN NULL ELSE score END) AS no
        FROM (SELECT ascii(city) % 2 = 0 AND price < 60 AS bought, predict('buys', city, price) AS score FROM visits) AS scored;";
    std::fs::write(folder.path().join("buys.sql"), text).expect("a file");
    let told = run(folder.path(), &["buys.sql", "-o", "json"]).expect(0);
    assert!(auc(&told.err) > 0.9, "{}", told.err);
    let row: serde_json::Value = serde_json::from_str(told.out.lines().last().expect("a row")).expect("JSON");
    let score = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("no {name} in {row}"));
    assert!(score("yes") > 0.7 && score("no") < 0.3, "{row}");
}

/// As it is told at the end of a training.
fn auc(told: &str) -> f64 {
    let after = told.split("auc ").nth(1).unwrap_or_else(|| panic!("no auc in {told}"));
    after.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no auc in {told}"))
}

/// The shipped fraud file over as many payments as a test has time for.
fn bounded_fraud() -> String {
    let text = std::fs::read_to_string(example("fraud.sql")).expect("the example");
    let bounded = text.replace("rate = '20000',", "rate = '20000', rows = '80000',").replace("'30000'", "'5000'");
    assert!(bounded.contains("rows = '80000'") && bounded.contains("min_rows = '5000'"), "the example has changed");
    bounded
}

/// The rows of each table in the output of `run -o json`: how many, and the first of them.
fn table(out: &str, name: &str) -> (u64, String) {
    let mut tables = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON lines"));
    let table = tables.find(|table| table["table"] == name).unwrap_or_else(|| panic!("no table {name} in {out}"));
    let first = table["first"].as_array().expect("rows").iter().map(|row| format!("{row}\n")).collect();
    (table["rows"].as_u64().expect("a number"), first)
}

#[test]
fn a_file_of_three_jobs_runs_as_it_does_on_a_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("fraud.sql"), bounded_fraud()).expect("a file");
    let ran = run(folder.path(), &["fraud.sql", "-o", "json"]).expect(0);
    let (n_features, first) = table(&ran.out, "features");
    let (n_scores, _) = table(&ran.out, "scores");
    assert!(n_features > 5_000 && n_scores == n_features, "{n_features} features, {n_scores} scores");

    let cluster = Cluster::start();
    cluster.submit("fraud.sql", &bounded_fraud());
    for job in ["fraud/features", "fraud/fraud", "fraud/scores"] {
        let job = cluster.wait_until(job, "finished");
        assert_eq!(job.restarts, 0, "{job:?}");
    }
    let features = cluster.rows("features");
    assert_eq!((features.len() as u64, cluster.rows("scores").len() as u64), (n_features, n_scores));
    for row in rows::canonical(&first) {
        assert!(features.contains(&row), "{row} is not among the cluster's");
    }
}

/// Nothing is installed and nobody names brokers: the run has one of its own, which goes with it.
#[test]
fn kafka_tables_that_name_no_brokers_run_with_nothing_around() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "CREATE TABLE numbers (id BIGINT) WITH (connector = 'datagen', rows = '100', fields.id.kind = 'sequence');
        CREATE TABLE topic (id BIGINT) WITH (connector = 'kafka', topic = 'numbers', create_topic = 'true', scan.bounded = 'latest');
        INSERT INTO topic SELECT id FROM numbers;
        SELECT id % 2 AS odd, COUNT(*) AS n FROM topic GROUP BY id % 2 ORDER BY odd;";
    std::fs::write(folder.path().join("topic.sql"), text).expect("a file");
    let ran = run(folder.path(), &["topic.sql", "-o", "json"]).expect(0);
    assert_eq!(ran.out, "{\"odd\":0,\"n\":50}\n{\"odd\":1,\"n\":50}\n", "{}", ran.err);
    assert!(ran.err.contains("use one of this run"), "{}", ran.err);
}

#[test]
fn a_target_fills_in_what_tables_leave_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "CREATE TABLE numbers (id BIGINT) WITH (connector = 'datagen', fields.id.kind = 'sequence');
        CREATE TABLE copy (id BIGINT, PRIMARY KEY (id) NOT ENFORCED);
        INSERT INTO copy SELECT id FROM numbers";
    std::fs::write(folder.path().join("copy.sql"), text).expect("a file");
    let said = "[target.some.datagen]\nrows = 7\n[target.wrong.datagen]\nrwos = 7\n";
    std::fs::write(folder.path().join("smack.toml"), said).expect("a file");
    let ran = run(folder.path(), &["copy.sql", "--target", "some", "-o", "json"]).expect(0);
    assert_eq!(table(&ran.out, "copy").0, 7, "{}", ran.out);
    let wrong = run(folder.path(), &["copy.sql", "--target", "wrong"]).expect(2);
    assert!(wrong.err.contains("unknown option 'rwos'") && wrong.err.contains("did you mean 'rows'"), "{}", wrong.err);
    let unknown = run(folder.path(), &["copy.sql", "--target", "none"]).expect(2);
    assert!(unknown.err.contains("there is no target 'none'; there are some, wrong"), "{}", unknown.err);
}

#[test]
fn queries_fill_the_tables_that_they_declare() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "CREATE TEMPORARY TABLE numbers (id BIGINT, doc AS '{\"k\": ' || (id % 3) || '}')
          WITH (connector = 'datagen', rows = '30', fields.id.kind = 'sequence');
        CREATE MATERIALIZED VIEW counts AS SELECT doc ->> 'k' AS k, COUNT(*) AS n FROM numbers GROUP BY doc ->> 'k';
        CREATE TABLE later AS SELECT k, n FROM counts WHERE k > '0';
        CREATE TABLE appended AS SELECT id FROM numbers WHERE id < 5;";
    std::fs::write(folder.path().join("counts.sql"), text).expect("a file");
    let ran = run(folder.path(), &["counts.sql", "-o", "json"]).expect(0);
    let rows = |name: &str| table(&ran.out, name).0;
    assert_eq!((rows("counts"), rows("later"), rows("appended")), (3, 2, 5));
    std::fs::write(folder.path().join("counts.sql"), format!("{text} DESCRIBE counts; SHOW VIEWS;")).expect("a file");
    let told = run(folder.path(), &["counts.sql", "-o", "json"]).expect(0);
    let lines = told.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON lines"));
    let lines: Vec<serde_json::Value> = lines.collect();
    assert_eq!(lines.len(), 3, "{}", told.out);
    assert_eq!((lines[0]["column"].as_str(), lines[0]["note"].as_str()), (Some("k"), Some("primary key")));
    assert_eq!(lines[2]["view"], "counts");
}

#[test]
fn state_larger_than_its_memory_lies_on_disk_and_changes_no_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "CREATE TEMPORARY TABLE payments (id BIGINT, card BIGINT, amount BIGINT)
          WITH (connector = 'datagen', rows = '60000', fields.id.kind = 'sequence', fields.card.min = '0',
            fields.card.max = '9999', fields.amount.min = '0', fields.amount.max = '100');
        CREATE MATERIALIZED VIEW cards AS
          SELECT card, COUNT(*) AS n, SUM(amount) AS total, MAX(id) AS last FROM payments GROUP BY card;";
    let cards = |text: &str| {
        std::fs::write(folder.path().join("cards.sql"), text).expect("a file");
        table(&run(folder.path(), &["cards.sql", "-o", "json"]).expect(0).out, "cards")
    };
    let in_memory = cards(text);
    assert!(in_memory.0 > 9_000, "{} cards", in_memory.0);
    let streaming = format!("SET execution.mode = 'streaming';\n{text}");
    assert_eq!(cards(&streaming), in_memory);
    assert_eq!(cards(&format!("SET state.memory = '64KiB';\n{streaming}")), in_memory);
    std::fs::write(folder.path().join("cards.sql"), format!("SET state.memory = 'much';\n{text}")).expect("a file");
    let refused = run(folder.path(), &["cards.sql"]).expect(2);
    assert!(refused.err.contains("cards.sql:1:") && refused.err.contains("much"), "{}", refused.err);
}

#[test]
fn an_insert_over_input_that_ends_is_a_batch_where_that_is_equal() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = "CREATE TABLE payments (id BIGINT, card BIGINT, amount BIGINT) WITH (connector = 'datagen', rows = '20000',
            fields.id.kind = 'sequence', fields.card.min = '0', fields.card.max = '99', fields.amount.min = '0', fields.amount.max = '100');
        CREATE TABLE cards (card BIGINT PRIMARY KEY, n BIGINT NOT NULL, total BIGINT);
        CREATE TABLE kept (card BIGINT, n BIGINT) WITH (connector = 'files', path = 'kept');";
    let ran = |text: &str| {
        std::fs::write(folder.path().join("cards.sql"), format!("{tables}{text}")).expect("a file");
        run(folder.path(), &["cards.sql", "-o", "json"])
    };
    let insert = "INSERT INTO cards SELECT card, COUNT(*), SUM(amount) FROM payments GROUP BY card;";
    let batch = ran(insert).expect(0);
    assert!(batch.err.contains("finished as a batch: 20000 rows in, 100 out"), "{}", batch.err);
    let stream = ran(&format!("SET execution.mode = 'streaming'; {insert}")).expect(0);
    assert!(stream.err.contains("finished as a stream: 20000 rows in"), "{}", stream.err);
    assert_eq!(table(&batch.out, "cards"), table(&stream.out, "cards"));
    let told = ran(&format!("EXPLAIN {insert}")).expect(0);
    assert!(told.out.contains(r#""engine":"batch""#) && told.out.contains("Aggregate"), "{}", told.out);

    // A run that fails leaves nothing; one that does not, all of it.
    let ordered =
        "SET execution.mode = 'batch'; INSERT INTO kept SELECT card, id FROM payments ORDER BY id DESC LIMIT 3;";
    let failed = ran(&format!("{ordered} INSERT INTO kept SELECT card, 1 / (id - 19999) FROM payments;")).expect(1);
    assert!(failed.err.contains("run the INSERT INTO kept") && failed.err.contains("Divide by zero"), "{}", failed.err);
    let seen = |entry: &std::fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    let files = || match std::fs::read_dir(folder.path().join("kept")) {
        Ok(files) => files.filter(|file| seen(file.as_ref().expect("an entry"))).count(),
        Err(_) => 0,
    };
    assert_eq!(files(), 0);
    let written = ran(ordered).expect(0);
    assert!(written.err.contains("finished as a batch: 20000 rows in, 3 out") && files() == 1, "{}", written.err);
    let null = "INSERT INTO cards SELECT card, CASE WHEN id < 7 THEN id END, 1 FROM payments";
    let failed = ran(null).expect(1);
    assert!(
        failed.err.contains("column 'n' of table 'cards' is NOT NULL") && failed.err.contains("n = NULL"),
        "{}",
        failed.err
    );
    let dropped = ran(&format!("SET sink.not_null = 'drop'; {null}")).expect(0);
    assert!(dropped.err.contains(", 7 out"), "{}", dropped.err);
}

#[test]
fn parquet_in_directories_is_written_and_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = "CREATE TABLE kept (id BIGINT, part VARCHAR) PARTITIONED BY (part)
                 WITH (connector = 'files', path = 'kept', format = 'parquet', compression = 'zstd');";
    let write = format!(
        "{table} CREATE TABLE made (id BIGINT) WITH (connector = 'datagen', rows = '1000', fields.id.kind = 'sequence');
         INSERT INTO kept SELECT id, CASE WHEN id % 2 = 0 THEN 'a/b' END FROM made;"
    );
    std::fs::write(folder.path().join("write.sql"), write).expect("a file");
    run(folder.path(), &["write.sql"]).expect(0);
    assert!(folder.path().join("kept/part=a%2Fb").is_dir());
    let ask = format!("{table} SELECT part, COUNT(*) AS n FROM kept GROUP BY part;");
    std::fs::write(folder.path().join("ask.sql"), ask).expect("a file");
    let told = run(folder.path(), &["ask.sql", "-o", "json"]).expect(0);
    let null = told.out.contains(r#"{"part":null,"n":500}"#);
    assert!(told.out.contains(r#"{"part":"a/b","n":500}"#) && null, "{}", told.out);
}

#[test]
fn a_model_and_its_run_are_kept_and_asked_in_the_same_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "CREATE TABLE seen (id BIGINT, a BIGINT, y AS a * 2) WITH (connector = 'datagen', rows = '200',
            fields.id.kind = 'sequence', fields.a.min = '0', fields.a.max = '50');
        CREATE MODEL twice WITH (label = 'y', ignore = 'id', task = 'regression', hidden = '4', epochs = '2')
            AS SELECT id, a, y FROM seen;
        SELECT predict_version('twice') AS v, COUNT(*) AS n, COUNT(predict('twice@1', a)) AS scored FROM seen GROUP BY 1;";
    std::fs::write(folder.path().join("twice.sql"), text).expect("a file");
    for version in 1..=2 {
        let ran = run(folder.path(), &["twice.sql", "--data-dir", "kept", "-o", "json"]).expect(0);
        assert_eq!(ran.out, format!("{{\"v\":{version},\"n\":200,\"scored\":200}}\n"), "{}", ran.err);
        assert!(ran.err.contains(&format!("wrote model version {version}")), "{}", ran.err);
    }
    let runs = std::fs::read_dir(folder.path().join("kept/runs")).expect("the runs").count();
    assert_eq!(runs, 2);
    let unknown = text.replace("twice@1", "twice@beta");
    std::fs::write(folder.path().join("twice.sql"), unknown).expect("a file");
    let ran = run(folder.path(), &["twice.sql", "--data-dir", "kept"]).expect(1);
    assert!(ran.err.contains("model 'twice' has no alias 'beta'"), "{}", ran.err);
}
