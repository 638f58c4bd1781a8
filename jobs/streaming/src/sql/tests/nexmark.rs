//! The queries of Nexmark, as they stand in `examples/nexmark`.

use super::super::parse;
use super::super::plan::plan_now;
use super::lives::lived;
use super::running::{batch, streamed, streamed_within};
use super::shown;
use crate::functions::Functions;
use crate::sql::types::sql_name;
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

/// Queries on the wall clock have no batch answer.
const ON_THE_CLOCK: usize = 12;

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
    for n in (0..=22).filter(|n| *n != ON_THE_CLOCK) {
        let (tables, select) = query(n, events());
        let wanted = batch(&tables, &select, &folder());
        for (tasks, slices) in [(1, 1), (2, 1), (1, 3)] {
            let found = streamed(&tables, &select, tasks, slices, &folder());
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
    for n in (0..=22).filter(|n| *n != ON_THE_CLOCK) {
        let (tables, select) = query(n, events());
        let wanted = batch(&tables, &select, &folder());
        let found = streamed_within(64 << 10, &tables, &select, (1, 2), &folder());
        assert!(found == wanted, "q{n}: {} of {} rows", found.len(), wanted.len());
    }
}

/// Stopped with a last checkpoint in the middle, and gone on with at another parallelism.
#[test]
fn a_restore_in_the_middle_changes_no_answer() {
    for n in (0..=22).filter(|n| *n != ON_THE_CLOCK) {
        let (tables, select) = query(n, events());
        let wanted = batch(&tables, &select, &folder());
        // Paced, so that it comes in many batches.
        let paced = tables.replace(&format!("'{}'", events()), &format!("'{0}', rate = '{1}'", events(), events() * 5));
        let found = lived(&paced, &select, [(1, 2), (2, 1)], &folder());
        assert!(found == wanted, "q{n}: {} of {} rows", found.len(), wanted.len());
    }
}

#[test]
fn no_row_is_lost_on_the_clock() {
    let (tables, select) = query(ON_THE_CLOCK, 10_000);
    for (tasks, slices) in [(1, 1), (2, 2)] {
        let found = streamed(&tables, &select, tasks, slices, &folder());
        let counts = found[1..].iter().filter_map(|row| row.split(' ').nth(1)?.parse::<u64>().ok());
        assert_eq!(counts.sum::<u64>(), 9_200);
    }
}
