//! The generated Rust of `scheduler/wire`, and of what training says to other programs, is what the `.proto` files say.
//!
//! Invariant: pure Rust (protox parses the files), so no protoc is needed here either.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

const PROTOS: [&str; 3] = ["smack/v1/types.proto", "smack/v1/master.proto", "smack/v1/task.proto"];

#[test]
fn generated_code_is_what_the_protos_say() -> Result<()> {
    let wire = crate::root().join("scheduler/wire");
    let mut listed: Vec<String> = fs::read_dir(wire.join("proto/smack/v1"))?
        .map(|entry| Ok(format!("smack/v1/{}", entry?.file_name().to_string_lossy())))
        .collect::<Result<_>>()?;
    listed.sort();
    let mut known = PROTOS.map(String::from);
    known.sort();
    ensure!(
        listed == known,
        "proto files {listed:?}, but code is generated from {known:?}: add the new one to the list"
    );
    check(&PROTOS, &wire.join("proto"), &wire.join("src/generated/smack.v1.rs"))
}

#[test]
fn the_code_for_onnx_is_what_its_proto_says() -> Result<()> {
    let training = crate::root().join("jobs/training");
    check(&["onnx.proto"], &training.join("proto"), &training.join("src/exchange/onnx/generated/onnx.rs"))
}

/// `committed` is called as what is generated.
fn check(protos: &[&str], folder: &Path, committed: &Path) -> Result<()> {
    let out = tempfile::tempdir()?;
    let descriptors = protox::compile(protos, [folder])?;
    tonic_prost_build::configure()
        // Maps in order, so that what is printed or hashed is the same twice.
        .btree_map(".")
        .emit_rerun_if_changed(false)
        .out_dir(out.path())
        .compile_fds(descriptors)?;
    let fresh = fs::read_to_string(out.path().join(committed.file_name().context("a file")?))?;

    if std::env::var_os("SMACK_REGENERATE").is_some() {
        fs::write(committed, &fresh).with_context(|| format!("write {}", committed.display()))?;
        return Ok(());
    }
    let known = fs::read_to_string(committed)?;
    let differs_at = fresh.lines().zip(known.lines()).position(|(a, b)| a != b);
    ensure!(
        fresh == known,
        "{} is not what the .proto files say (first difference at line {}): run SMACK_REGENERATE=1 cargo test -p tests \
         --test tidy",
        committed.display(),
        differs_at.unwrap_or_else(|| fresh.lines().count().min(known.lines().count())) + 1,
    );
    Ok(())
}
