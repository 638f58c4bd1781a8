//! How far back functions look, so that what none of them can reach again is forgotten.

use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{WindowFrameBound, WindowFrameUnits};
use datafusion::physical_expr::window::{StandardWindowExpr, WindowExpr};
use datafusion::physical_plan::windows::WindowUDFExpr;
use std::sync::Arc;

/// A row number far from the first one, and farther than any offset that is worth a limit.
const FAR: usize = 1 << 40;

/// What must be kept of the rows that came before the next one.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    All,
    /// The last rows, and those within one of the spans before the time of the next row.
    Last {
        rows: usize,
        spans: Vec<ScalarValue>,
    },
}

impl Reach {
    /// Of functions over rising event time.
    pub fn of(functions: &[Arc<dyn WindowExpr>]) -> Result<Self> {
        let (mut most, mut all_spans, mut all) = (0, Vec::new(), false);
        for function in functions {
            match Self::of_one(function.as_ref())? {
                Self::All => all = true,
                Self::Last { rows, spans } => {
                    most = most.max(rows);
                    all_spans.extend(spans);
                }
            }
        }
        Ok(if all { Self::All } else { Self::Last { rows: most, spans: all_spans } })
    }

    fn of_one(function: &dyn WindowExpr) -> Result<Self> {
        let rows = |rows: usize| Self::Last { rows, spans: Vec::new() };
        if let Some(standard) = function.as_any().downcast_ref::<StandardWindowExpr>() {
            let standard = standard.get_standard_func_expr();
            let evaluator = standard.create_evaluator()?;
            if !evaluator.uses_window_frame() {
                if !evaluator.is_causal() {
                    let name = function.name();
                    return Err(DataFusionError::Plan(format!("{name} looks ahead and can never be settled")));
                }
                let udf = standard.as_any().downcast_ref::<WindowUDFExpr>();
                if udf.is_none_or(|udf| udf.fun().name() != "lag") {
                    return Ok(Self::All);
                }
                let back = FAR - evaluator.get_range(FAR, FAR + 1)?.start;
                return Ok(if back < FAR { rows(back) } else { Self::All });
            }
        }
        let frame = function.get_window_frame();
        Ok(match (&frame.units, &frame.start_bound) {
            (_, WindowFrameBound::Preceding(by)) if by.is_null() => Self::All,
            (WindowFrameUnits::Rows, WindowFrameBound::Preceding(ScalarValue::UInt64(Some(by)))) => {
                usize::try_from(*by).map_or(Self::All, rows)
            }
            (WindowFrameUnits::Range, WindowFrameBound::Preceding(by)) => {
                Self::Last { rows: 0, spans: vec![by.clone()] }
            }
            (_, WindowFrameBound::Preceding(_)) => Self::All,
            (_, WindowFrameBound::CurrentRow | WindowFrameBound::Following(_)) => rows(0),
        })
    }

    /// Whether rows come out of reach as time goes on, without new ones.
    pub fn spans_time(&self) -> bool {
        matches!(self, Self::Last { spans, .. } if !spans.is_empty())
    }

    /// Rows before this time are beyond all spans of a row that comes after `watermark_us`.
    pub fn since_us(&self, watermark_us: i64) -> i64 {
        let Self::Last { spans, .. } = self else { return i64::MIN };
        if watermark_us == i64::MAX {
            return i64::MAX;
        }
        let watermark = ScalarValue::TimestampMicrosecond(Some(watermark_us), None);
        let since = spans.iter().map(|span| match watermark.sub_checked(span) {
            Ok(ScalarValue::TimestampMicrosecond(Some(since), _)) => since,
            _ => i64::MIN,
        });
        since.min().unwrap_or(i64::MAX)
    }
}
