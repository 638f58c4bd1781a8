//! Aggregate functions that keep the rows they are given and compute their result anew over these.
//!
//! DataFusion's own accumulators pass over DISTINCT in some functions and refuse it in others, keep sets in an order that
//! is another one each time, and tell -0.0 from 0.0. And in a frame that moves they take rows out of a sum by subtraction,
//! which leaves of floats what was rounded: after 1e20 has come and gone, a 1 beside it is lost; or they cannot take rows
//! out at all. What is given here costs a look at all rows of the set or frame for each result.
//!
//! Invariant: a result is a matter of the rows alone: of a set in the order of its values, of a frame in its own order.

use super::canonical::holds_floats;
use super::group_aggregate::coding::{Bytes, Coding};
use super::window::BATCH_ROWS;
use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{SortOptions, concat};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Functions to which it is all the same how often a value comes.
const IDEMPOTENT: [&str; 9] =
    ["min", "max", "bool_and", "bool_or", "bit_and", "bit_or", "first_value", "last_value", "approx_distinct"];

/// Whether a call of this function gives with DISTINCT what it gives without.
pub fn is_idempotent(function: &AggregateUDF) -> bool {
    IDEMPOTENT.contains(&function.name())
}

/// Whether DataFusion's accumulators count these different values rightly; they are faster.
pub fn counts_rightly(function: &AggregateUDF, types: &[DataType]) -> bool {
    function.name() == "count" && matches!(types, [only] if !holds_floats(only))
}

/// Whether rows can be taken out of DataFusion's state of a call without a trace.
pub fn retracts_rightly(function: &AggregateUDF, result: &DataType) -> bool {
    match function.name() {
        "count" | "min" | "max" | "array_agg" | "bit_xor" => true,
        "sum" | "avg" => !result.is_floating(),
        _ => false,
    }
}

/// The function as a call of it is to have it: over different rows where `distinct`, and over the rows of a frame where it
/// slides.
pub fn gathered(function: &AggregateUDF, distinct: bool) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(Gathered { function: function.clone(), distinct }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Gathered {
    function: AggregateUDF,
    distinct: bool,
}

impl Gathered {
    fn call(&self, args: &AccumulatorArgs<'_>) -> Result<Call> {
        let builder = AggregateExprBuilder::new(Arc::new(self.function.clone()), args.exprs.to_vec());
        let builder = builder.schema(Arc::new(args.schema.clone())).alias(args.name).order_by(args.order_bys.to_vec());
        let aggregate = builder.with_ignore_nulls(args.ignore_nulls).with_reversed(args.is_reversed).build()?;
        // What cannot be computed is said now and not with the first result.
        aggregate.create_accumulator()?;
        let mut types: Vec<DataType> = args.expr_fields.iter().map(|field| field.data_type().clone()).collect();
        for by in args.order_bys {
            types.push(by.expr.data_type(args.schema)?);
        }
        Ok(Call { aggregate, types })
    }

    fn different(&self, args: &AccumulatorArgs<'_>) -> Result<Different> {
        let call = self.call(args)?;
        // What is ordered by stands before the arguments, and comes after them.
        let n_arguments = args.exprs.len();
        let order = args.order_bys.iter().map(|by| by.options).enumerate();
        let order = order.map(|(at, options)| (n_arguments + at, options));
        let columns: Vec<(usize, SortOptions)> =
            order.chain((0..n_arguments).map(|at| (at, SortOptions::default()))).collect();
        let typed = columns.iter().map(|(at, options)| (call.types[*at].clone(), *options));
        let coding = Bytes::canonical(typed.collect())?;
        let columns = columns.into_iter().map(|(at, _)| at).collect();
        Ok(Different { call, coding, columns, rows: BTreeSet::new(), rows_bytes: 0 })
    }
}

impl AggregateUDFImpl for Gathered {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.function.schema_name(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.function.window_function_schema_name(params)
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.function.return_type(arg_types)
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> Result<FieldRef> {
        self.function.return_field(arg_fields)
    }

    fn is_nullable(&self) -> bool {
        self.function.is_nullable()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(arg_types)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.function.default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.function.supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.function.supports_within_group_clause()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.function.order_sensitivity()
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if self.distinct { Ok(Box::new(self.different(&args)?)) } else { self.function.accumulator(args) }
    }

    /// As lists of the arguments of all rows.
    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if !self.distinct {
            return self.function.state_fields(args);
        }
        let fields = args.input_fields.iter().chain(args.ordering_fields).enumerate();
        let list = |(at, field): (usize, &FieldRef)| {
            let data_type = DataType::new_list(field.data_type().clone(), true);
            Arc::new(Field::new(format!("{}[different {at}]", args.name), data_type, true))
        };
        Ok(fields.map(list).collect())
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let rows = match self.distinct {
            true => Frame::of(Box::new(self.different(&args)?)),
            false => Frame::of(Box::new(self.call(&args)?)),
        };
        Ok(Box::new(rows))
    }
}

/// A call that is computed over rows that are all there at once.
trait Whole: std::fmt::Debug + Send + Sync {
    fn over(&self, columns: &[ArrayRef]) -> Result<ScalarValue>;
}

#[derive(Debug)]
struct Call {
    aggregate: AggregateFunctionExpr,
    /// Of the arguments and of what is ordered by.
    types: Vec<DataType>,
}

impl Whole for Call {
    fn over(&self, columns: &[ArrayRef]) -> Result<ScalarValue> {
        let mut accumulator = self.aggregate.create_accumulator()?;
        if columns.first().is_some_and(|column| !column.is_empty()) {
            accumulator.update_batch(columns)?;
        }
        accumulator.evaluate()
    }
}

/// The different ones of the rows that came.
#[derive(Debug)]
struct Different {
    call: Call,
    coding: Bytes,
    /// By column of the coding: its place among the columns that come.
    columns: Vec<usize>,
    rows: BTreeSet<Box<[u8]>>,
    rows_bytes: usize,
}

impl Different {
    fn rows(&self, columns: &[ArrayRef]) -> Result<arrow::row::Rows> {
        self.coding.encode(&self.columns.iter().map(|at| Arc::clone(&columns[*at])).collect::<Vec<_>>())
    }

    /// The columns of these rows, in the order in which columns come.
    fn decoded<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let columns = self.columns.iter().zip(self.coding.decode(rows.map(Some))?);
        let mut columns: Vec<(&usize, ArrayRef)> = columns.collect();
        columns.sort_by_key(|(at, _)| **at);
        Ok(columns.into_iter().map(|(_, column)| column).collect())
    }

    fn result<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<ScalarValue> {
        let mut accumulator = self.call.aggregate.create_accumulator()?;
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            accumulator.update_batch(&self.decoded(rows.by_ref().take(BATCH_ROWS))?)?;
        }
        accumulator.evaluate()
    }
}

