//! Functions of DataFusion's under the names and forms that other dialects give them.
//!
//! Invariant: each is answered by the function that it stands for, so that both names give the same.

use arrow::array::{Array, ArrayRef};
use arrow::compute::kernels::numeric::rem;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::functions::{datetime, math, unicode};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// Parts of a time by name, and how `date_part` calls them.
const PARTS: [(&str, &str); 9] = [
    ("year", "year"),
    ("quarter", "quarter"),
    ("month", "month"),
    ("week", "week"),
    ("dayofmonth", "day"),
    ("dayofyear", "doy"),
    ("hour", "hour"),
    ("minute", "minute"),
    ("second", "second"),
];

pub(crate) fn spelled_functions() -> Vec<ScalarUDF> {
    let part = |(name, part): (&'static str, &'static str)| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Spelled { name, stands_for: datetime::date_part(), how: How::Part(part), signature }
    };
    let same = |name, stands_for: Arc<ScalarUDF>, how| {
        let signature = stands_for.signature().clone();
        Spelled { name, stands_for, how, signature }
    };
    let others = [
        same("ceiling", math::ceil(), How::Same),
        same("truncate", math::trunc(), How::Same),
        same("sign", math::signum(), How::Same),
        same("unix_timestamp", datetime::to_unixtime(), How::Same),
        same("locate", unicode::strpos(), How::Turned),
    ];
    let modulo = ScalarUDF::new_from_impl(Modulo { signature: Signature::numeric(2, Volatility::Immutable) });
    PARTS.into_iter().map(part).chain(others).map(ScalarUDF::new_from_impl).chain([modulo]).collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Spelled {
    name: &'static str,
    stands_for: Arc<ScalarUDF>,
    how: How,
    signature: Signature,
}

/// Where the arguments go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum How {
    Same,
    /// The last one comes first.
    Turned,
    /// Behind the name of a part.
    Part(&'static str),
}

impl How {
    fn arranged<T>(self, mut args: Vec<T>, part: impl FnOnce(&'static str) -> T) -> Vec<T> {
        match self {
            Self::Same => {}
            Self::Turned => args.reverse(),
            Self::Part(name) => args.insert(0, part(name)),
        }
        args
    }
}

fn part_name(part: &str) -> ScalarValue {
    ScalarValue::from(part)
}

fn part_field(_: &str) -> FieldRef {
    Arc::new(Field::new("part", DataType::Utf8, false))
}

impl ScalarUDFImpl for Spelled {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Time64(_)] => Ok(given.to_vec()),
            [DataType::Null] => Ok(vec![DataType::Date32]),
            [other] => plan_err!("{} takes a TIMESTAMP, DATE or TIME, not {other}", self.name),
            _ => plan_err!("{} takes one argument, not {}", self.name, given.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        exec_err!("the type of {} depends on its arguments", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let part = match self.how {
            How::Part(part) => Some(part_name(part)),
            How::Same | How::Turned => None,
        };
        let fields = self.how.arranged(args.arg_fields.to_vec(), part_field);
        let scalars = self.how.arranged(args.scalar_arguments.to_vec(), |_| part.as_ref());
        let field = self
            .stands_for
            .return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &scalars })?;
        Ok(Arc::new(Field::new(self.name, field.data_type().clone(), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.stands_for.invoke_with_args(ScalarFunctionArgs {
            args: self.how.arranged(args.args, |part| ColumnarValue::Scalar(part_name(part))),
            arg_fields: self.how.arranged(args.arg_fields, part_field),
            ..args
        })
    }
}

/// `mod(a, b)`, which is `a % b`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Modulo {
    signature: Signature,
}

impl ScalarUDFImpl for Modulo {
    fn name(&self) -> &str {
        "mod"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [one, other] if one == other => Ok(one.clone()),
            _ => plan_err!("mod takes two numbers of one type"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [one, other] = args.args.as_slice() else { return exec_err!("mod takes two arguments") };
        let (one, other): (ArrayRef, ArrayRef) = (one.to_array(args.number_rows)?, other.to_array(args.number_rows)?);
        let rest = rem(&one, &other)?;
        assert_eq!(rest.len(), args.number_rows, "a rest for each row");
        Ok(ColumnarValue::Array(rest))
    }
}
