//! What tasks want is fetched from a real store that speaks S3: SMACK_S3 says where, and the environment that programs for S3 go
//! by. `tests/live/run` starts one.

use crate::framework;
use crate::world::World;
use jobs::{Reason, TaskState};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use wire::v1;

#[tokio::test]
async fn objects_are_fetched_once_until_they_change() {
    assert!(std::env::var_os("SMACK_S3").is_some(), "SMACK_S3 is not set; run tests/live/run, which starts a server");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    let key = format!("artifacts-{}/words of all", now.as_nanos());
    let bucket = objects::Bucket::open("smack").expect("a bucket");
    let put = async |words: &str| {
        let at = Path::parse(&key).expect("a key");
        bucket.store.put(&at, words.as_bytes().to_vec().into()).await.expect("is stored");
    };
    put("one\n").await;
    let world = World::start().await;
    let mut framework = world.framework().await;
    let endpoint = world.agent().http_address();
    let wants = |task: &str, key: &str| {
        let artifact = v1::Artifact { from: format!("s3://smack/{key}"), path: "it".into(), ..Default::default() };
        v1::TaskInfo { artifacts: vec![artifact], ..framework::shell(task, "cat it") }
    };
    for (task, words) in [("first", "one\n"), ("second", "one\n"), ("third", "another\n")] {
        if task == "third" {
            put(words).await;
        }
        framework.launch(vec![wants(task, &key)]).await;
        let last = framework.until_over(task).await;
        assert_eq!(last.state, TaskState::Finished, "{last:?}");
        assert_eq!(world.output(endpoint, task).await, words);
    }
    let (_, _, metrics) = crate::http::get(endpoint, "/metrics", None).await;
    let counts = |line: &str| metrics.lines().any(|found| found == line);
    assert!(counts("smack_agent_artifacts_fetched_total 2"), "{metrics}");
    assert!(counts("smack_agent_artifacts_found_total 1"), "{metrics}");

    framework.launch(vec![wants("missing", "no/such/key")]).await;
    let last = framework.until_over("missing").await;
    assert_eq!((last.state, last.reason), (TaskState::Failed, Reason::FetchFailed), "{last:?}");
    assert_eq!(last.message, "failed to fetch s3://smack/no/such/key: there is no such object");
}
