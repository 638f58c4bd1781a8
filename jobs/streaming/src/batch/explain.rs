//! `EXPLAIN`: which engine runs a statement, and what it does.

use super::choice::{Engine, choose};
use super::insert::Prepare;
use super::{BatchContext, Error, Mode, bounded, statement_plan};
use crate::dataflow::Dataflow;
use crate::functions::Functions;
use crate::sql::{Script, plan_now, with_room};
use datafusion::physical_plan::displayable;

/// What a statement becomes.
#[derive(Debug)]
pub enum Shown {
    /// And why not a batch, where all input ends.
    Stream { dataflow: Dataflow, because: Option<String> },
    /// DataFusion's own plan, as a tree and as a graph.
    Batch { tree: String, graph: String },
}

/// Says of statement `index`, an EXPLAIN, what a local run would do with what it holds. Asks the outside for splits.
pub async fn explain(script: &Script, index: usize, functions: &Functions, open: BatchContext) -> Result<Shown, Error> {
    let inserts = script.statements.get(index).is_some_and(|statement| statement.body.explained().insert().is_some());
    let stream = || plan_now(script, &[index], functions).map_err(Error::Query);
    let plan = if inserts {
        if Mode::of(script) != Mode::Batch {
            let dataflow = stream()?;
            if let Engine::Stream { because } = choose(script, &[index], Some(&dataflow), functions) {
                return Ok(Shown::Stream { dataflow, because });
            }
        }
        let one = with_room(|| Prepare::new(script, index, functions, Some(&open))).map_err(Error::Query)?;
        one.physical(script).await?
    } else if bounded(script, index) {
        let planned = with_room(|| statement_plan(script, index, functions, Some(open)));
        let (catalog, plan) = planned.map_err(Error::Query)?;
        catalog.state.create_physical_plan(&plan).await?
    } else {
        return Ok(Shown::Stream { dataflow: stream()?, because: None });
    };
    let shown = displayable(plan.as_ref());
    Ok(Shown::Batch { tree: shown.indent(false).to_string(), graph: shown.graphviz().to_string() })
}
