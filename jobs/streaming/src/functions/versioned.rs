//! Functions of things of which newer versions appear while a job runs: `predict('model', …)` and `predict_version('model')`.
//!
//! The program that registers them says where versions come from ([`Versioned`]); what a thing is, is not known here. A slice
//! puts calls in their place that read what the operator that they belong to uses at the moment ([`InUse`]), and changes that
//! where a barrier passes the operator; so all rows before the barrier are given to one version and all rows after it to
//! another, on every slice, and a checkpoint says which one comes after it.
//!
//! Invariant: a version is loaded before it is used, and called with whole columns. Both functions of one operator use the same.

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use super::Functions;

/// By the name that a query gives a thing: a version of it.
pub type Versions = BTreeMap<String, u64>;

/// What is called: one version of a thing.
pub trait Callable: Debug + Send + Sync {
    /// One value for each of `n_rows` rows.
    fn call(&self, arguments: &[ArrayRef], n_rows: usize) -> Result<Float64Array>;
}

/// Where versions come from.
pub trait Versioned: Debug + Send + Sync {
    /// This version of `name`, ready to be called; as slow as loading it is.
    fn load(&self, name: &str, version: u64) -> std::result::Result<Arc<dyn Callable>, String>;

    /// Which versions are to be used from now on in the place of those in use. Those of which a newer one cannot be used stay
    /// as they are, and the texts say why.
    fn wanted(&self, in_use: &Versions) -> (Versions, Vec<String>);
}

/// A version, and what is called for it.
type Loaded = (u64, Arc<dyn Callable>);

/// What the functions of one operator use.
#[derive(Debug)]
pub struct InUse {
    source: Arc<dyn Versioned>,
    now: RwLock<BTreeMap<String, Loaded>>,
}

impl InUse {
    pub fn new(source: Arc<dyn Versioned>, versions: &Versions) -> std::result::Result<Self, String> {
        let in_use = Self { source, now: RwLock::default() };
        in_use.adopt(versions)?;
        Ok(in_use)
    }

    /// The same for another operator, which adopts others in its own time.
    fn fork(&self) -> Self {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner).clone();
        Self { source: Arc::clone(&self.source), now: RwLock::new(now) }
    }

    /// From here on these are used; names that are not among them stay.
    pub fn adopt(&self, versions: &Versions) -> std::result::Result<(), String> {
        for (name, version) in versions {
            let known = self.now.read().unwrap_or_else(PoisonError::into_inner).get(name).map(|(known, _)| *known);
            if known != Some(*version) {
                let callable = self.source.load(name, *version)?;
                let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
                now.insert(name.clone(), (*version, callable));
            }
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<Loaded> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        // A query may spell a name otherwise than the file that makes the thing.
        let found =
            now.get(name).or_else(|| now.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, of)| of));
        found.cloned()
    }
}

const PREDICT: &str = "predict";
const PREDICT_VERSION: &str = "predict_version";

/// Whether this is the name of a function whose first argument names a thing that has versions.
pub(crate) fn names_versions(function: &str) -> bool {
    [PREDICT, "ml_predict", PREDICT_VERSION].contains(&function)
}

/// The functions where nothing is at hand: calls have the right shape and fail when a row reaches them.
pub fn declared_predict() -> Functions {
    functions(None)
}

/// The functions with what they use until a barrier says something else.
pub fn predict(in_use: InUse) -> Functions {
    functions(Some(&Arc::new(in_use)))
}

fn functions(in_use: Option<&Arc<InUse>>) -> Functions {
    let function = |gives| ScalarUDF::new_from_impl(Function::new(gives, in_use.cloned()));
    Functions::new().with(function(Gives::Value)).with(function(Gives::Version))
}

/// The expression with its calls bound to what its operator uses, which is made where there is none yet. None where the
/// expression has no calls.
pub(crate) fn bound_to(
    expr: &Arc<dyn PhysicalExpr>,
    in_use: &mut Option<Arc<InUse>>,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let bound = Arc::clone(expr).transform_up(|expr| {
        let call = expr.downcast_ref::<ScalarFunctionExpr>();
        let Some((call, function)) = call.and_then(|call| Some((call, of_call(call)?))) else {
            return Ok(Transformed::no(expr));
        };
        let Some(initial) = &function.in_use else { return Ok(Transformed::no(expr)) };
        let own = in_use.get_or_insert_with(|| Arc::new(initial.fork()));
        let own = Arc::new(ScalarUDF::new_from_impl(Function::new(function.gives, Some(Arc::clone(own)))));
        let field = call.return_field(&arrow::datatypes::Schema::empty())?;
        let config = Arc::new(call.config_options().clone());
        let call = ScalarFunctionExpr::new(call.name(), own, call.args().to_vec(), field, config);
        Ok(Transformed::yes(Arc::new(call) as Arc<dyn PhysicalExpr>))
    })?;
    Ok(bound.transformed.then_some(bound.data))
}

/// Whether the expression calls something that has versions.
pub(crate) fn calls_versions(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let mut calls = false;
    // The closure never fails, so neither does the walk.
    let _ = expr.apply(|expr| {
        calls |= expr.downcast_ref::<ScalarFunctionExpr>().is_some_and(|call| of_call(call).is_some());
        Ok(if calls { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    calls
}

fn of_call(call: &ScalarFunctionExpr) -> Option<&Function> {
    call.fun().inner().downcast_ref::<Function>()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Gives {
    Value,
    Version,
}

#[derive(Debug)]
struct Function {
    gives: Gives,
    aliases: Vec<String>,
    signature: Signature,
    in_use: Option<Arc<InUse>>,
}

impl Function {
    fn new(gives: Gives, in_use: Option<Arc<InUse>>) -> Self {
        let aliases = match gives {
            Gives::Value => vec!["ml_predict".to_string()],
            Gives::Version => Vec::new(),
        };
        // Volatile, so that nothing is worked out when a query is planned, where another version may be in use.
        Self { gives, aliases, signature: Signature::variadic_any(Volatility::Volatile), in_use }
    }

    fn address(&self) -> Option<*const InUse> {
        self.in_use.as_ref().map(Arc::as_ptr)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        (self.gives, self.address()) == (other.gives, other.address())
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.gives, self.address()).hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        match self.gives {
            Gives::Value => PREDICT,
            Gives::Version => PREDICT_VERSION,
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match self.gives {
            Gives::Value => Ok(DataType::Float64),
            Gives::Version if arguments.len() == 1 => Ok(DataType::Int64),
            Gives::Version => plan_err!("{PREDICT_VERSION} takes a model's name in quotes and nothing else"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))), rest)) = args.args.split_first() else {
            return plan_err!("the first argument of {} is a model's name in quotes", self.name());
        };
        let Some((version, callable)) = self.in_use.as_ref().and_then(|in_use| in_use.get(name)) else {
            return exec_err!("no version of model '{name}' is at hand; train it first");
        };
        if self.gives == Gives::Version {
            let version = i64::try_from(version).map_err(|error| DataFusionError::External(Box::new(error)))?;
            return Ok(ColumnarValue::Array(Arc::new(Int64Array::from(vec![version; args.number_rows]))));
        }
        let columns = rest.iter().map(|column| column.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let values = callable.call(&columns, args.number_rows)?;
        assert_eq!(values.len(), args.number_rows, "a value for each row");
        Ok(ColumnarValue::Array(Arc::new(values)))
    }
}
