//! `percentile_disc(share) WITHIN GROUP (ORDER BY x)`: the first value in the order that has this share of the values up to
//! itself; and `mode() WITHIN GROUP (ORDER BY x)`, or `mode(x)`: the value that comes most often, of several the first in
//! the order. Nulls do not count.

use crate::runtime::operators::in_order::{Finish, Keep, Pick, Plan, state_fields};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};
use datafusion::physical_expr::expressions::Literal;

pub(super) fn percentile_disc() -> AggregateUDF {
    function(Which::PercentileDisc, &["quantile_disc"])
}

pub(super) fn mode() -> AggregateUDF {
    function(Which::Mode, &[])
}

/// Whether a call is about its values as a set, and sorts these itself, over different ones too.
pub(crate) fn is_of_set(function: &AggregateUDF) -> bool {
    *function == percentile_disc() || *function == mode()
}

fn function(which: Which, aliases: &[&str]) -> AggregateUDF {
    let signature = Signature::user_defined(Volatility::Immutable);
    let aliases = aliases.iter().map(|alias| (*alias).to_string()).collect();
    AggregateUDF::new_from_impl(OfSet { which, aliases, signature })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    PercentileDisc,
    Mode,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfSet {
    which: Which,
    aliases: Vec<String>,
    signature: Signature,
}

impl OfSet {
    fn plan(&self, args: &AccumulatorArgs<'_>) -> Result<Plan> {
        let pick = match self.which {
            Which::PercentileDisc => Pick::Share(share(args)?),
            Which::Mode => Pick::MostOften,
        };
        Ok(Plan { finish: Finish::Pick(pick), keep: Keep::All, distinct: args.is_distinct, skips_nulls: true })
    }
}

fn share(args: &AccumulatorArgs<'_>) -> Result<f64> {
    match args.exprs.get(1).and_then(|share| share.downcast_ref::<Literal>()).map(Literal::value) {
        Some(ScalarValue::Float64(Some(share))) if (0.0..=1.0).contains(share) => Ok(*share),
        Some(other) => plan_err!("percentile_disc takes a share from 0 to 1, not {other}"),
        None => plan_err!("percentile_disc takes a share that is the same for all rows"),
    }
}

impl AggregateUDFImpl for OfSet {
    fn name(&self) -> &str {
        match self.which {
            Which::PercentileDisc => "percentile_disc",
            Which::Mode => "mode",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match (self.which, given) {
            (Which::Mode, [of]) => Ok(vec![of.clone()]),
            (Which::PercentileDisc, [of, share]) if share.is_numeric() => Ok(vec![of.clone(), DataType::Float64]),
            (Which::Mode, _) => plan_err!("mode is written mode(x), or mode() WITHIN GROUP (ORDER BY x)"),
            (Which::PercentileDisc, _) => {
                plan_err!("percentile_disc is written percentile_disc(0.5) WITHIN GROUP (ORDER BY x)")
            }
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [of, ..] => Ok(of.clone()),
            [] => plan_err!("{} of nothing", self.name()),
        }
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(state_fields(&args))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.plan(&args)?.alone(&args)
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.plan(&args)?.of_groups(&args)
    }
}
