//! Calls that may give another value each time, over rows that may be taken back.
//!
//! A row is taken back by going through the same expressions again. What those say another time is another row, and what
//! adds rows up would keep the first for ever: so such calls are refused there. A model's prediction is not: a job that scores
//! rows which may be taken back stays with the version that it began with ([`crate::dataflow::Dataflow::keeps_versions`]).

use super::errors::Place;
use super::lower::{Lowered, Lowering};
use super::refuse::{at, find};
use crate::functions::names_versions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, Volatility};
use jobs::Diagnostic;

impl Lowering<'_> {
    /// Refuses `exprs` over `node` if they would take back other rows than they gave.
    pub(crate) fn repeatable(&self, node: usize, exprs: &[Expr], places: &[Place<'_>]) -> Lowered<()> {
        if !self.graph.changes(node) {
            return Ok(());
        }
        for expr in exprs {
            let mut found = None;
            // The closure never fails, so neither does the walk.
            let _ = expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr
                    && call.func.signature().volatility == Volatility::Volatile
                    && !names_versions(call.func.name())
                    && !self.catalog.repeatable.contains(call.func.name())
                {
                    found = Some(call.func.name().to_owned());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            });
            if let Some(name) = found {
                let error = Diagnostic::new(format!("{name}() over rows that may be taken back is not supported"));
                let error =
                    error.help("it may give another value each time; call it on the rows before they are aggregated");
                return Err(at(error, find(places, &[&[name.as_str()]])));
            }
        }
        Ok(())
    }
}
