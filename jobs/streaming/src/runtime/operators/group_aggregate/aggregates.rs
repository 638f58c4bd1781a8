//! All aggregates of the operator: which state serves which of them, and what is evaluated for it, once per batch.

use super::coding::{Bytes, Integers};
use super::count::Count;
use super::distinct::{Distinct, MAX_SHARING};
use super::edge::Edge;
use super::extreme::{BytesExtreme, End, Extreme};
use super::float::FloatSum;
use super::general::General;
use super::ordered::Ordered;
use super::state::{Rows, State};
use super::sum::Sum;
use crate::functions::is_sum;
use crate::runtime::operators::{evaluate, evaluate_predicate};
use arrow::array::{ArrayRef, RecordBatch, downcast_primitive};
use arrow::compute::SortOptions;
use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Int64Type, SchemaRef, TimeUnit, UInt64Type,
};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use std::sync::Arc;

type Expr = Arc<dyn PhysicalExpr>;

#[derive(Debug)]
pub struct Aggregates {
    slots: Vec<Slot>,
    /// Evaluated once per batch, whoever needs them.
    exprs: Vec<Expr>,
    predicates: Vec<Expr>,
    n_aggregates: usize,
}

/// A state with what it takes and what it computes.
#[derive(Debug)]
pub struct Slot {
    pub state: Box<dyn State>,
    /// Places in the evaluated expressions.
    arguments: Vec<usize>,
    /// By aggregate that shares the state: the place in the evaluated predicates.
    filters: Vec<Option<usize>>,
    /// Which aggregates these are.
    aggregates: Vec<usize>,
}

impl Aggregates {
    /// `changes`: whether rows may be taken back.
    pub fn new(
        input: &SchemaRef,
        aggregates: &[Arc<AggregateFunctionExpr>],
        filters: &[Option<Expr>],
        changes: bool,
    ) -> Result<Self> {
        let mut all =
            Self { slots: Vec::new(), exprs: Vec::new(), predicates: Vec::new(), n_aggregates: aggregates.len() };
        // Those that count the different values of the same expression share a state.
        let mut different: Vec<(Expr, Vec<usize>)> = Vec::new();
        for (at, aggregate) in aggregates.iter().enumerate() {
            if let Some(expr) = counts_different(aggregate) {
                let sharing = different.iter_mut().find(|(known, of)| known.eq(&expr) && of.len() < MAX_SHARING);
                match sharing {
                    Some((_, of)) => of.push(at),
                    None => different.push((expr, vec![at])),
                }
                continue;
            }
            let (state, arguments) = state_of(aggregate, input, changes)?;
            all.add(state, &arguments, vec![at], filters);
        }
        for (expr, of) in different {
            let data_type = expr.data_type(input)?;
            let state: Box<dyn State> = match Integers::new(&data_type) {
                Some(coding) => Box::new(Distinct::new(coding, of.len(), changes)),
                None => Box::new(Distinct::new(Bytes::canonical(in_order(data_type))?, of.len(), changes)),
            };
            all.add(state, &[expr], of, filters);
        }
        Ok(all)
    }

    fn add(&mut self, state: Box<dyn State>, arguments: &[Expr], aggregates: Vec<usize>, filters: &[Option<Expr>]) {
        let arguments = arguments.iter().map(|argument| place(&mut self.exprs, argument)).collect();
        let filters = aggregates.iter().map(|at| filters[*at].as_ref().map(|expr| place(&mut self.predicates, expr)));
        let filters = filters.collect();
        self.slots.push(Slot { state, arguments, filters, aggregates });
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub fn slots_mut(&mut self) -> &mut [Slot] {
        &mut self.slots
    }

    pub fn grow(&mut self, n_groups: usize) {
        self.slots.iter_mut().for_each(|slot| slot.state.grow(n_groups));
    }

    pub fn update(&mut self, batch: &RecordBatch, rows: Rows<'_>) -> Result<()> {
        let columns = self.exprs.iter().map(|expr| evaluate(expr, batch)).collect::<Result<Vec<_>>>()?;
        let masks = self.predicates.iter().map(|expr| evaluate_predicate(expr, batch)).collect::<Result<Vec<_>>>()?;
        for Slot { state, arguments, filters, .. } in &mut self.slots {
            let arguments: Vec<ArrayRef> = arguments.iter().map(|at| Arc::clone(&columns[*at])).collect();
            let filters: Vec<_> = filters.iter().map(|filter| filter.map(|at| &masks[at])).collect();
            state.update(rows, &arguments, &filters)?;
        }
        Ok(())
    }

    /// The results for these groups, by aggregate.
    pub fn values(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let mut results = vec![None; self.n_aggregates];
        for slot in &self.slots {
            let values = slot.state.values(groups)?;
            slot.aggregates.iter().zip(values).for_each(|(at, values)| results[*at] = Some(values));
        }
        let results: Option<Vec<ArrayRef>> = results.into_iter().collect();
        results.ok_or_else(|| DataFusionError::Internal("an aggregate without a result".into()))
    }

    pub fn hold(&self, group: usize) -> bool {
        self.slots.iter().any(|slot| slot.state.holds(group))
    }

    pub fn clear(&mut self, group: usize) {
        self.slots.iter_mut().for_each(|slot| slot.state.clear(group));
    }

    pub fn keep(&mut self, groups: &[usize]) {
        self.slots.iter_mut().for_each(|slot| slot.state.keep(groups));
    }

    pub fn forget(&mut self, gone: &[bool]) {
        self.slots.iter_mut().for_each(|slot| slot.state.forget(gone));
    }

    pub fn tidy(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.state.tidy());
    }

