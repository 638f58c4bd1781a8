//! Doors: which addresses are refused, and what is said when one is taken or nobody answers.

use crate::cluster::Cluster;
use crate::program::smack;
use std::net::TcpListener;

#[test]
fn nobody_listens_for_other_machines_without_a_token() {
    let folder = tempfile::tempdir().expect("a folder");
    for daemon in ["master", "agent", "runner"] {
        let ran = smack(folder.path(), &[daemon, "--listen", "0.0.0.0:0", "--data-dir", daemon]).expect(1);
        ran.says(&["0.0.0.0:0", "--token-file"]);
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "stray folders");
}

#[test]
fn a_port_in_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("its address").port().to_string();
    let ran = smack(folder.path(), &["dev", "--port", &port]).expect(1);
    ran.says(&[&format!("port {port} is in use"), "--port"]);
    let address = format!("127.0.0.1:{port}");
    for daemon in ["master", "agent", "runner"] {
        let ran = smack(folder.path(), &[daemon, "--listen", &address, "--data-dir", daemon]).expect(1);
        ran.says(&[&address, "in use"]);
    }
}

#[test]
fn nobody_there() {
    let folder = tempfile::tempdir().expect("a folder");
    // Nobody is handed this port, while one that was let go may be somebody's by now.
    let runner = "http://127.0.0.1:1";
    let ran = smack(folder.path(), &["ps", "--runner", runner]).expect(3);
    ran.says(&[runner, "smack dev"]);
}

#[test]
fn a_second_cluster_in_the_folder() {
    let cluster = Cluster::start();
    let ran = cluster.smack(&["dev", "--port", "0"]).expect(1);
    ran.says(&["another `smack dev`", "--data-dir"]);
    // The first one is unharmed.
    let agents = cluster.smack(&["agents", "-o", "json"]).expect(0).json();
    assert_eq!(agents["agents"].as_array().map(Vec::len), Some(2), "{agents}");
    cluster.smack(&["offers"]).expect(0);
    cluster.smack(&["ps"]).expect(0);
}
