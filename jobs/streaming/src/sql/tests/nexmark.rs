//! The queries of Nexmark, as they stand in `examples/nexmark`.

use super::super::parse;
use super::super::plan::plan_now;
use super::lives::lived;
use super::running::{batch, streamed, streamed_within};
use super::shown;
use crate::functions::Functions;
use crate::sql::types::sql_name;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How many events; a larger proof sets the variable.
fn events() -> u64 {
    let said = std::env::var("SMACK_NEXMARK_EVENTS").ok();
    said.map_or(10_000, |events| events.parse().expect("SMACK_NEXMARK_EVENTS is a number"))
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/nexmark")
}

fn file(name: &str) -> String {
    let path = folder().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tables of a query over its first events, and the query without its INSERT.
fn query(n: usize, events: u64) -> (String, String) {
    // Few events to the second, so that there are several windows.
    let options = format!("'{events}', event.rate = '200'");
    let text = file(&format!("q{n}.sql")).replace("'1000000'", &options);
    let script = parse(&text).unwrap_or_else(|errors| panic!("q{n}: {:#?}", shown(&text, &errors)));
    let (at, insert) = script.inserts().next().expect("one INSERT");
    let (tables, select) = (script.statements[at].span.0, insert.query.span);
    (text[..tables].to_owned(), text[select.0..select.1].to_owned())
}

fn planned(text: &str) -> Result<(), Vec<String>> {
    let script = parse(text).map_err(|wrong| shown(text, &wrong))?;
    let queries: Vec<usize> = script.queries().map(|(at, _)| at).collect();
    plan_now(&script, &queries, &Functions::new()).map(|_| ()).map_err(|wrong| shown(text, &wrong))
}

#[test]
fn all_of_them_plan_as_streams() {
    let tables = file("tables.sql");
    parse(&tables).unwrap_or_else(|errors| panic!("{:#?}", shown(&tables, &errors)));
    for n in 0..=22 {
        let text = file(&format!("q{n}.sql"));
        let script = parse(&text).unwrap_or_else(|errors| panic!("q{n}: {:#?}", shown(&text, &errors)));
        // Tables are declared as in the file of all tables.
        for table in script.tables().filter(|table| tables.contains(&format!("TABLE {} ", table.name.text))) {
            let (from, to) = table.span;
            assert!(n == ON_THE_CLOCK || tables.contains(&text[from..to]), "q{n}: {}", &text[from..to]);
        }
        let (before, select) = query(n, 1000);
        planned(&format!("{before}{select}")).unwrap_or_else(|wrong| panic!("q{n}: {wrong:#?}"));
    }
}

/// A query on the wall clock has no batch answer: its windows are of the time at which it runs. Each bid is in one of them.
const ON_THE_CLOCK: usize = 12;

/// What the rows of a stream are to be, and what is the same of them in every run: on the clock, each bidder's bids in all
/// windows together.
fn wanted(n: usize, tables: &str, select: &str) -> Vec<String> {
    match n {
        ON_THE_CLOCK => {
            batch(tables, "SELECT bidder, COUNT(*) AS bid_count FROM bid GROUP BY bidder", &folder())[1..].to_vec()
        }
        _ => batch(tables, select, &folder()),
    }
}

fn settled(n: usize, rows: Vec<String>) -> Vec<String> {
    if n != ON_THE_CLOCK {
        return rows;
    }
    let mut bids: BTreeMap<&str, u64> = BTreeMap::new();
    for row in &rows[1..] {
        let (bidder, rest) = row.split_once(' ').expect("a bidder");
        let (count, _window) = rest.split_once(' ').expect("a count");
        *bids.entry(bidder).or_default() += count.parse::<u64>().expect("a number");
    }
    let mut rows: Vec<String> = bids.into_iter().map(|(bidder, count)| format!("{bidder} {count}")).collect();
    rows.sort();
    rows
}

#[test]
fn each_has_a_batch_answer_with_rows() {
    for n in (0..=22).filter(|n| *n != ON_THE_CLOCK) {
        let (tables, select) = query(n, 30_000);
        let rows = batch(&tables, &select, &folder());
        assert!(rows.len() > 1, "q{n} has no rows");
        // The answer has the columns that the query's table declares, name by name.
        let script = parse(&tables).expect("the tables are right");
        let declared = script.table("result").expect("a table for the answer").def.schema.clone();
        let names: Vec<String> = declared.fields().iter().map(|field| field.name().to_lowercase()).collect();
        let found: Vec<String> = rows[0]
            .split(' ')
            .filter_map(|column| column.split_once(':'))
            .map(|(name, _)| name.to_lowercase())
            .collect();
        assert_eq!(
            found,
            names,
            "q{n}: {}",
            declared.fields().iter().map(|f| sql_name(f.data_type())).collect::<String>()
        );
    }
}

#[test]
fn streams_give_the_batch_answer() {
    for n in 0..=22 {
        let (tables, select) = query(n, events());
        let wanted = wanted(n, &tables, &select);
        for (tasks, slices) in [(1, 1), (2, 1), (1, 3)] {
            let found = settled(n, streamed(&tables, &select, tasks, slices, &folder()));
            assert!(
                found == wanted,
                "q{n} at {tasks} tasks of {slices} slices: {} of {} rows",
                found.len(),
                wanted.len()
            );
        }
    }
}

/// With a fraction of the memory that their state takes.
#[test]
fn what_lies_on_disk_changes_no_answer() {
    for n in 0..=22 {
        let (tables, select) = query(n, events());
        let wanted = wanted(n, &tables, &select);
        let found = settled(n, streamed_within(64 << 10, &tables, &select, (1, 2), &folder()));
        assert!(found == wanted, "q{n}: {} of {} rows", found.len(), wanted.len());
    }
}

/// Stopped with a last checkpoint in the middle, and gone on with at another parallelism.
#[test]
fn a_restore_in_the_middle_changes_no_answer() {
    for n in 0..=22 {
        let (tables, mut select) = query(n, events());
        let wanted = wanted(n, &tables, &select);
        if n == ON_THE_CLOCK {
            // So that windows end in both lives, and some lie across the restore.
            let shorter = select.replace("INTERVAL '10 seconds'", "INTERVAL '20 milliseconds'");
            assert_ne!(shorter, select);
            select = shorter;
        }
        // Paced, so that it comes in many batches.
        let paced = tables.replace(&format!("'{}'", events()), &format!("'{0}', rate = '{1}'", events(), events() * 5));
        let found = settled(n, lived(&paced, &select, [(1, 2), (2, 1)], &folder()));
        assert!(found == wanted, "q{n}: {} of {} rows", found.len(), wanted.len());
    }
}
