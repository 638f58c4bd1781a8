//! What is wrong with a training job before any data is read: all of it at once.
//!
//! Invariant: what is refused here would be refused when the job starts; the reverse does not hold, because some things
//! only rows tell.

use crate::columns::{Columns, DEFAULT_INPUT};
use crate::graph::{self, Source, Wanted};
use crate::preprocess::{InputState, State};
use crate::servers;
use crate::start;
use arrow::datatypes::{DataType, Schema};
use jobs::TrainBody;
use jobs::text::nearest;
use jobs::train::{Clip, Input, Layer, Loss, Node, Optimizer, Preprocess, Schedule};
use std::fmt::Display;

/// One sentence per mistake; empty for a job that can start.
pub fn check(body: &TrainBody) -> Vec<String> {
    let mut wrong = Wrong(Vec::new());
    if !valid_name(&body.model) {
        wrong.0.push(format!(
            "model name '{}' must be letters, digits, '_', '-' or '.', and begin with a letter, a digit or '_'",
            body.model
        ));
    }
    if let Some(init) = &body.init {
        wrong.0.extend(start::version(init).err().map(|error| format!("failed to {error}")));
        if !body.layers.is_empty() || !body.inputs.is_empty() {
            wrong.0.push(format!("init = '{init}' brings inputs and layers of its own; leave those of the job out"));
        }
    }
    inputs(&body.inputs, &mut wrong);
    names(body, &mut wrong);
    for (index, node) in body.layers.iter().enumerate() {
        layer(index, node, &mut wrong);
    }
    if let Loss::Huber { delta } = body.loss {
        wrong.unless(positive(delta), "delta", delta, ABOVE);
    }
    optimizer(&body.optimizer, &mut wrong);
    match body.schedule {
        Schedule::Constant => {}
        Schedule::Cosine { floor, .. } | Schedule::Linear { floor, .. } => {
            wrong.unless((0.0..=1.0).contains(&floor), "floor", floor, "from 0 to 1");
        }
        Schedule::Step { every, factor } => {
            wrong.unless(every > 0, "every", every, ONE);
            wrong.unless((0.0..=1.0).contains(&factor), "factor", factor, "from 0 to 1");
        }
    }
    match body.clip {
        Clip::None => {}
        Clip::Norm { limit } => wrong.unless(positive(limit), "clip_norm", limit, ABOVE),
        Clip::Value { limit } => wrong.unless(positive(limit), "clip_value", limit, ABOVE),
    }
    wrong.unless(body.batch > 0, "batch", body.batch, ONE);
    wrong.unless(body.accumulate > 0, "accumulate", body.accumulate, ONE);
    match body.steps {
        Some(steps) => wrong.unless(steps > 0, "steps", steps, ONE),
        None => wrong.unless(body.epochs > 0, "epochs", body.epochs, ONE),
    }
    wrong.unless(body.checkpoint_steps > 0, "checkpoint_steps", body.checkpoint_steps, ONE);
    let fraction = body.test_fraction;
    if body.test_query.is_none() {
        wrong.unless((0.0..1.0).contains(&fraction), "test_fraction", fraction, BELOW_ONE);
        if body.evaluator && fraction == 0.0 {
            let none =
                "an evaluator judges by rows that are held out, and there are none; give test_fraction or a test query";
            wrong.0.push(none.to_string());
        }
    }
    if let Some(stop) = &body.early_stop {
        wrong.unless(stop.patience > 0, "patience", stop.patience, ONE);
        wrong.unless(stop.least.is_finite() && stop.least >= 0.0, "min_delta", stop.least, "at least 0");
    }
    if (body.early_stop.is_some() || body.keep_best) && body.test_query.is_none() && fraction == 0.0 {
        let all = "patience and keep_best go by the metric on held-out rows, and test_fraction = 0 holds out none";
        wrong.0.push(all.to_string());
    }
    wrong.0.extend(servers::refusals(body));
    wrong.0
}

