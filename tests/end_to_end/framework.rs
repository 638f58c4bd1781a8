//! A framework in another language, made from the .proto files alone, against a real master.
//!
//! It needs Python and a few packages, see [`python`].

use crate::cluster::Cluster;
use crate::program::ended;
use crate::python;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/frameworks/python").canonicalize().expect("the framework")
}

#[test]
fn a_python_framework_runs_a_command() {
    let by_hand = "start `smack dev`, then framework.py with --master and the address in .smack/dev.json";
    let Some(python) = python::with("framework", &folder().join("requirements.txt"), by_hand) else { return };
    let cluster = Cluster::start();
    let mut framework = Command::new(python);
    framework
        .arg(folder().join("framework.py"))
        .args(["--master", &cluster.master, "--", "/bin/sh", "-c", "echo hello > \"$0\""])
        .arg(cluster.path("hello"));
    let ran = ended(framework).expect(0);
    for word in ["subscribed as", "declining", "accepting", "is RUNNING", "finished after"] {
        assert!(ran.out.contains(word), "'{word}' is not in:\n{}", ran.out);
    }
    assert_eq!(std::fs::read_to_string(cluster.path("hello")).expect("what the command wrote"), "hello\n");
    // The offer that it accepted was used for its task.
    let offers = cluster.smack(&["offers", "-o", "json"]).expect(0).json();
    let accepted = offers.as_array().expect("offers").iter().find(|offer| offer["state"] == "accepted");
    let task = accepted.and_then(|offer| offer["tasks"][0].as_str()).unwrap_or_default();
    assert!(task.starts_with("python-"), "{offers:#}");
}
