//! Operators over single values: sums, products, and the several of them that make a gelu, an RMS norm, or a scaling of
//! inputs.

use super::super::constant::{Constant, axis};
use super::super::flow::{Flow, Place, Reads};
use super::super::view::Part;
use super::{Importer, Operator, Partial, Value};
use jobs::train::{Activation, Layer};
use std::rc::Rc;

/// Of what is written as a number of few digits.
fn is_about(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= 1e-5 * expected.abs()
}

impl Importer<'_> {
    pub fn binary(&mut self, operator: &Operator<'_>) -> Result<Value, String> {
        if operator.op == "Sum" || operator.inputs.len() > 2 {
            let flows =
                (0..operator.inputs.len()).map(|at| operator.flow(at).cloned()).collect::<Result<Vec<_>, _>>()?;
            return self.added(&operator.wish, &flows);
        }
        let (left, right) = (operator.input(0)?.clone(), operator.input(1)?.clone());
        match (operator.op, left, right) {
            ("Add", Value::Flow(left), Value::Flow(right)) => self.added(&operator.wish, &[left, right]),
            ("Mul", Value::Flow(left), Value::Flow(right)) => self.multiplied(&operator.wish, &left, &right),
            ("Add", Value::Flow(flow), Value::Constant(by)) | ("Add", Value::Constant(by), Value::Flow(flow)) => {
                self.shifted(&operator.wish, &flow, &by, 1.0)
            }
            ("Sub", Value::Flow(flow), Value::Constant(by)) => self.shifted(&operator.wish, &flow, &by, -1.0),
            ("Mul", Value::Flow(flow), Value::Constant(by)) | ("Mul", Value::Constant(by), Value::Flow(flow)) => {
                self.multiplied_by(&operator.wish, &flow, &by, false)
            }
            ("Div", Value::Flow(flow), Value::Constant(by)) => self.multiplied_by(&operator.wish, &flow, &by, true),
            ("Pow", Value::Flow(flow), Value::Constant(by)) if by.single() == Some(2.0) => {
                Ok(Value::Partial(Partial::Square(self.layers.scaled(&flow)?)))
            }
            (_, one, Value::Partial(partial)) => match self.partial_with(operator, &partial, &one)? {
                Some(value) => Ok(value),
                None => Err(partial.unfinished()),
            },
            (_, Value::Partial(partial), _) => Err(partial.unfinished()),
            (op, ..) => Err(format!("{op} of rows with rows, or of a constant by rows, is no layer here")),
        }
    }

    pub fn unary(&mut self, operator: &Operator<'_>) -> Result<Value, String> {
        let flow = operator.flow(0)?;
        match operator.op {
            "Erf" if is_about(flow.scale, std::f64::consts::FRAC_1_SQRT_2) => {
                Ok(Value::Partial(Partial::Erf(Flow { scale: 1.0, ..flow.clone() })))
            }
            "Erf" => Err("only a gelu takes the error function, of x / √2".to_string()),
            op => Err(format!("{op} of rows is no layer here")),
        }
    }

    /// A partial value is the first of what an operator reads. `None` where another rule may apply.
    pub fn partial(&mut self, operator: &Operator<'_>, partial: &Partial) -> Result<Option<Value>, String> {
        if operator.op == "Identity" {
            return Ok(Some(Value::Partial(partial.clone())));
        }
        if let Partial::Scores(heads) | Partial::Shares(heads) | Partial::AreNaN(heads) = partial {
            return self.heads(operator, partial, heads);
        }
        if let (Partial::Above(..), "Where") = (partial, operator.op) {
            return self.choice(operator).map(Some);
        }
        let next = match (partial, operator.op) {
            (Partial::Square(of), "ReduceMean") => {
                let rank = of.view.axes.len();
                let axes = self.axes(operator, 1)?.unwrap_or_default();
                let [at] = axes[..] else { return Err("it means squares over several dimensions".to_string()) };
                if axis(at, rank)? != rank - 1 || operator.attributes.whole("keepdims", 1) == 0 {
                    return Err("it means squares, but not over the last dimension".to_string());
                }
                Partial::MeanSquare(of.clone(), 0.0)
            }
            (Partial::MeanSquare(of, epsilon), "Sqrt") => {
                Partial::RootMeanSquare { of: of.clone(), epsilon: *epsilon, inverse: false }
            }
            (Partial::RootMeanSquare { of, epsilon, inverse }, "Reciprocal") => {
                Partial::RootMeanSquare { of: of.clone(), epsilon: *epsilon, inverse: !inverse }
            }
            (Partial::MeanSquare(of, epsilon), "Pow") if operator.constant(1)?.single() == Some(-0.5) => {
                Partial::RootMeanSquare { of: of.clone(), epsilon: *epsilon, inverse: true }
            }
            (_, "Add" | "Sub" | "Mul" | "Div") => {
                let other = operator.input(1)?.clone();
                return match self.partial_with(operator, partial, &other)? {
                    Some(value) => Ok(Some(value)),
                    None => Err(partial.unfinished()),
                };
            }
            _ => return Err(partial.unfinished()),
        };
        Ok(Some(Value::Partial(next)))
    }

    /// A partial value and another, in whichever order where that does not matter.
    fn partial_with(
        &mut self,
        operator: &Operator<'_>,
        partial: &Partial,
        other: &Value,
    ) -> Result<Option<Value>, String> {
        let first = matches!(operator.input(0)?, Value::Partial(_));
        let number = match other {
            Value::Constant(constant) => constant.single(),
            _ => None,
        };
        let next = match (partial, operator.op, other) {
            (Partial::Erf(of), "Add", _) if number == Some(1.0) => Partial::OneAndErf(of.clone(), 1.0),
            (Partial::OneAndErf(of, factor), "Mul", Value::Constant(_)) => {
                let Some(number) = number else { return Ok(None) };
                Partial::OneAndErf(of.clone(), factor * number)
            }
            (Partial::OneAndErf(of, factor), "Mul", Value::Flow(by)) if by.place == of.place && by.view == of.view => {
                return self.gelu(operator, of, factor * by.scale).map(Some);
            }
            (Partial::Gelu(of, factor), "Mul", Value::Constant(_)) => {
                let Some(number) = number else { return Ok(None) };
                return self.gelu(operator, of, factor * number).map(Some);
            }
            (Partial::MeanSquare(of, epsilon), "Add", Value::Constant(_)) => {
                let Some(number) = number else { return Ok(None) };
                Partial::MeanSquare(of.clone(), epsilon + number)
            }
            (Partial::RootMeanSquare { of, epsilon, inverse }, op, Value::Flow(by))
                if by == of && ((op == "Mul" && *inverse) || (op == "Div" && !inverse && !first)) =>
            {
                Partial::Normal(of.clone(), *epsilon)
            }
            (Partial::Normal(of, epsilon), "Mul", Value::Constant(weight)) => {
                return self.rms_norm(&operator.wish, of, *epsilon, weight).map(Some);
            }
            _ => return Ok(None),
        };
        Ok(Some(Value::Partial(next)))
    }

    fn gelu(&mut self, operator: &Operator<'_>, of: &Flow, factor: f64) -> Result<Value, String> {
        if !is_about(factor, 0.5) {
            return Ok(Value::Partial(Partial::Gelu(of.clone(), factor)));
        }
        // Its parts read the values as well, and none of them is left.
        if let Some((Layer::Dense { activation: Activation::Linear, .. }, before)) = self.layers.layer(of.place) {
            let (mut layer, reads) = (before.clone(), before.reads.clone());
            if let super::super::flow::Stage::Layer(Layer::Dense { activation, .. }) = &mut layer.stage {
                *activation = Activation::Gelu;
            }
            let place = self.layers.push(&layer.wish, layer.stage, reads, layer.dims, layer.weights);
            return Ok(Value::Flow(Flow { place, ..of.clone() }));
        }
        self.as_it_lies(&operator.wish, of, Layer::Activation { function: Activation::Gelu })
    }

    pub fn rms_norm(&mut self, wish: &str, of: &Flow, epsilon: f64, weight: &Constant) -> Result<Value, String> {
        let last = of.view.axes.len() - 1;
        let arranged = self.layers.arranged(of, last)?;
        let width = arranged.dims.last().copied().unwrap_or(0);
        let weight = weight
            .expanded(&[width], &mut self.layers.budget)
            .map_err(|_| format!("its weights are {:?}, and it reads rows of {:?}", weight.dims, arranged.dims))?;
        let weights = vec![("weight", vec![width], weight.weights(&mut self.layers.budget)?)];
        let place = self.layers.emit(wish, Layer::RmsNorm { epsilon }, vec![arranged.place], weights)?;
        Ok(Value::Flow(Flow { place, view: arranged.back(width), scale: 1.0 }))
    }

    /// Rows and rows of one shape.
    fn added(&mut self, wish: &str, flows: &[Flow]) -> Result<Value, String> {
        let [first, rest @ ..] = flows else { return Err("it adds nothing".to_string()) };
        let batch = self.layers.batch;
        let sizes = first.view.sizes(batch);
        if let Some(other) = rest.iter().find(|other| other.view.sizes(batch) != sizes) {
            let other = other.view.sizes(batch);
            return Err(format!("it adds rows of {:?} and {:?}", &sizes[1..], other.get(1..).unwrap_or_default()));
        }
        let first = self.layers.scaled(first)?;
        let row: usize = self.layers.dims(first.place).iter().product();
        // All in the order in which the first lies.
        let whole = first.view.row() == row && self.layers.heads(first.place).is_none();
        let mut order: Vec<(usize, usize, usize)> = Vec::new();
        for (axis, parts) in first.view.axes.iter().enumerate() {
            for part in parts {
                if let Part::Own { size, stride } = part {
                    order.push((axis, *size, *stride));
                }
            }
        }
        let one_each = order.windows(2).all(|pair| pair[0].0 != pair[1].0);
        let mut axes: Vec<usize> = (0..sizes.len()).collect();
        if whole && one_each {
            let stride = |axis: &usize| order.iter().find(|(at, ..)| at == axis).map_or(0, |(.., stride)| *stride);
            let has_batch = |axis: &usize| first.view.axes[*axis].contains(&Part::Batch);
            axes.sort_by_key(|axis| std::cmp::Reverse((has_batch(axis), stride(axis))));
        }
        let mut reads = Vec::new();
        let mut dims = Vec::new();
        for flow in std::iter::once(&first).chain(rest) {
            let view = flow.view.transposed(&axes).ok_or("its shapes do not fit")?;
            dims = view.own_dims();
            reads.push(self.layers.plain(&Flow { view, ..flow.clone() }, &dims)?);
        }
        let place = self.layers.emit(wish, Layer::Add, reads, Vec::new())?;
        let lying: Vec<usize> = axes.iter().map(|axis| sizes[*axis]).collect();
        let mut back = vec![0; axes.len()];
        for (at, axis) in axes.iter().enumerate() {
            back[*axis] = at;
        }
        let flow = self.layers.flow(place);
        let view = flow.view.reshaped(&lying, batch).and_then(|view| view.transposed(&back));
        super::operators::seen(&flow, view).map_err(|_| format!("it adds rows of {dims:?} in a way that mixes rows"))
    }

    /// x and its sigmoid, the one thing that rows are multiplied with by themselves.
    fn multiplied(&mut self, wish: &str, left: &Flow, right: &Flow) -> Result<Value, String> {
        if left == right {
            return Ok(Value::Partial(Partial::Square(self.layers.scaled(left)?)));
        }
        for (gate, value) in [(left, right), (right, left)] {
            if let Some((Layer::Activation { function: Activation::Sigmoid }, before)) = self.layers.layer(gate.place)
                && before.reads[0] == value.place
                && gate.view == value.view
                && (gate.scale, value.scale) == (1.0, 1.0)
            {
                return self.as_it_lies(wish, value, Layer::Activation { function: Activation::Silu });
            }
        }
        Err("it multiplies rows with rows, which only silu and attention do here".to_string())
    }

    /// Values of a row, in the order in which they lie, of a constant that is spread over the rows as they are seen.
    fn spread(&mut self, flow: &Flow, constant: &Constant) -> Result<Option<Vec<f64>>, String> {
        let row: usize = self.layers.dims(flow.place).iter().product();
        if flow.view.row() != row {
            return Ok(None);
        }
        let mut sizes = flow.view.sizes(self.layers.batch);
        for (size, parts) in sizes.iter_mut().zip(&flow.view.axes) {
            if parts.contains(&Part::Batch) {
                if parts.len() > 1 {
                    return Ok(None);
                }
                *size = 1;
            }
        }
        let Ok(spread) = constant.expanded(&sizes, &mut self.layers.budget) else { return Ok(None) };
        let numbers = spread.numbers(&mut self.layers.budget)?;
        let Some(places) = flow.view.places(row) else { return Ok(None) };
        let mut lying = vec![0.0; row];
        for (number, place) in numbers.iter().zip(places) {
            if let Some(value) = lying.get_mut(place) {
                *value = *number;
            }
        }
        Ok(Some(lying))
    }

    /// Of a constant that differs in the innermost dimension alone, its values there.
    fn by_unit(&mut self, flow: &Flow, constant: &Constant) -> Result<Option<Vec<f64>>, String> {
        let units = self.layers.dims(flow.place).last().copied().unwrap_or(1);
        let lacks = flow.view.axes.len().checked_sub(constant.dims.len());
        let Some(lacks) = lacks else { return Ok(None) };
        for (at, size) in constant.dims.iter().enumerate() {
            let innermost = flow.view.axes[lacks + at] == [Part::Own { size: units, stride: 1 }];
            if *size != 1 && !(innermost && *size == units) {
                return Ok(None);
            }
        }
        let numbers = constant.numbers(&mut self.layers.budget)?;
        Ok(Some(if numbers.len() == units { numbers } else { vec![numbers[0]; units] }))
    }

    /// Plus a constant, times `sign`: a bias of the layer before, a mean of an input, or a vector for each place.
    pub fn shifted(&mut self, wish: &str, flow: &Flow, by: &Constant, sign: f64) -> Result<Value, String> {
        if by.single() == Some(0.0) {
            return Ok(Value::Flow(flow.clone()));
        }
        let flow = self.layers.scaled(flow)?;
        if let Place::Source(at) = flow.place {
            return self.normalized(at, &flow, by, |mean, deviation, by| (mean - sign * by * deviation, deviation));
        }
        let Place::Layer(at) = flow.place else { return Err("it shifts an input".to_string()) };
        if let Some(bias) = self.by_unit(&flow, by)?
            && let Some(place) = self.biased(at, &bias, sign)?
        {
            return Ok(Value::Flow(Flow { place, ..flow }));
        }
        let dims = flow.view.own_dims();
        let [length, width] = dims[..] else {
            return Err(format!(
                "it adds a constant {:?} to rows of {dims:?}, which is no bias of a layer before",
                by.dims
            ));
        };
        let place = self.layers.plain(&flow, &dims)?;
        let plain = self.layers.flow(place);
        let Some(values) = self.spread(&plain, &dropped(by))? else {
            return Err(format!("it adds a constant {:?} to rows of {dims:?}", by.dims));
        };
        let values = values.into_iter().map(|value| (sign * value) as f32).collect();
        let weights = vec![("weight", vec![length, width], Rc::new(values))];
        let place = self.layers.emit(wish, Layer::Position, vec![place], weights)?;
        let sizes = flow.view.sizes(self.layers.batch);
        let flow = self.layers.flow(place);
        super::operators::seen(&flow, flow.view.reshaped(&sizes, self.layers.batch))
    }

    /// A layer like this with this added to its bias; `None` for one that has none.
    fn biased(&mut self, at: usize, bias: &[f64], sign: f64) -> Result<Option<Place>, String> {
        let mut layer = self.layers.all[at].clone();
        use super::super::flow::Stage;
        match &mut layer.stage {
            Stage::Layer(Layer::Dense { bias: has, activation: Activation::Linear, units }) if !*has => {
                *has = true;
                let values = bias.iter().map(|value| (sign * value) as f32).collect();
                layer.weights.push(("bias", vec![*units], Rc::new(values)));
                self.layers.all.push(layer);
                return Ok(Some(Place::Layer(self.layers.all.len() - 1)));
            }
            Stage::Layer(
                Layer::Dense { activation: Activation::Linear, .. }
                | Layer::Conv1d { activation: Activation::Linear, .. }
                | Layer::Conv2d { activation: Activation::Linear, .. }
                | Layer::LayerNorm { .. }
                | Layer::BatchNorm { .. }
                | Layer::Attention { .. },
            ) => {}
            _ => return Ok(None),
        }
        self.layers
            .changed(at, &["bias", "out_bias"], |_, values| {
                values.iter_mut().zip(bias).for_each(|(value, bias)| *value += (sign * bias) as f32);
            })
            .map(Some)
    }

    /// Times a constant, or divided by it.
    fn multiplied_by(&mut self, wish: &str, flow: &Flow, by: &Constant, divided: bool) -> Result<Value, String> {
        let of = |number: f64| if divided { 1.0 / number } else { number };
        if let Some(number) = by.single() {
            let scale = flow.scale * of(number);
            if !scale.is_finite() || scale == 0.0 {
                return Err(format!("it multiplies rows with {}", of(number)));
            }
            // That of a number and its inverse is 1.
            let scale = if is_about(scale, 1.0) { 1.0 } else { scale };
            return Ok(Value::Flow(Flow { scale, ..flow.clone() }));
        }
        let flow = self.layers.scaled(flow)?;
        match flow.place {
            Place::Source(at) => self.normalized(at, &flow, by, |mean, deviation, by| (mean, deviation / of(by))),
            Place::Layer(at) => {
                let Some(factors) = self.by_unit(&flow, by)? else {
                    return Err(format!("it multiplies rows with a constant {:?}", by.dims));
                };
                let factors: Vec<f32> = factors.into_iter().map(|factor| of(factor) as f32).collect();
                let which = ["weight", "bias", "table", "out_weight", "out_bias"];
                let place = self.layers.changed(at, &which, |_, values| {
                    for row in values.chunks_mut(factors.len()) {
                        row.iter_mut().zip(&factors).for_each(|(value, factor)| *value *= factor);
                    }
                });
                let place = match place {
                    Ok(place) => place,
                    Err(_) => self.diagonal(wish, flow.place, &factors)?,
                };
                Ok(Value::Flow(Flow { place, ..flow }))
            }
        }
    }

    /// Where no layer before can take factors up: a dense layer that has them in its diagonal, and nothing else.
    fn diagonal(&mut self, wish: &str, read: Place, factors: &[f32]) -> Result<Place, String> {
        let units = factors.len();
        self.layers.budget.take(units.saturating_mul(units))?;
        let mut weight = vec![0.0; units * units];
        for (at, factor) in factors.iter().enumerate() {
            weight[at * units + at] = *factor;
        }
        let layer = Layer::Dense { units, activation: Activation::Linear, bias: false };
        self.layers.emit(wish, layer, vec![read], vec![("weight", vec![units, units], Rc::new(weight))])
    }

    /// An input whose means and deviations change so.
    fn normalized(
        &mut self,
        at: usize,
        flow: &Flow,
        by: &Constant,
        change: impl Fn(f64, f64, f64) -> (f64, f64),
    ) -> Result<Value, String> {
        let mut source = self.layers.sources[at].clone();
        let Some(values) = self.spread(flow, by)? else {
            return Err(format!("it computes with a constant {:?} of an input of {:?}", by.dims, source.dims));
        };
        let Reads::Numbers(learned) = &mut source.reads else {
            return Err("it computes with an input that is no number of the file's own".to_string());
        };
        let (means, deviations) = learned.get_or_insert_with(|| (vec![0.0; values.len()], vec![1.0; values.len()]));
        for ((mean, deviation), by) in means.iter_mut().zip(deviations.iter_mut()).zip(&values) {
            (*mean, *deviation) = change(*mean, *deviation, *by);
            if !mean.is_finite() || !deviation.is_finite() || *deviation == 0.0 {
                return Err("it divides an input by zero, or multiplies with it".to_string());
            }
        }
        let place = self.layers.source(source);
        Ok(Value::Flow(Flow { place, ..flow.clone() }))
    }
}

/// Without outer dimensions of 1.
fn dropped(constant: &Constant) -> Constant {
    let mut constant = constant.clone();
    while constant.dims.len() > 2 && constant.dims[0] == 1 {
        constant.dims.remove(0);
    }
    constant
}
