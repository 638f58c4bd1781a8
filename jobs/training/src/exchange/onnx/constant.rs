//! Arrays that do not depend on the rows: weights, shapes, masks, and what a graph computes of them.
//!
//! Exporters write shapes as little programs over constants; these are run here. Invariant: what is computed stays within a
//! budget of values, which the size of the file sets, so that no file makes much of little.

use super::file::Attributes;
use std::rc::Rc;

#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    pub dims: Vec<usize>,
    pub values: Values,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Reals(Rc<Vec<f32>>),
    /// Booleans are 0 and 1.
    Wholes(Rc<Vec<i64>>),
    Words(Rc<Vec<String>>),
    /// All alike; such arrays may be as large as a batch.
    Same {
        value: f64,
        whole: bool,
    },
}

/// Values that may still be made.
#[derive(Debug)]
pub struct Budget(pub usize);

impl Budget {
    pub fn take(&mut self, values: usize) -> Result<(), String> {
        match self.0.checked_sub(values) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(format!("it makes {values} values more, which is out of proportion to the file")),
        }
    }
}

impl Constant {
    pub fn reals(dims: &[usize], values: Vec<f32>) -> Self {
        Self { dims: dims.to_vec(), values: Values::Reals(Rc::new(values)) }
    }

    pub fn wholes(dims: &[usize], values: Vec<i64>) -> Self {
        Self { dims: dims.to_vec(), values: Values::Wholes(Rc::new(values)) }
    }

    /// Number of values.
    pub fn size(&self) -> usize {
        product(&self.dims)
    }

    fn is_same(&self) -> bool {
        matches!(self.values, Values::Same { .. })
    }

    fn is_whole(&self) -> bool {
        matches!(self.values, Values::Wholes(_) | Values::Same { whole: true, .. })
    }

    /// As numbers.
    pub fn numbers(&self, budget: &mut Budget) -> Result<Vec<f64>, String> {
        budget.take(self.size())?;
        match &self.values {
            Values::Reals(values) => Ok(values.iter().map(|value| f64::from(*value)).collect()),
            Values::Wholes(values) => Ok(values.iter().map(|value| *value as f64).collect()),
            Values::Same { value, .. } => Ok(vec![*value; self.size()]),
            Values::Words(_) => Err("it holds texts, not numbers".to_string()),
        }
    }

    /// As weights.
    pub fn weights(&self, budget: &mut Budget) -> Result<Rc<Vec<f32>>, String> {
        match &self.values {
            Values::Reals(values) => Ok(Rc::clone(values)),
            _ => Ok(Rc::new(self.numbers(budget)?.into_iter().map(|value| value as f32).collect())),
        }
    }

    /// As sizes, axes or places.
    pub fn whole_values(&self, budget: &mut Budget) -> Result<Vec<i64>, String> {
        match &self.values {
            Values::Wholes(values) => Ok(values.to_vec()),
            _ => Ok(self.numbers(budget)?.into_iter().map(|value| value as i64).collect()),
        }
    }

    /// The only value, or that which all are.
    pub fn single(&self) -> Option<f64> {
        match &self.values {
            Values::Same { value, .. } => Some(*value),
            Values::Reals(values) => {
                let first = values.first()?;
                values.iter().all(|value| value == first).then(|| f64::from(*first))
            }
            Values::Wholes(values) => {
                let first = values.first()?;
                values.iter().all(|value| value == first).then_some(*first as f64)
            }
            Values::Words(_) => None,
        }
    }

    fn with(dims: Vec<usize>, values: Vec<f64>, whole: bool) -> Self {
        let values = if whole {
            Values::Wholes(Rc::new(values.into_iter().map(|value| value as i64).collect()))
        } else {
            Values::Reals(Rc::new(values.into_iter().map(|value| value as f32).collect()))
        };
        Self { dims, values }
    }

    fn indexed(&self, dims: Vec<usize>, from: &[usize], budget: &mut Budget) -> Result<Self, String> {
        budget.take(from.len())?;
        let values = match &self.values {
            Values::Reals(values) => Values::Reals(Rc::new(from.iter().map(|at| values[*at]).collect())),
            Values::Wholes(values) => Values::Wholes(Rc::new(from.iter().map(|at| values[*at]).collect())),
            Values::Words(values) => Values::Words(Rc::new(from.iter().map(|at| values[*at].clone()).collect())),
            Values::Same { .. } => self.values.clone(),
        };
        Ok(Self { dims, values })
    }