/// What is wrong with a job that is sound in itself once the columns of its training query are known: columns that no input
/// can be made of, and layers that do not fit them or each other.
pub fn check_columns(schema: &Schema, body: &TrainBody) -> Result<(), String> {
    if body.init.is_some() {
        // What it reads stands in the registry, where the job will run.
        return Ok(());
    }
    let failed = |error: &dyn Display| format!("failed to {error}");
    let columns = Columns::of(schema, body).map_err(|error| failed(&error))?;
    let mut shapes = Vec::with_capacity(columns.inputs.len());
    for input in columns.inputs {
        let Some(widths) = widths(schema, &input) else {
            // Only rows will tell.
            return Ok(());
        };
        let state = InputState { input, widths, state: State::Nothing };
        let shape = state.shape().map_err(|error| failed(&error))?;
        shapes.push((state.input.name, shape));
    }
    let sources = Source::all(shapes);
    // How many classes there are, rows will tell; no layer reads the output.
    let outputs = if body.loss == Loss::CrossEntropy { 2 } else { 1 };
    let wanted = Wanted { sources: &sources, layers: &body.layers, output: body.output.as_deref(), outputs };
    let output = graph::check(wanted).map_err(|error| failed(&error))?;
    let (gives, loss) = (output.size(), body.loss);
    match (&body.output, loss) {
        (Some(name), Loss::CrossEntropy) if output.dims.last().is_none_or(|classes| *classes < 2) => {
            Err(format!("failed to learn classes: layer '{name}' gives one output, and each class needs one"))
        }
        (Some(name), _) if loss != Loss::CrossEntropy && gives != 1 => {
            Err(format!("failed to learn one number: layer '{name}' gives {gives} outputs of a row"))
        }
        _ => Ok(()),
    }
}

/// Values of each column in a row; `None` where lists have a length that is not known yet.
fn widths(schema: &Schema, input: &Input) -> Option<Vec<usize>> {
    let width = |column: &String| match schema.field_with_name(column).ok()?.data_type() {
        DataType::FixedSizeList(_, size) => usize::try_from(*size).ok(),
        DataType::List(_) | DataType::LargeList(_) => None,
        _ => Some(1),
    };
    let known: Option<Vec<usize>> = input.columns.iter().map(width).collect();
    if known.is_some() || input.dims.is_empty() {
        return known;
    }
    let values = input.dims.iter().product::<usize>();
    match input.step {
        Preprocess::OneHot { size } => Some(vec![values / size]),
        _ => Some(vec![values]),
    }
}

const ABOVE: &str = "above 0";
const ONE: &str = "at least 1";
const BELOW_ONE: &str = "at least 0 and below 1";

fn positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, fits: bool, name: &str, value: impl Display, expected: &str) {
        if !fits {
            self.0.push(format!("{name} is {value}; it must be {expected}"));
        }
    }
}

fn inputs(inputs: &[Input], wrong: &mut Wrong) {
    let mut of_the_rest: Option<&str> = None;
    for input in inputs {
        let Input { name, columns, step, dims } = input;
        match (columns.is_empty(), of_the_rest) {
            (true, Some(first)) => wrong.0.push(format!(
                "inputs '{first}' and '{name}' name no columns; one input at most reads those that no other names"
            )),
            (true, None) => of_the_rest = Some(name),
            (false, _) => {}
        }
        if dims.contains(&0) {
            wrong.0.push(format!("input '{name}' has dims {dims:?}; each must be {ONE}"));
        }
        let (size, least) = match step {
            Preprocess::Numbers | Preprocess::Normalize => continue,
            Preprocess::Ids { size } => (*size, 1),
            Preprocess::Hash { buckets: size }
            | Preprocess::Vocabulary { size }
            | Preprocess::Buckets { count: size }
            | Preprocess::OneHot { size } => (*size, 2),
        };
        // The largest number stands for an absent word.
        if size < least || size >= u32::MAX as usize {
            let most = u32::MAX - 1;
            wrong
                .0
                .push(format!("input '{name}' ({}) has size {size}; it must be from {least} to {most}", step.kind()));
        }
    }
}

