//! `smack sql`: one query, or a shell for many.

mod shell;
mod words;

use super::exit::{FAILED, Fail, Result};
use super::output::Output;
use crate::client::{self, Client};
use crate::run::print::{OutputClosed, Printer};
use std::io::{IsTerminal, Read};

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

/// Runs a query behind these declarations and prints its rows; how many there were.
async fn print(client: &Client, output: Output, declared: &str, text: &str) -> Result<u64> {
    let mut rows = client.query(&format!("{declared}{text}")).await.map_err(|error| refused(error, declared, text))?;
    let mut printer = Printer::new(output.json);
    let mut n_rows = 0;
    while let Some(batch) = rows.next().await? {
        n_rows += batch.num_rows() as u64;
        printer.print(&batch).map_err(|error| match error.is::<OutputClosed>() {
            true => Fail::OutputClosed,
            false => Fail::new(FAILED, format!("failed to print the rows: {error}")),
        })?;
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