    /// Repeated along dimensions of size 1, and new ones before.
    pub fn expanded(&self, dims: &[usize], budget: &mut Budget) -> Result<Self, String> {
        if self.dims == dims {
            return Ok(self.clone());
        }
        if let Values::Same { .. } = self.values {
            return Ok(Self { dims: dims.to_vec(), values: self.values.clone() });
        }
        if let Some(value) = self.single() {
            return Ok(Self { dims: dims.to_vec(), values: Values::Same { value, whole: self.is_whole() } });
        }
        let lacks = dims.len().checked_sub(self.dims.len()).ok_or("it has too many dimensions")?;
        let mut steps = vec![0; dims.len()];
        let mut stride = 1;
        for (at, dim) in self.dims.iter().enumerate().rev() {
            steps[lacks + at] = if *dim == 1 { 0 } else { stride };
            if *dim != 1 && *dim != dims[lacks + at] {
                return Err(format!("{:?} does not spread over {dims:?}", self.dims));
            }
            stride *= dim;
        }
        let from = places(dims, &steps, 0, budget)?;
        self.indexed(dims.to_vec(), &from, budget)
    }

    pub fn transposed(&self, order: &[usize], budget: &mut Budget) -> Result<Self, String> {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..self.dims.len()) {
            return Err(format!("{order:?} is no order of the dimensions of {:?}", self.dims));
        }
        let dims: Vec<usize> = order.iter().map(|axis| self.dims[*axis]).collect();
        if self.is_same() {
            return Ok(Self { dims, values: self.values.clone() });
        }
        let strides = strides(&self.dims);
        let steps: Vec<usize> = order.iter().map(|axis| strides[*axis]).collect();
        let from = places(&dims, &steps, 0, budget)?;
        self.indexed(dims, &from, budget)
    }

    pub fn reshaped(&self, dims: Vec<usize>) -> Result<Self, String> {
        let reshaped = Self { dims, values: self.values.clone() };
        if reshaped.size() == self.size() {
            Ok(reshaped)
        } else {
            Err(format!("{:?} is {} values, {:?} is {}", self.dims, self.size(), reshaped.dims, reshaped.size()))
        }
    }

    /// These places along an axis.
    fn along(&self, axis: usize, places_of_axis: &[usize], budget: &mut Budget) -> Result<Vec<usize>, String> {
        if let Values::Same { .. } = self.values {
            return Ok(Vec::new());
        }
        let (outer, inner) = (product(&self.dims[..axis]), product(&self.dims[axis + 1..]));
        let size = self.dims[axis];
        budget.take(outer.saturating_mul(places_of_axis.len()).saturating_mul(inner))?;
        let mut from = Vec::new();
        for block in 0..outer {
            for place in places_of_axis {
                from.extend((0..inner).map(|at| (block * size + place) * inner + at));
            }
        }
        Ok(from)
    }
}

/// Shapes are foreign, and arrays whose values are all alike may have any.
fn product(dims: &[usize]) -> usize {
    dims.iter().fold(1, |size: usize, dim| size.saturating_mul(*dim))
}

fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for at in (1..dims.len()).rev() {
        strides[at - 1] = strides[at] * dims[at];
    }
    strides
}

/// Of every place of `dims`, in order, where it lies by these steps.
fn places(dims: &[usize], steps: &[usize], start: usize, budget: &mut Budget) -> Result<Vec<usize>, String> {
    budget.take(product(dims))?;
    let mut places = vec![start];
    for (dim, step) in dims.iter().zip(steps) {
        places = places.iter().flat_map(|place| (0..*dim).map(move |at| place + at * step)).collect();
    }
    Ok(places)
}

/// The dimensions of what two arrays become together.
pub fn broadcast(left: &[usize], right: &[usize]) -> Option<Vec<usize>> {
    let rank = left.len().max(right.len());
    let of = |dims: &[usize], at: usize| (at + dims.len()).checked_sub(rank).map_or(1, |at| dims[at]);
    (0..rank)
        .map(|at| match (of(left, at), of(right, at)) {
            (1, size) | (size, 1) => Some(size),
            (left, right) => (left == right).then_some(left),
        })
        .collect()
}

/// A negative axis counts from behind.
pub fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let counted = if axis < 0 { axis + rank as i64 } else { axis };
    match usize::try_from(counted) {
        Ok(axis) if axis < rank => Ok(axis),
        _ => Err(format!("it has no axis {axis} of {rank}")),
    }
}