/// Names are unique, and a layer reads what stands before it.
fn names(body: &TrainBody, wrong: &mut Wrong) {
    let mut known: Vec<&str> = body.inputs.iter().map(|input| input.name.as_str()).collect();
    if known.is_empty() {
        known.push(DEFAULT_INPUT);
    }
    for (index, name) in known.iter().enumerate() {
        if known[..index].contains(name) {
            wrong.0.push(format!("two inputs are called '{name}'; give one another name"));
        }
    }
    let mut read: Vec<&str> = Vec::new();
    for (index, node) in body.layers.iter().enumerate() {
        let (name, kind) = (node.name.as_str(), node.layer.kind());
        // A dot stands between a layer's name and its parameter's, in files beside others.
        if name.is_empty() || name.contains(|character: char| character.is_whitespace() || character == '.') {
            wrong.0.push(format!("layer {index} ({kind}) is called '{name}'; a name has no spaces and no dots"));
        }
        if index == 0 && node.inputs.is_empty() && body.inputs.len() > 1 {
            wrong.0.push(format!(
                "layer '{name}' is the first and there are {} inputs; say which it reads",
                body.inputs.len()
            ));
        }
        for input in &node.inputs {
            if known.contains(&input.as_str()) {
                read.push(input);
                continue;
            }
            let later = body.layers[index..].iter().any(|later| later.name == *input);
            wrong.0.push(match nearest(input, known.iter().copied()) {
                _ if later => format!("layer '{name}' reads '{input}', which does not stand before it"),
                Some(near) => format!("layer '{name}' reads '{input}', which is not there; did you mean '{near}'?"),
                None => format!("layer '{name}' reads '{input}', which is not there; there are {}", known.join(", ")),
            });
        }
        let several = matches!(node.layer, Layer::Add | Layer::Concat);
        if several && node.inputs.len() < 2 {
            wrong.0.push(format!("layer '{name}' ({kind}) joins {} layers; it must be two or more", node.inputs.len()));
        } else if !several && node.inputs.len() > 1 {
            wrong.0.push(format!(
                "layer '{name}' ({kind}) reads {} layers; join them with concat or add",
                node.inputs.len()
            ));
        }
        if known.contains(&name) {
            wrong.0.push(format!(
                "layer {index} ({kind}) is called '{name}', as another layer or input; give it another name"
            ));
        }
        if name == OUTPUT && body.output.is_none() {
            wrong.0.push(format!("layer {index} ({kind}) is called '{OUTPUT}', as the layer that is added behind the last; say output = '{OUTPUT}' if it is to be the last"));
        }
        known.push(name);
    }
    if let Some(output) = &body.output
        && !body.layers.iter().any(|node| node.name == *output)
    {
        let near = nearest(output, body.layers.iter().map(|node| node.name.as_str()));
        let hint = near.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
        wrong.0.push(format!("output '{output}' is no layer{hint}"));
    }
    for input in &body.inputs {
        let first = body.layers.first().is_none_or(|node| node.inputs.is_empty());
        let is_read = read.contains(&input.name.as_str()) || (first && body.inputs.len() == 1);
        if !is_read {
            wrong.0.push(format!("no layer reads input '{}'", input.name));
        }
    }
}

/// What the layer that is added is called.
const OUTPUT: &str = "output";

fn layer(index: usize, node: &Node, wrong: &mut Wrong) {
    let kind = node.layer.kind();
    let mut fits = |fits: bool, what: &str, value: &dyn Display, expected: &str| {
        if !fits {
            wrong.0.push(format!("layer {index} ({kind}) has {what} {value}; it must be {expected}"));
        }
    };
    let share = |value: f64| (0.0..1.0).contains(&value);
    match &node.layer {
        Layer::Dense { units, .. } | Layer::Gru { units, .. } | Layer::Lstm { units, .. } => {
            fits(*units > 0, "units", units, ONE);
        }
        Layer::Dropout { rate } => fits(share(*rate), "rate", rate, BELOW_ONE),
        Layer::Embedding { vocabulary, units, .. } => {
            fits(*units > 0, "units", units, ONE);
            fits(*vocabulary > 0, "vocabulary", vocabulary, ONE);
        }
        Layer::Conv1d { filters, kernel, stride, .. } => {
            fits(*filters > 0, "filters", filters, ONE);
            fits(*kernel > 0, "kernel", kernel, ONE);
            fits(*stride > 0, "stride", stride, ONE);
        }
        Layer::Conv2d { filters, kernel, stride, .. } => {
            fits(*filters > 0, "filters", filters, ONE);
            fits(!kernel.contains(&0), "kernel", &format!("{kernel:?}"), ONE);
            fits(!stride.contains(&0), "stride", &format!("{stride:?}"), ONE);
        }
        Layer::MaxPool { size, stride, .. } | Layer::AveragePool { size, stride, .. } => {
            fits(!size.contains(&0), "size", &format!("{size:?}"), ONE);
            fits(!stride.contains(&0), "stride", &format!("{stride:?}"), ONE);
        }
        Layer::BatchNorm { momentum, epsilon } => {
            fits(share(*momentum), "momentum", momentum, BELOW_ONE);
            fits(positive(*epsilon), "epsilon", epsilon, ABOVE);
        }
        Layer::LayerNorm { epsilon } | Layer::RmsNorm { epsilon } => {
            fits(positive(*epsilon), "epsilon", epsilon, ABOVE);
        }
        Layer::Attention { heads, .. } => fits(*heads > 0, "heads", heads, ONE),
        Layer::Transformer { heads, hidden, dropout, .. } => {
            fits(*heads > 0, "heads", heads, ONE);
            fits(*hidden > 0, "hidden", hidden, ONE);
            fits(share(*dropout), "dropout", dropout, BELOW_ONE);
        }
        Layer::Reshape { dims } => {
            fits(!dims.is_empty() && !dims.contains(&0), "dims", &format!("{dims:?}"), ONE);
        }
        // Which orders there are, shapes tell.
        Layer::Permute { .. }
        | Layer::Activation { .. }
        | Layer::Position
        | Layer::GlobalMaxPool
        | Layer::GlobalAveragePool
        | Layer::Add
        | Layer::Concat
        | Layer::Flatten => {}
    }
}

