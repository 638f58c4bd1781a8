//! Which operation a layer is.

use crate::graph::operation::{Built, Shape};
use crate::graph::{dense, elementwise, embedding, ops};
use jobs::train::{Activation, Layer, Node};

/// The epsilon of the norms within a transformer block, PyTorch's.
const EPSILON: f64 = 1e-5;

/// One that neither only renames the places of an array nor consists of others.
pub fn built(name: &str, layer: &Layer, inputs: &[Shape]) -> Result<Built, String> {
    match layer {
        Layer::Dense { units, activation, bias } => dense::dense(*units, *activation, *bias, inputs),
        Layer::Activation { function } => elementwise::activation(*function, inputs),
        Layer::Dropout { rate } => elementwise::dropout(name, *rate, inputs),
        Layer::Embedding { vocabulary, units, combine } => embedding::embedding(*vocabulary, *units, *combine, inputs),
        Layer::Position => ops::position(inputs),
        Layer::Conv1d { filters, kernel, stride, padding, activation } => {
            ops::conv1d(*filters, *kernel, *stride, *padding, *activation, inputs)
        }
        Layer::Conv2d { filters, kernel, stride, padding, activation } => {
            ops::conv2d(*filters, *kernel, *stride, *padding, *activation, inputs)
        }
        Layer::MaxPool { size, stride, padding } => ops::max_pool(*size, *stride, *padding, inputs),
        Layer::AveragePool { size, stride, padding } => ops::average_pool(*size, *stride, *padding, inputs),
        Layer::GlobalMaxPool => ops::global_max_pool(inputs),
        Layer::GlobalAveragePool => ops::global_average_pool(inputs),
        Layer::BatchNorm { momentum, epsilon } => ops::batch_norm(*momentum, *epsilon, inputs),
        Layer::LayerNorm { epsilon } => ops::layer_norm(*epsilon, inputs),
        Layer::RmsNorm { epsilon } => ops::rms_norm(*epsilon, inputs),
        Layer::Gru { units, sequences } => ops::gru(*units, *sequences, inputs),
        Layer::Lstm { units, sequences } => ops::lstm(*units, *sequences, inputs),
        Layer::Attention { heads, causal } => ops::attention(*heads, *causal, inputs),
        Layer::Add => ops::add(inputs),
        Layer::Concat => ops::concat(inputs),
        Layer::Permute { dims } => ops::permute(dims, inputs),
        Layer::Flatten | Layer::Reshape { .. } | Layer::Transformer { .. } => {
            Err("it is no operation of its own".to_string())
        }
    }
}

/// The shape that a layer gives to an array whose values stay as they are; `None` for layers that compute.
pub fn renamed(layer: &Layer, inputs: &[Shape]) -> Option<Result<Shape, String>> {
    let dims = match layer {
        Layer::Flatten => inputs.first().map_or(Vec::new(), |input| vec![input.size()]),
        Layer::Reshape { dims } => dims.clone(),
        _ => return None,
    };
    let [input] = inputs else { return Some(Err(format!("it reads one input, not {}", inputs.len()))) };
    let shape = Shape { kind: input.kind, dims };
    if shape.size() != input.size() {
        let (from, to) = (&input.dims, &shape.dims);
        return Some(Err(format!("{from:?} is {} values, {to:?} is {}", input.size(), shape.size())));
    }
    Some(Ok(shape))
}

/// What a layer consists of, in order, the last under the layer's own name; `None` for layers that are one operation. `input`
/// is what it reads, of `width` numbers in the last dimension.
pub fn parts(node: &Node, input: &str, width: usize) -> Option<Vec<Node>> {
    let Layer::Transformer { heads, hidden, causal, activation, dropout } = node.layer else { return None };
    let name = |part: &str| format!("{}.{part}", node.name);
    let of = |name: String, inputs: &[&str], layer: Layer| Node {
        name,
        inputs: inputs.iter().map(ToString::to_string).collect(),
        layer,
    };
    let mut parts = Vec::new();
    let mut half = |number: usize, from: &str, layers: Vec<(&str, Layer)>, sum: String| {
        let mut last = name(&format!("norm_{number}"));
        parts.push(of(last.clone(), &[from], Layer::LayerNorm { epsilon: EPSILON }));
        for (part, layer) in layers {
            parts.push(of(name(part), &[&last], layer));
            last = name(part);
        }
        if dropout > 0.0 {
            let dropped = name(&format!("dropout_{number}"));
            parts.push(of(dropped.clone(), &[&last], Layer::Dropout { rate: dropout }));
            last = dropped;
        }
        parts.push(of(sum, &[from, &last], Layer::Add));
    };
    let middle = name("add");
    half(1, input, vec![("attention", Layer::Attention { heads, causal })], middle.clone());
    let (up, down) = (Layer::dense(hidden, activation), Layer::dense(width, Activation::Linear));
    half(2, &middle, vec![("up", up), ("down", down)], node.name.clone());
    Some(parts)
}
