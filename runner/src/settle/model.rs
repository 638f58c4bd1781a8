//! From what a user said about a model to a [`TrainBody`]: the part that SQL and TOML share, and each one's own.

use super::reader::Reader;
use super::shape;
use jobs::Diagnostic;
use jobs::train::{Activation, Clip, Layer, Loss, Optimizer, Schedule, Strategy, TrainBody, chain};

/// What the surroundings know of a model: its name, and the SQL that its rows come from.
#[derive(Clone, Debug)]
pub struct Source {
    pub model: String,
    pub sql: String,
    pub base_dir: String,
    pub train_query: String,
    pub test_query: Option<String>,
}

/// `WITH (…)` of `CREATE MODEL`. Also gives the number of workers.
pub fn of_sql(reader: &mut Reader<'_>, source: Source) -> (TrainBody, u32) {
    let layers = hidden_layers(reader);
    let loss = loss(reader);
    let optimizer = optimizer(reader, "optimizer", (0.9, 0.999, 1e-8));
    let body = TrainBody {
        model: source.model,
        sql: source.sql,
        base_dir: source.base_dir,
        train_query: source.train_query,
        test_query: source.test_query,
        test_fraction: reader.number("test_fraction").unwrap_or_default(),
        label: reader.text("label").unwrap_or_default(),
        ignore: reader.text_list("ignore"),
        time_column: reader.text("time_column"),
        min_rows: reader.whole("min_rows").unwrap_or_default(),
        inputs: Vec::new(),
        output: None,
        schedule: Schedule::Constant,
        clip: Clip::None,
        accumulate: 1,
        early_stop: None,
        keep_best: false,
        strategy: Strategy::AllReduce,
        layers: chain(layers),
        loss,
        optimizer,
        batch: reader.whole("batch").unwrap_or_default() as usize,
        epochs: reader.whole("epochs").unwrap_or_default() as u32,
        steps: None,
        seed: reader.whole("seed").unwrap_or_default(),
        normalize: reader.boolean("normalize").unwrap_or_default(),
        checkpoint_steps: reader.whole("checkpoint_steps").unwrap_or_default(),
    };
    (body, reader.whole("workers").unwrap_or(1) as u32)
}

/// `[data]`, `[model]`, `[optimizer]` and `[train]` of a training file. Also gives the number of workers.
pub fn of_file(file: &mut Reader<'_>, source: Source) -> (TrainBody, u32) {
    let mut model = file.table("model");
    let layers = if model.has("layers") { model.tables("layers", layer) } else { default_layers() };
    let (loss, normalize) = (loss(&mut model), model.boolean("normalize").unwrap_or_default());
    let mut table = file.table("optimizer");
    let adam = (
        table.number("beta1").unwrap_or_default(),
        table.number("beta2").unwrap_or_default(),
        table.number("epsilon").unwrap_or_default(),
    );
    let optimizer = optimizer(&mut table, "kind", adam);
    let mut data = file.table("data");
    let (label, ignore) = (data.text("label").unwrap_or_default(), data.text_list("ignore"));
    let (time_column, min_rows) = (data.text("time_column"), data.whole("min_rows").unwrap_or_default());
    if data.has("test") && data.has("test_fraction") {
        let both = Diagnostic::new("both 'test' and 'test_fraction' say which rows are held out");
        let span = data.span("test_fraction").unwrap_or_default();
        data.complain(both.at(span).help("leave one of them out"));
    }
    let test_fraction = data.number("test_fraction").unwrap_or_default();
    let mut train = file.table("train");
    let body = TrainBody {
        model: source.model,
        sql: source.sql,
        base_dir: source.base_dir,
        train_query: source.train_query,
        test_query: source.test_query,
        test_fraction,
        label,
        ignore,
        time_column,
        min_rows,
        inputs: Vec::new(),
        output: None,
        schedule: Schedule::Constant,
        clip: Clip::None,
        accumulate: 1,
        early_stop: None,
        keep_best: false,
        strategy: Strategy::AllReduce,
        layers: chain(layers),
        loss,
        optimizer,
        batch: train.whole("batch").unwrap_or_default() as usize,
        epochs: train.whole("epochs").unwrap_or_default() as u32,
        steps: None,
        seed: train.whole("seed").unwrap_or_default(),
        normalize,
        checkpoint_steps: train.whole("checkpoint_steps").unwrap_or_default(),
    };
    (body, train.whole("workers").unwrap_or(1) as u32)
}

fn activation_of(name: &str) -> Activation {
    match name {
        "relu" => Activation::Relu,
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        "gelu" => Activation::Gelu,
        _ => Activation::Linear,
    }
}

fn default_layers() -> Vec<Layer> {
    [32, 16].map(|units| Layer::dense(units, Activation::Relu)).to_vec()
}