/// The dimensions that a `Reshape` asks for, of so many values.
pub fn target(asked: &[i64], dims: &[usize], zero_is_zero: bool) -> Result<Vec<usize>, String> {
    let size = product(dims);
    let wrong = || format!("{dims:?} cannot be {asked:?}");
    let mut target = Vec::with_capacity(asked.len());
    let mut open = None;
    for (at, dim) in asked.iter().enumerate() {
        target.push(match dim {
            -1 if open.is_none() => {
                open = Some(at);
                1
            }
            0 if !zero_is_zero => *dims.get(at).ok_or_else(wrong)?,
            dim => usize::try_from(*dim).ok().filter(|dim| *dim > 0).ok_or_else(wrong)?,
        });
    }
    let known = product(&target);
    if let Some(open) = open {
        target[open] = size / known.max(1);
    }
    if product(&target) == size { Ok(target) } else { Err(wrong()) }
}

/// Start and end of a slice along a dimension, as ONNX counts them; only steps of 1.
pub fn slice(start: i64, end: i64, size: usize) -> (usize, usize) {
    let size = size as i64;
    let clamp = |at: i64| (if at < 0 { at.saturating_add(size) } else { at }).clamp(0, size) as usize;
    (clamp(start), clamp(end))
}

/// What an operator gives of constants alone; `None` for one that is not known here.
pub fn fold(
    op: &str,
    attributes: &Attributes<'_>,
    inputs: &[Option<&Constant>],
    budget: &mut Budget,
) -> Result<Option<Constant>, String> {
    let get = |at: usize| inputs.get(at).copied().flatten().ok_or_else(|| format!("it lacks input {at}"));
    let axes = |budget: &mut Budget, rank: usize| -> Result<Option<Vec<usize>>, String> {
        let axes = match (attributes.wholes("axes"), inputs.get(1).copied().flatten()) {
            (Some(axes), _) => axes.to_vec(),
            (None, Some(axes)) => axes.whole_values(budget)?,
            (None, None) => return Ok(None),
        };
        axes.into_iter().map(|at| axis(at, rank)).collect::<Result<Vec<_>, _>>().map(Some)
    };
    Ok(Some(match op {
        "Identity" | "Dropout" => get(0)?.clone(),
        "Cast" => {
            let (input, whole) = (get(0)?, attributes.casts_to_whole());
            match &input.values {
                Values::Reals(_) if !whole => input.clone(),
                Values::Wholes(_) if whole && !attributes.casts_to_flag() => input.clone(),
                Values::Same { value, .. } => {
                    Constant { dims: input.dims.clone(), values: Values::Same { value: *value, whole } }
                }
                _ => {
                    let mut numbers = input.numbers(budget)?;
                    if attributes.casts_to_flag() {
                        numbers.iter_mut().for_each(|number| *number = f64::from(u8::from(*number != 0.0)));
                    }
                    Constant::with(input.dims.clone(), numbers, whole)
                }
            }
        }
        "Shape" => shape(&get(0)?.dims, attributes),
        "Size" => Constant::wholes(&[], vec![get(0)?.size() as i64]),
        "ConstantOfShape" => {
            let dims = dims(&get(0)?.whole_values(budget)?)?;
            match attributes.tensor("value", budget)? {
                Some(value) => Constant { values: value.values, dims: vec![1] }.expanded(&dims, budget)?,
                None => Constant { dims, values: Values::Same { value: 0.0, whole: false } },
            }
        }
        "Expand" => {
            let wanted = dims(&get(1)?.whole_values(budget)?)?;
            let input = get(0)?;
            let both = broadcast(&input.dims, &wanted).ok_or("its shapes do not fit")?;
            input.expanded(&both, budget)?
        }
        "Reshape" => {
            let input = get(0)?;
            let asked = get(1)?.whole_values(budget)?;
            input.reshaped(target(&asked, &input.dims, attributes.whole("allowzero", 0) != 0)?)?
        }
        "Flatten" => {
            let input = get(0)?;
            let at = attributes.whole("axis", 1).clamp(0, input.dims.len() as i64) as usize;
            let sides = [&input.dims[..at], &input.dims[at..]].map(product);
            input.reshaped(sides.to_vec())?
        }
        "Unsqueeze" => {
            let input = get(0)?;
            let at = axes(budget, input.dims.len() + attributes.count("axes", inputs.get(1).copied().flatten()))?;
            let at = at.ok_or("it lacks axes")?;
            let mut old = input.dims.iter().copied();
            let rank = input.dims.len() + at.len();
            let dims = (0..rank).map(|axis| if at.contains(&axis) { 1 } else { old.next().unwrap_or(1) }).collect();
            input.reshaped(dims)?
        }
        "Squeeze" => {
            let input = get(0)?;
            let at = axes(budget, input.dims.len())?;
            let goes = |axis: usize| at.as_ref().map_or(input.dims[axis] == 1, |at| at.contains(&axis));
            let dims = (0..input.dims.len()).filter(|axis| !goes(*axis)).map(|axis| input.dims[axis]).collect();
            input.reshaped(dims)?
        }
        "Transpose" => {
            let input = get(0)?;
            let reversed = (0..input.dims.len() as i64).rev().collect::<Vec<_>>();
            let order = attributes.wholes("perm").unwrap_or(&reversed);
            let order = order.iter().map(|at| axis(*at, input.dims.len())).collect::<Result<Vec<_>, _>>()?;
            input.transposed(&order, budget)?
        }
        "Gather" => {
            let (input, indices) = (get(0)?, get(1)?);
            let at = axis(attributes.whole("axis", 0), input.dims.len())?;
            let places = indices.whole_values(budget)?;
            let places = places.into_iter().map(|place| axis(place, input.dims[at])).collect::<Result<Vec<_>, _>>()?;
            let from = input.along(at, &places, budget)?;
            let dims = [&input.dims[..at], &indices.dims, &input.dims[at + 1..]].concat();
            input.indexed(dims, &from, budget)?
        }
        "Slice" => {
            let mut sliced = get(0)?.clone();
            for (at, from, to) in slices(&sliced.dims, &inputs[1..], budget)? {
                let to = to.max(from);
                let mut dims = sliced.dims.clone();
                dims[at] = to - from;
                let places: Vec<usize> = if sliced.is_same() { Vec::new() } else { (from..to).collect() };
                let from = sliced.along(at, &places, budget)?;
                sliced = sliced.indexed(dims, &from, budget)?;
            }
            sliced
        }
        "Concat" => {
            let all: Vec<&Constant> = (0..inputs.len()).map(get).collect::<Result<_, _>>()?;
            let first = all.first().ok_or("it joins nothing")?;
            let at = axis(attributes.whole("axis", 0), first.dims.len())?;
            let whole = all.iter().all(|one| one.is_whole());
            let outer = product(&first.dims[..at]);
            let mut dims = first.dims.clone();
            dims[at] = 0;
            let mut pieces = Vec::new();
            if let Some(value) = first.single().filter(|_| all.iter().all(|one| one.is_same()))
                && all.iter().all(|one| one.single() == Some(value) && one.dims.len() == dims.len())
            {
                dims[at] = all.iter().fold(0, |sum, one| sum.saturating_add(one.dims[at]));
                return Ok(Some(Constant { dims, values: Values::Same { value, whole } }));
            }
            for one in &all {
                if one.dims.len() != dims.len() {
                    return Err("it joins arrays of different ranks".to_string());
                }
                dims[at] = dims[at].saturating_add(one.dims[at]);
                pieces.push((one.numbers(budget)?, product(&one.dims[at..])));
            }
            let mut values = Vec::new();
            for block in 0..outer {
                for (numbers, len) in &pieces {
                    values.extend_from_slice(numbers.get(block * len..(block + 1) * len).ok_or("its shapes differ")?);
                }
            }
            Constant::with(vec![values.len()], values, whole).reshaped(dims)?
        }
        "Range" => {
            let [start, end, step] = [get(0)?, get(1)?, get(2)?].map(Constant::single);
            let (Some(start), Some(end), Some(step)) = (start, end, step) else {
                return Err("its bounds are no numbers".to_string());
            };
            let count = ((end - start) / step).ceil().max(0.0);
            budget.take(if count.is_finite() { count as usize } else { usize::MAX })?;
            let values: Vec<f64> = (0..count as usize).map(|at| start + at as f64 * step).collect();
            Constant::with(vec![values.len()], values, get(0)?.is_whole())
        }
        "Trilu" => {
            let input = get(0)?;
            let [.., rows, columns] = input.dims[..] else { return Err("it has no matrix".to_string()) };
            let k = match inputs.get(1).copied().flatten() {
                Some(k) => k.single().unwrap_or(0.0) as i64,
                None => 0,
            };
            let upper = attributes.whole("upper", 1) != 0;
            let mut numbers = input.numbers(budget)?;
            for (at, number) in numbers.iter_mut().enumerate() {
                let (row, column) = ((at / columns % rows) as i64, (at % columns) as i64);
                let stays = if upper { column - row >= k } else { column - row <= k };
                if !stays {
                    *number = 0.0;
                }
            }
            Constant::with(input.dims.clone(), numbers, input.is_whole())
        }
        "Where" => {
            let dims = broadcast(&get(0)?.dims, &get(1)?.dims).and_then(|both| broadcast(&both, &get(2).ok()?.dims));
            let dims = dims.ok_or("its shapes do not fit")?;
            let mut of = |at: usize| get(at)?.expanded(&dims, budget)?.numbers(budget);
            let (condition, one, other) = (of(0)?, of(1)?, of(2)?);
            let chosen = condition.iter().zip(one.iter().zip(&other));
            let values = chosen.map(|(condition, (one, other))| if *condition != 0.0 { *one } else { *other });
            let values = values.collect();
            Constant::with(dims, values, get(1)?.is_whole())
        }
        "Sqrt" => each(get(0)?, budget, f64::sqrt)?,
        "Reciprocal" => each(get(0)?, budget, f64::recip)?,
        "Neg" => each(get(0)?, budget, |x| -x)?,
        "Not" => each(get(0)?, budget, |x| f64::from(u8::from(x == 0.0)))?,
        "Floor" => each(get(0)?, budget, f64::floor)?,
        _ => {
            let (op, is_flag): (fn(f64, f64) -> f64, bool) = match op {
                "Add" => (|a, b| a + b, false),
                "Sub" => (|a, b| a - b, false),
                "Mul" => (|a, b| a * b, false),
                "Div" => (|a, b| a / b, false),
                "Mod" => (f64::rem_euclid, false),
                "Pow" => (f64::powf, false),
                "Max" if inputs.len() == 2 => (f64::max, false),
                "Min" if inputs.len() == 2 => (f64::min, false),
                "Equal" => (|a, b| f64::from(u8::from(a == b)), true),
                "Less" => (|a, b| f64::from(u8::from(a < b)), true),
                "LessOrEqual" => (|a, b| f64::from(u8::from(a <= b)), true),
                "Greater" => (|a, b| f64::from(u8::from(a > b)), true),
                "GreaterOrEqual" => (|a, b| f64::from(u8::from(a >= b)), true),
                "And" => (|a, b| f64::from(u8::from(a != 0.0 && b != 0.0)), true),
                "Or" => (|a, b| f64::from(u8::from(a != 0.0 || b != 0.0)), true),
                _ => return Ok(None),
            };
            let (left, right) = (get(0)?, get(1)?);
            let whole = left.is_whole() && right.is_whole();
            let dims = broadcast(&left.dims, &right.dims).ok_or("its shapes do not fit")?;
            let of = |value: f64| if whole && !is_flag { value.trunc() } else { value };
            if let (Some(a), Some(b)) = (left.single(), right.single()) {
                let values = Values::Same { value: of(op(a, b)), whole: whole || is_flag };
                return Ok(Some(Constant { dims, values }));
            }
            let (left, right) = (left.expanded(&dims, budget)?, right.expanded(&dims, budget)?);
            let (left, right) = (left.numbers(budget)?, right.numbers(budget)?);
            let values = left.iter().zip(&right).map(|(a, b)| of(op(*a, *b))).collect();
            Constant::with(dims, values, whole || is_flag)
        }
    }))
}