fn optimizer(optimizer: &Optimizer, wrong: &mut Wrong) {
    let rate = match optimizer {
        Optimizer::Sgd { learning_rate, .. }
        | Optimizer::Adagrad { learning_rate, .. }
        | Optimizer::RmsProp { learning_rate, .. }
        | Optimizer::Adam { learning_rate, .. }
        | Optimizer::AdamW { learning_rate, .. }
        | Optimizer::Ftrl { learning_rate, .. } => *learning_rate,
    };
    wrong.unless(positive(rate), "learning_rate", rate, ABOVE);
    let share = |value: f64| (0.0..1.0).contains(&value);
    let not_negative = |value: f64| value.is_finite() && value >= 0.0;
    match optimizer {
        Optimizer::Sgd { momentum, nesterov, .. } => {
            wrong.unless(share(*momentum), "momentum", momentum, BELOW_ONE);
            if *nesterov && *momentum == 0.0 {
                wrong.0.push("nesterov looks ahead by the momentum, and momentum is 0".to_string());
            }
        }
        Optimizer::Adagrad { epsilon, .. } => wrong.unless(positive(*epsilon), "epsilon", epsilon, ABOVE),
        Optimizer::RmsProp { decay, momentum, epsilon, .. } => {
            wrong.unless(share(*decay), "decay", decay, BELOW_ONE);
            wrong.unless(share(*momentum), "momentum", momentum, BELOW_ONE);
            wrong.unless(positive(*epsilon), "epsilon", epsilon, ABOVE);
        }
        Optimizer::Adam { beta1, beta2, epsilon, .. } | Optimizer::AdamW { beta1, beta2, epsilon, .. } => {
            wrong.unless(share(*beta1), "beta1", beta1, BELOW_ONE);
            wrong.unless(share(*beta2), "beta2", beta2, BELOW_ONE);
            wrong.unless(positive(*epsilon), "epsilon", epsilon, ABOVE);
        }
        Optimizer::Ftrl { power, l1, l2, initial, .. } => {
            wrong.unless((-1.0..=0.0).contains(power), "power", power, "from -1 to 0");
            wrong.unless(not_negative(*l1), "l1", l1, "at least 0");
            wrong.unless(not_negative(*l2), "l2", l2, "at least 0");
            wrong.unless(not_negative(*initial), "initial", initial, "at least 0");
        }
    }
    if let Optimizer::AdamW { weight_decay, .. } = optimizer {
        wrong.unless(not_negative(*weight_decay), "weight_decay", weight_decay, "at least 0");
    }
}

