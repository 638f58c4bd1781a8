//! Self-attention, which exporters write as a dozen operators: products of queries and keys, a softmax, a product with values,
//! and weights before and behind.

use super::super::flow::{Flow, Heads, Place, Stage, Weight};
use super::super::view::{Part, View};
use super::{Importer, Operator, Partial, Value};
use jobs::train::{Activation, Layer};
use std::rc::Rc;

/// What a mask has where nothing is to be seen: exporters write -inf, or a large number.
const HIDDEN: f64 = -1e4;

/// Queries, keys or values: the dense layer that gives them, and the column of each value of each head.
struct Columns {
    layer: Place,
    columns: Vec<usize>,
    length: usize,
}

impl Importer<'_> {
    /// Rows with rows: queries with keys.
    pub fn scores(&mut self, left: &Flow, right: &Flow) -> Result<Value, String> {
        let heads = Heads { queries: left.clone(), keys: right.clone(), values: None, scale: 1.0, causal: false };
        let batch = self.layers.batch;
        let (queries, keys) = (left.view.sizes(batch), right.view.sizes(batch));
        let rank = queries.len();
        let fits = rank >= 3
            && keys.len() == rank
            && queries[..rank - 2] == keys[..rank - 2]
            && queries[rank - 1] == keys[rank - 2]
            && queries[rank - 2] == keys[rank - 1];
        if fits {
            Ok(Value::Partial(Partial::Scores(Box::new(heads))))
        } else {
            Err(format!("it multiplies rows of {queries:?} with rows of {keys:?}, which no self-attention does"))
        }
    }

    /// What comes after the scores.
    pub fn heads(
        &mut self,
        operator: &Operator<'_>,
        partial: &Partial,
        heads: &Heads,
    ) -> Result<Option<Value>, String> {
        let heads = heads.clone();
        let scores = |heads| Ok(Some(Value::Partial(Partial::Scores(Box::new(heads)))));
        match (partial, operator.op) {
            (Partial::Scores(_), "Mul" | "Div") => {
                let by = operator.constant(1)?.single().ok_or("it multiplies scores with more than one number")?;
                let scale = if operator.op == "Mul" { heads.scale * by } else { heads.scale / by };
                scores(Heads { scale, ..heads })
            }
            (Partial::Scores(_), "Add") => {
                let mask = operator.constant(1)?;
                if mask.single() == Some(0.0) {
                    return scores(heads);
                }
                let hidden = |value: f64| {
                    if value == 0.0 {
                        Some(false)
                    } else if value <= HIDDEN {
                        Some(true)
                    } else {
                        None
                    }
                };
                let causal = self.causal(&heads, mask, hidden)?;
                scores(Heads { causal: heads.causal || causal, ..heads })
            }
            (Partial::Scores(_), "Softmax") => {
                let rank = heads.queries.view.axes.len();
                let at = super::super::constant::axis(operator.attributes.whole("axis", -1), rank)?;
                if at != rank - 1 {
                    return Err("its softmax is not over the keys".to_string());
                }
                Ok(Some(Value::Partial(Partial::Shares(Box::new(heads)))))
            }
            (Partial::Shares(_), "IsNaN") => Ok(Some(Value::Partial(Partial::AreNaN(Box::new(heads))))),
            (Partial::Shares(_), "Dropout" | "Cast") | (Partial::Scores(_), "Cast") => {
                Ok(Some(Value::Partial(partial.clone())))
            }
            (Partial::Shares(_), "MatMul") => {
                let values = operator.flow(1)?.clone();
                self.by_head(Heads { values: Some(values), ..heads }).map(Some)
            }
            (Partial::AreNaN(_), "Where") => self.choice(operator).map(Some),
            _ => Err(partial.unfinished()),
        }
    }

    /// `Where`: a mask over scores.
    pub fn choice(&mut self, operator: &Operator<'_>) -> Result<Value, String> {
        let [condition, one, other] = [operator.input(0)?, operator.input(1)?, operator.input(2)?];
        match (condition, one, other) {
            (Value::Constant(mask), Value::Constant(hidden), Value::Partial(Partial::Scores(heads)))
                if hidden.single().is_some_and(|value| value <= HIDDEN) =>
            {
                let causal = self.causal(heads, mask, |value| Some(value != 0.0))?;
                Ok(Value::Partial(Partial::Scores(Box::new(Heads {
                    causal: heads.causal || causal,
                    ..*heads.clone()
                }))))
            }
            (Value::Constant(mask), Value::Partial(Partial::Scores(heads)), Value::Constant(hidden))
                if hidden.single().is_some_and(|value| value <= HIDDEN) =>
            {
                let causal = self.causal(heads, mask, |value| Some(value == 0.0))?;
                Ok(Value::Partial(Partial::Scores(Box::new(Heads {
                    causal: heads.causal || causal,
                    ..*heads.clone()
                }))))
            }
            // Softplus as PyTorch has it: above a number it is x itself, up to rounding.
            (Value::Partial(Partial::Above(of, above)), Value::Flow(same), Value::Flow(softplus))
                if same == of
                    && *above >= 15.0
                    && softplus.view == of.view
                    && self.layers.layer(softplus.place).is_some_and(|(layer, before)| match layer {
                        Layer::Activation { function: Activation::Softplus } => before.reads[0] == of.place,
                        _ => false,
                    }) =>
            {
                Ok(Value::Flow(softplus.clone()))
            }
            // Of rows that see nothing, which there are none of.
            (Value::Partial(Partial::AreNaN(asked)), Value::Constant(_), Value::Partial(Partial::Shares(heads)))
                if asked == heads =>
            {
                Ok(Value::Partial(Partial::Shares(heads.clone())))
            }
            _ => Err("it chooses between rows, which only a mask over an attention's scores does here".to_string()),
        }
    }

    /// Whether a mask hides what comes later, and nothing else; false where it hides nothing.
    fn causal(
        &mut self,
        heads: &Heads,
        mask: &super::super::constant::Constant,
        hidden: impl Fn(f64) -> Option<bool>,
    ) -> Result<bool, String> {
        let sizes = heads.queries.view.sizes(self.layers.batch);
        let length = sizes[sizes.len() - 2];
        let other = || format!("its mask {:?} hides something else than what comes later", mask.dims);
        if mask.dims.iter().rev().skip(2).any(|dim| *dim != 1) {
            return Err(other());
        }
        let last: Vec<usize> = mask.dims.iter().rev().take(2).rev().copied().collect();
        let square = super::super::constant::Constant { dims: last, values: mask.values.clone() };
        let square = square.expanded(&[length, length], &mut self.layers.budget).map_err(|_| other())?;
        let numbers = square.numbers(&mut self.layers.budget)?;
        let hides: Option<Vec<bool>> = numbers.into_iter().map(hidden).collect();
        let hides = hides.ok_or_else(other)?;
        if !hides.contains(&true) {
            return Ok(false);
        }
        let later = (0..length).flat_map(|query| (0..length).map(move |key| key > query));
        if later.eq(hides) { Ok(true) } else { Err(other()) }
    }

    /// The outputs of all heads, as they are seen before anything puts them together.
    fn by_head(&mut self, heads: Heads) -> Result<Value, String> {
        let batch = self.layers.batch;
        let Some(values) = &heads.values else { return Err("it lacks values".to_string()) };
        let (queries, seen) = (&heads.queries.view, values.view.sizes(batch));
        let sizes = queries.sizes(batch);
        let rank = sizes.len();
        if seen != sizes {
            return Err(format!("its queries are {sizes:?}, its values {seen:?}"));
        }
        let (length, depth) = (sizes[rank - 2], sizes[rank - 1]);
        let mut stride = depth;
        let mut axes = Vec::with_capacity(rank);
        for parts in queries.axes[..rank - 2].iter().rev() {
            let mut axis = Vec::with_capacity(parts.len());
            for part in parts.iter().rev() {
                axis.push(match part {
                    Part::Batch => Part::Batch,
                    Part::Own { size, .. } => {
                        stride *= size;
                        Part::Own { size: *size, stride: stride / size }
                    }
                });
            }
            axis.reverse();
            axes.push(axis);
        }
        axes.reverse();
        let own = |size: usize, stride: usize| if size == 1 { Vec::new() } else { vec![Part::Own { size, stride }] };
        axes.push(own(length, stride));
        axes.push(own(depth, 1));
        let dims = vec![length, stride];
        let place = self.layers.push("heads", Stage::Heads(Box::new(heads)), Vec::new(), dims, Vec::new());
        Ok(Value::Flow(Flow { place, view: View { offset: 0, axes }, scale: 1.0 }))
    }

    /// The product that puts heads together: now it is an attention.
    pub fn attention(
        &mut self,
        wish: &str,
        place: Place,
        scale: f64,
        out: &Rc<Vec<f32>>,
        units: usize,
    ) -> Result<Place, String> {
        let Some(heads) = self.layers.heads(place).cloned() else { return Err("it has no heads".to_string()) };
        let Some(values) = &heads.values else { return Err("it lacks values".to_string()) };
        let rank = heads.queries.view.axes.len();
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(rank - 2, rank - 1);
        let turned = heads.keys.view.transposed(&order).ok_or("its keys do not fit")?;
        let keys = Flow { view: turned, ..heads.keys.clone() };
        let parts = [self.columns(&heads.queries)?, self.columns(&keys)?, self.columns(values)?];
        let [queries, ..] = &parts;
        let depth = heads.queries.view.size(rank - 1, self.layers.batch);
        let width = queries.columns.len();
        let read = self.layers.layer(queries.layer).map(|(_, layer)| layer.reads[0]);
        let Some(read) = read else { return Err("its queries come of no weights".to_string()) };
        for other in &parts {
            let same = self.layers.layer(other.layer).is_some_and(|(_, layer)| layer.reads[0] == read);
            if !same || other.length != queries.length || other.columns.len() != width {
                return Err(
                    "its queries, keys and values do not come of the same rows; ours is self-attention".to_string()
                );
            }
        }
        let inputs = self.layers.dims(read).last().copied().unwrap_or(0);
        if units != width || inputs != width {
            return Err(format!(
                "it makes {units} of heads of {width} values, of rows of {inputs}; ours keeps the size"
            ));
        }
        if !width.is_multiple_of(depth.max(1)) {
            return Err(format!("its heads are {depth} of {width}"));
        }
        // What scores are multiplied with beyond 1 / √depth goes to the queries.
        let of_scores = heads.scale * heads.queries.scale * keys.scale * (depth as f64).sqrt();
        let factors = [if (of_scores - 1.0).abs() < 1e-6 { 1.0 } else { of_scores }, 1.0, values.scale];
        let mut in_weight = vec![0.0; width * 3 * width];
        let mut in_bias = vec![0.0; 3 * width];
        self.layers.budget.take(in_weight.len())?;
        for (third, (part, factor)) in parts.iter().zip(factors).enumerate() {
            let Some((_, layer)) = self.layers.layer(part.layer) else { continue };
            let weights =
                |name: &str| layer.weights.iter().find(|(own, ..)| *own == name).map(|(_, dims, v)| (dims, v));
            let Some((dims, weight)) = weights("weight") else { continue };
            let all = dims[1];
            for (to, from) in part.columns.iter().enumerate() {
                for row in 0..width {
                    in_weight[row * 3 * width + third * width + to] = weight[row * all + from] * factor as f32;
                }
                if let Some((_, bias)) = weights("bias") {
                    in_bias[third * width + to] = bias[*from] * factor as f32;
                }
            }
        }
        let out = if scale == 1.0 {
            Rc::clone(out)
        } else {
            self.layers.budget.take(out.len())?;
            Rc::new(out.iter().map(|value| value * scale as f32).collect())
        };
        let weights: Vec<Weight> = vec![
            ("in_weight", vec![width, 3 * width], Rc::new(in_weight)),
            ("in_bias", vec![3 * width], Rc::new(in_bias)),
            ("out_weight", vec![width, width], out),
            ("out_bias", vec![width], Rc::new(vec![0.0; width])),
        ];
        let layer = Layer::Attention { heads: width / depth, causal: heads.causal };
        self.layers.emit(wish, layer, vec![read], weights)
    }

    /// Where the columns of a part of an attention come from, head by head.
    fn columns(&self, flow: &Flow) -> Result<Columns, String> {
        let Some((Layer::Dense { units, activation: Activation::Linear, .. }, _)) = self.layers.layer(flow.place)
        else {
            return Err("its queries, keys and values are no products with weights".to_string());
        };
        let wrong = || "its queries, keys and values are taken apart in a way that mixes places".to_string();
        let (units, rank) = (*units, flow.view.axes.len());
        let length = flow.view.size(rank - 2, self.layers.batch);
        let places = match flow.view.axes[rank - 2][..] {
            [] => true,
            [Part::Own { stride, .. }] => stride == units,
            _ => false,
        };
        if !places || flow.view.axes[rank - 2].contains(&Part::Batch) {
            return Err(wrong());
        }
        let mut columns = vec![flow.view.offset];
        let outer = flow.view.axes[..rank - 2].iter().chain(&flow.view.axes[rank - 1..]);
        for part in outer.flatten() {
            if let Part::Own { size, stride } = part {
                if columns.len().saturating_mul(*size) > units {
                    return Err(wrong());
                }
                columns = columns.iter().flat_map(|column| (0..*size).map(move |at| column + at * stride)).collect();
            }
        }
        if columns.iter().any(|column| *column >= units) {
            return Err(wrong());
        }
        Ok(Columns { layer: flow.place, columns, length })
    }
}
