//! Which engine runs INSERTs in a local run: the streaming operators, or DataFusion's own over all rows at once.
//!
//! Invariant: without an order of the file's the batch is taken only where its answer is that of the streaming operators,
//! whatever comes late, and where there is something to gain.

use super::insert::{Prepare, one_row_per_key};
use crate::dataflow::{Dataflow, Node, Operator};
use crate::functions::{Functions, asks_watermark};
use crate::sql::{EXECUTION_MODE, Script, for_each_scan, with_room};
use connectors::Takes;
use std::collections::BTreeMap;

/// What a file says with `SET execution.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Whatever is equal and faster.
    #[default]
    Auto,
    Streaming,
    Batch,
}

impl Mode {
    pub fn of(script: &Script) -> Self {
        match script.setting(EXECUTION_MODE).map(|setting| setting.value.to_ascii_lowercase()).as_deref() {
            Some("streaming") => Self::Streaming,
            Some("batch") => Self::Batch,
            _ => Self::Auto,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    Batch,
    /// And why, where all input ends.
    Stream {
        because: Option<String>,
    },
}

/// The engine for these INSERTs, whose streaming operators are `dataflow`; there are none where only a batch was asked for.
pub fn choose(script: &Script, statements: &[usize], dataflow: Option<&Dataflow>, functions: &Functions) -> Engine {
    let because = |why: String| Engine::Stream { because: Some(why) };
    let dataflow = match (Mode::of(script), dataflow) {
        (Mode::Batch, _) | (_, None) => return Engine::Batch,
        (_, Some(dataflow)) if !dataflow.bounded() => return Engine::Stream { because: None },
        (Mode::Streaming, _) => return because(format!("{EXECUTION_MODE} is streaming")),
        (Mode::Auto, Some(dataflow)) => dataflow,
    };
    if let Some(why) = dataflow.nodes.iter().find_map(|node| differs(dataflow, node)) {
        return because(why);
    }
    if !dataflow.nodes.iter().any(|node| answers_all(&node.operator)) {
        return because("it neither aggregates nor joins".into());
    }
    match with_room(|| of_plans(script, statements, functions)) {
        Ok(()) => Engine::Batch,
        Err(why) => because(why),
    }
}

/// Why an operator may answer otherwise than a batch, or say more.
fn differs(dataflow: &Dataflow, node: &Node) -> Option<String> {
    let late = |what: &str| Some(format!("{what} leaves out rows that come late"));
    let watermark = || Some("CURRENT_WATERMARK is a stream's".to_string());
    match &node.operator {
        Operator::WindowAggregate { .. } | Operator::LateRows { .. } | Operator::HoldBack { .. } => late("a window"),
        Operator::Over { time: Some(_), .. } => late("OVER the event time"),
        Operator::Join(join) if join.bounds.is_some() => late("a join that bounds event time"),
        Operator::Temporal(_) | Operator::Lookup(_) => Some("FOR SYSTEM_TIME AS OF is answered row by row".into()),
        Operator::Project { exprs } if exprs.iter().any(asks_watermark) => watermark(),
        Operator::Filter { predicate } if asks_watermark(predicate) => watermark(),
        Operator::Sink { table } => {
            let takes = connectors::find(table.connector()).map(|connector| connector.takes(table));
            let changes = dataflow.nodes[node.inputs[0]].changes;
            (changes && takes == Some(Takes::Changes)).then(|| format!("'{}' is told every change", table.name))
        }
        _ if dataflow.has_versions() => Some("a newer version of a model is used as soon as there is one".into()),
        _ => None,
    }
}

/// Whether a batch engine is quicker with it, since it need not be right all the time. First rows are kept by a stream without
/// sorting; rows that pass one by one are best committed as they come.
fn answers_all(operator: &Operator) -> bool {
    matches!(operator, Operator::GroupAggregate { .. } | Operator::Join(_))
}

/// What only the plans of a batch say: how often they read, and whether a key has one row.
fn of_plans(script: &Script, statements: &[usize], functions: &Functions) -> Result<(), String> {
    let told = |errors: Vec<jobs::Diagnostic>| match errors.first() {
        Some(error) => format!("a batch cannot: {error}"),
        None => "a batch cannot".to_string(),
    };
    let mut reads: BTreeMap<String, usize> = BTreeMap::new();
    for statement in statements {
        let one = Prepare::new(script, *statement, functions, None).map_err(told)?;
        if !one_row_per_key(&one.table, &one.targets, &one.plan) {
            return Err(format!("of several rows of a key '{}' keeps the last", one.table.name.text));
        }
        for_each_scan(&one.plan, |table, _| *reads.entry(table.name.text.clone()).or_default() += 1);
    }
    match reads.iter().find(|(_, n)| **n > 1) {
        Some((table, n)) => Err(format!("a batch would read '{table}' {n} times")),
        None => Ok(()),
    }
}