    pub fn memory_bytes(&self) -> usize {
        self.slots.iter().map(|slot| slot.state.memory_bytes()).sum()
    }
}

fn place(exprs: &mut Vec<Expr>, expr: &Expr) -> usize {
    exprs.iter().position(|known| known == expr).unwrap_or_else(|| {
        exprs.push(Arc::clone(expr));
        exprs.len() - 1
    })
}

fn in_order(data_type: DataType) -> Vec<(DataType, SortOptions)> {
    vec![(data_type, SortOptions::default())]
}

/// The argument of count(DISTINCT x).
fn counts_different(aggregate: &AggregateFunctionExpr) -> Option<Expr> {
    match &aggregate.expressions()[..] {
        [argument] if aggregate.is_distinct() && aggregate.fun() == &*count_udaf() => Some(Arc::clone(argument)),
        _ => None,
    }
}

/// The state of one aggregate, and the expressions whose values it wants.
fn state_of(
    aggregate: &Arc<AggregateFunctionExpr>,
    input: &SchemaRef,
    changes: bool,
) -> Result<(Box<dyn State>, Vec<Expr>)> {
    let (function, distinct) = (aggregate.fun(), aggregate.is_distinct());
    let mut arguments = aggregate.expressions();
    if function == &*count_udaf() && !distinct {
        // count(*) comes as count(1).
        let constant = |expr: &Expr| expr.downcast_ref::<Literal>().is_some_and(|literal| !literal.value().is_null());
        arguments.retain(|argument| !constant(argument));
        return Ok((Box::new(Count::default()), arguments));
    }
    let field = aggregate.field();
    let result = field.data_type();
    if let [argument] = &arguments[..] {
        let data_type = argument.data_type(input)?;
        let special = match function {
            function if is_sum(function) && !distinct => sum(aggregate.name(), &data_type, result),
            function if function == &*avg_udaf() && !distinct => average(&data_type, result),
            function if function == &*min_udaf() => extreme(End::Least, &data_type, result, changes)?,
            function if function == &*max_udaf() => extreme(End::Greatest, &data_type, result, changes)?,
            _ => None,
        };
        if let Some(state) = special {
            return Ok((state, arguments));
        }
    }
    if let Some((state, arguments)) = Edge::new(aggregate, input, changes)? {
        return Ok((Box::new(state), arguments));
    }
    let (state, arguments) = General::new(aggregate, input)?;
    Ok((Box::new(state), arguments))
}

fn sum(name: &str, data_type: &DataType, result: &DataType) -> Option<Box<dyn State>> {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256, Duration, Float64, Int64, UInt64};
    match (data_type, result) {
        (Float64, Float64) => return Some(Box::new(FloatSum::new(false))),
        (Int64, Int64) | (UInt64, UInt64) => {}
        (Duration(unit), Duration(other)) if unit == other => {}
        (Decimal32(_, scale), Decimal32(_, other))
        | (Decimal64(_, scale), Decimal64(_, other))
        | (Decimal128(_, scale), Decimal128(_, other))
        | (Decimal256(_, scale), Decimal256(_, other))
            if scale == other => {}
        _ => return None,
    }
    macro_rules! state {
        ($type:ty) => {
            Some(Box::new(Sum::<$type>::new(name, result.clone())))
        };
    }
    match result {
        Int64 => state!(Int64Type),
        UInt64 => state!(UInt64Type),
        Duration(TimeUnit::Second) => state!(DurationSecondType),
        Duration(TimeUnit::Millisecond) => state!(DurationMillisecondType),
        Duration(TimeUnit::Microsecond) => state!(DurationMicrosecondType),
        Duration(TimeUnit::Nanosecond) => state!(DurationNanosecondType),
        Decimal32(_, _) => state!(Decimal32Type),
        Decimal64(_, _) => state!(Decimal64Type),
        Decimal128(_, _) => state!(Decimal128Type),
        Decimal256(_, _) => state!(Decimal256Type),
        _ => None,
    }
}

fn average(data_type: &DataType, result: &DataType) -> Option<Box<dyn State>> {
    let float = matches!((data_type, result), (DataType::Float64, DataType::Float64));
    float.then(|| Box::new(FloatSum::new(true)) as Box<dyn State>)
}

fn extreme(end: End, data_type: &DataType, result: &DataType, changes: bool) -> Result<Option<Box<dyn State>>> {
    use DataType::{
        Binary, BinaryView, Boolean, Decimal128, Decimal256, Float16, Float32, Float64, Interval, LargeBinary,
        LargeUtf8, Utf8, Utf8View,
    };
    if data_type != result || matches!(data_type, Interval(_)) {
        return Ok(None);
    }
    if !changes {
        macro_rules! state {
            ($type:ty) => {
                Some(Box::new(Extreme::<$type>::new(end, data_type.clone())) as Box<dyn State>)
            };
        }
        let bytes = || BytesExtreme::new(end, data_type).map(|state| Box::new(state) as Box<dyn State>);
        if let Some(state) = downcast_primitive!(data_type => (state), _ => bytes()) {
            return Ok(Some(state));
        }
    }
    if let Some(coding) = Integers::new(data_type) {
        return Ok(Some(Box::new(Ordered::new(end, coding))));
    }
    Ok(match data_type {
        Boolean
        | Float16
        | Float32
        | Float64
        | Decimal128(_, _)
        | Decimal256(_, _)
        | Utf8
        | LargeUtf8
        | Utf8View
        | Binary
        | LargeBinary
        | BinaryView => Some(Box::new(Ordered::new(end, Bytes::new(in_order(data_type.clone()))?))),
        _ => None,
    })
}
