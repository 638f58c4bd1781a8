//! `sum` that fails where its result has no room in its type, instead of giving what is left of it.
//!
//! Sums of BIGINT are BIGINT, as in DataFusion and Flink; a check costs next to nothing, a decimal of 38 digits for every
//! sum would not. Sums of floats and what else DataFusion sums are its own.

use super::room::Room;
use crate::runtime::operators::in_order::{Finish, Keep, Plan, state_fields};
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::nullif;
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, FieldRef, Int64Type, TimeUnit, UInt64Type,
};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use std::sync::Arc;

pub(super) fn checked_sum() -> AggregateUDF {
    AggregateUDF::new_from_impl(CheckedSum { unchecked: sum_udaf() })
}

/// Whether a function is `sum`, be it DataFusion's or this one.
pub(crate) fn is_sum(function: &AggregateUDF) -> bool {
    *function == *sum_udaf() || *function == checked_sum()
}

/// What is said of a sum that has no room.
pub(crate) fn out_of_range(name: &str, data_type: &DataType) -> DataFusionError {
    let (spelled, wider) = match data_type {
        DataType::Int64 => ("BIGINT".to_string(), "cast what is summed to DECIMAL(28, 0), or to DOUBLE"),
        DataType::UInt64 => ("BIGINT UNSIGNED".to_string(), "cast what is summed to DECIMAL(28, 0), or to DOUBLE"),
        DataType::Decimal128(precision, scale) => {
            (format!("DECIMAL({precision}, {scale})"), "cast what is summed to DOUBLE")
        }
        other => (other.to_string(), "sum numbers instead"),
    };
    exec_datafusion_err!("{name} is out of range for {spelled}: {wider}")
}

