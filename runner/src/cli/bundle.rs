//! `smack debug bundle`: what whoever helps wants to see, in one file, without secrets.
//!
//! Invariant: nothing goes into the file that [`Redacted`] has not seen; what could not be had is listed and no reason to
//! stop, because the cluster may be what is broken.

use super::exit::{FAILED, Fail, Result};
use super::output::Output;
use crate::client::{self, Client};
use crate::view::JobView;
use flate2::Compression;
use flate2::write::GzEncoder;
use regex::{Captures, Regex};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Of the end of each log.
const LOG_BYTES: u64 = 256 << 10;
/// Tasks whose logs are taken: of those that fail or run, the latest.
const TASKS_MAX: usize = 100;
/// What every bundle has, by the path of the API.
const ANSWERS: [&str; 7] = ["version", "jobs", "cluster", "models", "runs", "schedules", "sweeps"];
/// Variables with these beginnings say how it was set up.
const VARIABLES: [&str; 4] = ["SMACK_", "OTEL_", "RUST_", "MALLOC_"];

pub async fn bundle(client: &Client, output: Output, to: Option<PathBuf>) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let name = format!("smack-debug-{now}");
    let path = to.unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    let failed = |error: std::io::Error| Fail::new(FAILED, format!("failed to write {}: {error}", path.display()));
    let mut bundle = Bundle::create(&path, name, now, Redacted::new(client.token())).map_err(failed)?;
    bundle.add("machine.txt", &machine()).map_err(failed)?;
    gather(client, output, &mut bundle).await.map_err(failed)?;
    let n_missing = bundle.missing.len();
    let bytes = bundle.finish().map_err(failed)?;
    let size = super::human::bytes(bytes);
    output.progress(&match n_missing {
        0 => format!(
            "wrote {} ({size}); secrets are starred, but look through it before you give it away",
            path.display()
        ),
        n => format!("wrote {} ({size}); {n} things could not be had, see missing.txt in it", path.display()),
    });
    output.line(&path.display().to_string())
}

async fn gather(client: &Client, output: Output, bundle: &mut Bundle) -> std::io::Result<()> {
    output.progress("asking the runner …");
    let mut jobs: Vec<JobView> = Vec::new();
    for what in ANSWERS {
        let answer = client.text(&[what], "").await;
        if let ("jobs", Ok(text)) = (what, &answer) {
            jobs = serde_json::from_str::<crate::view::JobsView>(text).map(|view| view.jobs).unwrap_or_default();
        }
        bundle.answer(&format!("api/{what}.json"), answer)?;
    }
    for job in &jobs {
        let file = format!("jobs/{}", job.id);
        bundle.answer(&format!("{file}/why.json"), client.text(&["why"], &job.id).await)?;
        if matches!(job.kind.as_str(), "stream" | "train") {
            let dataflow = client.text(&["jobs"], &format!("{}/dataflow", job.id)).await;
            bundle.answer(&format!("{file}/dataflow.json"), dataflow)?;
        }
    }
    output.progress("asking every member how it does …");
    match client.targets().await {
        Ok(targets) => {
            for target in targets {
                let role = target.labels.get("role").cloned().unwrap_or_default();
                for address in target.targets {
                    let answer = client.metrics_of(&address).await;
                    bundle.answer(&format!("metrics/{role}-{}.txt", address.replace([':', '/'], "-")), answer)?;
                }
            }
        }
        Err(error) => bundle.missing.push(format!("metrics: {error}")),
    }
    output.progress("reading logs …");
    let mut tasks: Vec<_> = jobs.iter().flat_map(|job| &job.tasks).collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.state == "failed"));
    for task in tasks.into_iter().take(TASKS_MAX) {
        for stream in ["stdout", "stderr"] {
            let text = tail(client, &task.id, stream).await;
            bundle.answer(&format!("logs/{}.{stream}", task.id.replace('/', "-")), text)?;
        }
    }
    Ok(())
}

async fn tail(client: &Client, task: &str, stream: &str) -> client::Result<String> {
    // Nothing is read behind the end, but how long it is.
    let size = client.logs(task, stream, u64::MAX >> 1).await?.size_bytes;
    let piece = client.logs(task, stream, size.saturating_sub(LOG_BYTES)).await?;
    Ok(String::from_utf8_lossy(&piece.bytes).into_owned())
}