/// `hidden = '32,16'`, with `activation` and `dropout` for all of them.
fn hidden_layers(reader: &mut Reader<'_>) -> Vec<Layer> {
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

fn layer(reader: &mut Reader<'_>, span: (usize, usize)) -> Option<Layer> {
    match (reader.has("dense"), reader.has("dropout")) {
        (true, false) => {
            let activation = activation_of(reader.choice("activation").unwrap_or("relu"));
            reader.whole("dense").map(|units| Layer::dense(units as usize, activation))
        }
        (false, true) if reader.has("activation") => {
            let span = reader.span("activation").unwrap_or(span);
            reader.complain(Diagnostic::new("a dropout layer has no activation").at(span));
            None
        }
        (false, true) => reader.number("dropout").map(|rate| Layer::Dropout { rate }),
        _ => {
            let neither = Diagnostic::new("a layer is either dense or dropout").at(span);
            reader.complain(neither.help("for example { dense = 32, activation = \"relu\" } or { dropout = 0.1 }"));
            None
        }
    }
}

/// `loss` names it; `task` says it in words of the label. One of them must stand there: a loss that does not fit the
/// label trains without an error and predicts nonsense, so there is no default.
fn loss(reader: &mut Reader<'_>) -> Loss {
    let of_task = reader.choice("task").map(|task| match task {
        "classes" => Loss::CrossEntropy,
        "regression" => Loss::MeanSquaredError,
        _ => Loss::BinaryCrossEntropy,
    });
    let of_loss = reader.choice("loss").map(|loss| match loss {
        "cross_entropy" => Loss::CrossEntropy,
        "mean_squared_error" => Loss::MeanSquaredError,
        _ => Loss::BinaryCrossEntropy,
    });
    match (of_task, of_loss) {
        (Some(task), Some(loss)) if task != loss => {
            let span = reader.span("loss").unwrap_or_default();
            reader.complain(Diagnostic::new("'task' and 'loss' do not fit each other").at(span).help("leave one out"));
            loss
        }
        (_, Some(loss)) | (Some(loss), None) => loss,
        (None, None) => {
            // A value that is not known was told already.
            if !reader.has("task") && !reader.has("loss") {
                let choices = shape::TASKS.join("|");
                let missing = Diagnostic::new("neither 'task' nor 'loss' says what kind of label it is");
                reader.complain(missing.help(format!("add task = '{choices}'")));
            }
            Loss::BinaryCrossEntropy
        }
    }
}

fn optimizer(reader: &mut Reader<'_>, key: &str, (beta1, beta2, epsilon): (f64, f64, f64)) -> Optimizer {
    let kind = reader.choice(key).unwrap_or("adamw");
    let learning_rate = reader.number("learning_rate");
    let momentum = reader.number("momentum").unwrap_or_default();
    let weight_decay = reader.number("weight_decay").unwrap_or_default();
    let foreign: &[&str] = if kind == "sgd" { &["weight_decay", "beta1", "beta2", "epsilon"] } else { &["momentum"] };
    for name in foreign {
        if let Some(span) = reader.span(name) {
            reader.complain(Diagnostic::new(format!("optimizer '{kind}' has no {name}")).at(span));
        }
    }
    if kind == "sgd" {
        Optimizer::Sgd { learning_rate: learning_rate.unwrap_or(0.01), momentum, nesterov: false }
    } else {
        let learning_rate = learning_rate.unwrap_or(0.001);
        Optimizer::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::entries_of_options;
    use super::*;
    use connectors::OptionEntry;

    fn sql(options: &[(&str, &str)]) -> (TrainBody, u32, Vec<Diagnostic>) {
        let options: Vec<OptionEntry> = options
            .iter()
            .enumerate()
            .map(|(at, (key, value))| OptionEntry {
                key: key.to_string(),
                value: value.to_string(),
                key_span: Some((at * 2, at * 2 + 1)),
                value_span: Some((at * 2 + 1, at * 2 + 2)),
            })
            .collect();
        let entries = entries_of_options(&options);
        let mut diagnostics = Vec::new();
        let source = Source {
            model: "m".to_string(),
            sql: String::new(),
            base_dir: String::new(),
            train_query: "SELECT 1".to_string(),
            test_query: None,
        };
        let mut reader = Reader::new(&shape::SQL_MODEL, &entries, Some((0, 0)), &mut diagnostics);
        let (body, workers) = of_sql(&mut reader, source);
        (body, workers, diagnostics)
    }

    #[test]
    fn options_become_a_body() {
        let (body, workers, diagnostics) = sql(&[
            ("label", "fraud"),
            ("task", "binary"),
            ("hidden", "8, 4"),
            ("activation", "tanh"),
            ("optimizer", "sgd"),
            ("ignore", "card, window_end"),
            ("workers", "2"),
        ]);
        assert_eq!(diagnostics, []);
        assert_eq!(workers, 2);
        assert_eq!(body.label, "fraud");
        assert_eq!(body.ignore, ["card", "window_end"]);
        let dense = |units| Layer::dense(units, Activation::Tanh);
        assert_eq!(body.layers, chain([dense(8), dense(4)]));
        assert_eq!(body.loss, Loss::BinaryCrossEntropy);
        assert_eq!(body.optimizer, Optimizer::Sgd { learning_rate: 0.01, momentum: 0.9, nesterov: false });
        assert_eq!((body.epochs, body.batch, body.min_rows, body.test_fraction), (20, 64, 1, 0.2));
        assert!(body.normalize);
    }

    #[test]
    fn all_mistakes_at_once() {
        let (_, _, diagnostics) = sql(&[("epoch", "3"), ("optimizer", "adam"), ("hidden", "8,x"), ("momentum", "0.5")]);
        let shown: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "CREATE MODEL has no 'epoch' (did you mean 'epochs'?)",
                "'label' is missing in CREATE MODEL (label: column that is to be predicted)",
                "hidden: 'x' is not a number of outputs (for example hidden = '32,16')",
                "neither 'task' nor 'loss' says what kind of label it is (add task = 'binary|classes|regression')",
                "optimizer 'adam' is not known (did you mean 'adamw'?)",
                "optimizer 'adamw' has no momentum",
            ]
        );
    }
}
