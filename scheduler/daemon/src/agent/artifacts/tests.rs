//! Artifacts are fetched, checked, unpacked, kept and thrown out; from a server that counts what it is asked.

use super::super::accounts::Accounts;
use super::super::sandboxes::Sandboxes;
use super::*;
use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tar::EntryType;
use tempfile::TempDir;
use tokio::net::TcpListener;

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// What the server has, and how often it sent it.
#[derive(Clone, Default)]
struct Shelf {
    content: Arc<Mutex<Vec<u8>>>,
    sent: Arc<AtomicU64>,
    failing: Arc<AtomicU64>,
}

async fn serve(State(shelf): State<Shelf>, UrlPath(name): UrlPath<String>, headers: HeaderMap) -> Response {
    if shelf.failing.load(Ordering::SeqCst) > 0 {
        shelf.failing.fetch_sub(1, Ordering::SeqCst);
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if name == "missing" {
        return StatusCode::NOT_FOUND.into_response();
    }
    if name == "never" {
        std::future::pending::<()>().await;
    }
    let content = shelf.content.lock().expect("sound").clone();
    let tag = format!("\"{:x}\"", tag_of(&content));
    if headers.get(header::IF_NONE_MATCH).is_some_and(|asked| asked == tag.as_str()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    shelf.sent.fetch_add(1, Ordering::SeqCst);
    ([(header::ETAG, tag)], content).into_response()
}

/// Different for different content.
fn tag_of(content: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

struct Desk {
    dir: TempDir,
    shelf: Shelf,
    url: String,
    fetcher: Fetcher,
    fetched: Fetched,
    n: usize,
}

impl Desk {
    async fn new(most_bytes: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shelf = Shelf { content: Arc::new(Mutex::new(b"hello".to_vec())), ..Shelf::default() };
        let routes = Router::new().route("/{name}", get(serve)).with_state(shelf.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let sandboxes = Sandboxes::open(dir.path().join("sandboxes")).expect("opens");
        let accounts = Accounts::new(None, None, dir.path().into());
        let ground = Ground { sandboxes, accounts };
        let (fetcher, fetched) = Fetcher::open(ground, dir.path().join("artifacts"), most_bytes).expect("opens");
        Self { dir, shelf, url, fetcher, fetched, n: 0 }
    }

    fn put(&self, content: &[u8]) {
        *self.shelf.content.lock().expect("sound") = content.to_vec();
    }

    fn artifact(&self, name: &str) -> Artifact {
        Artifact { from: format!("{}/{name}", self.url), path: "it".into(), ..Artifact::default() }
    }

    fn begin(&mut self, artifacts: Vec<Artifact>) -> TaskKey {
        self.n += 1;
        let task = TaskKey::new("f".into(), format!("t{}", self.n).as_str().into());
        self.fetcher.begin(task.clone(), Box::new(TaskInfo { artifacts, ..TaskInfo::default() }));
        task
    }

    /// The sandbox, or why there is none.
    async fn fetch(&mut self, artifact: Artifact) -> Result<PathBuf, String> {
        let task = self.begin(vec![artifact]);
        self.outcome(&task).await
    }

    async fn outcome(&mut self, task: &TaskKey) -> Result<PathBuf, String> {
        let (answered, outcome) = self.fetched.recv().await.expect("an answer");
        assert_eq!(answered, *task);
        let sandbox = self.dir.path().join("sandboxes/f").join(task.task_id.as_str());
        match outcome {
            Ok(_) => Ok(sandbox),
            Err((reason, message)) => {
                assert_eq!((reason, sandbox.exists()), (Reason::FetchFailed, false), "{message}");
                Err(message)
            }
        }
    }

    fn sent(&self) -> u64 {
        self.shelf.sent.load(Ordering::SeqCst)
    }
}

fn read(sandbox: PathBuf) -> String {
    std::fs::read_to_string(sandbox.join("it")).expect("it is there")
}

#[tokio::test]
async fn what_is_known_by_its_sum_is_fetched_once_and_other_bytes_are_refused() {
    let mut desk = Desk::new(1 << 20).await;
    let artifact = Artifact { sha256: HELLO.into(), executable: true, ..desk.artifact("tool") };
    for _ in 0..3 {
        let sandbox = desk.fetch(artifact.clone()).await.expect("is fetched");
        assert_eq!(read(sandbox.clone()), "hello");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&sandbox.join("it").metadata().expect("there").permissions());
        assert_eq!(mode & 0o111, 0o111, "it can be run");
    }
    assert_eq!(desk.sent(), 1);
    let counted = desk.fetcher.cache().counted();
    assert_eq!(counted, Counted { fetched: 1, fetched_bytes: 5, found: 2, kept_bytes: 5 });

    desk.put(b"other");
    desk.fetch(artifact).await.expect("it is there, whatever is elsewhere now");
    let wrong = "0".repeat(64);
    let problem = desk.fetch(Artifact { sha256: wrong.clone(), ..desk.artifact("tool") }).await.expect_err("refused");
    assert!(problem.contains("its sha256 is d9298a10") && problem.ends_with(&format!("and not {wrong}")), "{problem}");
}

#[tokio::test]
async fn without_a_sum_the_place_is_asked_whether_it_is_still_the_same() {
    let mut desk = Desk::new(1 << 20).await;
    let artifact = desk.artifact("model");
    for _ in 0..3 {
        let sandbox = desk.fetch(artifact.clone()).await.expect("is fetched");
        assert_eq!(read(sandbox), "hello");
    }
    assert_eq!(desk.sent(), 1, "the others were answered that it is the same");
    desk.put(b"another");
    let sandbox = desk.fetch(artifact.clone()).await.expect("is fetched");
    assert_eq!((read(sandbox), desk.sent()), ("another".to_string(), 2));

    // Another agent of the folder knows it too, and fetches it again once it was thrown out.
    let ground = desk.fetcher.ground.clone();
    (desk.fetcher, desk.fetched) = Fetcher::open(ground, desk.dir.path().join("artifacts"), 1 << 20).expect("opens");
    desk.fetch(artifact.clone()).await.expect("is fetched");
    assert_eq!(desk.sent(), 2);
    assert_eq!(desk.fetcher.cache().throw_out(0.0), 2);
    desk.fetch(artifact).await.expect("is fetched");
    assert_eq!(desk.sent(), 3);
}

#[tokio::test]
async fn many_that_want_the_same_at_once_have_it_fetched_once() {
    let mut desk = Desk::new(1 << 20).await;
    let artifact = Artifact { sha256: HELLO.into(), ..desk.artifact("tool") };
    for _ in 0..20 {
        desk.begin(vec![artifact.clone()]);
    }
    for _ in 0..20 {
        let (_, outcome) = desk.fetched.recv().await.expect("an answer");
        outcome.expect("is fetched");
    }
    assert_eq!(desk.sent(), 1);
}

#[tokio::test]
async fn what_was_used_last_is_kept_longest() {
    let mut desk = Desk::new(10).await;
    for (name, content) in [("a", "aaaa"), ("b", "bbbbb"), ("a", "aaaa"), ("c", "ccc")] {
        desk.put(content.as_bytes());
        desk.fetch(desk.artifact(name)).await.expect("is fetched");
        // Files are as young as the disk can tell apart.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(desk.sent(), 3);
    desk.put(b"aaaa");
    desk.fetch(desk.artifact("a")).await.expect("is fetched");
    assert_eq!(desk.sent(), 3, "b went, for it was used first");
    desk.put(&[7; 11]);
    let sandbox = desk.fetch(desk.artifact("large")).await.expect("what is too large to keep is fetched all the same");
    assert_eq!(sandbox.join("it").metadata().expect("there").len(), 11);
    assert!(desk.fetcher.cache().counted().kept_bytes <= 10);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_fails_says_why() {
    let mut desk = Desk::new(1 << 20).await;
    desk.shelf.failing.store(1, Ordering::SeqCst);
    desk.fetch(desk.artifact("a")).await.expect("the second try is answered");
    let problem = desk.fetch(desk.artifact("missing?key=secret")).await.expect_err("is not there");
    assert_eq!(problem, format!("failed to fetch {}/missing?…: it is answered with 404 Not Found", desk.url));
    let problem =
        desk.fetch(Artifact { from: "/no/such/file".into(), ..desk.artifact("") }).await.expect_err("is not there");
    assert!(problem.starts_with("failed to fetch /no/such/file: No such file"), "{problem}");
    let problem = desk.fetch(Artifact { from: "/etc".into(), ..desk.artifact("") }).await.expect_err("is a folder");
    assert!(problem.ends_with("it is no plain file"), "{problem}");
    let pipe = desk.dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let from = pipe.display().to_string();
    let problem = desk.fetch(Artifact { from, ..desk.artifact("") }).await.expect_err("nobody writes into it");
    assert!(problem.ends_with("it is no plain file"), "{problem}");
    let problem = desk.fetch(Artifact { path: "../it".into(), ..desk.artifact("a") }).await.expect_err("leads out");
    assert!(problem.contains("below the task's sandbox"), "{problem}");
    let unreachable = Artifact { from: "http://127.0.0.1:1/a".into(), ..desk.artifact("") };
    let problem = desk.fetch(unreachable).await.expect_err("nobody is there");
    assert!(problem.starts_with("failed to fetch http://127.0.0.1:1/a: it cannot be reached: "), "{problem}");
}

#[tokio::test]
async fn what_is_given_up_is_answered_and_leaves_nothing() {
    let mut desk = Desk::new(1 << 20).await;
    let task = desk.begin(vec![desk.artifact("a"), Artifact { path: "b".into(), ..desk.artifact("never") }]);
    let first = desk.dir.path().join("sandboxes/f/t1/it");
    while !first.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    desk.fetcher.give_up(&task);
    let problem = desk.outcome(&task).await.expect_err("was given up");
    assert!(problem.contains("given up while") && problem.contains("/never"), "{problem}");
    let under_way = std::fs::read_dir(desk.dir.path().join("artifacts/fresh")).expect("there").count();
    assert_eq!(under_way, 0);
}

/// A tar archive of these entries: kind, path, content or target.
fn archive(entries: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, path, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if path.ends_with(".sh") { 0o755 } else { 0o644 });
        // As somebody writes it who means harm: the library would refuse it.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        let content = match kind {
            EntryType::Symlink | EntryType::Link => {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content);
                &[]
            }
            _ => *content,
        };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).expect("is packed");
    }
    builder.into_inner().expect("is packed")
}

