//! Nothing unfinished stays: no placeholder macros, no debug prints, no ignored tests, no tabs, and every source file
//! says in its first line what it is for.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Spelt in two halves so that this file does not find itself.
const FORBIDDEN: [(&str, &str); 5] =
    [("to", "do!("), ("unimple", "mented!("), ("db", "g!("), ("#[ig", "nore"), ("#[al", "low(")];

#[test]
fn nothing_unfinished_is_left() -> Result<()> {
    let root = crate::root();
    let mut wrong = Vec::new();
    for path in sources(&root)? {
        let text = fs::read_to_string(root.join(&path)).with_context(|| format!("read {}", path.display()))?;
        let generated = path.components().any(|part| part.as_os_str() == "generated");
        if generated {
            continue;
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{}:1: does not open with //! saying what the file is for", path.display()));
        }
        for (at, line) in text.lines().enumerate() {
            if line.contains('\t') {
                wrong.push(format!("{}:{}: a tab", path.display(), at + 1));
            }
            for (head, tail) in FORBIDDEN {
                if line.contains(&format!("{head}{tail}")) {
                    wrong.push(format!("{}:{}: {head}{tail}", path.display(), at + 1));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "left over:\n{}", wrong.join("\n"));
    Ok(())
}

/// The `.rs` files that git tracks or would track, relative to the root; without git, all outside build directories.
fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "--", "*.rs"])
        .current_dir(root)
        .output();
    let mut found: Vec<PathBuf> = match listed {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect()
        }
        _ => {
            let mut found = Vec::new();
            walk(root, Path::new(""), &mut found)?;
            found
        }
    };
    // A file deleted but not yet committed is still listed.
    found.retain(|path| root.join(path).exists());
    ensure!(!found.is_empty(), "no source files under {}", root.display());
    found.sort();
    Ok(found)
}

fn walk(root: &Path, under: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(under))? {
        let entry = entry?;
        let name = entry.file_name();
        let path = under.join(&name);
        if entry.file_type()?.is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                walk(root, &path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}
