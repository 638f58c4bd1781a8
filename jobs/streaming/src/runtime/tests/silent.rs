//! A split that says nothing holds no window back, and what it had said before is in it.

use super::*;
use crate::runtime::operators::groups::Aggregation;

/// The same in two phases: replay -> filter -> project -> local -> exchange by key -> window -> project -> collect.
fn in_two_phases(name: &str) -> Dataflow {
    let mut dataflow = dataflow(name, Some(30), true);
    let at = |id: &str| dataflow.nodes.iter().position(|node| node.id == id).expect("the node");
    let (project, local, exchange, window) = (at("exchange-value"), at("project"), at("exchange-key"), at("window"));
    let Operator::WindowAggregate { window: shape, time, keys, aggregates, filters, partial, .. } =
        &mut dataflow.nodes[window].operator
    else {
        panic!("a window");
    };
    let input = world::schema();
    let states = Aggregation::new(&input, keys, aggregates.clone()).expect("an aggregation").frozen_fields();
    let mut between = vec![input.field(1).clone(), input.field(0).clone().with_name("pane_start")];
    between.extend(states.into_iter().skip(1));
    between.push(Field::new("n_rows", DataType::Int64, true));
    let between: SchemaRef = Arc::new(Schema::new(between));
    let operator = Operator::LocalAggregate {
        window: Some((*shape, *time)),
        keys: std::mem::replace(keys, vec![0]),
        aggregates: aggregates.clone(),
        filters: filters.clone(),
    };
    (*time, *partial) = (1, true);
    let nodes = &mut dataflow.nodes;
    // The rows of a split stay where they are read until they are aggregated.
    nodes.swap(project, local);
    (nodes[project].inputs, nodes[local].inputs) = (vec![project - 1], vec![project]);
    nodes[local].operator = operator;
    nodes[exchange].operator = Operator::Exchange { keys: vec![0] };
    [local, exchange].into_iter().for_each(|at| nodes[at].schema = Arc::clone(&between));
    dataflow
}

#[test]
fn a_split_that_is_silent_does_not_hold_windows_back() {
    let one_phase = dataflow("silent", Some(30), true);
    // The rows of both, and one for each of their keys and batches.
    for (name, dataflow, arrived) in [("silent", one_phase, 28), ("silent-2", in_two_phases("silent-2"), 12)] {
        let dir = tempfile::tempdir().expect("temporary folder");
        // Each is on a task of its own. The first stops in the middle of a window that the second ends.
        let rows: Vec<Vec<Row>> = (0..2).map(|_| (0..400).map(|at| (at * 50, at % 3, 1)).collect()).collect();
        let mut counted = rows.clone();
        counted[0].truncate(14);
        let gate = AtomicU64::new(14);
        let world = world::create(name, World { gate, silent: Some((0, 14)), ..world(rows) });
        // A checkpoint would send what waits on its way.
        let config = LocalConfig { checkpoint_interval_ms: 3_600_000, ..config(dir.path(), 2, 1) };
        let job = run(dataflow, config).expect("start");
        until(&job, "what both have said, at the windows", |status| {
            let window = status.metrics.operators.iter().find(|operator| operator.id == "window");
            window.is_some_and(|window| window.rows_in == arrived)
        });
        // From here on event time goes on with the second alone.
        world.gate.store(399, SeqCst);
        let mut wanted = expected(&counted);
        let of_first_window = |line: &String| line.split(' ').nth(1) == Some("0");
        wanted.retain(of_first_window);
        let mut said: Vec<String> = Vec::new();
        while said.len() < wanted.len() {
            let batch = job.results.recv().expect("windows");
            said.extend(world::lines(&batch).into_iter().filter(of_first_window));
        }
        job.stop();
        assert_eq!(job.wait().expect("run"), Outcome::Stopped);
        said.sort();
        assert_eq!(said, wanted, "{name}");
    }
}
