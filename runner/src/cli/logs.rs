//! `logs`: what tasks wrote, once or for as long as they write.

use super::exit::{FAILED, Fail, Result};
use super::lists::unknown;
use super::output::Output;
use super::submit::is_over;
use crate::client::{self, Client};
use crate::view::{JobView, TaskView};
use jobs::TaskState;
use std::collections::BTreeMap;
use std::time::Duration;

/// One answer holds at most what the runner wants to send at once; more is asked for until the end is reached.
const POLL: Duration = Duration::from_millis(300);

pub struct LogsOptions {
    /// A task, a job or a group.
    pub subject: String,
    pub follow: bool,
    pub stderr: bool,
}

/// Where we are in one task's log.
#[derive(Default)]
struct Reading {
    offset_bytes: u64,
    /// A line whose end has not come yet.
    begun: Vec<u8>,
}

pub async fn logs(client: &Client, output: Output, options: &LogsOptions) -> Result<()> {
    let stream = if options.stderr { "stderr" } else { "stdout" };
    let mut readings: BTreeMap<String, Reading> = BTreeMap::new();
    loop {
        let jobs = client.jobs().await?.jobs;
        let (tasks, over, prefix) = tasks_of(&jobs, &options.subject)?;
        for task in tasks {
            let reading = readings.entry(task.id.clone()).or_default();
            match read_on(client, output, &task.id, stream, reading, prefix).await {
                Ok(()) => {}
                // The sandbox of a task that was never started, or whose agent is away, cannot be read; others can.
                Err(client_error) if prefix || options.follow => match client_error {
                    ReadFail::Client(client::Error::Refused { .. }) => {}
                    other => return Err(other.into()),
                },
                Err(other) => return Err(other.into()),
            }
        }
        if !options.follow || over {
            for (task, reading) in &mut readings {
                if !reading.begun.is_empty() {
                    let rest = std::mem::take(&mut reading.begun);
                    write_lines(output, task, &rest, prefix)?;
                    output.line("")?;
                }
            }
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The tasks that a subject means, whether all of them are over, and whether lines need their task's name before them.
fn tasks_of<'a>(jobs: &'a [JobView], subject: &str) -> Result<(Vec<&'a TaskView>, bool, bool)> {
    let named: Vec<&JobView> = jobs.iter().filter(|job| job.id == subject || job.group == subject).collect();
    if !named.is_empty() {
        let over = named.iter().all(|job| is_over(&job.state));
        return Ok((named.iter().flat_map(|job| &job.tasks).collect(), over, true));
    }
    let tasks = || jobs.iter().flat_map(|job| &job.tasks);
    match tasks().find(|task| task.id == subject) {
        Some(task) => {
            let over = TaskState::ALL.iter().any(|state| state.is_terminal() && state.as_str() == task.state);
            Ok((vec![task], over, false))
        }
        None => {
            let known: Vec<&str> = tasks()
                .map(|task| task.id.as_str())
                .chain(jobs.iter().flat_map(|job| [job.id.as_str(), job.group.as_str()]))
                .collect();
            Err(unknown("task, job or group", subject, known))
        }
    }
}

enum ReadFail {
    Client(client::Error),
    Write(Fail),
}

impl From<ReadFail> for Fail {
    fn from(fail: ReadFail) -> Self {
        match fail {
            ReadFail::Client(client::Error::Refused { status: 404, failure }) => {
                Fail::new(FAILED, format!("{}; a task has a log from its start on its agent", failure.error))
            }
            ReadFail::Client(error) => error.into(),
            ReadFail::Write(fail) => fail,
        }
    }
}

/// Reads to the present end of the log and writes what came.
async fn read_on(
    client: &Client,
    output: Output,
    task: &str,
    stream: &str,
    reading: &mut Reading,
    prefix: bool,
) -> std::result::Result<(), ReadFail> {
    loop {
        let piece = client.logs(task, stream, reading.offset_bytes).await.map_err(ReadFail::Client)?;
        if piece.bytes.is_empty() {
            return Ok(());
        }
        // Later than was asked for, if what stood there is not kept any more.
        reading.offset_bytes = piece.offset_bytes + piece.bytes.len() as u64;
        if prefix {
            reading.begun.extend_from_slice(&piece.bytes);
            // Only whole lines, so that two tasks never share one.
            if let Some(end) = reading.begun.iter().rposition(|byte| *byte == b'\n') {
                let rest = reading.begun.split_off(end + 1);
                let lines = std::mem::replace(&mut reading.begun, rest);
                write_lines(output, task, &lines, true).map_err(ReadFail::Write)?;
            }
        } else {
            output.raw(&piece.bytes).map_err(ReadFail::Write)?;
        }
        if reading.offset_bytes >= piece.size_bytes {
            return Ok(());
        }
    }
}

fn write_lines(output: Output, task: &str, bytes: &[u8], prefix: bool) -> Result<()> {
    if !prefix {
        return output.raw(bytes);
    }
    output.raw(&prefixed(task, bytes))
}

fn prefixed(task: &str, bytes: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(bytes.len() + 64);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        shown.extend_from_slice(task.as_bytes());
        shown.extend_from_slice(b" | ");
        shown.extend_from_slice(line);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, state: &str, tasks: &[(&str, &str)]) -> JobView {
        let task = |(id, state): &(&str, &str)| TaskView {
            id: id.to_string(),
            state: state.to_string(),
            ..TaskView::default()
        };
        JobView {
            id: id.to_string(),
            group: id.split('/').next().unwrap().to_string(),
            state: state.to_string(),
            tasks: tasks.iter().map(task).collect(),
            ..JobView::default()
        }
    }

    #[test]
    fn a_subject_is_a_task_a_job_or_a_group() {
        let jobs = [
            job("a/x", "finished", &[("a.x.1.0", "finished"), ("a.x.1.1", "finished")]),
            job("a/y", "running", &[("a.y.1.0", "running")]),
        ];
        let of = |subject: &str| tasks_of(&jobs, subject).map(|(tasks, over, prefix)| (tasks.len(), over, prefix));
        assert_eq!(of("a").ok(), Some((3, false, true)));
        assert_eq!(of("a/x").ok(), Some((2, true, true)));
        assert_eq!(of("a.y.1.0").ok(), Some((1, false, false)));
        assert_eq!(of("a.x.1.1").ok(), Some((1, true, false)));
        let told = of("a.y.1.1x").unwrap_err().render(false, false);
        assert!(told.contains("did you mean"), "{told}");
    }

    #[test]
    fn lines_carry_their_task() {
        assert_eq!(prefixed("t", b"a\nb\n"), b"t | a\nt | b\n");
    }
}
