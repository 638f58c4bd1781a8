//! The program under test, run once to its end.

use crate::wait::patience;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A job file that is shipped.
pub fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name).canonicalize().expect("a shipped example")
}

/// The program. It has a second name, by which it stays what it was when the tests began: a build may replace the
/// first one meanwhile, and a cluster that starts a killed member again would start another program.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_smack"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("under-test");
        let second = folder.join("smack");
        let linked = std::fs::create_dir_all(&folder)
            .and_then(|()| match std::fs::remove_file(&second) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            })
            .and_then(|()| std::fs::hard_link(&built, &second));
        if linked.is_ok() { second } else { built }
    })
}

/// The program in `folder`, without what the tester's environment may say to it.
pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(folder).args(args).stdin(Stdio::null()).env("NO_COLOR", "1");
    for variable in
        ["SMACK_RUNNER", "SMACK_MASTER", "SMACK_TOKEN_FILE", "SMACK_LOG", "SMACK_LOG_FORMAT", "SMACK_BROKERS"]
    {
        command.env_remove(variable);
    }
    for variable in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] {
        command.env_remove(variable);
    }
    for variable in ["SMACK_TLS_CERT", "SMACK_TLS_KEY", "SMACK_TLS_CA"] {
        command.env_remove(variable);
    }
    // On a machine that does other things too an agent may be silent for a while, and no test is about that: one that is
    // killed is started again.
    command.env("SMACK_AGENT_TIMEOUT", "60s");
    command
}

/// How it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code; standard output:\n{}\nstandard error:\n{}", self.out, self.err);
        self
    }

    /// Standard error, which must have all of these in it.
    #[track_caller]
    pub fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.err.contains(word), "'{word}' is not in standard error:\n{}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("no JSON ({error}): {}\n{}", self.out, self.err))
    }
}

pub fn smack(folder: &Path, args: &[&str]) -> Ran {
    ended(command(folder, args))
}

/// Runs it to its end; one that does not end is killed and has no exit code.
pub fn ended(command: Command) -> Ran {
    interrupted(command, |_| false)
}

/// The same, but presses Ctrl-C once what it wrote on standard output and error is `enough`.
pub fn interrupted(mut command: Command, enough: impl Fn(&Ran) -> bool) -> Ran {
    // Files rather than pipes: a daemon that was left behind would keep a pipe open for ever.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    command.stdout(File::create(&out).expect("a file")).stderr(File::create(&err).expect("a file"));
    let mut child = command.spawn().expect("the program starts");
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).expect("its output")).into_owned();
    let so_far = |code| Ran { code, out: read(&out), err: read(&err) };
    let until = Instant::now() + patience();
    let mut pressed = false;
    loop {
        if let Some(status) = child.try_wait().expect("the program can be waited for") {
            return so_far(status.code());
        }
        if Instant::now() > until {
            child.kill().expect("the program can be killed");
            child.wait().expect("the program can be waited for");
            return so_far(None);
        }
        if !pressed && enough(&so_far(None)) {
            pressed = true;
            kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("it still runs");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
