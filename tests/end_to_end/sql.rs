//! Queries of the cluster: `smack sql`, the shell's way in, and Arrow Flight SQL as drivers speak it.

use crate::cluster::Cluster;
use crate::program::command;
use crate::wait::patience;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables};
use arrow_flight::{FlightInfo, error::FlightError};
use futures::TryStreamExt;
use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

const ROLLS: &str = "CREATE TABLE rolls (id BIGINT, a BIGINT) WITH (connector = 'datagen', rows = '1000',
    fields.id.kind = 'sequence', fields.a.min = '0', fields.a.max = '9');";

/// With tables `kept`, of ten rows by key, and `Mixed Case`.
fn filled(token: Option<&str>) -> Cluster {
    let cluster = Cluster::start_with(&[], token);
    let text = format!(
        "SET job.name = 'fills'; {ROLLS}
         CREATE TABLE kept (a BIGINT PRIMARY KEY, n BIGINT, last VARCHAR);
         CREATE TABLE \"Mixed Case\" (\"Id\" BIGINT);
         INSERT INTO kept SELECT a, COUNT(*), CAST(MAX(id) AS VARCHAR) FROM rolls GROUP BY a;
         INSERT INTO \"Mixed Case\" SELECT id FROM rolls WHERE id < 3;"
    );
    for job in cluster.submit("fills.sql", &text) {
        cluster.wait_until(&job, "finished");
    }
    cluster
}

