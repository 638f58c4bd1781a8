//! A stream enriched from the table store: every row finds the row of its key, through a killed task, and what is written
//! later is seen later.

use crate::cluster::{Cluster, Job};
use crate::program::command;
use crate::rows;

const ROWS: i64 = 20_000;

const CUSTOMERS: &str = "CREATE TABLE customers (id BIGINT, name VARCHAR, PRIMARY KEY (id) NOT ENFORCED);";

fn fill(name: &str, prefix: &str, n: i64) -> String {
    format!(
        "SET job.name = '{name}'; {CUSTOMERS}
         CREATE TABLE numbers (id BIGINT) WITH (connector = 'datagen', rows = '{n}', fields.id.kind = 'sequence');
         INSERT INTO customers SELECT id, '{prefix}' || CAST(id AS VARCHAR) FROM numbers;"
    )
}

/// Every third row asks for a customer that is not there.
fn look(rate: u32) -> String {
    format!(
        "SET job.name = 'look'; SET job.parallelism = '2'; SET job.cpus = '0.3'; SET checkpoint.interval = '300ms';
         {CUSTOMERS}
         CREATE TABLE orders (id BIGINT, customer AS CASE WHEN id % 3 = 0 THEN id + 1000000 ELSE id END)
         WITH (connector = 'datagen', rows = '{ROWS}', rate = '{rate}', fields.id.kind = 'sequence');
         CREATE TABLE enriched (id BIGINT, name VARCHAR) WITH (connector = 'files', path = 'out', format = 'json');
         INSERT INTO enriched SELECT o.id, c.name FROM orders AS o
         LEFT JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON o.customer = c.id;"
    )
}

#[test]
fn every_row_finds_its_key_and_a_killed_task_changes_nothing() {
    let cluster = Cluster::start();
    let jobs = cluster.submit("fill.sql", &fill("fill", "a", ROWS));
    cluster.wait_until(&jobs[0], "finished");
    let jobs = cluster.submit("look.sql", &look(2000));
    let some_rows = |job: &Job| job.metrics.rows_in > 2000;
    let job = cluster.wait_for(&jobs[0], "rows", some_rows);
    cluster.task(&job.tasks[1].id).kill();
    let job = cluster.wait_until(&jobs[0], "finished");
    assert!(job.restarts > 0, "{job:?}");
    let first = rows::of_files(&cluster.path("out"));
    assert_eq!(first.len(), ROWS as usize);
    let right = |prefix: &str| {
        let row = |id: i64| match id % 3 {
            0 => format!("id={id}"),
            _ => format!("id={id} name={prefix}{id}"),
        };
        let base: i64 = if first.contains(&"id=0".to_owned()) { 0 } else { 1 };
        let mut rows: Vec<String> = (base..base + ROWS).map(row).collect();
        rows.sort();
        rows
    };
    rows::assert_same("the first time", &first, &right("a"));

    let jobs = cluster.submit("again.sql", &fill("again", "b", ROWS));
    cluster.wait_until(&jobs[0], "finished");
    std::fs::remove_dir_all(cluster.path("out")).expect("the rows of the first time");
    let jobs = cluster.submit("look.sql", &look(0).replace("job.name = 'look'", "job.name = 'look2'"));
    cluster.wait_until(&jobs[0], "finished");
    rows::assert_same("the second time", &rows::of_files(&cluster.path("out")), &right("b"));
}

#[test]
fn a_run_looks_up_in_its_own_tables() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "{CUSTOMERS}
         CREATE TABLE numbers (id BIGINT) WITH (connector = 'datagen', rows = '30', fields.id.kind = 'sequence');
         INSERT INTO customers SELECT id * 2, 'even' FROM numbers;
         SELECT n.id, c.name FROM numbers AS n JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON n.id = c.id;"
    );
    std::fs::write(folder.path().join("look.sql"), text).expect("a file");
    let ran = crate::program::ended(command(folder.path(), &["run", "look.sql", "-o", "json"])).expect(0);
    let found = ran.out.lines().filter(|line| line.starts_with(r#"{"id":"#)).collect::<Vec<_>>().join("\n");
    let wanted: Vec<String> = (0..15).map(|half| format!("id={} name=even", half * 2)).collect();
    rows::assert_same("even numbers", &rows::canonical(&found), &{
        let mut wanted = wanted;
        wanted.sort();
        wanted
    });
}
