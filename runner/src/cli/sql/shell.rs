//! The shell: a line for a statement, which may go over several, with history and completion.
//!
//! What a session declares (tables of other places, views, settings) stays here and goes to the runner with each query, so
//! the runner has no sessions.

use super::words::{completions, declares, is_whole};
use super::{print, refused};
use crate::cli::exit::{FAILED, Fail, Result};
use crate::cli::output::Output;
use crate::client::Client;
use arrow::array::AsArray;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Context, Editor, Helper};
use std::path::PathBuf;
use std::time::Instant;

const HELP: &str = "\
a query        ends with a semicolon and may go over several lines; CREATE TABLE … WITH (…), CREATE VIEW and SET stay
               for the queries after them
\\d             tables, of the cluster and of this session
\\d NAME        columns of one
\\declared      what this session declares; \\forget leaves all of it out
\\timing        say how long each query takes, or no longer
\\?, \\q         this help; leave (Ctrl-D too); Ctrl-C ends a query";

/// Of tables whose columns are offered as words.
const TABLES_KNOWN: usize = 50;

type Line = Editor<Words, DefaultHistory>;

struct Shell {
    client: Client,
    output: Output,
    /// Statements of the session, each on lines of its own.
    declared: String,
    timing: bool,
}

pub async fn run(client: Client, output: Output) -> Result<()> {
    let config = Config::builder().auto_add_history(true).build();
    let mut line = Line::with_config(config).map_err(|error| Fail::new(FAILED, format!("failed to start: {error}")))?;
    let history = history();
    if let Some(history) = &history {
        // The first time there is none.
        let _ = line.load_history(history);
    }
    let mut shell = Shell { client, output, declared: String::new(), timing: false };
    line.set_helper(Some(Words(shell.names().await?)));
    shell.output.progress(&format!("smack at {}; \\? for help", shell.client.url()));
    loop {
        let (back, read) = tokio::task::spawn_blocking(move || {
            let read = line.readline("smack> ");
            (line, read)
        })
        .await
        .map_err(|error| Fail::new(FAILED, format!("failed to read a line: {error}")))?;
        line = back;
        match read {
            Ok(text) if matches!(text.trim().trim_end_matches(';'), "\\q" | "exit" | "quit") => break,
            Ok(text) => {
                let done = tokio::select! {
                    done = shell.act(text.trim()) => done,
                    _ = tokio::signal::ctrl_c() => {
                        shell.output.progress("ended");
                        Ok(None)
                    }
                };
                match done {
                    Ok(None) => {}
                    Ok(Some(names)) => line.set_helper(Some(Words(names))),
                    Err(Fail::OutputClosed) => return Err(Fail::OutputClosed),
                    Err(fail) => eprint!("{}", fail.render(false, crate::caret::stderr_has_colour())),
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(Fail::new(FAILED, format!("failed to read a line: {error}"))),
        }
    }
    if let Some(history) = &history {
        if let Some(folder) = history.parent() {
            // Without a history there is still a shell.
            let _ = std::fs::create_dir_all(folder);
        }
        let _ = line.save_history(history);
    }
    Ok(())
}

fn history() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("smack/history"))
}

impl Shell {
    /// Does what a line says; names, if they may have changed.
    async fn act(&mut self, text: &str) -> Result<Option<Vec<String>>> {
        match self.take(text).await? {
            true => self.names().await.map(Some),
            false => Ok(None),
        }
    }

    /// Whether names may have changed.
    async fn take(&mut self, text: &str) -> Result<bool> {
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            [] => Ok(false),
            ["\\?" | "help" | "help;"] => self.output.line(HELP).map(|()| false),
            ["\\timing"] => {
                self.timing = !self.timing;
                self.output.progress(if self.timing { "timing is on" } else { "timing is off" });
                Ok(false)
            }
            ["\\declared"] => self.output.raw(self.declared.as_bytes()).map(|()| false),
            ["\\forget"] => {
                self.declared.clear();
                Ok(true)
            }
            ["\\d"] => self.ask("SHOW TABLES;").await.map(|()| false),
            ["\\d", name] => {
                let name = name.trim_end_matches(';').replace('"', "\"\"");
                self.ask(&format!("DESCRIBE \"{name}\";")).await.map(|()| false)
            }
            [word, ..] if word.starts_with('\\') => {
                Err(Fail::new(FAILED, format!("there is no {word} here; \\? lists what there is")))
            }
            _ if declares(text) => self.declare(text).await.map(|()| true),
            _ => self.ask(text).await.map(|()| false),
        }
    }

    /// Kept once the runner understands it.
    async fn declare(&mut self, text: &str) -> Result<()> {
        let declared = format!("{}{text}\n", self.declared);
        // Which plans the views too.
        let asked = self.client.query(&format!("{declared}SELECT 1 AS fits;")).await;
        asked.map_err(|error| refused(error, &self.declared, text))?;
        self.declared = declared;
        Ok(())
    }

    async fn ask(&self, text: &str) -> Result<()> {
        let began = Instant::now();
        let rows = match print(&self.client, self.output, &self.declared, text).await? {
            1 => "1 row".to_string(),
            n => format!("{n} rows"),
        };
        self.output.progress(&match self.timing {
            true => format!("{rows} in {:.3} s", began.elapsed().as_secs_f64()),
            false => rows,
        });
        Ok(())
    }

    /// Tables and their columns.
    async fn names(&self) -> Result<Vec<String>> {
        let tables = self.first_column("SHOW TABLES;").await?;
        let mut names = tables.clone();
        for table in tables.iter().take(TABLES_KNOWN) {
            let described = self.first_column(&format!("DESCRIBE \"{}\";", table.replace('"', "\"\""))).await;
            // One that is gone by now has no columns to offer.
            names.extend(described.unwrap_or_default());
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    async fn first_column(&self, text: &str) -> Result<Vec<String>> {
        let mut rows = self.client.query(&format!("{}{text}", self.declared)).await?;
        let mut names = Vec::new();
        while let Some(batch) = rows.next().await? {
            names.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_string));
        }
        Ok(names)
    }
}

/// Of tables and columns, for completion.
struct Words(Vec<String>);

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(completions(line, cursor, &self.0))
    }
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_whole(context.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}

impl Helper for Words {}
