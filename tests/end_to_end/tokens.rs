//! A cluster that a token guards: no door opens without it, and with it everything works as ever.

use crate::cluster::Cluster;
use crate::program::smack;
use wire::v1;

const TOKEN: &str = "let-me-in-0123456789";

#[test]
fn every_door_asks_for_the_token() {
    let cluster = Cluster::start_with(&[], Some(TOKEN));

    let refused = smack(cluster.folder(), &["ps"]).expect(1);
    refused.says(&["token"]);
    cluster.write("wrong", "another-token");
    smack(cluster.folder(), &["ps", "--token-file", "wrong"]).expect(1).says(&["token"]);

    let http = reqwest::blocking::Client::builder().no_proxy().build().expect("an HTTP client");
    let paths = ["/api/v1/jobs", "/api/v1/targets", "/metrics", "/tables", "/tables/t/rows"];
    for path in paths {
        let answer = http.get(format!("{}{path}", cluster.runner)).send().expect("an answer");
        assert_eq!(answer.status().as_u16(), 401, "{path}");
    }
    let query =
        http.post(format!("{}/api/v1/sql", cluster.runner)).json(&serde_json::json!({ "sql": "SELECT 1 AS a" }));
    assert_eq!(query.send().expect("an answer").status().as_u16(), 401);
    // The page holds nothing and asks for the token itself; no other page may hold it.
    let page = http.get(&cluster.runner).send().expect("an answer");
    assert_eq!((page.status().as_u16(), &page.headers()["x-frame-options"]), (200, &"DENY".parse().expect("a value")));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut master = daemon::client::master(&cluster.master, None).await.expect("a connection");
        let refused = master.state(v1::StateRequest {}).await.expect_err("a stranger asks");
        assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused}");
        let address = cluster.runner.trim_start_matches("http://");
        let channel = daemon::client::connect(address).await.expect("a connection");
        let mut tasks = v1::tasks_client::TasksClient::new(channel);
        let refused = tasks.control(tokio_stream::empty()).await.expect_err("a stranger is a task");
        assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused}");
    });

    // Tasks show it too: to the runner, and to its table store.
    let jobs = cluster.submit(
        "job.sql",
        "SET job.name = 'guarded';
         CREATE TABLE numbers (a BIGINT) WITH (connector = 'datagen', rows = '100');
         CREATE TABLE kept (n BIGINT, a BIGINT, PRIMARY KEY (n) NOT ENFORCED);
         INSERT INTO kept SELECT 1, a FROM numbers;",
    );
    cluster.wait_until(&jobs[0], "finished");
    assert_eq!(cluster.rows("kept").len(), 1);
    for (path, text) in cluster.logs() {
        assert!(!text.contains(TOKEN), "the token is in {}", path.display());
    }
}