impl Whole for Different {
    fn over(&self, columns: &[ArrayRef]) -> Result<ScalarValue> {
        let rows = self.rows(columns)?;
        let mut rows: Vec<&[u8]> = (0..rows.num_rows()).map(|row| Bytes::value(&rows, row)).collect();
        rows.sort_unstable();
        rows.dedup();
        self.result(rows.into_iter())
    }
}

impl Accumulator for Different {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = self.rows(values)?;
        for row in (0..rows.num_rows()).map(|row| Bytes::value(&rows, row)) {
            if !self.rows.contains(row) {
                self.rows_bytes += row.len() + size_of::<Box<[u8]>>();
                self.rows.insert(row.into());
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.result(self.rows.iter().map(|row| &**row))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.rows_bytes + self.coding.memory_bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let columns = self.decoded(self.rows.iter().map(|row| &**row))?;
        let list = |column: ArrayRef| {
            let field = Arc::new(Field::new_list_field(column.data_type().clone(), true));
            let offsets = OffsetBuffer::from_lengths([column.len()]);
            Ok(ScalarValue::List(Arc::new(ListArray::try_new(field, offsets, column, None)?)))
        };
        columns.into_iter().map(list).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = |state: &ArrayRef| {
            let Some(lists) = state.as_list_opt::<i32>() else {
                return Err(DataFusionError::Internal(format!("different values as {}", state.data_type())));
            };
            let offsets = lists.value_offsets();
            let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
            Ok(lists.values().slice(first, last - first))
        };
        let columns = states.iter().map(rows).collect::<Result<Vec<_>>>()?;
        self.update_batch(&columns)
    }
}

/// The rows of a frame, which come at its end and go at its start.
#[derive(Debug)]
struct Frame {
    call: Box<dyn Whole>,
    /// Rows that came, in parts, by column.
    parts: Vec<Vec<ArrayRef>>,
    /// How many of them are gone.
    n_gone: usize,
}

impl Frame {
    fn of(call: Box<dyn Whole>) -> Self {
        Self { call, parts: Vec::new(), n_gone: 0 }
    }

    /// Puts the rows that are there together; gives their columns, none of them before the first row.
    fn columns(&mut self) -> Result<Option<Vec<ArrayRef>>> {
        let Some(first) = self.parts.first() else { return Ok(None) };
        let column = |at: usize| {
            let parts: Vec<&dyn Array> = self.parts.iter().map(|part| part[at].as_ref()).collect();
            let whole = concat(&parts)?;
            Ok(whole.slice(self.n_gone, whole.len() - self.n_gone))
        };
        let columns: Vec<ArrayRef> = (0..first.len()).map(column).collect::<Result<_>>()?;
        self.parts = vec![columns.clone()];
        self.n_gone = 0;
        Ok(Some(columns))
    }
}

impl Accumulator for Frame {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.parts.push(values.to_vec());
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.n_gone += values.first().map_or(0, |column| column.len());
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let columns = self.columns()?;
        self.call.over(&columns.unwrap_or_default())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.parts.iter().flatten().map(|column| column.get_array_memory_size()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Err(DataFusionError::Internal("a frame is not merged".into()))
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        Err(DataFusionError::Internal("a frame is not merged".into()))
    }
}
