//! Inputs and layers of a graph: as a list in a file, or as the few options of SQL.

use super::super::document::Span;
use super::super::reader::Reader;
use jobs::Diagnostic;
use jobs::train::{Activation, Combine, Input, Layer, Node, Padding, Preprocess, chain};

fn activation_of(name: &str) -> Activation {
    match name {
        "relu" => Activation::Relu,
        "leaky_relu" => Activation::LeakyRelu,
        "elu" => Activation::Elu,
        "silu" => Activation::Silu,
        "gelu" => Activation::Gelu,
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        "softplus" => Activation::Softplus,
        _ => Activation::Linear,
    }
}

/// `inputs` of `[model]`; empty for the one that is made where nothing is said.
pub fn inputs(model: &mut Reader<'_>) -> Vec<Input> {
    let inputs = model.variants("inputs", |reader, kind, _| {
        let columns = reader.names("columns");
        let name = reader.text("name").unwrap_or_else(|| kind.to_string());
        let dims = reader.whole_list("dims");
        let size = |reader: &mut Reader<'_>| reader.whole(kind).map(|size| size as usize);
        let step = match kind {
            "numbers" => Preprocess::Numbers,
            "normalize" => Preprocess::Normalize,
            "ids" => Preprocess::Ids { size: size(reader)? },
            "hash" => Preprocess::Hash { buckets: size(reader)? },
            "vocabulary" => Preprocess::Vocabulary { size: size(reader)? },
            "buckets" => Preprocess::Buckets { count: size(reader)? },
            _ => Preprocess::OneHot { size: size(reader)? },
        };
        Some(Input { name, columns, step, dims })
    });
    if let Some(span) = model.span("normalize").filter(|_| model.has("inputs")) {
        let both = Diagnostic::new("'inputs' says what becomes of the numbers, 'normalize' as well").at(span);
        model.complain(both.help("leave normalize out; write the input as \"normalize\" or as \"numbers\""));
    }
    inputs
}

/// `layers` of `[model]`.
pub fn layers(model: &mut Reader<'_>, inputs: &[Input]) -> Vec<Node> {
    if !model.has("layers") {
        return chain([32, 16].map(|units| Layer::dense(units, Activation::Relu)));
    }
    let mut nodes: Vec<Node> = Vec::new();
    model.variants("layers", |reader, kind, span| {
        let joined = matches!(kind, "add" | "concat");
        let read = if joined { reader.names(kind) } else { reader.names("input") };
        let index = nodes.len();
        let named = reader.text("name");
        let layer = layer(reader, kind, span, || vocabulary(inputs, &nodes, &read));
        // A layer that is wrong keeps its place, so that those behind it are called as they would be.
        nodes.push(Node { name: named.unwrap_or_else(|| format!("{kind}_{index:02}")), inputs: read, layer: layer? });
        Some(())
    });
    nodes
}

/// Number of ids of the input that a layer reads.
fn vocabulary(inputs: &[Input], before: &[Node], read: &[String]) -> Option<usize> {
    let input = match read {
        [name] => inputs.iter().find(|input| input.name == *name)?,
        [] if before.is_empty() && inputs.len() == 1 => &inputs[0],
        _ => return None,
    };
    match input.step {
        Preprocess::Ids { size } | Preprocess::Vocabulary { size } => Some(size),
        Preprocess::Hash { buckets } => Some(buckets),
        Preprocess::Buckets { count } => Some(count),
        Preprocess::Numbers | Preprocess::Normalize | Preprocess::OneHot { .. } => None,
    }
}

