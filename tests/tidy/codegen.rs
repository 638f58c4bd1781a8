//! The generated Rust of `scheduler/wire` is what its `.proto` files say.
//!
//! Invariant: pure Rust (protox parses the files), so no protoc is needed here either.

use anyhow::{Context, Result, ensure};
use std::fs;

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

    let out = tempfile::tempdir()?;
    let descriptors = protox::compile(PROTOS, [wire.join("proto")])?;
    tonic_prost_build::configure()
        // Maps in order, so that what is printed or hashed is the same twice.
        .btree_map(".")
        .emit_rerun_if_changed(false)
        .out_dir(out.path())
        .compile_fds(descriptors)?;
    let fresh = fs::read_to_string(out.path().join("smack.v1.rs"))?;

    let committed_path = wire.join("src/generated/smack.v1.rs");
    if std::env::var_os("SMACK_REGENERATE").is_some() {
        fs::write(&committed_path, &fresh).with_context(|| format!("write {}", committed_path.display()))?;
        return Ok(());
    }
    let committed = fs::read_to_string(&committed_path)?;
    let differs_at = fresh.lines().zip(committed.lines()).position(|(a, b)| a != b);
    ensure!(
        fresh == committed,
        "{} is not what the .proto files say (first difference at line {}): run SMACK_REGENERATE=1 cargo test -p tests \
         --test tidy",
        committed_path.display(),
        differs_at.unwrap_or_else(|| fresh.lines().count().min(committed.lines().count())) + 1,
    );
    Ok(())
}
