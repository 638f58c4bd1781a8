//! From what a user said about a model to a [`TrainBody`]: the part that SQL and TOML share, and each one's own.

mod layers;
mod recipe;

use super::reader::Reader;
use jobs::Diagnostic;
use jobs::train::{Clip, Input, Loss, Node, Optimizer, Schedule, TrainBody};
use recipe::Course;

/// What the surroundings know of a model: its name, and the SQL that its rows come from.
#[derive(Clone, Debug)]
pub struct Source {
    pub model: String,
    pub sql: String,
    pub base_dir: String,
    pub train_query: String,
    pub test_query: Option<String>,
    /// Columns of the training query, where they are known.
    pub columns: Option<Vec<String>>,
}

/// Which rows, and which of their columns.
struct Rows {
    label: String,
    ignore: Vec<String>,
    time_column: Option<String>,
    min_rows: u64,
    test_fraction: f64,
}

/// What is computed with them.
struct Network {
    init: Option<String>,
    inputs: Vec<Input>,
    layers: Vec<Node>,
    output: Option<String>,
    loss: Loss,
    normalize: bool,
}

/// How the weights are moved.
struct Moves {
    optimizer: Optimizer,
    schedule: Schedule,
    clip: Clip,
}

fn body(source: Source, rows: Rows, network: Network, moves: Moves, course: Course) -> (TrainBody, u32) {
    let body = TrainBody {
        model: source.model,
        sql: source.sql,
        base_dir: source.base_dir,
        train_query: source.train_query,
        test_query: source.test_query,
        test_fraction: rows.test_fraction,
        label: rows.label,
        ignore: rows.ignore,
        time_column: rows.time_column,
        min_rows: rows.min_rows,
        inputs: network.inputs,
        init: network.init,
        layers: network.layers,
        output: network.output,
        loss: network.loss,
        optimizer: moves.optimizer,
        schedule: moves.schedule,
        clip: moves.clip,
        accumulate: course.accumulate,
        early_stop: course.early_stop,
        keep_best: course.keep_best,
        strategy: course.strategy,
        elastic: course.elastic,
        evaluator: course.evaluator,
        batch: course.batch,
        epochs: course.epochs,
        steps: course.steps,
        seed: course.seed,
        normalize: network.normalize,
        checkpoint_steps: course.checkpoint_steps,
    };
    (body, course.tasks)
}

fn rows(reader: &mut Reader<'_>) -> Rows {
    Rows {
        label: reader.text("label").unwrap_or_default(),
        ignore: reader.text_list("ignore"),
        time_column: reader.text("time_column"),
        min_rows: reader.whole("min_rows").unwrap_or_default(),
        test_fraction: reader.number("test_fraction").unwrap_or_default(),
    }
}

/// The version that training begins with, which has settings of its own for these.
fn init(reader: &mut Reader<'_>, own: &[&str]) -> Option<String> {
    let init = reader.text("init")?;
    if let Err(error) = training::start_version(&init) {
        let wrong = Diagnostic::new(format!("init: failed to {error}"));
        reader.complain(wrong.at(reader.span("init").unwrap_or_default()).help("smack model ls lists versions"));
    }
    for name in own {
        if let Some(span) = reader.span(name).filter(|_| reader.has(name)) {
            let both = Diagnostic::new(format!("'{name}' is a setting of new layers, and 'init' brings its own"));
            reader.complain(both.at(span).help("leave one of them out"));
        }
    }
    Some(init)
}

/// `WITH (…)` of `CREATE MODEL`. Also gives the number of tasks.
pub fn of_sql(reader: &mut Reader<'_>, source: Source) -> (TrainBody, u32) {
    let rows = rows(reader);
    let once = reader.choice("mode") == Some("once");
    if let Some(span) = reader.span("publish_steps").filter(|_| once) {
        reader.complain(Diagnostic::new("publish_steps is a setting of mode 'continuous'").at(span));
    }
    let normalize = reader.boolean("normalize").unwrap_or_default();
    let categorical = reader.text_list("categorical");
    let is_number = |column: &String| {
        let is = |name: &String| name.eq_ignore_ascii_case(column);
        let time = rows.time_column.as_ref().is_some_and(is);
        !is(&rows.label) && !time && !rows.ignore.iter().any(is) && !categorical.iter().any(is)
    };
    // Where the columns are not known, something is wrong with the query, and that is told.
    let has_numbers = source.columns.as_ref().is_none_or(|columns| columns.iter().any(is_number));
    let of_layers = ["hidden", "activation", "dropout", "categorical", "hash_buckets", "embedding", "normalize"];
    let init = init(reader, &of_layers);
    let (inputs, layers) = match &init {
        Some(_) => (Vec::new(), Vec::new()),
        None => layers::of_sql(reader, normalize, has_numbers),
    };
    let network = Network { init, inputs, layers, output: None, loss: recipe::loss(reader), normalize };
    let moves = Moves {
        optimizer: recipe::optimizer(reader, "optimizer"),
        schedule: recipe::schedule(reader, "schedule"),
        clip: recipe::clip(reader),
    };
    let course = recipe::course(reader);
    body(source, rows, network, moves, course)
}

/// `[data]`, `[model]`, `[optimizer]`, `[schedule]` and `[train]` of a training file. Also gives the number of tasks.
pub fn of_file(file: &mut Reader<'_>, source: Source) -> (TrainBody, u32) {
    let mut model = file.table("model");
    let init = init(&mut model, &["inputs", "layers", "output", "normalize"]);
    let (inputs, layers) = match &init {
        Some(_) => (Vec::new(), Vec::new()),
        None => {
            let inputs = layers::inputs(&mut model);
            let layers = layers::layers(&mut model, &inputs);
            (inputs, layers)
        }
    };
    let (loss, normalize) = (recipe::loss(&mut model), model.boolean("normalize").unwrap_or_default());
    let network = Network { init, inputs, layers, output: model.text("output"), loss, normalize };
    let mut table = file.table("optimizer");
    let (optimizer, clip) = (recipe::optimizer(&mut table, "kind"), recipe::clip(&mut table));
    let moves = Moves { optimizer, schedule: recipe::schedule(&mut file.table("schedule"), "kind"), clip };
    let mut data = file.table("data");
    if data.has("test") && data.has("test_fraction") {
        let both = Diagnostic::new("both 'test' and 'test_fraction' say which rows are held out");
        let span = data.span("test_fraction").unwrap_or_default();
        data.complain(both.at(span).help("leave one of them out"));
    }
    let rows = rows(&mut data);
    let course = recipe::course(&mut file.table("train"));
    body(source, rows, network, moves, course)
}

#[cfg(test)]
mod tests;