#[test]
fn one_query_over_tables_of_the_cluster_and_of_its_own() {
    let cluster = filled(None);
    let asked = |text: &str| cluster.smack(&["sql", text, "-o", "json"]);
    assert_eq!(asked("SELECT COUNT(*) AS keys, SUM(n) AS n FROM kept").expect(0).json()["n"], 1000);
    let ran = asked("SELECT \"Id\" FROM \"Mixed Case\" ORDER BY \"Id\"").expect(0);
    assert_eq!(ran.out, "{\"Id\":0}\n{\"Id\":1}\n{\"Id\":2}\n");
    let ran = cluster.smack(&["sql", "DESCRIBE kept"]).expect(0);
    assert!(ran.out.contains("primary key") && ran.out.contains("VARCHAR"), "{}", ran.out);
    let ran = cluster.smack(&["sql", "SHOW TABLES"]).expect(0);
    assert!(ran.out.contains("kept") && ran.out.contains("Mixed Case"), "{}", ran.out);
    let ran = cluster.smack(&["sql", "EXPLAIN SELECT a FROM kept WHERE n > 3"]).expect(0);
    assert!(ran.out.contains("as a batch") && ran.out.contains("n@1 > 3"), "{}", ran.out);

    // Piped in, with a table that it declares, and a mistake behind that.
    let piped = |text: &str| {
        let mut command = command(cluster.folder(), &["sql", "-o", "json"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("takes the query");
        let ended = child.wait_with_output().expect("ends");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (ended.status.code(), text(ended.stdout), text(ended.stderr))
    };
    let joined = "SELECT COUNT(*) AS n FROM rolls r JOIN kept k ON r.a = k.a WHERE k.n > 0;";
    assert_eq!(piped(&format!("{ROLLS}\n{joined}")), (Some(0), "{\"n\":1000}\n".to_string(), String::new()));
    let ran = cluster.smack(&["sql", "SELECT a, nn FROM kept"]).expect(2);
    ran.says(&["nn", "^^", "query:1:11", "'n'"]);

    for (text, words) in [
        ("INSERT INTO kept SELECT 1, 2, 'c'", ["INSERT INTO is a job", "smack submit"]),
        ("CREATE MATERIALIZED VIEW v AS SELECT a FROM kept; SELECT * FROM v", ["CREATE MATERIALIZED VIEW", "job"]),
        ("SELECT 1 AS a; SELECT 2 AS a", ["one query at a time", "query:1:1"]),
        ("SET job.name = 'x'", ["no query", "SET"]),
        ("", ["no query", "query"]),
        ("SELECT * FROM nowhere", ["nowhere", "kept"]),
    ] {
        cluster.smack(&["sql", text]).expect(2).says(&words);
    }
    // Others' tables are nothing to a query that names others, and may be called alike but for upper and lower case.
    let more =
        "SET job.name = 'more'; CREATE TABLE \"KEPT\" (\"A\" BIGINT); INSERT INTO \"KEPT\" SELECT id FROM rolls;";
    for job in cluster.submit("more.sql", &format!("{ROLLS} {more}")) {
        cluster.wait_until(&job, "finished");
    }
    assert_eq!(asked("SELECT COUNT(*) AS a FROM \"Mixed Case\"").expect(0).out, "{\"a\":3}\n");
    assert_eq!(asked("SELECT COUNT(*) AS id FROM kept").expect(0).out, "{\"id\":10}\n");
    assert_eq!(asked("SELECT COUNT(*) AS n FROM KEPT").expect(0).out, "{\"n\":1000}\n");
    // The runner is none the worse for it.
    assert_eq!(asked("SELECT COUNT(*) AS n FROM kept").expect(0).json()["n"], 10);
}

/// A terminal with a program in it.
pub struct Terminal {
    child: std::process::Child,
    keys: File,
    seen: mpsc::Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    pub fn open(cluster: &Cluster, args: &[&str]) -> Self {
        let size = nix::pty::Winsize { ws_row: 30, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = nix::pty::openpty(&size, None).expect("a terminal");
        let mut command = command(cluster.folder(), args);
        command.env("TERM", "xterm").env("XDG_STATE_HOME", cluster.path("state"));
        let inside = || Stdio::from(pair.slave.try_clone().expect("its inside"));
        let child = command.stdin(inside()).stdout(inside()).stderr(inside()).spawn().expect("starts");
        let mut outside = File::from(pair.master);
        let keys = outside.try_clone().expect("its keys");
        let (sender, seen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails once nobody is inside any more.
            while let Ok(n) = outside.read(&mut bytes) {
                if n == 0 || sender.send(bytes[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keys, seen, text: String::new() }
    }

    /// As Ctrl-C would, were it the terminal that the program is controlled by.
    pub fn interrupt(&mut self) {
        self.text.clear();
        let child = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGINT).expect("a signal");
    }

    /// Types a line, and waits until these words have come since.
    pub fn types(&mut self, line: &str, words: &str) -> String {
        self.text.clear();
        self.keys.write_all(format!("{line}\r").as_bytes()).expect("types");
        self.shows(words)
    }

    /// Types a whole statement, and waits until these words have come and the next one can be typed: what is typed sooner
    /// would be lost.
    pub fn asks(&mut self, line: &str, words: &str) -> String {
        const TYPING_BEGINS: &str = "\u{1b}[?2004h";
        const TYPING_ENDS: &str = "\u{1b}[?2004l";
        let mut said = self.types(line, TYPING_ENDS);
        let answer = said.find(TYPING_ENDS).unwrap_or(0);
        while !said[answer..].split_once(words).is_some_and(|(_, rest)| rest.contains(TYPING_BEGINS)) {
            said = self.more(words);
        }
        said
    }

    fn more(&mut self, words: &str) -> String {
        let bytes = self.seen.recv_timeout(patience());
        let bytes = bytes.unwrap_or_else(|error| panic!("no '{words}' ({error}) in {:?}", self.text));
        self.text.push_str(&String::from_utf8_lossy(&bytes));
        self.text.clone()
    }

    pub fn shows(&mut self, words: &str) -> String {
        while !self.text.contains(words) {
            self.more(words);
        }
        self.text.clone()
    }
}

impl Drop for Terminal {
    /// It is not the terminal that controls the program, which would not end with it.
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_shell_goes_over_lines_keeps_what_is_declared_and_remembers() {
    let cluster = filled(None);
    let mut terminal = Terminal::open(&cluster, &["sql"]);
    terminal.shows("smack> ");
    terminal.types("SELECT COUNT(*) AS n", "");
    assert!(terminal.asks("FROM kept;", "1 row").contains("10"));
    terminal.asks("CREATE VIEW v AS SELECT a + 1 AS b FROM kept;", "");
    assert!(terminal.asks("SELECT MAX(b) AS most FROM v;", "1 row").contains("10"));
    // One that is wrong is not kept.
    terminal.asks("CREATE VIEW w AS SELECT nn FROM kept;", "unknown column 'nn'");
    terminal.asks("SELECT MIN(b) AS least FROM v;", "1 row");
    terminal.asks("\\d kept", "primary key");
    terminal.asks("\\nothing", "there is no \\nothing");
    terminal.keys.write_all(b"\\q\r").expect("types");
    assert!(terminal.child.wait().expect("ends").success());
    let history = std::fs::read_to_string(cluster.path("state/smack/history")).expect("a history");
    assert!(history.contains("SELECT MAX(b) AS most FROM v;"), "{history}");
}

#[test]
fn the_screen_shows_jobs_and_goes_with_q() {
    let cluster = filled(None);
    let mut terminal = Terminal::open(&cluster, &["top"]);
    terminal.shows("fills/");
    terminal.keys.write_all(b"q").expect("types");
    assert!(terminal.child.wait().expect("ends").success());
    cluster.smack(&["top"]).expect(1).says(&["no terminal", "smack ps"]);
}

async fn connected(cluster: &Cluster, token: Option<&str>) -> FlightSqlServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(cluster.runner.clone()).expect("an address");
    let mut client = FlightSqlServiceClient::new(endpoint.connect().await.expect("the runner"));
    if let Some(token) = token {
        client.set_token(token.to_string());
    }
    client
}

async fn rows(client: &mut FlightSqlServiceClient<Channel>, info: FlightInfo) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    for endpoint in info.endpoint {
        let stream = client.do_get(endpoint.ticket.expect("a ticket")).await.expect("rows");
        batches.extend(
            stream.try_collect::<Vec<_>>().await.map_err(|error: FlightError| error.to_string()).expect("rows"),
        );
    }
    batches
}

/// The values of a column of texts.
fn texts(batches: &[RecordBatch], name: &str) -> Vec<String> {
    let column = |batch: &RecordBatch| batch.column_by_name(name).expect("the column").clone();
    batches
        .iter()
        .map(column)
        .flat_map(|column| column.as_string::<i32>().iter().flatten().map(str::to_string).collect::<Vec<_>>())
        .collect()
}

#[test]
fn drivers_ask_over_flight_sql() {
    let token = "flight-test-token";
    let cluster = filled(Some(token));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let refused = connected(&cluster, None).await.execute("SELECT a FROM kept".to_string(), None).await;
        assert!(refused.expect_err("no token").to_string().contains("token"));
        let client = &mut connected(&cluster, Some(token)).await;

        let info = client.execute("SELECT a, n FROM kept ORDER BY a".to_string(), None).await.expect("a plan");
        let schema = info.clone().try_decode_schema().expect("columns");
        assert_eq!(schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["a", "n"]);
        let found = rows(client, info).await;
        let keys: Vec<i64> =
            found.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(keys, (0..10).collect::<Vec<i64>>());

        let mut prepared = client.prepare("SELECT SUM(n) AS n FROM kept".to_string(), None).await.expect("is prepared");
        assert_eq!(prepared.dataset_schema().expect("columns").field(0).name(), "n");
        let info = prepared.execute().await.expect("a plan");
        assert_eq!(rows(client, info).await[0].column(0).as_primitive::<Int64Type>().value(0), 1000);
        prepared.close().await.expect("is closed");

        let asked = "SELECT a, last FROM kept WHERE a >= ? AND n > ? ORDER BY a LIMIT 2";
        let mut prepared = client.prepare(asked.to_string(), None).await.expect("is prepared");
        let kinds: Vec<_> =
            prepared.parameter_schema().expect("columns").fields().iter().map(|of| of.data_type().clone()).collect();
        assert_eq!(kinds, [DataType::Int64, DataType::Int64]);
        let refused = prepared.execute().await.expect_err("no values yet");
        assert!(refused.to_string().contains("the parameter $1 has no value"), "{refused}");
        for least in [3_i64, 5] {
            let values = [least, 0].map(|value| Arc::new(Int64Array::from(vec![value])) as ArrayRef);
            let values = RecordBatch::try_from_iter(["0", "1"].into_iter().zip(values)).expect("one row");
            prepared.set_parameters(values).expect("values");
            let info = prepared.execute().await.expect("a plan");
            let found = rows(client, info).await;
            assert_eq!(found[0].column(0).as_primitive::<Int64Type>().values(), &[least, least + 1]);
        }
        let several = RecordBatch::try_from_iter([("0", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]);
        prepared.set_parameters(several.expect("two rows")).expect("values");
        let refused = prepared.execute().await.expect_err("two rows");
        assert!(refused.to_string().contains("one at a time"), "{refused}");

        let tables =
            CommandGetTables { table_name_filter_pattern: Some("ke%".to_string()), ..CommandGetTables::default() };
        let info = client.get_tables(tables).await.expect("tables");
        assert_eq!(texts(&rows(client, info).await, "table_name"), ["kept"]);
        let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.expect("schemas");
        assert_eq!(texts(&rows(client, info).await, "db_schema_name"), ["public"]);
        let of = CommandGetPrimaryKeys { table: "kept".to_string(), ..CommandGetPrimaryKeys::default() };
        let info = client.get_primary_keys(of).await.expect("keys");
        assert_eq!(texts(&rows(client, info).await, "column_name"), ["a"]);

        for (text, words) in [
            ("INSERT INTO kept SELECT 1, 2, 'c'", "smack submit"),
            ("SELECT nn FROM kept", "'n'"),
            ("SELECT * FROM nowhere", "nowhere"),
        ] {
            let refused = client.execute(text.to_string(), None).await.expect_err(text);
            assert!(refused.to_string().contains(words), "{refused}");
        }
        let refused = client.execute_update("DELETE FROM kept".to_string(), None).await.expect_err("it writes");
        assert!(refused.to_string().contains("DELETE"), "{refused}");
    });
}