/// Names become folder names, so nothing that leaves the registry's folder or hides in it.
pub fn valid_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphanumeric() || first == '_')
        && characters.all(|character| character.is_ascii_alphanumeric() || "_-.".contains(character))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::body;
    use jobs::train::{Activation, Combine, EarlyStop, Padding, chain};

    #[test]
    fn all_mistakes_at_once() {
        let mut body = body("y", Loss::CrossEntropy);
        assert_eq!(check(&body), Vec::<String>::new());
        body.model = "../x".to_string();
        body.layers = chain([Layer::dense(0, Activation::Relu), Layer::Dropout { rate: 1.0 }]);
        body.optimizer = Optimizer::Sgd { learning_rate: f64::NAN, momentum: 1.0, nesterov: false };
        body.batch = 0;
        body.epochs = 0;
        body.test_fraction = 2.0;
        let wrong = check(&body);
        assert_eq!(wrong.len(), 8, "{wrong:#?}");
        assert!(wrong[2].contains("layer 1 (dropout) has rate 1"), "{wrong:#?}");
    }

    #[test]
    fn layers_fit_the_columns() {
        use arrow::datatypes::Field;
        let mut body = body("y", Loss::BinaryCrossEntropy);
        let list = |size: Option<i32>| {
            let item = std::sync::Arc::new(Field::new("item", DataType::Float32, true));
            size.map_or(DataType::List(item.clone()), |size| DataType::FixedSizeList(item, size))
        };
        let schema = |image: DataType| {
            Schema::new(vec![Field::new("image", image, true), Field::new("y", DataType::Int64, true)])
        };
        let input = |dims: &[usize]| Input {
            name: "image".to_string(),
            columns: Vec::new(),
            step: Preprocess::Numbers,
            dims: dims.to_vec(),
        };
        assert_eq!(check_columns(&schema(list(None)), &body), Ok(()));
        body.inputs = vec![input(&[2, 2])];
        assert_eq!(check_columns(&schema(list(Some(4))), &body), Ok(()));
        let error = check_columns(&schema(list(Some(5))), &body).unwrap_err();
        assert!(error.contains("dims [2, 2]: its columns have 5 values"), "{error}");
        body.layers.push(Node {
            name: "sum".to_string(),
            inputs: vec!["image".to_string(), "dense_00".to_string()],
            layer: Layer::Add,
        });
        let error = check_columns(&schema(list(None)), &body).unwrap_err();
        assert!(error.contains("layer 'sum' (add)") && error.contains("[2, 2]") && error.contains("[2, 8]"), "{error}");
        body.layers.pop();
        body.output = Some("dense_00".to_string());
        let error = check_columns(&schema(list(None)), &body).unwrap_err();
        assert_eq!(error, "failed to learn one number: layer 'dense_00' gives 16 outputs of a row");
    }

    #[test]
    fn names_of_layers_and_inputs_fit_together() {
        let mut body = body("y", Loss::CrossEntropy);
        let node = |name: &str, inputs: &[&str], layer: Layer| Node {
            name: name.to_string(),
            inputs: inputs.iter().map(|input| input.to_string()).collect(),
            layer,
        };
        let input = |name: &str, step| Input { name: name.to_string(), columns: Vec::new(), step, dims: Vec::new() };
        body.inputs = vec![input("a", Preprocess::Numbers), input("b", Preprocess::Hash { buckets: 1 })];
        let dense = || Layer::dense(4, Activation::Relu);
        let (padding, size) = (Padding::Valid, [0, 1]);
        body.layers = vec![
            node("one", &[], dense()),
            node("two", &["three"], dense()),
            node("three", &["onee"], Layer::MaxPool { size, stride: [1, 1], padding }),
            node("one", &["a", "two"], dense()),
            node("sum", &["one"], Layer::Add),
            node("output", &["sum"], Layer::Embedding { vocabulary: 0, units: 2, combine: Combine::Sum }),
        ];
        body.early_stop = Some(EarlyStop { patience: 0, least: 0.0 });
        let wrong = check(&body);
        let expect = [
            "inputs 'a' and 'b' name no columns",
            "input 'b' (hash) has size 1",
            "layer 'one' is the first and there are 2 inputs",
            "layer 'two' reads 'three', which does not stand before it",
            "layer 'three' reads 'onee', which is not there; did you mean 'one'?",
            "layer 'one' (dense) reads 2 layers",
            "layer 3 (dense) is called 'one', as another",
            "layer 'sum' (add) joins 1 layers",
            "layer 5 (embedding) is called 'output'",
            "no layer reads input 'b'",
            "layer 2 (max_pool) has size [0, 1]",
            "layer 5 (embedding) has vocabulary 0",
            "patience is 0",
            "test_fraction = 0 holds out none",
        ];
        assert_eq!(wrong.len(), expect.len(), "{wrong:#?}");
        for (wrong, expect) in wrong.iter().zip(expect) {
            assert!(wrong.contains(expect), "{wrong}\nexpected to contain: {expect}");
        }
        body.output = Some("three".to_string());
        assert!(check(&body).iter().all(|wrong| !wrong.contains("is called 'output'")));
        body.output = Some("thre".to_string());
        assert!(check(&body).iter().any(|wrong| wrong == "output 'thre' is no layer; did you mean 'three'?"));
    }
}
