//! `smack sql`: one query, or a shell for many.

mod in_place;
mod shell;
mod words;

use super::exit::{FAILED, Fail, Result};
use super::output::Output;
use crate::client::{self, Client};
use crate::run::print::{OutputClosed, Printer};
use crate::run::waited;
use in_place::{InPlace, Taken};
use std::io::{IsTerminal, Read};
use std::time::{Duration, Instant};

/// Whether it is time to say that a query still runs.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What a query is called where its mistakes are shown.
const HERE: &str = "query";

/// Without a query, what comes over standard input is one; a person there gets a shell.
pub async fn sql(client: Client, output: Output, query: Option<String>) -> Result<()> {
    let text = match query {
        Some(text) => text,
        None if std::io::stdin().is_terminal() => return shell::run(client, output).await,
        None => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| Fail::new(FAILED, format!("failed to read the query: {error}")))?;
            text
        }
    };
    print(&client, output, "", &text).await.map(|_| ())
}

/// Runs a query behind these declarations and prints its rows as they come; how many there were. On a terminal a result
/// that changes is drawn over itself.
async fn print(client: &Client, output: Output, declared: &str, text: &str) -> Result<u64> {
    let mut rows = client.query(&format!("{declared}{text}")).await.map_err(|error| refused(error, declared, text))?;
    let failed = |what: &str, error: &dyn std::fmt::Display| Fail::new(FAILED, format!("failed to {what}: {error}"));
    let mut printer = Printer::new(output.json);
    let draws = rows.changes && !output.json && std::io::stdout().is_terminal();
    let mut in_place: Option<InPlace> = None;
    let (mut is_first, mut n_rows) = (true, 0);
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut since = Instant::now();
    loop {
        let next = tokio::select! {
            next = rows.next() => next?,
            _ = look.tick() => {
                if in_place.is_none() {
                    crate::status::show(since, || waited(since));
                }
                continue;
            }
        };
        let Some(batch) = next else { break };
        if batch.num_rows() == 0 && !is_first {
            // The query still runs; what was not drawn yet is by now.
            if let Some(result) = &mut in_place {
                result.draw(output, false)?;
            }
            continue;
        }
        crate::status::clear();
        since = Instant::now();
        n_rows += batch.num_rows() as u64;
        if draws && is_first {
            let names = batch.schema().fields().iter().skip(1).map(|field| field.name().clone()).collect();
            in_place = Some(InPlace::new(names));
        }
        is_first = false;
        if let Some(result) = &mut in_place {
            let taken = result.take(&batch).map_err(|error| failed("show the rows", &error))?;
            result.draw(output, taken == Taken::TooMany)?;
            if taken == Taken::TooMany {
                output.progress("there are too many rows to show as they change; the changes follow");
                in_place = None;
            }
            continue;
        }
        printer.print(&batch).map_err(|error| match error.is::<OutputClosed>() {
            true => Fail::OutputClosed,
            false => failed("print the rows", &error),
        })?;
    }
    if let Some(result) = &mut in_place {
        result.draw(output, true)?;
    }
    Ok(n_rows)
}

/// A refusal, with mistakes shown where they are: in the query, or in what was declared before.
fn refused(error: client::Error, declared: &str, text: &str) -> Fail {
    match error {
        client::Error::Refused { failure, .. } if !failure.diagnostics.is_empty() => {
            let wrong = failure.diagnostics;
            if wrong.iter().any(|wrong| wrong.span.is_some_and(|span| span.0 < declared.len())) {
                return Fail::mistakes(HERE, &format!("{declared}{text}"), wrong);
            }
            let moved = |(from, to): (usize, usize)| (from - declared.len(), to.saturating_sub(declared.len()));
            let wrong = wrong.into_iter().map(|wrong| jobs::Diagnostic { span: wrong.span.map(moved), ..wrong });
            Fail::mistakes(HERE, text, wrong.collect())
        }
        other => Fail::from(other),
    }
}
