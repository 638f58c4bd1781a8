//! `CURRENT_WATERMARK(ts)`: how far event time has come when a row passes.
//!
//! What is planned knows no watermark and gives null, as it does in a batch. A slice puts calls in its place that read the
//! watermark of the operator that they belong to.

use super::event_time;
use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

pub(crate) const CURRENT_WATERMARK: &str = "current_watermark";

/// The watermark of one operator on one slice; `i64::MIN` while there is none.
pub(crate) type Cell = Arc<AtomicI64>;

pub(crate) fn current_watermark() -> ScalarUDF {
    of(None)
}

fn of(cell: Option<Cell>) -> ScalarUDF {
    let signature = Signature::exact(vec![event_time()], Volatility::Volatile);
    ScalarUDF::new_from_impl(CurrentWatermark { signature, cell })
}

/// The expression with its calls bound to a cell; none where it has no calls.
pub(crate) fn bound(expr: &Arc<dyn PhysicalExpr>, cell: &Cell) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let bound = Arc::clone(expr).transform_up(|expr| {
        let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.name() == CURRENT_WATERMARK)
        else {
            return Ok(Transformed::no(expr));
        };
        let field = Arc::new(Field::new(CURRENT_WATERMARK, event_time(), true));
        let (function, args) = (Arc::new(of(Some(Arc::clone(cell)))), call.args().to_vec());
        let config = Arc::new(call.config_options().clone());
        let call = ScalarFunctionExpr::new(CURRENT_WATERMARK, function, args, field, config);
        Ok(Transformed::yes(Arc::new(call) as Arc<dyn PhysicalExpr>))
    })?;
    Ok(bound.transformed.then_some(bound.data))
}

/// Whether the expression asks for the watermark.
pub(crate) fn asks_watermark(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.exists(|expr| {
        Ok(expr.downcast_ref::<ScalarFunctionExpr>().is_some_and(|call| call.name() == CURRENT_WATERMARK))
    })
    .unwrap_or(true)
}

#[derive(Debug)]
struct CurrentWatermark {
    signature: Signature,
    cell: Option<Cell>,
}

impl CurrentWatermark {
    fn address(&self) -> Option<*const AtomicI64> {
        self.cell.as_ref().map(Arc::as_ptr)
    }
}

impl PartialEq for CurrentWatermark {
    fn eq(&self, other: &Self) -> bool {
        self.address() == other.address()
    }
}

impl Eq for CurrentWatermark {}

impl Hash for CurrentWatermark {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}

impl ScalarUDFImpl for CurrentWatermark {
    fn name(&self) -> &str {
        CURRENT_WATERMARK
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(event_time())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let watermark_us = self.cell.as_ref().map(|cell| cell.load(Relaxed)).filter(|us| *us > i64::MIN);
        Ok(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(watermark_us, Some("UTC".into()))))
    }
}
