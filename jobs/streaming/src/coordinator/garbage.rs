//! What of a checkpoint folder is no longer needed.
//!
//! A file goes when no manifest that is kept names it, and none that is still to come can. Every file has the number of an
//! epoch in its name, and what a manifest names of a slice's state is what an earlier one named, what was written since,
//! and folds of these. So, with `latest` the newest manifest:
//!
//! - A file of an epoch after `latest` may be named by a manifest that is being made, and stays. That holds for files of any
//!   generation: one that was overtaken may just have created its last manifest.
//! - A fold has the number of the last change that is in it. It can come into its slice's chain only while that change is
//!   part of it, so not once the chain of `latest` begins later.
//! - Any other file that no kept manifest names was written for an epoch that failed, or is part of a fold by now.
//!
//! Invariant: no file goes that a kept manifest names, a savepoint, or a manifest that is published later.

use super::manifest::{self, Error};
use super::savepoints;
use crate::control::Manifest;
use crate::runtime::store::Folder;
use std::collections::BTreeSet;

/// Removes manifests but the newest `retain`, and files that are not needed.
pub async fn collect(folder: &Folder, retain: usize) -> Result<(), Error> {
    // What is listed first is named, or too new to go, when manifests are read.
    let mut files = folder.list("epochs").await?;
    files.extend(folder.list("folds").await?);
    let mut epochs = manifest::epochs(folder).await?;
    let kept = epochs.split_off(epochs.len().saturating_sub(retain.max(1)));
    // Manifests first: one without its files would look like a loss.
    for epoch in epochs {
        folder.delete(&manifest::manifest_file(epoch)).await?;
    }
    // Only now: whoever makes a savepoint looks afterwards whether its manifest is still there.
    let mut manifests = savepoints::all(folder).await?;
    let mut latest = None;
    for epoch in kept {
        match manifest::read(folder, epoch).await {
            Ok(manifest) => {
                manifests.push(manifest.clone());
                latest = Some(manifest);
            }
            Err(Error::Store(error)) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
    }
    let Some(latest) = latest else { return Ok(()) };
    for file in over(&files, &manifests, &latest) {
        folder.delete(file).await?;
    }
    Ok(())
}

/// Of files that were listed before, those that nobody needs, given all manifests that are kept and the newest one.
pub(super) fn over<'a>(files: &'a [String], kept: &[Manifest], latest: &Manifest) -> Vec<&'a str> {
    let named: BTreeSet<&str> = kept.iter().flat_map(Manifest::files).collect();
    let unnamed = files.iter().map(String::as_str).filter(|file| !named.contains(file));
    unnamed.filter(|file| is_over(file, latest)).collect()
}

