//! Changing verbs: `submit`, with its `--wait`, and `stop`.

use super::exit::{BAD_INPUT, FAILED, Fail, Result};
use super::lists::progress;
use super::output::{Output, table};
use crate::client::{self, Client};
use crate::view::{JobView, SubmitRequest, Submitted};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// A job file as a user named it: its text with what the target says, and the folder that relative paths in it are relative
/// to.
pub fn read_file(path: &Path, target: Option<&str>) -> Result<SubmitRequest> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fail::new(BAD_INPUT, format!("failed to read {file}: {error}")))?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let base_dir = std::path::absolute(folder)
        .map_err(|error| Fail::new(BAD_INPUT, format!("failed to find the folder of {file}: {error}")))?;
    let text = match target {
        Some(target) => crate::target::applied(&text, &file, &base_dir, target)
            .map_err(|error| Fail::new(BAD_INPUT, format!("{error:#}")))?,
        None => text,
    };
    Ok(SubmitRequest { text, file, base_dir: base_dir.display().to_string(), ..SubmitRequest::default() })
}

/// A refusal, with the mistakes shown in the file that was sent.
pub fn refused(request: &SubmitRequest, error: client::Error) -> Fail {
    match error {
        client::Error::Refused { failure, .. } if !failure.diagnostics.is_empty() => {
            Fail::mistakes(&request.file, &request.text, failure.diagnostics)
        }
        other => Fail::from(other),
    }
}

/// `resume`: whether, and from where if not from the last checkpoints.
pub async fn submit(
    client: &Client,
    output: Output,
    (path, target): (&Path, Option<&str>),
    wait: bool,
    resume: Option<Option<String>>,
) -> Result<()> {
    let request = SubmitRequest { resume: resume.is_some(), resume_from: resume.flatten(), ..read_file(path, target)? };
    let submitted = client.submit(&request).await.map_err(|error| refused(&request, error))?;
    if !wait {
        output.either(&submitted, show_submitted)?;
        output.progress(&format!(
            "see {0}, or: smack ps {1}; smack why {1}; smack stop {1}",
            client.url(),
            submitted.group
        ));
        return Ok(());
    }
    output.progress(&format!("submitted {}", submitted.jobs.join(", ")));
    let jobs = wait_for_end(client, output, &submitted).await?;
    output.either(&jobs, |jobs| {
        table(
            ["JOB", "STATE", "PROGRESS", "RESTARTS"],
            jobs.iter().map(|job| [job.id.clone(), job.state.clone(), progress(job), job.restarts.to_string()]),
        )
    })?;
    match jobs.iter().find(|job| job.state != "finished") {
        None => Ok(()),
        Some(job) => Err(Fail::new(FAILED, format!("{} {}: {}", job.id, job.state, job.why))),
    }
}

fn show_submitted(submitted: &Submitted) -> String {
    submitted.jobs.iter().map(|job| format!("{job}\n")).collect()
}

/// Whether a job in this state will not change by itself any more.
pub fn is_over(state: &str) -> bool {
    matches!(state, "finished" | "failed" | "stopped")
}

/// Returns when all jobs are over, or one of them failed or was stopped. A runner that is away is waited for: jobs go
/// on without it, and so does the wait.
async fn wait_for_end(client: &Client, output: Output, submitted: &Submitted) -> Result<Vec<JobView>> {
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let (mut away, began) = (false, Instant::now());
    loop {
        let jobs = match client.jobs().await {
            Ok(view) => view.jobs,
            Err(error @ client::Error::Unreachable { .. }) => {
                if !std::mem::replace(&mut away, true) {
                    output.progress(&format!("failed to {error}; waiting for it"));
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            Err(other) => return Err(other.into()),
        };
        away = false;
        let jobs: Vec<JobView> = jobs.into_iter().filter(|job| submitted.jobs.contains(&job.id)).collect();
        if jobs.len() < submitted.jobs.len() {
            let gone = submitted.jobs.iter().find(|id| !jobs.iter().any(|job| job.id == **id));
            return Err(Fail::new(FAILED, format!("the runner no longer knows {}", gone.map_or("", String::as_str))));
        }
        for job in &jobs {
            let word = match is_over(&job.state) {
                true => format!("{} {}: {}", job.id, job.state, progress(job)),
                false => format!("{} {}: {}", job.id, job.state, job.why),
            };
            // Numbers within the sentence change all the time; a line is worth it when the state does.
            let key = format!("{} {}", job.state, job.generation);
            if told.insert(job.id.clone(), key.clone()).is_none_or(|before| before != key) {
                output.progress(&word);
            }
        }
        crate::status::show(began, || {
            let works = jobs.iter().filter(|job| !is_over(&job.state));
            works.map(|job| format!("{} {}: {}", job.id, job.state, progress(job))).collect::<Vec<_>>().join("; ")
        });
        let ended_badly = jobs.iter().any(|job| matches!(job.state.as_str(), "failed" | "stopped"));
        if ended_badly || jobs.iter().all(|job| is_over(&job.state)) {
            return Ok(jobs);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub async fn stop(client: &Client, output: Output, subject: &str) -> Result<()> {
    let stopped = client.stop(subject).await?;
    output.either(&stopped, |stopped| stopped.jobs.iter().map(|job| format!("{job}\n")).collect())?;
    output.progress("stopping; each stream takes its last checkpoint first");
    Ok(())
}