#[tokio::test]
async fn archives_are_unpacked_below_their_folder_and_nowhere_else() {
    let mut desk = Desk::new(1 << 20).await;
    let unpacked = |desk: &Desk, name: &str| Artifact { unpack: true, ..desk.artifact(name) };
    let good = archive(&[
        (EntryType::Regular, "bin/run.sh", b"#!/bin/sh\n"),
        (EntryType::Regular, "data", b"words"),
        (EntryType::Symlink, "bin/same", b"../data"),
    ]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut gzip, &good).expect("is packed");
    let packed =
        [good.clone(), gzip.finish().expect("is packed"), zstd::encode_all(good.as_slice(), 1).expect("is packed")];
    for (name, content) in ["a.tar", "a.tgz", "a.tar.zst"].into_iter().zip(&packed) {
        desk.put(content);
        let sandbox = desk.fetch(unpacked(&desk, name)).await.expect("is unpacked");
        assert_eq!(std::fs::read_to_string(sandbox.join("it/bin/same")).expect("a link within"), "words", "{name}");
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &sandbox.join("it/bin/run.sh").metadata().expect("there").permissions(),
        );
        assert_eq!(mode & 0o111, 0o111);
    }
    let outside = desk.dir.path().join("outside");
    std::fs::create_dir(&outside).expect("a folder");
    let link = outside.to_str().expect("a name").as_bytes().to_vec();
    for (entries, words) in [
        (vec![(EntryType::Regular, "../../../evil", b"x".as_slice())], "leads out"),
        (
            vec![(EntryType::Symlink, "way", link.as_slice()), (EntryType::Regular, "way/evil", b"x")],
            "cannot be unpacked",
        ),
        (vec![(EntryType::Link, "passwords", b"/etc/passwd".as_slice())], "cannot be unpacked"),
        (vec![(EntryType::Char, "null", b"".as_slice())], "neither file, folder nor link"),
        (vec![(EntryType::Fifo, "pipe", b"".as_slice())], "neither file, folder nor link"),
    ] {
        desk.put(&archive(&entries));
        let problem = desk.fetch(unpacked(&desk, "bad.tar")).await.expect_err(words);
        assert!(problem.contains(words), "{problem}");
    }
    assert!(!desk.dir.path().join("evil").exists());
    assert_eq!(std::fs::read_dir(&outside).expect("there").count(), 0);
    // What stands before a file would be taken into memory, however much it is.
    desk.put(&archive(&[(EntryType::GNULongName, "name", vec![b'a'; 2 << 20].as_slice())]));
    let problem = desk.fetch(unpacked(&desk, "bad.tar")).await.expect_err("is too long");
    assert!(problem.contains("a name in it has 2097152 bytes"), "{problem}");
    // Into a folder that nobody may write in comes what is in it all the same, and it can be removed.
    let closed = archive(&[(EntryType::Directory, "closed.sh/", b""), (EntryType::Regular, "closed.sh/file", b"x")]);
    desk.put(&closed);
    let sandbox = desk.fetch(unpacked(&desk, "closed.tar")).await.expect("is unpacked");
    assert!(sandbox.join("it/closed.sh/file").exists());
    desk.put(b"this is no archive at all");
    let problem = desk.fetch(unpacked(&desk, "bad.tgz")).await.expect_err("is none");
    assert!(problem.contains("it cannot be unpacked"), "{problem}");
}

#[tokio::test]
async fn no_more_is_fetched_or_unpacked_than_a_task_may_have() {
    let mut desk = Desk::new(1 << 30).await;
    let zeros = archive(&[(EntryType::Regular, "zeros", vec![0; 4 << 20].as_slice())]);
    let bomb = zstd::encode_all(zeros.as_slice(), 1).expect("is packed");
    for (content, artifact) in
        [(bomb, Artifact { unpack: true, ..desk.artifact("bomb.tar.zst") }), (vec![1; 2 << 20], desk.artifact("large"))]
    {
        desk.put(&content);
        desk.n += 1;
        let task = TaskKey::new("f".into(), format!("t{}", desk.n).as_str().into());
        let resources = jobs::Resources::new().with("disk", 1.0);
        let info = TaskInfo { artifacts: vec![artifact], resources, ..TaskInfo::default() };
        desk.fetcher.begin(task.clone(), Box::new(info));
        let problem = desk.outcome(&task).await.expect_err("too much");
        assert!(problem.contains("1048576"), "{problem}");
    }
}
