//! A Python with some packages, installed once into a virtual environment below the target folder.
//!
//! Where that cannot be done a test says so, with how to run it by hand, and passes; but not where `CI` is `true`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter of the environment `name`, which has what `requirements` lists.
pub fn with(name: &str, requirements: &Path, by_hand: &str) -> Option<PathBuf> {
    match install(name, requirements) {
        Ok(python) => Some(python),
        Err(why) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no Python for {name}: {why}");
            eprintln!("SKIPPED: no Python for {name}: {why}\nTo run it: install {}, {by_hand}", requirements.display());
            None
        }
    }
}

fn install(name: &str, requirements: &Path) -> Result<PathBuf, String> {
    let wanted = std::fs::read_to_string(requirements).expect("the requirements");
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-python"));
    let python = environment.join("bin/python");
    let installed = environment.join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    step(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    step(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements))?;
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
