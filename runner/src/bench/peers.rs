//! The systems that figures are compared with: run on request, on the same inputs, in the same run.
//!
//! Invariant: a peer lives in a virtual environment of its own below the user's cache folder, with pinned packages; it is
//! installed when first asked for and its absence is an error that says how to mend it.

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A peer in Python.
pub struct Peer {
    /// As it stands beside a figure.
    pub name: &'static str,
    /// For pip.
    packages: &'static [&'static str],
}

pub const JAX: Peer = Peer { name: "JAX 0.10.2", packages: &["jax==0.10.2", "jaxlib==0.10.2", "numpy==2.4.6"] };

pub const TORCH: Peer = Peer { name: "PyTorch 2.15", packages: &["torch==2.15.0", "numpy==2.4.6"] };

impl Peer {
    /// Runs `script` with `args` and reads the JSON that it prints.
    pub fn run<T: DeserializeOwned>(&self, script: &Path, args: &[&str]) -> anyhow::Result<T> {
        let python = self.python()?;
        let output = Command::new(&python)
            .arg(script)
            .args(args)
            .output()
            .with_context(|| format!("failed to start {}", python.display()))?;
        if !output.status.success() {
            bail!("failed to run {}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("failed to understand what {} printed", self.name))
    }

    fn python(&self) -> anyhow::Result<PathBuf> {
        let folder = cache_folder()?.join("peers").join(self.packages.join("+"));
        let python = folder.join("bin/python");
        let complete = folder.join("complete");
        if !complete.exists() {
            eprintln!("installing {} into {} …", self.name, folder.display());
            step(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
            step(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(self.packages))?;
            std::fs::write(&complete, "").with_context(|| format!("failed to write {}", complete.display()))?;
        }
        Ok(python)
    }
}

/// Where this program keeps what is costly to make again.
pub fn cache_folder() -> anyhow::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .context("failed to find a cache folder: set HOME or XDG_CACHE_HOME")?;
    Ok(cache.join("smack"))
}

fn step(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| {
        format!("failed to start {command:?}: peers need python3 with venv (on Debian: apt-get install python3-venv)")
    })?;
    if !output.status.success() {
        bail!("failed to run {command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