fn each(input: &Constant, budget: &mut Budget, op: impl Fn(f64) -> f64) -> Result<Constant, String> {
    if let Values::Same { value, whole } = input.values {
        return Ok(Constant { dims: input.dims.clone(), values: Values::Same { value: op(value), whole } });
    }
    let numbers = input.numbers(budget)?.into_iter().map(op).collect();
    Ok(Constant::with(input.dims.clone(), numbers, input.is_whole()))
}

fn dims(values: &[i64]) -> Result<Vec<usize>, String> {
    let dim = |value: &i64| usize::try_from(*value).map_err(|_| format!("{values:?} is no shape"));
    values.iter().map(dim).collect()
}

/// Of `Shape`, which may ask for some of the dimensions.
pub fn shape(dims: &[usize], attributes: &Attributes<'_>) -> Constant {
    let (start, end) = slice(attributes.whole("start", 0), attributes.whole("end", i64::MAX), dims.len());
    let part: Vec<i64> = dims[start..end.max(start)].iter().map(|dim| *dim as i64).collect();
    Constant::wholes(&[part.len()], part)
}

/// Axis, start and end of each part of a `Slice`, whose inputs but the first these are.
pub fn slices(
    dims: &[usize],
    inputs: &[Option<&Constant>],
    budget: &mut Budget,
) -> Result<Vec<(usize, usize, usize)>, String> {
    let mut of = |at: usize| match inputs.get(at).copied().flatten() {
        Some(constant) => constant.whole_values(budget).map(Some),
        None => Ok(None),
    };
    let (starts, ends) = (of(0)?.ok_or("it lacks starts")?, of(1)?.ok_or("it lacks ends")?);
    let axes = of(2)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    if of(3)?.is_some_and(|steps| steps.iter().any(|step| *step != 1)) {
        return Err("it takes steps other than 1".to_string());
    }
    if starts.len() != ends.len() || starts.len() != axes.len() {
        return Err("its starts, ends and axes are not as many".to_string());
    }
    let one = |((start, end), at): ((&i64, &i64), &i64)| {
        let at = axis(*at, dims.len())?;
        let (from, to) = slice(*start, *end, dims[at]);
        Ok((at, from, to))
    };
    starts.iter().zip(&ends).zip(&axes).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::onnx::schema::NodeProto;
    use crate::exchange::onnx::write::{whole, wholes};

    fn run(op: &str, attribute: Vec<crate::exchange::onnx::schema::AttributeProto>, inputs: &[&Constant]) -> Constant {
        let node = NodeProto { attribute, ..NodeProto::default() };
        let inputs: Vec<Option<&Constant>> = inputs.iter().map(|input| Some(*input)).collect();
        fold(op, &Attributes(&node), &inputs, &mut Budget(10_000)).unwrap().unwrap()
    }

    #[test]
    fn shapes_are_computed() {
        let matrix = Constant::reals(&[2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let shape = run("Shape", Vec::new(), &[&matrix]);
        let second = run("Gather", Vec::new(), &[&shape, &Constant::wholes(&[1], vec![1])]);
        let joined = run("Concat", vec![whole("axis", 0)], &[&Constant::wholes(&[1], vec![-1]), &second]);
        assert_eq!(joined, Constant::wholes(&[2], vec![-1, 3]));
        assert_eq!(run("Reshape", Vec::new(), &[&matrix, &joined]), matrix);
        let turned = run("Transpose", vec![wholes("perm", &[1, 0])], &[&matrix]);
        assert_eq!(turned, Constant::reals(&[3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
        let [from, to] = [1, 3].map(|at| Constant::wholes(&[1], vec![at]));
        assert_eq!(
            run("Slice", Vec::new(), &[&matrix, &from, &to, &from]),
            Constant::reals(&[2, 2], vec![1.0, 2.0, 4.0, 5.0])
        );
        let row = Constant::reals(&[3], vec![10.0, 20.0, 30.0]);
        assert_eq!(
            run("Add", Vec::new(), &[&matrix, &row]),
            Constant::reals(&[2, 3], vec![10.0, 21.0, 32.0, 13.0, 24.0, 35.0])
        );
        let lower = run("Trilu", vec![whole("upper", 0)], &[&Constant::wholes(&[2, 2], vec![1; 4])]);
        assert_eq!(lower, Constant::wholes(&[2, 2], vec![1, 0, 1, 1]));
    }

    #[test]
    fn little_does_not_become_much() {
        let wanted = Constant::wholes(&[3], vec![1_000_000, 1_000_000, 1_000_000]);
        let node = NodeProto::default();
        let one = Constant::reals(&[1], vec![2.0]);
        let zeros = fold("Expand", &Attributes(&node), &[Some(&one), Some(&wanted)], &mut Budget(100)).unwrap();
        assert_eq!(zeros.as_ref().and_then(Constant::single), Some(2.0));
        let refused = zeros.unwrap().numbers(&mut Budget(100)).unwrap_err();
        assert!(refused.contains("out of proportion"), "{refused}");
        let pair = Constant::reals(&[2, 1], vec![1.0, 2.0]);
        let wanted = Constant::wholes(&[2], vec![2, 1_000_000]);
        let refused = fold("Expand", &Attributes(&node), &[Some(&pair), Some(&wanted)], &mut Budget(100)).unwrap_err();
        assert!(refused.contains("out of proportion"), "{refused}");
    }
}