/// Calls a macro with the Arrow type of sums that are checked.
macro_rules! checked {
    ($data_type:expr, $helper:ident) => {
        match $data_type {
            DataType::Int64 => $helper!(Int64Type),
            DataType::UInt64 => $helper!(UInt64Type),
            DataType::Decimal128(_, _) => $helper!(Decimal128Type),
            DataType::Duration(TimeUnit::Second) => $helper!(DurationSecondType),
            DataType::Duration(TimeUnit::Millisecond) => $helper!(DurationMillisecondType),
            DataType::Duration(TimeUnit::Microsecond) => $helper!(DurationMicrosecondType),
            DataType::Duration(TimeUnit::Nanosecond) => $helper!(DurationNanosecondType),
            _ => None,
        }
    };
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum {
    unchecked: Arc<AggregateUDF>,
}

impl CheckedSum {
    fn sum(args: &AccumulatorArgs<'_>) -> Sum {
        Sum { name: args.name.to_string(), data_type: args.return_field.data_type().clone() }
    }

    /// Over different values.
    fn plan(&self, args: &AccumulatorArgs<'_>) -> Result<Plan> {
        let call = AggregateExprBuilder::new(Arc::new(checked_sum()), args.exprs.to_vec());
        let call = call.schema(Arc::new(args.schema.clone())).alias(args.name).build()?;
        Ok(Plan { finish: Finish::Call(Arc::new(call)), keep: Keep::All, distinct: true, skips_nulls: true })
    }
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        self.unchecked.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.unchecked.return_type(types)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if args.is_distinct && is_checked(args.return_type()) {
            return Ok(state_fields(&args));
        }
        self.unchecked.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        macro_rules! of {
            ($type:ty) => {
                Some(Box::new(One::<$type>::new(Self::sum(&args))) as Box<dyn Accumulator>)
            };
        }
        if args.is_distinct && is_checked(args.return_type()) {
            return self.plan(&args)?.alone(&args);
        }
        match checked!(args.return_type(), of) {
            Some(sum) if !args.is_distinct => Ok(sum),
            _ => self.unchecked.accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        macro_rules! of {
            ($type:ty) => {
                Some(Box::new(One::<$type>::new(Self::sum(&args))) as Box<dyn Accumulator>)
            };
        }
        match checked!(args.return_type(), of) {
            Some(sum) if !args.is_distinct => Ok(sum),
            _ => self.unchecked.create_sliding_accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        is_checked(args.return_type()) || self.unchecked.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        macro_rules! of {
            ($type:ty) => {
                Some(Box::new(Many::<$type>::new(Self::sum(&args))) as Box<dyn GroupsAccumulator>)
            };
        }
        if args.is_distinct && is_checked(args.return_type()) {
            return self.plan(&args)?.of_groups(&args);
        }
        match checked!(args.return_type(), of) {
            Some(sums) => Ok(sums),
            None => self.unchecked.create_groups_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn is_checked(data_type: &DataType) -> bool {
    macro_rules! some {
        ($type:ty) => {
            Some(())
        };
    }
    checked!(data_type, some).is_some()
}

/// Which call it is.
#[derive(Debug)]
struct Sum {
    name: String,
    data_type: DataType,
}

impl Sum {
    fn values<'a, T: ArrowPrimitiveType>(&self, columns: &'a [ArrayRef]) -> Result<&'a PrimitiveArray<T>> {
        let values = columns.first().and_then(|column| column.as_primitive_opt::<T>());
        values
            .ok_or_else(|| DataFusionError::Internal(format!("{} of another type than {}", self.name, self.data_type)))
    }
}

/// One sum, out of which values can be taken.
#[derive(Debug)]
struct One<T: ArrowPrimitiveType<Native: Room>> {
    of: Sum,
    sum: <T::Native as Room>::Sum,
    /// Without any value the sum is null.
    n_values: i64,
}

impl<T: ArrowPrimitiveType<Native: Room>> One<T> {
    fn new(of: Sum) -> Self {
        Self { of, sum: <T::Native as Room>::Sum::ZERO, n_values: 0 }
    }

    fn add(&mut self, columns: &[ArrayRef], weight: i64) -> Result<()> {
        let values = self.of.values::<T>(columns)?;
        let add = |sum: <T::Native as Room>::Sum, value: T::Native| sum.add_checked(value.times(weight)?).ok();
        let sum = match values.null_count() {
            0 => values.values().iter().try_fold(self.sum, |sum, value| add(sum, *value)),
            _ => values.iter().flatten().try_fold(self.sum, add),
        };
        self.sum = sum.ok_or_else(|| out_of_range(&self.of.name, &self.of.data_type))?;
        self.n_values += weight * (values.len() - values.null_count()) as i64;
        Ok(())
    }
}

impl<T: ArrowPrimitiveType<Native: Room> + std::fmt::Debug> Accumulator for One<T> {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.add(columns, 1)
    }

    fn retract_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.add(columns, -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = T::Native::result(self.sum).ok_or_else(|| out_of_range(&self.of.name, &self.of.data_type))?;
        ScalarValue::new_primitive::<T>((self.n_values != 0).then_some(sum), &self.of.data_type)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.of.name.capacity()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}

/// A sum for each group.
#[derive(Debug)]
struct Many<T: ArrowPrimitiveType> {
    of: Sum,
    sums: Vec<T::Native>,
    /// By group: whether it has a value; absent while all have one.
    some: Option<Vec<bool>>,
}

impl<T: ArrowPrimitiveType> Many<T> {
    fn new(of: Sum) -> Self {
        Self { of, sums: Vec::new(), some: None }
    }

    fn add(
        &mut self,
        columns: &[ArrayRef],
        groups: &[usize],
        passes: Option<&BooleanArray>,
        n_groups: usize,
    ) -> Result<()> {
        let values = self.of.values::<T>(columns)?;
        let n_before = self.sums.len();
        self.sums.resize(n_groups, T::Native::ZERO);
        let mut overflows = false;
        let mut add = |sum: &mut T::Native, value: T::Native| match sum.add_checked(value) {
            Ok(more) => *sum = more,
            Err(_) => overflows = true,
        };
        match mask(values.nulls(), passes) {
            None => {
                for (group, value) in groups.iter().zip(values.values()) {
                    add(&mut self.sums[*group], *value);
                }
                // A group is new because a row came for it.
                if let Some(some) = &mut self.some {
                    some.resize(n_groups, false);
                    groups.iter().for_each(|group| some[*group] = true);
                }
            }
            Some(mask) => {
                let some = self.some.get_or_insert_with(|| vec![true; n_before]);
                some.resize(n_groups, false);
                for row in mask.set_indices() {
                    let group = groups[row];
                    some[group] = true;
                    add(&mut self.sums[group], values.value(row));
                }
            }
        }
        if overflows { Err(out_of_range(&self.of.name, &self.of.data_type)) } else { Ok(()) }
    }

    fn emit(&mut self, emit_to: EmitTo) -> ArrayRef {
        let sums = emit_to.take_needed(&mut self.sums);
        let nulls = self.some.as_mut().map(|some| NullBuffer::from(emit_to.take_needed(some)));
        if self.sums.is_empty() {
            self.some = None;
        }
        Arc::new(PrimitiveArray::<T>::new(sums.into(), nulls).with_data_type(self.of.data_type.clone()))
    }
}

/// The rows that count; none at all: every row.
fn mask(nulls: Option<&NullBuffer>, passes: Option<&BooleanArray>) -> Option<BooleanBuffer> {
    let nulls = nulls.filter(|nulls| nulls.null_count() > 0).map(NullBuffer::inner);
    let passes = passes.map(|passes| match passes.nulls() {
        Some(nulls) => passes.values() & nulls.inner(),
        None => passes.values().clone(),
    });
    match (nulls, passes) {
        (Some(nulls), Some(passes)) => Some(nulls & &passes),
        (Some(nulls), None) => Some(nulls.clone()),
        (None, passes) => passes,
    }
}

impl<T: ArrowPrimitiveType + std::fmt::Debug> GroupsAccumulator for Many<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.add(values, group_indices, opt_filter, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(self.emit(emit_to))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.emit(emit_to)])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.add(values, group_indices, None, total_num_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = self.of.values::<T>(values)?.clone().with_data_type(self.of.data_type.clone());
        Ok(vec![match opt_filter {
            None => Arc::new(values),
            Some(passes) => {
                let goes = mask(None, Some(passes)).map(|stays| BooleanArray::new(!&stays, None));
                goes.map_or_else(|| Ok(Arc::new(values.clone()) as ArrayRef), |goes| nullif(&values, &goes))?
            }
        }])
    }

    fn size(&self) -> usize {
        let some = self.some.as_ref().map_or(0, Vec::capacity);
        size_of_val(self) + self.sums.capacity() * size_of::<T::Native>() + some
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Int64Array, UInt64Array};
    use arrow::datatypes::{Field, Schema};
    use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
    use datafusion::physical_expr::expressions::col;
    use proptest::prelude::*;

    fn call(data_type: DataType, distinct: bool) -> AggregateFunctionExpr {
        let schema = Arc::new(Schema::new(vec![Field::new("x", data_type, true)]));
        let x = col("x", &schema).expect("a column");
        let call = AggregateExprBuilder::new(Arc::new(checked_sum()), vec![x]).schema(schema).alias("sum(x)");
        call.with_distinct(distinct).build().expect("a call")
    }

    fn numbers(values: &[Option<i64>]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    #[test]
    fn a_sum_without_room_is_an_error_that_names_it() {
        let check = |data_type: DataType, values: ArrayRef, text: &str| {
            let call = call(data_type, false);
            let mut many = call.create_groups_accumulator().expect("sums");
            let groups = vec![0; values.len()];
            let error = many.update_batch(&[Arc::clone(&values)], &groups, None, 1).expect_err("no room");
            assert_eq!(error.strip_backtrace(), format!("Execution error: sum(x) is out of range for {text}"));
            let mut one = call.create_accumulator().expect("a sum");
            let error = one.update_batch(&[values]).and_then(|()| one.evaluate()).expect_err("no room");
            assert_eq!(error.strip_backtrace(), format!("Execution error: sum(x) is out of range for {text}"));
        };
        check(
            DataType::Int64,
            numbers(&[Some(i64::MIN), None, Some(-1)]),
            "BIGINT: cast what is summed to DECIMAL(28, 0), or to DOUBLE",
        );
        check(
            DataType::UInt64,
            Arc::new(UInt64Array::from(vec![u64::MAX, 1])),
            "BIGINT UNSIGNED: cast what is summed to DECIMAL(28, 0), or to DOUBLE",
        );
        let wide = Decimal128Array::from(vec![i128::MAX, 1]).with_precision_and_scale(38, 2).expect("decimals");
        check(DataType::Decimal128(38, 2), Arc::new(wide), "DECIMAL(38, 2): cast what is summed to DOUBLE");
    }

    #[test]
    fn what_leaves_a_frame_makes_room() {
        let mut sum = call(DataType::Int64, false).create_sliding_accumulator().expect("a sum");
        sum.update_batch(&[numbers(&[Some(i64::MAX)])]).expect("fits");
        sum.update_batch(&[numbers(&[Some(5), None])]).expect("is not asked for");
        sum.retract_batch(&[numbers(&[Some(i64::MAX)])]).expect("fits");
        assert_eq!(sum.evaluate().expect("a sum"), ScalarValue::Int64(Some(5)));
        sum.retract_batch(&[numbers(&[Some(5), None])]).expect("fits");
        assert_eq!(sum.evaluate().expect("a sum"), ScalarValue::Int64(None));
    }

    proptest! {
        #[test]
        fn sums_are_those_of_datafusion(
            batches in proptest::collection::vec(
                proptest::collection::vec((0_usize..4, proptest::option::of(-9_i64..10), any::<bool>()), 1..12),
                1..6,
            ),
            filtered: bool,
            distinct: bool,
        ) {
            let own = call(DataType::Int64, distinct);
            let mut many = own.create_groups_accumulator().expect("sums");
            let mut naive = [None; 4];
            // By group: its number, in the order in which groups are first seen.
            let mut numbered: Vec<usize> = Vec::new();
            let mut seen = std::collections::BTreeSet::new();
            for (at, batch) in batches.iter().enumerate() {
                let number = |(group, ..): &(usize, Option<i64>, bool)| {
                    numbered.iter().position(|known| known == group).unwrap_or_else(|| {
                        numbered.push(*group);
                        numbered.len() - 1
                    })
                };
                let groups: Vec<usize> = batch.iter().map(number).collect();
                let n_groups = numbered.len();
                let values = numbers(&batch.iter().map(|(_, value, _)| *value).collect::<Vec<_>>());
                let passes: BooleanArray = batch.iter().map(|(.., passes)| Some(*passes)).collect();
                let passes = filtered.then_some(&passes);
                for ((_, value, passes), group) in batch.iter().zip(&groups) {
                    if let Some(value) = value.filter(|_| *passes || !filtered)
                        && (!distinct || seen.insert((*group, value)))
                    {
                        *naive[*group].get_or_insert(0) += value;
                    }
                }
                match at % 2 {
                    0 => many.update_batch(&[values], &groups, passes, n_groups).expect("rows"),
                    _ => {
                        let states = many.convert_to_state(&[values], passes).expect("states");
                        many.merge_batch(&states, &groups, n_groups).expect("states");
                    }
                }
            }
            let first = many.evaluate(EmitTo::First(1)).expect("a sum");
            let rest = many.evaluate(EmitTo::All).expect("sums");
            let found: Vec<Option<i64>> =
                [&first, &rest].into_iter().flat_map(|sums| sums.as_primitive::<Int64Type>().iter()).collect();
            prop_assert_eq!(&found[..], &naive[..numbered.len()]);
        }
    }
}
