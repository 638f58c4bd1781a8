//! A framework in another language, made from the .proto files alone, against a real master.
//!
//! It needs Python and a few packages, which are installed once into a virtual environment below the target folder. Where
//! that cannot be done the test says so and passes, but not where `CI` is `true`.

use crate::cluster::Cluster;
use crate::program::ended;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/frameworks/python").canonicalize().expect("the framework")
}

/// A Python that has what the framework needs.
fn python() -> Result<PathBuf, String> {
    let requirements = folder().join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).expect("the requirements");
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("framework-python");
    let python = environment.join("bin/python");
    let installed = environment.join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    step(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    step(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements))?;
    std::fs::write(installed, wanted).expect("a file");
    Ok(python)
}

fn step(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

#[test]
fn a_python_framework_runs_a_command() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no Python for the framework: {why}");
            eprintln!(
                "SKIPPED: no Python for the framework: {why}\nTo run it: start `smack dev`, install {}/requirements.txt, \
                 and start framework.py there with --master and the address in .smack/dev.json",
                folder().display()
            );
            return;
        }
    };
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