/// Whether no manifest after `latest` can name a file that `latest` does not name.
fn is_over(file: &str, latest: &Manifest) -> bool {
    let mut parts = file.split('/');
    let (folder, number) = (parts.next(), parts.next().and_then(|number| number.parse::<u64>().ok()));
    // What has another name is not ours.
    let Some(number) = number else { return false };
    if number > latest.epoch {
        return false;
    }
    if folder == Some("epochs") {
        return true;
    }
    // ID-SLOT.N.state
    let writer = parts.next_back().and_then(|name| name.split('.').next()?.rsplit_once('-'));
    let Some((operator, slot)) = writer.and_then(|(operator, slot)| Some((operator, slot.parse::<u32>().ok()?))) else {
        return false;
    };
    let chains = latest.tasks.iter().flat_map(|task| task.state.get(operator).into_iter().flatten());
    let mut begins = chains.filter(|chain| chain.slot == slot).filter_map(|chain| chain.files.first());
    begins.any(|file| {
        file.name.split('/').nth(1).and_then(|begin| begin.parse().ok()).is_some_and(|begin: u64| begin > number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Chain, StateFile, TaskSnapshot};
    use std::collections::BTreeMap;

    async fn put(folder: &Folder, name: &str) {
        folder.put(name, vec![1]).await.expect("put");
    }

    async fn publish(folder: &Folder, epoch: u64, files: &[&str]) {
        let files = files.iter().map(|name| StateFile { name: name.to_string(), bytes: 1 }).collect();
        let chain = Chain { slot: 0, n_slots: 1, watermark_us: 0, files };
        let sink = format!("epochs/{epoch:010}/1/sink-0.sink");
        put(folder, &sink).await;
        let task = TaskSnapshot {
            state: BTreeMap::from([("window-7".to_string(), vec![chain])]),
            prepared: BTreeMap::from([("sink".to_string(), vec![sink])]),
            ..TaskSnapshot::default()
        };
        let manifest = Manifest {
            format: manifest::FORMAT,
            job: "demo/count".into(),
            generation: 1,
            epoch,
            fingerprint: "f".into(),
            claimed_us: 1,
            tasks: vec![task],
            ..Manifest::default()
        };
        manifest::write(folder, &manifest).await.expect("published");
    }

    async fn is_there(folder: &Folder, name: &str) -> bool {
        folder.get(name).await.is_ok()
    }

    #[tokio::test]
    async fn what_a_kept_manifest_names_stays_however_old_it_is() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = Folder::local(dir.path()).expect("folder");
        let file = |epoch: u64| format!("epochs/{epoch:010}/1/window-7-0.state");
        for epoch in 1..=6 {
            put(&folder, &file(epoch)).await;
            // Epoch 3 failed on another slice, epoch 4 on this one.
            let files: Vec<String> = (1..=epoch).filter(|epoch| *epoch != 4).map(file).collect();
            if epoch != 3 && epoch != 4 {
                publish(&folder, epoch, &files.iter().map(String::as_str).collect::<Vec<_>>()).await;
            }
            collect(&folder, 2).await.expect("collected");
        }
        assert_eq!(manifest::epochs(&folder).await.expect("list"), [5, 6]);
        for epoch in 1..=6 {
            assert_eq!(is_there(&folder, &file(epoch)).await, epoch != 4, "epoch {epoch}");
            assert_eq!(
                is_there(&folder, &format!("epochs/{epoch:010}/1/sink-0.sink")).await,
                epoch > 4,
                "epoch {epoch}"
            );
        }
        // From here on the chain begins with a fold.
        let folds = ["folds/0000000005/1/window-7-0.0.state", "folds/0000000006/1/window-7-0.1.state"];
        for fold in folds {
            put(&folder, fold).await;
        }
        collect(&folder, 2).await.expect("collected");
        assert!(is_there(&folder, folds[0]).await, "it may still come into the chain");
        savepoints::make(&folder, "before", 6).await.expect("a savepoint");
        put(&folder, &file(7)).await;
        put(&folder, "epochs/0000000009/1/window-7-0.state").await;
        publish(&folder, 7, &[folds[1], &file(7)]).await;
        collect(&folder, 1).await.expect("collected");
        assert_eq!(manifest::epochs(&folder).await.expect("list"), [7]);
        assert!(!is_there(&folder, folds[0]).await, "the chain begins after it");
        assert!(is_there(&folder, "epochs/0000000009/1/window-7-0.state").await, "a later manifest may name it");
        for epoch in [1, 2, 3, 5, 6] {
            assert!(is_there(&folder, &file(epoch)).await, "the savepoint needs epoch {epoch}");
        }
        let text = savepoints::make(&folder, "before", 7).await.expect_err("another of that name").to_string();
        assert!(text.contains("before") && text.contains("epoch 6"), "{text}");
        assert_eq!(savepoints::names(&folder).await.expect("names"), ["before"]);
        assert!(savepoints::remove(&folder, "before").await.expect("removed"));
        assert!(!savepoints::remove(&folder, "before").await.expect("not there"));
        collect(&folder, 1).await.expect("collected");
        assert!(!is_there(&folder, &file(1)).await);
        assert!(is_there(&folder, folds[1]).await && is_there(&folder, &file(7)).await);
    }

    #[tokio::test]
    async fn nothing_goes_while_a_kept_manifest_cannot_be_read() {
        let folder = Folder::memory();
        put(&folder, "epochs/0000000001/1/window-7-0.state").await;
        publish(&folder, 2, &[]).await;
        folder.put("savepoints/mine.json", b"{".to_vec()).await.expect("put");
        collect(&folder, 3).await.expect_err("damaged");
        assert!(is_there(&folder, "epochs/0000000001/1/window-7-0.state").await);
    }

    #[test]
    fn names_of_savepoints() {
        assert_eq!(savepoints::refuse_name("before-upgrade_2.1"), None);
        for name in ["", ".hidden", "a/b", "41", "a b"] {
            assert!(savepoints::refuse_name(name).is_some(), "{name}");
        }
    }
}
