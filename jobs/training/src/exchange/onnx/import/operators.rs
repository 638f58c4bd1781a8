//! What an operator makes of rows: one that only looks at them in another way, or a layer.

use super::super::constant::{self, Constant, axis, target};
use super::super::flow::{Flow, Place, Reads, Stage};
use super::super::view::{Part, View};
use super::{Importer, Operator, Partial, Value};
use jobs::train::{Activation, Combine, Layer};
use std::rc::Rc;

impl Importer<'_> {
    pub fn operator(&mut self, operator: &Operator<'_>, outputs: usize) -> Result<Vec<Value>, String> {
        if operator.op == "Split" {
            return self.split(operator, outputs);
        }
        if matches!(operator.op, "GRU" | "LSTM") {
            return self.recurrent(operator);
        }
        Ok(vec![self.value(operator)?])
    }

    fn value(&mut self, operator: &Operator<'_>) -> Result<Value, String> {
        let batch = self.layers.batch;
        let (attributes, op) = (operator.attributes, operator.op);
        if let Ok(Value::Partial(partial)) = operator.input(0)
            && let Some(value) = self.partial(operator, &partial.clone())?
        {
            return Ok(value);
        }
        match op {
            "Identity" => Ok(operator.input(0)?.clone()),
            "Dropout" => self.dropout(operator),
            "Cast" => self.cast(operator),
            "Shape" => {
                let sizes = operator.flow(0)?.view.sizes(batch);
                Ok(Value::Constant(Rc::new(constant::shape(&sizes, &attributes))))
            }
            "Transpose" => {
                let flow = operator.flow(0)?;
                let reversed: Vec<i64> = (0..flow.view.axes.len() as i64).rev().collect();
                let order = attributes.wholes("perm").unwrap_or(&reversed);
                let order = order.iter().map(|at| axis(*at, flow.view.axes.len())).collect::<Result<Vec<_>, _>>()?;
                seen(flow, flow.view.transposed(&order))
            }
            "Reshape" => {
                let asked = operator.constant(1)?.whole_values(&mut self.layers.budget)?;
                let zero_is_zero = attributes.whole("allowzero", 0) != 0;
                let flow = operator.flow(0)?.clone();
                self.reshaped(&flow, &target(&asked, &flow.view.sizes(batch), zero_is_zero)?)
            }
            "Flatten" => {
                let flow = operator.flow(0)?.clone();
                let sizes = flow.view.sizes(batch);
                let at = attributes.whole("axis", 1);
                let at = if at == sizes.len() as i64 { sizes.len() } else { axis(at, sizes.len())? };
                let sides = [&sizes[..at], &sizes[at..]].map(|sizes| sizes.iter().product());
                self.reshaped(&flow, &sides)
            }
            "Unsqueeze" => {
                let flow = operator.flow(0)?;
                let axes = self.axes(operator, 1)?.ok_or("it lacks axes")?;
                let rank = flow.view.axes.len() + axes.len();
                let axes = axes.into_iter().map(|at| axis(at, rank)).collect::<Result<Vec<_>, _>>()?;
                seen(flow, flow.view.unsqueezed(&axes))
            }
            "Squeeze" => {
                let flow = operator.flow(0)?;
                let rank = flow.view.axes.len();
                let axes = match self.axes(operator, 1)? {
                    Some(axes) => axes.into_iter().map(|at| axis(at, rank)).collect::<Result<Vec<_>, _>>()?,
                    None => (0..rank).filter(|at| flow.view.axes[*at].is_empty()).collect(),
                };
                seen(flow, flow.view.squeezed(&axes, batch))
            }
            "Expand" => {
                let flow = operator.flow(0)?;
                let asked = operator.constant(1)?.whole_values(&mut self.layers.budget)?;
                let sizes = flow.view.sizes(batch);
                let same = asked.len() == sizes.len()
                    && asked.iter().zip(&sizes).all(|(asked, size)| *asked == 1 || *asked == *size as i64);
                if same {
                    Ok(Value::Flow(flow.clone()))
                } else {
                    Err(format!("it repeats values: {sizes:?} as {asked:?}"))
                }
            }
            "Slice" => {
                let mut flow = operator.flow(0)?.clone();
                let inputs =
                    (1..operator.inputs.len()).map(|at| operator.optional(at)).collect::<Result<Vec<_>, _>>()?;
                for (at, from, to) in constant::slices(&flow.view.sizes(batch), &inputs, &mut self.layers.budget)? {
                    if (from, to) != (0, flow.view.size(at, batch)) {
                        flow.view = flow.view.sliced(at, from, to).ok_or("it takes rows apart, or nothing")?;
                    }
                }
                Ok(Value::Flow(flow))
            }
            "Gather" => self.gather(operator),
            "Concat" => self.concat(operator),
            "MatMul" | "Gemm" => self.product(operator),
            "Add" | "Sub" | "Mul" | "Div" | "Sum" | "Pow" => self.binary(operator),
            "Where" => self.choice(operator),
            "Greater" => {
                let above = operator.constant(1)?.single().ok_or("it compares rows with more than one number")?;
                Ok(Value::Partial(Partial::Above(operator.flow(0)?.clone(), above)))
            }
            "Erf" | "Sqrt" | "Reciprocal" | "IsNaN" => self.unary(operator),
            "Softmax" | "LogSoftmax" => {
                let flow = operator.flow(0)?;
                let last = flow.view.axes.len() - 1;
                // Before version 13 the default was the second, with all behind it.
                let default = if self.opset < 13 { 1 } else { -1 };
                if axis(attributes.whole("axis", default), last + 1)? != last {
                    return Err("its softmax is not over the last dimension".to_string());
                }
                Ok(Value::Partial(Partial::Softmax(flow.clone())))
            }
            "ReduceMean" | "ReduceMax" | "ReduceSum" => self.reduced(operator),
            "Conv" => self.convolution(operator),
            "MaxPool" | "AveragePool" => self.pool(operator),
            "GlobalMaxPool" | "GlobalAveragePool" => {
                let flow = operator.flow(0)?.clone();
                let axes: Vec<usize> = (2..flow.view.axes.len()).collect();
                self.over_places(&operator.wish, &flow, &axes, op == "GlobalMaxPool", true)
            }
            "BatchNormalization" => self.batch_norm(operator),
            "LayerNormalization" | "RMSNormalization" => self.norm(operator),
            "Relu" => self.activated(operator, Activation::Relu),
            "Tanh" => self.activated(operator, Activation::Tanh),
            "Sigmoid" => self.activated(operator, Activation::Sigmoid),
            "Softplus" => self.activated(operator, Activation::Softplus),
            "LeakyRelu" => match attributes.real("alpha", 0.01) {
                0.01 => self.activated(operator, Activation::LeakyRelu),
                alpha => Err(format!("its alpha is {alpha}; leaky_relu here lets 0.01 through")),
            },
            "Elu" => match attributes.real("alpha", 1.0) {
                1.0 => self.activated(operator, Activation::Elu),
                alpha => Err(format!("its alpha is {alpha}; that of elu here is 1")),
            },
            "Gelu" => match attributes.text("approximate").unwrap_or("none") {
                "none" => self.activated(operator, Activation::Gelu),
                other => Err(format!("it is approximated by {other}; gelu here is exact")),
            },
            _ => Err("no layer here does what it does; see the list of operators in the documentation".to_string()),
        }
    }

    /// Axes of a reduction and the like: an attribute in earlier versions, an input in later ones.
    pub fn axes(&mut self, operator: &Operator<'_>, input: usize) -> Result<Option<Vec<i64>>, String> {
        if let Some(axes) = operator.attributes.wholes("axes") {
            return Ok(Some(axes.to_vec()));
        }
        operator.optional(input)?.map(|axes| axes.whole_values(&mut self.layers.budget)).transpose()
    }

    fn reshaped(&mut self, flow: &Flow, sizes: &[usize]) -> Result<Value, String> {
        let batch = self.layers.batch;
        if let Some(view) = flow.view.reshaped(sizes, batch) {
            return Ok(Value::Flow(Flow { view, ..flow.clone() }));
        }
        let rows: Vec<usize> = flow.view.own_parts().iter().map(|(size, _)| *size).collect();
        let place = self.layers.plain(flow, &rows)?;
        let plain = self.layers.flow(place);
        let view = plain.view.reshaped(sizes, batch);
        seen(&plain, view).map_err(|_| format!("{:?} as {sizes:?} mixes rows", flow.view.sizes(batch)))
    }

    fn dropout(&mut self, operator: &Operator<'_>) -> Result<Value, String> {
        let flow = operator.flow(0)?.clone();
        let rate = match operator.optional(1)? {
            Some(rate) => rate.single(),
            None => operator.attributes.has("ratio").then(|| f64::from(operator.attributes.real("ratio", 0.5))),
        };
        match rate {
            Some(rate) if rate > 0.0 => {
                // As a text of few digits, so that 0.1 stays 0.1.
                let rate = (rate as f32).to_string().parse().unwrap_or(rate);
                self.as_it_lies(&operator.wish, &flow, Layer::Dropout { rate })
            }
            _ => Ok(Value::Flow(flow)),
        }
    }

    /// A layer that treats each value alike, whatever the order.
    pub fn as_it_lies(&mut self, wish: &str, flow: &Flow, layer: Layer) -> Result<Value, String> {
        let mut flow = self.layers.scaled(flow)?;
        let row: usize = self.layers.dims(flow.place).iter().product();
        if flow.view.row() != row {
            flow = self.in_order(&flow)?;
        }
        let place = self.layers.emit(wish, layer, vec![flow.place], Vec::new())?;
        Ok(Value::Flow(Flow { place, view: flow.view, scale: 1.0 }))
    }

    fn cast(&mut self, operator: &Operator<'_>) -> Result<Value, String> {
        let flow = operator.flow(0)?.clone();
        let whole = operator.attributes.casts_to_whole();
        if matches!(operator.attributes.whole("to", 1), 10 | 16) {
            return Err("it makes numbers of 16 bits; export the model in float".to_string());
        }
        let Place::Source(at) = flow.place else {
            return if whole {
                Err("it makes whole numbers of what a layer gives".to_string())
            } else {
                Ok(Value::Flow(flow))
            };
        };
        let reads = match (&self.layers.sources[at].reads, whole) {
            (Reads::Numbers(None), true) => Reads::Ids(None),
            (Reads::Ids(None), false) => Reads::Numbers(None),
            (Reads::Numbers(Some(_)), true) => return Err("it makes whole numbers of what was computed".to_string()),
            _ => return Ok(Value::Flow(flow)),
        };
        let mut source = self.layers.sources[at].clone();
        source.reads = reads;
        let place = self.layers.source(source);
        Ok(Value::Flow(Flow { place, ..flow }))
    }

    /// Rows of a table, or one place of an axis.
    fn gather(&mut self, operator: &Operator<'_>) -> Result<Value, String> {
        let at = operator.attributes.whole("axis", 0);
        let (Value::Constant(table), Value::Flow(ids)) = (operator.input(0)?, operator.input(1)?) else {
            let flow = operator.flow(0)?;
            let at = axis(at, flow.view.axes.len())?;
            let places = operator.constant(1)?;
            let index = places.whole_values(&mut self.layers.budget)?;
            let [index] = index[..] else { return Err("it takes several places at once apart".to_string()) };
            let index = axis(index, flow.view.size(at, self.layers.batch))?;
            let view = flow.view.selected(at, index);
            let view = if places.dims.is_empty() { view } else { view.and_then(|view| view.unsqueezed(&[at])) };
            return seen(flow, view);
        };
        let [vocabulary, units] = table.dims[..] else {
            return Err(format!("its table is {:?}; an embedding has rows and columns", table.dims));
        };
        if axis(at, 2)? != 0 {
            return Err("it looks columns of its table up".to_string());
        }
        let mut ids = ids.clone();
        if let Place::Source(at) = ids.place
            && let Reads::Ids(None) = self.layers.sources[at].reads
        {
            let mut source = self.layers.sources[at].clone();
            source.reads = Reads::Ids(Some(vocabulary));
            ids.place = self.layers.source(source);
        }
        if !self.layers.is_ids(ids.place) {
            return Err("it looks rows up by what is no id of an input".to_string());
        }
        let dims: Vec<usize> = ids.view.own_parts().iter().map(|(size, _)| *size).collect();
        let dims = if dims.is_empty() { vec![1] } else { dims };
        let read = self.layers.plain(&ids, &dims)?;
        let weights = vec![("table", table.dims.clone(), table.weights(&mut self.layers.budget)?)];
        let layer = Layer::Embedding { vocabulary, units, combine: Combine::None };
        let place = self.layers.emit(&operator.wish, layer, vec![read], weights)?;
        let sizes = [ids.view.sizes(self.layers.batch), vec![units]].concat();
        let flow = self.layers.flow(place);
        seen(&flow, flow.view.reshaped(&sizes, self.layers.batch))
    }

    /// Along the dimension that lies innermost in all of them.
    fn concat(&mut self, operator: &Operator<'_>) -> Result<Value, String> {
        let flows = (0..operator.inputs.len()).map(|at| operator.flow(at).cloned()).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = flows.first() else { return Err("it joins nothing".to_string()) };
        if let [only] = &flows[..] {
            return Ok(Value::Flow(only.clone()));
        }
        let at = axis(operator.attributes.whole("axis", 0), first.view.axes.len())?;
        let mut all = flows.iter().map(|flow| self.layers.arranged(flow, at)).collect::<Result<Vec<_>, _>>()?;
        if all.iter().any(|one| !one.lies_as(&all[0])) {
            // Each in another order: now all in that in which they are seen.
            all.clear();
            for flow in &flows {
                let seen = self.in_order(flow)?;
                all.push(self.layers.arranged(&seen, at)?);
            }
        }
        if all.iter().any(|one| !one.lies_as(&all[0])) {
            return Err("it joins rows of different shapes".to_string());
        }
        let width = all.iter().filter_map(|one| one.dims.last()).sum();
        let reads = all.iter().map(|one| one.place).collect();
        let joined = all.swap_remove(0);
        let place = self.layers.emit(&operator.wish, Layer::Concat, reads, Vec::new())?;
        Ok(Value::Flow(Flow { place, view: joined.back(width), scale: 1.0 }))
    }

    /// The same values, lying in the order in which they are seen.
    fn in_order(&mut self, flow: &Flow) -> Result<Flow, String> {
        let sizes = flow.view.sizes(self.layers.batch);
        let place = self.layers.plain(flow, &flow.view.own_dims())?;
        let plain = self.layers.flow(place);
        let view = plain.view.reshaped(&sizes, self.layers.batch).ok_or("it takes values apart")?;
        Ok(Flow { view, ..plain })
    }

    fn split(&mut self, operator: &Operator<'_>, outputs: usize) -> Result<Vec<Value>, String> {
        let flow = operator.flow(0)?;
        let at = axis(operator.attributes.whole("axis", 0), flow.view.axes.len())?;
        let size = flow.view.size(at, self.layers.batch);
        let sizes: Vec<i64> = match (operator.attributes.wholes("split"), operator.optional(1)?) {
            (Some(sizes), _) => sizes.to_vec(),
            (None, Some(sizes)) => sizes.whole_values(&mut self.layers.budget)?,
            (None, None) => vec![size.div_ceil(outputs.max(1)) as i64; outputs],
        };
        let mut from = 0;
        let mut values = Vec::new();
        for part in sizes {
            let part = usize::try_from(part).map_err(|_| "its sizes are no sizes")?;
            let view = flow.view.sliced(at, from, (from + part).min(size));
            values.push(seen(flow, view)?);
            from += part;
        }
        Ok(values)
    }

    /// Over places, or of the vectors of several ids.
    fn reduced(&mut self, operator: &Operator<'_>) -> Result<Value, String> {
        let flow = operator.flow(0)?.clone();
        let rank = flow.view.axes.len();
        let axes = self.axes(operator, 1)?.ok_or("it goes over the rows as well")?;
        let axes = axes.into_iter().map(|at| axis(at, rank)).collect::<Result<Vec<_>, _>>()?;
        let keeps = operator.attributes.whole("keepdims", 1) != 0;
        if let (
            "ReduceSum" | "ReduceMean",
            Some((Layer::Embedding { vocabulary, units, combine: Combine::None }, before)),
        ) = (operator.op, self.layers.layer(flow.place))
            && let [.., count, _] = before.dims[..]
            && let [at] = axes[..]
            && flow.scale == 1.0
            && flow.view.axes[at] == [Part::Own { size: count, stride: *units }]
        {
            let combine = if operator.op == "ReduceSum" { Combine::Sum } else { Combine::Mean };
            let layer = Layer::Embedding { vocabulary: *vocabulary, units: *units, combine };
            let (wish, reads, weights) = (before.wish.clone(), before.reads.clone(), before.weights.clone());
            let place = self.layers.emit(&wish, layer, reads, weights)?;
            let mut sizes = flow.view.sizes(self.layers.batch);
            if keeps {
                sizes[at] = 1;
            } else {
                sizes.remove(at);
            }
            let flow = self.layers.flow(place);
            return seen(&flow, flow.view.reshaped(&sizes, self.layers.batch));
        }
        match operator.op {
            "ReduceSum" => Err("it adds values of a row up that are no vectors of ids".to_string()),
            op => self.over_places(&operator.wish, &flow, &axes, op == "ReduceMax", keeps),
        }
    }

    /// A product of rows with weights, or of rows with rows within an attention.
    fn product(&mut self, operator: &Operator<'_>) -> Result<Value, String> {
        let (Value::Flow(flow), Value::Constant(weight)) = (operator.input(0)?, operator.input(1)?) else {
            return match (operator.input(0)?, operator.input(1)?) {
                (Value::Flow(left), Value::Flow(right)) if operator.op == "MatMul" => self.scores(left, right),
                (Value::Constant(_), Value::Flow(_)) => {
                    Err("it multiplies weights with rows, not rows with weights".to_string())
                }
                (Value::Partial(partial), _) | (_, Value::Partial(partial)) => Err(partial.unfinished()),
                _ => Err("it multiplies rows with rows".to_string()),
            };
        };
        let attributes = operator.attributes;
        let gemm = operator.op == "Gemm";
        if gemm && attributes.whole("transA", 0) != 0 {
            return Err("it turns what it reads round".to_string());
        }
        let mut weight = Constant::clone(weight);
        if gemm && attributes.whole("transB", 0) != 0 {
            weight = weight.transposed(&[1, 0], &mut self.layers.budget)?;
        }
        while weight.dims.len() > 2 && weight.dims[0] == 1 {
            weight.dims.remove(0);
        }
        let [width, units] = weight.dims[..] else {
            return Err(format!("its weights are {:?}; a dense layer's have two dimensions", weight.dims));
        };
        let last = flow.view.axes.len() - 1;
        if flow.view.size(last, self.layers.batch) != width {
            let sizes = flow.view.sizes(self.layers.batch);
            return Err(format!("its weights are {:?}, and it reads rows of {:?}", weight.dims, &sizes[1..]));
        }
        let mut values = weight.weights(&mut self.layers.budget)?;
        let alpha = if gemm { attributes.real("alpha", 1.0) } else { 1.0 };
        if alpha != 1.0 {
            self.layers.budget.take(values.len())?;
            values = Rc::new(values.iter().map(|value| value * alpha).collect());
        }
        let flow = flow.clone();
        let arranged = self.layers.arranged(&flow, last)?;
        let view = arranged.back(units);
        let place = if self.layers.heads(arranged.place).is_some() {
            self.attention(&operator.wish, arranged.place, flow.scale, &values, units)?
        } else {
            let layer = Layer::Dense { units, activation: Activation::Linear, bias: false };
            let weights = vec![("weight", vec![width, units], values)];
            self.layers.emit(&operator.wish, layer, vec![arranged.place], weights)?
        };
        let product = Flow { place, view, scale: 1.0 };
        match operator.inputs.get(2) {
            Some(Some(Value::Constant(bias))) if gemm => {
                let beta = f64::from(attributes.real("beta", 1.0));
                self.shifted(&operator.wish, &product, bias, beta)
            }
            Some(Some(_)) => Err("it adds rows to its product".to_string()),
            _ => Ok(Value::Flow(product)),
        }
    }

    /// An activation: part of the layer before if nobody reads what that gives without it.
    pub fn activated(&mut self, operator: &Operator<'_>, activation: Activation) -> Result<Value, String> {
        let flow = self.layers.scaled(&operator.flow(0)?.clone())?;
        if self.read_once(operator, 0)
            && let Place::Layer(at) = flow.place
        {
            let mut layer = self.layers.all[at].clone();
            if let Stage::Layer(
                Layer::Dense { activation: own, .. }
                | Layer::Conv1d { activation: own, .. }
                | Layer::Conv2d { activation: own, .. },
            ) = &mut layer.stage
                && *own == Activation::Linear
            {
                *own = activation;
                self.layers.all.push(layer);
                let place = Place::Layer(self.layers.all.len() - 1);
                return Ok(Value::Flow(Flow { place, ..flow }));
            }
        }
        self.as_it_lies(&operator.wish, &flow, Layer::Activation { function: activation })
    }
}

/// What is seen of the same values, if it can be.
pub fn seen(flow: &Flow, view: Option<View>) -> Result<Value, String> {
    let view = view.ok_or("what it asks for mixes rows, or its shapes do not fit")?;
    Ok(Value::Flow(Flow { view, ..flow.clone() }))
}