fn layer(
    reader: &mut Reader<'_>,
    kind: &'static str,
    span: Span,
    vocabulary: impl FnOnce() -> Option<usize>,
) -> Option<Layer> {
    let size = |reader: &mut Reader<'_>, name: &str| reader.whole(name).map(|size| size as usize);
    let yes = |reader: &mut Reader<'_>, name: &str| reader.boolean(name).unwrap_or_default();
    let activation = |reader: &mut Reader<'_>| reader.choice("activation").map(activation_of).unwrap_or_default();
    let padding = |reader: &mut Reader<'_>| match reader.choice("padding") {
        Some("same") => Padding::Same,
        _ => Padding::Valid,
    };
    let epsilon = |reader: &mut Reader<'_>| reader.number("epsilon").unwrap_or_default();
    Some(match kind {
        "dense" => {
            let (activation, bias) = (activation(reader), reader.boolean("bias").unwrap_or(true));
            Layer::Dense { units: size(reader, "dense")?, activation, bias }
        }
        "activation" => Layer::Activation { function: activation(reader) },
        "dropout" => Layer::Dropout { rate: reader.number("dropout")? },
        "embedding" => {
            let combine = match reader.choice("combine") {
                Some("sum") => Combine::Sum,
                Some("mean") => Combine::Mean,
                _ => Combine::None,
            };
            let said = size(reader, "vocabulary");
            let units = size(reader, "embedding")?;
            let Some(vocabulary) = said.or_else(vocabulary) else {
                // A value that is wrong was told already.
                if !reader.has("vocabulary") {
                    let missing = Diagnostic::new("nothing says how many ids this embedding looks up").at(span);
                    reader.complain(missing.help("name an input of ids in 'input', or add 'vocabulary'"));
                }
                return None;
            };
            Layer::Embedding { vocabulary, units, combine }
        }
        "position" => Layer::Position,
        "conv1d" => {
            let (kernel, stride) = (size(reader, "kernel")?, size(reader, "stride")?);
            let (padding, activation) = (padding(reader), activation(reader));
            Layer::Conv1d { filters: size(reader, "conv1d")?, kernel, stride, padding, activation }
        }
        "conv2d" => {
            let (kernel, stride) = (reader.sizes("kernel")?, reader.sizes("stride")?);
            let (padding, activation) = (padding(reader), activation(reader));
            Layer::Conv2d { filters: size(reader, "conv2d")?, kernel, stride, padding, activation }
        }
        "max_pool" | "average_pool" => {
            let size = reader.sizes(kind)?;
            let stride = if reader.has("stride") { reader.sizes("stride")? } else { size };
            let padding = padding(reader);
            if kind == "max_pool" {
                Layer::MaxPool { size, stride, padding }
            } else {
                Layer::AveragePool { size, stride, padding }
            }
        }
        "global_max_pool" => Layer::GlobalMaxPool,
        "global_average_pool" => Layer::GlobalAveragePool,
        "batch_norm" => Layer::BatchNorm { momentum: reader.number("momentum")?, epsilon: epsilon(reader) },
        "layer_norm" => Layer::LayerNorm { epsilon: epsilon(reader) },
        "rms_norm" => Layer::RmsNorm { epsilon: epsilon(reader) },
        "gru" => Layer::Gru { units: size(reader, "gru")?, sequences: yes(reader, "sequences") },
        "lstm" => Layer::Lstm { units: size(reader, "lstm")?, sequences: yes(reader, "sequences") },
        "attention" => Layer::Attention { heads: size(reader, "attention")?, causal: yes(reader, "causal") },
        "transformer" => {
            let (causal, activation) = (yes(reader, "causal"), activation(reader));
            let (hidden, dropout) = (size(reader, "hidden"), reader.number("dropout"));
            Layer::Transformer {
                heads: size(reader, "transformer")?,
                hidden: hidden?,
                causal,
                activation,
                dropout: dropout?,
            }
        }
        "add" | "concat" => {
            if reader.names(kind).len() < 2 {
                let few = Diagnostic::new(format!("{kind} joins two layers or more")).at(span);
                reader.complain(few.help(format!("for example {{ {kind} = [\"a\", \"b\"] }}")));
                return None;
            }
            if kind == "add" { Layer::Add } else { Layer::Concat }
        }
        "flatten" => Layer::Flatten,
        _ => {
            let dims = reader.whole_list(kind);
            if dims.is_empty() {
                return None;
            }
            if kind == "permute" { Layer::Permute { dims } } else { Layer::Reshape { dims } }
        }
    })
}

/// What the options of `CREATE MODEL` make: `hidden = '32,16'`, with `activation` and `dropout` for all of them; before them
/// the columns of `categorical`, each looked up in one common table and put beside the numbers. `has_numbers`: there are
/// features besides.
pub fn of_sql(reader: &mut Reader<'_>, normalize: bool, has_numbers: bool) -> (Vec<Input>, Vec<Node>) {
    let hidden = hidden(reader);
    let columns = reader.text_list("categorical");
    let buckets = reader.whole("hash_buckets").unwrap_or(2) as usize;
    let units = reader.whole("embedding").unwrap_or(1) as usize;
    if columns.is_empty() {
        for name in ["hash_buckets", "embedding"] {
            if let Some(span) = reader.span(name) {
                let alone = Diagnostic::new(format!("{name} is a setting of categorical")).at(span);
                reader.complain(alone.help("add categorical = 'COLUMN, …'"));
            }
        }
        return (Vec::new(), chain(hidden));
    }
    let node = |name: &str, inputs: &[&str], layer: Layer| {
        let inputs = inputs.iter().map(|input| input.to_string()).collect();
        Node { name: name.to_string(), inputs, layer }
    };
    let mut inputs = Vec::new();
    let mut nodes = vec![
        node("embedding", &["categories"], Layer::Embedding { vocabulary: buckets, units, combine: Combine::None }),
        node("vectors", &["embedding"], Layer::Flatten),
    ];
    if has_numbers {
        let step = if normalize { Preprocess::Normalize } else { Preprocess::Numbers };
        inputs.push(Input { name: "numbers".to_string(), columns: Vec::new(), step, dims: Vec::new() });
        nodes.push(node("features", &["numbers", "vectors"], Layer::Concat));
    }
    let step = Preprocess::Hash { buckets };
    inputs.push(Input { name: "categories".to_string(), columns, step, dims: Vec::new() });
    nodes.extend(chain(hidden));
    (inputs, nodes)
}

fn hidden(reader: &mut Reader<'_>) -> Vec<Layer> {
    let activation = activation_of(reader.choice("activation").unwrap_or("relu"));
    let rate = reader.number("dropout").unwrap_or_default();
    let hidden = reader.text("hidden").unwrap_or_default();
    let mut layers = Vec::new();
    for part in hidden.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse::<usize>() {
            Ok(units) if (1..=1_000_000).contains(&units) => {
                layers.push(Layer::dense(units, activation));
                if rate > 0.0 {
                    layers.push(Layer::Dropout { rate });
                }
            }
            _ => {
                let wrong = Diagnostic::new(format!("hidden: '{part}' is not a number of outputs"));
                let span = reader.span("hidden").unwrap_or_default();
                reader.complain(wrong.at(span).help("for example hidden = '32,16'"));
            }
        }
    }
    layers
}