/// What this command sees of the machine that it runs on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let first = |text: String, n: usize| text.lines().take(n).collect::<Vec<_>>().join("\n");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut variables: Vec<String> = std::env::vars()
        .filter(|(name, _)| VARIABLES.iter().any(|beginning| name.starts_with(beginning)))
        .map(|(name, value)| match connectors::secrets::is_secret(&name) && !name.ends_with("_FILE") {
            true => format!("{name}=***"),
            false => format!("{name}={value}"),
        })
        .collect();
    variables.sort();
    format!(
        "smack {}\n{}\n{}\n{cores} cores\n{}\nload {}\n{}\n",
        env!("CARGO_PKG_VERSION"),
        read("/proc/version").trim(),
        first(read("/etc/os-release"), 1),
        first(read("/proc/meminfo"), 3),
        read("/proc/loadavg").trim(),
        variables.join("\n")
    )
}

/// Takes secrets out of a text: values of secret options, and this cluster's own token.
struct Redacted {
    token: Option<String>,
    unquoted: Option<Regex>,
}

impl Redacted {
    fn new(token: Option<&str>) -> Self {
        let secret = r"pas+w[a-z]*d|pwd|passphrase|secret|token|access[._-]?key|authorization|bearer|credential";
        // In logs and command lines they stand without quotes, and in JSON with escaped ones.
        let unquoted = Regex::new(&format!(
            r#"(?i)((?:{secret})[\w.\-]*\\?["']?\s*[=: ]\s*(?:bearer\s+)?)\\?["']?([^\s"',;&\\]+)"#
        ));
        let token = token.filter(|token| !token.is_empty()).map(str::to_string);
        Self { token, unquoted: unquoted.ok() }
    }

    fn text(&self, text: &str) -> String {
        let Some(unquoted) = &self.unquoted else { return String::new() };
        let mut shown = connectors::secrets::hide(text).into_owned();
        if let Some(token) = &self.token {
            shown = shown.replace(token.as_str(), "***");
        }
        let star = |found: &Captures<'_>| format!("{}***", &found[1]);
        unquoted.replace_all(&shown, star).into_owned()
    }
}

struct Bundle {
    archive: tar::Builder<GzEncoder<std::fs::File>>,
    folder: String,
    now: u64,
    redacted: Redacted,
    missing: Vec<String>,
}

impl Bundle {
    fn create(path: &Path, folder: String, now: u64, redacted: Redacted) -> std::io::Result<Self> {
        let file = std::fs::File::create(path)?;
        let archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        Ok(Self { archive, folder, now, redacted, missing: Vec::new() })
    }

    fn answer(&mut self, name: &str, answer: client::Result<String>) -> std::io::Result<()> {
        match answer {
            Ok(text) => self.add(name, &text),
            Err(error) => {
                self.missing.push(format!("{name}: failed to {error}"));
                Ok(())
            }
        }
    }

    fn add(&mut self, name: &str, text: &str) -> std::io::Result<()> {
        let text = self.redacted.text(text);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.now);
        self.archive.append_data(&mut header, format!("{}/{name}", self.folder), text.as_bytes())
    }

    /// Bytes of the file.
    fn finish(mut self) -> std::io::Result<u64> {
        if !self.missing.is_empty() {
            let missing = self.missing.join("\n") + "\n";
            self.add("missing.txt", &missing)?;
        }
        let mut file = self.archive.into_inner()?.finish()?;
        file.flush()?;
        Ok(file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_starred_however_they_are_written() {
        let redacted = Redacted::new(Some("tok-123"));
        for text in [
            "sasl.password = 'hunter2'",
            "sasl.password=hunter2 topic=a",
            "Authorization: Bearer hunter2",
            r#"{"text": "'sasl.password' = \"hunter2\""}"#,
            "AWS_SECRET_ACCESS_KEY=hunter2",
            "https://x/?token=hunter2&a=b",
        ] {
            let shown = redacted.text(text);
            assert!(!shown.contains("hunter2") && shown.contains("**"), "{shown}");
        }
        assert_eq!(redacted.text("it said tok-123 twice: tok-123"), "it said *** twice: ***");
        assert_eq!(redacted.text("12 rows, topic 'payments'"), "12 rows, topic 'payments'");
    }
}
