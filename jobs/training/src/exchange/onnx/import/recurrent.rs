//! GRU and LSTM: one operator each, with its gates in an order of its own.

use super::super::flow::{Flow, Weight};
use super::super::view::{Part, View};
use super::{Importer, Operator, Value};
use jobs::train::Layer;
use std::rc::Rc;

impl Importer<'_> {
    /// All steps' outputs, and the last one's.
    pub fn recurrent(&mut self, operator: &Operator<'_>) -> Result<Vec<Value>, String> {
        let flow = operator.flow(0)?.clone();
        let attributes = operator.attributes;
        let lstm = operator.op == "LSTM";
        // ONNX's input, output, forget, cell as our input, forget, cell, output; its update, reset, new as our reset,
        // update, new.
        let order: &[usize] = if lstm { &[0, 2, 3, 1] } else { &[1, 0, 2] };
        match attributes.text("direction").unwrap_or("forward") {
            "forward" => {}
            other => return Err(format!("it goes {other}; ours goes forward")),
        }
        let known: &[&str] = if lstm { &["Sigmoid", "Tanh", "Tanh"] } else { &["Sigmoid", "Tanh"] };
        if attributes.texts("activations").is_some_and(|given| given != known) {
            return Err(format!("its activations are {:?}; ours are {known:?}", attributes.texts("activations")));
        }
        if !lstm && attributes.whole("linear_before_reset", 0) == 0 {
            return Err(
                "its reset gate goes before the product (linear_before_reset = 0); ours goes behind it".to_string()
            );
        }
        for (what, refused) in
            [("clip", attributes.has("clip")), ("input_forget", attributes.whole("input_forget", 0) != 0)]
        {
            if refused {
                return Err(format!("it has {what}; ours does not"));
            }
        }
        let batch_first = attributes.whole("layout", 0) != 0;
        let [fed, hidden] = [operator.constant(1)?, operator.constant(2)?];
        let ([1, columns, inputs], [1, rows, units]) = (&fed.dims[..], &hidden.dims[..]) else {
            return Err(format!("its weights are {:?} and {:?}; ours go one way", fed.dims, hidden.dims));
        };
        let (columns, inputs, units) = (*columns, *inputs, *units);
        if columns != order.len() * units || *rows != columns {
            return Err(format!("its weights are {:?} and {:?}", fed.dims, hidden.dims));
        }
        self.all_steps(operator)?;
        for at in 5..operator.inputs.len() {
            let what = if at == 7 { "peepholes" } else { "a first state" };
            if operator.inputs[at].is_some() && operator.constant(at).ok().and_then(|one| one.single()) != Some(0.0) {
                return Err(format!("it has {what}; ours begins with zeros and has no peepholes"));
            }
        }
        let [a, b] = if batch_first { [0, 1] } else { [1, 0] };
        let view = flow.view.transposed(&[a, b, 2]).ok_or("it reads no sequences of rows")?;
        let sizes = view.sizes(self.layers.batch);
        if sizes[0] != self.layers.batch || sizes[2] != inputs {
            return Err(format!("its weights are {:?}, and it reads {sizes:?}", fed.dims));
        }
        let length = sizes[1];
        let read = self.layers.plain(&Flow { view, ..flow }, &[length, inputs])?;

        let budget = &mut self.layers.budget;
        let turned = |values: &[f32], width: usize| -> Rc<Vec<f32>> {
            let column = |row: usize| move |at: usize| (row, at);
            let places = (0..width).flat_map(|row| (0..columns).map(column(row)));
            let of = |(row, at): (usize, usize)| values[(order[at / units] * units + at % units) * width + row];
            Rc::new(places.map(of).collect())
        };
        budget.take(fed.size().saturating_add(hidden.size()))?;
        let mut weights: Vec<Weight> = vec![
            ("input_weight", vec![inputs, columns], turned(&fed.weights(budget)?, inputs)),
            ("hidden_weight", vec![units, columns], turned(&hidden.weights(budget)?, units)),
        ];
        let biases = match operator.optional(3)? {
            Some(biases) if biases.size() == 2 * columns => biases.weights(budget)?,
            Some(biases) => return Err(format!("its biases are {:?}", biases.dims)),
            None => Rc::new(vec![0.0; 2 * columns]),
        };
        let [of_fed, of_hidden] = [&biases[..columns], &biases[columns..]].map(|biases| turned(biases, 1));
        if lstm {
            let sum = of_fed.iter().zip(of_hidden.iter()).map(|(one, other)| one + other).collect();
            weights.push(("bias", vec![columns], Rc::new(sum)));
        } else {
            weights.push(("input_bias", vec![columns], of_fed));
            weights.push(("hidden_bias", vec![columns], of_hidden));
        }
        let layer = |sequences| match lstm {
            true => Layer::Lstm { units, sequences },
            false => Layer::Gru { units, sequences },
        };
        let steps = self.layers.emit(&operator.wish, layer(true), vec![read], weights.clone())?;
        let last = self.layers.emit(&operator.wish, layer(false), vec![read], weights)?;
        let own = |size: usize, stride: usize| if size == 1 { Vec::new() } else { vec![Part::Own { size, stride }] };
        let (step, unit) = (own(length, units), own(units, 1));
        let steps_axes = match batch_first {
            true => vec![vec![Part::Batch], step, Vec::new(), unit.clone()],
            false => vec![step, Vec::new(), vec![Part::Batch], unit.clone()],
        };
        let last_axes = match batch_first {
            true => vec![vec![Part::Batch], Vec::new(), unit],
            false => vec![Vec::new(), vec![Part::Batch], unit],
        };
        let flow = |place, axes| Value::Flow(Flow { place, view: View { offset: 0, axes }, scale: 1.0 });
        Ok(vec![flow(steps, steps_axes), flow(last, last_axes)])
    }

    /// Lengths of sequences may be there if all are whole.
    fn all_steps(&mut self, operator: &Operator<'_>) -> Result<(), String> {
        let Some(lengths) = operator.optional(4)? else { return Ok(()) };
        let flow = operator.flow(0)?;
        let at = usize::from(operator.attributes.whole("layout", 0) != 0);
        match lengths.single() {
            Some(length) if length == flow.view.size(at, self.layers.batch) as f64 => Ok(()),
            _ => Err("its sequences have lengths of their own".to_string()),
        }
    }
}
