//! Bytes of all kinds: whatever comes, there is an answer or an error, and the broker goes on.

use super::apis::{self, APIS};
use super::shape::{self, made_up};
use crate::Config;
use crate::node::Node;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::net::SocketAddr;
use std::time::Duration;

fn peer() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

fn frame(key: i16, version: i16, flexible: bool, body: &[u8]) -> Bytes {
    let mut frame = Vec::new();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(7i32.to_be_bytes());
    frame.extend(2i16.to_be_bytes());
    frame.extend(b"me");
    if flexible {
        frame.push(0);
    }
    frame.extend(body);
    frame.into()
}

/// An answer, or none in time: joins and fetches wait for others.
async fn ask(node: &Node, frame: Bytes) -> Option<std::io::Result<Option<bytes::BytesMut>>> {
    tokio::time::timeout(Duration::from_millis(20), apis::answer(node, peer(), frame)).await.ok()
}

fn world() -> (tempfile::TempDir, Node, tokio::runtime::Runtime) {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::open(Config::new(peer(), dir.path().to_path_buf()), 9092).expect("a node");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    (dir, node, runtime)
}

/// Every kind of request in every version, with contents at random, is answered in that version.
#[test]
fn whole_requests_are_answered() {
    let (_dir, node, runtime) = world();
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    for round in 0..40 {
        for api in APIS.iter() {
            for version in api.min..=api.max {
                let flexible = api.is_flexible(version);
                let body = made_up::request(&api.shape, version, flexible, &mut rng);
                assert!(shape::fits(&api.shape, version, flexible, &body), "{:?} {version}", api.key);
                let answer = runtime.block_on(ask(&node, frame(api.key as i16, version, flexible, &body)));
                match answer {
                    // A length that is no text, a batch that is none, or a wait.
                    None | Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        let text = error.to_string();
                        let refused = text.contains("cannot be read") || text.contains("could not be appended");
                        assert!(refused, "round {round}: {:?} {version}: {text}", api.key);
                    }
                }
            }
        }
        node.tick();
    }
}

/// Cut off anywhere, or with any byte changed, a request harms nobody.
#[test]
fn damaged_requests_are_survived() {
    let (_dir, node, runtime) = world();
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]);
    for _ in 0..6 {
        for api in APIS.iter() {
            for version in api.min..=api.max {
                let flexible = api.is_flexible(version);
                let body = made_up::request(&api.shape, version, flexible, &mut rng);
                let whole = frame(api.key as i16, version, flexible, &body);
                let cut = (rng.next_u32() as usize) % whole.len();
                let _ = runtime.block_on(ask(&node, whole.slice(..cut)));
                let mut changed = whole.to_vec();
                let at = 8 + (rng.next_u32() as usize) % (changed.len() - 8);
                changed[at] ^= 1 << (rng.next_u32() % 8);
                let _ = runtime.block_on(ask(&node, changed.into()));
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(key in 0..80i16, version in 0..20i16, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (_dir, node, runtime) = world();
        let _ = runtime.block_on(ask(&node, frame(key, version, true, &body)));
        let _ = runtime.block_on(ask(&node, body.into()));
    }
}

/// A few bytes that claim an array of two thousand million elements.
#[test]
fn claims_without_bytes_are_refused() {
    let metadata = apis::find(3).expect("metadata");
    assert!(!shape::fits(&metadata.shape, 1, false, &[0x7f, 0xff, 0xff, 0xff]));
    assert!(!shape::fits(&metadata.shape, 9, true, &[0xff, 0xff, 0xff, 0xff, 0x07]));
    assert!(!shape::fits(&metadata.shape, 9, true, &[0xff; 40]));
    assert!(shape::fits(&metadata.shape, 1, false, &[0xff; 4]), "none at all is a request for all topics");
    // A million elements of one byte each: more than anybody needs.
    let mut many = vec![0, 0x0f, 0x42, 0x40];
    many.resize(4 << 20, 0);
    assert!(!shape::fits(&metadata.shape, 1, false, &many));
}
