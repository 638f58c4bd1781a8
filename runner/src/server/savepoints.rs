//! Checkpoints that are kept: which there are, and those that a person gives a name.

use super::owner::{Owner, chain, now_ms};
use crate::view::CheckpointView;
use jobs::JobSpec;
use streaming::coordinator::manifest;
use streaming::coordinator::savepoints::{self, Listed};
use streaming::runtime::Folder;

/// Of each stream that `subject` means.
pub async fn list(owner: &Owner, subject: String) -> Result<Vec<CheckpointView>, String> {
    let mut views = Vec::new();
    for (job, folder) in owner.checkpoint_folders_of(subject).await? {
        let checkpoints = Folder::open(&folder).map_err(|error| chain(&error))?;
        let listed =
            savepoints::list(&checkpoints).await.map_err(|error| failed("list", job.as_str(), &folder, &error))?;
        views.extend(listed.into_iter().map(|listed| view(job.as_str(), listed)));
    }
    Ok(views)
}

/// Gives the last checkpoint of each stream that `subject` means this name: of all of them, or of none.
pub async fn make(owner: &Owner, subject: String, name: &str) -> Result<Vec<CheckpointView>, String> {
    let folders = owner.checkpoint_folders_of(subject).await?;
    let mut made: Vec<(Folder, CheckpointView)> = Vec::new();
    for (job, folder) in folders {
        match make_one(job.as_str(), &folder, name).await {
            Ok(one) => made.push(one),
            Err(error) => {
                for (checkpoints, _) in made {
                    let _ = savepoints::remove(&checkpoints, name).await;
                }
                return Err(error);
            }
        }
    }
    Ok(made.into_iter().map(|(_, view)| view).collect())
}

async fn make_one(job: &str, folder: &str, name: &str) -> Result<(Folder, CheckpointView), String> {
    let checkpoints = Folder::open(folder).map_err(|error| chain(&error))?;
    let failed = |error: manifest::Error| failed("keep", job, folder, &error);
    let Some(latest) = manifest::latest(&checkpoints).await.map_err(failed)? else {
        return Err(format!("{job} has no checkpoint yet that could be kept"));
    };
    let manifest = savepoints::make(&checkpoints, name, latest.epoch).await.map_err(failed)?;
    let view = view(job, Listed { name: Some(name.to_string()), manifest, written_ms: now_ms() });
    Ok((checkpoints, view))
}

/// Gives the streams that had a savepoint of this name.
pub async fn remove(owner: &Owner, subject: String, name: &str) -> Result<Vec<String>, String> {
    let mut had = Vec::new();
    for (job, folder) in owner.checkpoint_folders_of(subject.clone()).await? {
        let checkpoints = Folder::open(&folder).map_err(|error| chain(&error))?;
        let removed = savepoints::remove(&checkpoints, name).await;
        if removed.map_err(|error| failed("drop a savepoint of", job.as_str(), &folder, &error))? {
            had.push(job.to_string());
        }
    }
    match had.is_empty() {
        true => Err(format!("'{subject}' has no savepoint '{name}'; `smack checkpoint {subject} --ls` lists them")),
        false => Ok(had),
    }
}

/// Refuses a submission that is to go on from what one of its streams does not have.
pub async fn check(owner: &Owner, specs: &[JobSpec], from: &str) -> Result<(), String> {
    let folders = owner.checkpoint_folders().await?;
    for spec in specs {
        let Some(folder) = folders.get(&spec.id) else { continue };
        let checkpoints = Folder::open(folder).map_err(|error| chain(&error))?;
        let found = savepoints::find(&checkpoints, from).await;
        found.map_err(|error| failed("go on from a checkpoint of", spec.id.as_str(), folder, &error))?;
    }
    Ok(())
}

fn view(job: &str, Listed { name, manifest, written_ms }: Listed) -> CheckpointView {
    CheckpointView {
        job: job.to_string(),
        epoch: manifest.epoch,
        name,
        bytes: manifest.bytes(),
        bytes_written: manifest.bytes_written(),
        age_ms: now_ms().saturating_sub(written_ms),
    }
}

fn failed(doing: &str, job: &str, folder: &str, error: &manifest::Error) -> String {
    format!("failed to {doing} {job} in {folder}: {}", chain(error))
}
