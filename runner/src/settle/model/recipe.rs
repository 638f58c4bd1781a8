//! Loss, optimizer, learning rate over time, limits on gradients, and when to stop: what SQL and files say alike.

use super::super::reader::Reader;
use super::super::shape;
use jobs::Diagnostic;
use jobs::train::{Clip, EarlyStop, Elastic, Loss, Optimizer, Schedule, Strategy};

/// `loss` names it; `task` says it in words of the label. One of them must stand there: a loss that does not fit the
/// label trains without an error and predicts nonsense, so there is no default.
pub fn loss(reader: &mut Reader<'_>) -> Loss {
    let of_task = reader.choice("task").map(|task| match task {
        "classes" => Loss::CrossEntropy,
        "regression" => Loss::MeanSquaredError,
        _ => Loss::BinaryCrossEntropy,
    });
    let delta = reader.number("delta").unwrap_or(1.0);
    let of_loss = reader.choice("loss").map(|loss| match loss {
        "cross_entropy" => Loss::CrossEntropy,
        "mean_squared_error" => Loss::MeanSquaredError,
        "mean_absolute_error" => Loss::MeanAbsoluteError,
        "huber" => Loss::Huber { delta },
        "hinge" => Loss::Hinge,
        _ => Loss::BinaryCrossEntropy,
    });
    if let Some(span) = reader.span("delta").filter(|_| !matches!(of_loss, Some(Loss::Huber { .. }))) {
        reader.complain(Diagnostic::new("delta is a setting of loss 'huber'").at(span));
    }
    match (of_task, of_loss) {
        (Some(task), Some(loss)) if label_of(task) != label_of(loss) => {
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

/// The kind of label that a loss learns, as a task.
fn label_of(loss: Loss) -> &'static str {
    match loss {
        Loss::CrossEntropy => "classes",
        Loss::BinaryCrossEntropy | Loss::Hinge => "binary",
        Loss::MeanSquaredError | Loss::MeanAbsoluteError | Loss::Huber { .. } => "regression",
    }
}

/// `key` is where the optimizer is named.
pub fn optimizer(reader: &mut Reader<'_>, key: &str) -> Optimizer {
    let kind = reader.choice(key).unwrap_or("adamw");
    let settings = shape::optimizer_settings(kind);
    let all = shape::OPTIMIZERS.iter().map(|kind| shape::optimizer_settings(kind));
    refuse_foreign(reader, &format!("optimizer '{kind}'"), settings, all);
    let mut get = |name: &str| {
        let default = settings.iter().find(|(setting, _)| *setting == name).map_or(0.0, |(_, default)| *default);
        reader.number(name).unwrap_or(default)
    };
    let learning_rate = get("learning_rate");
    match kind {
        "sgd" => {
            let momentum = get("momentum");
            Optimizer::Sgd { learning_rate, momentum, nesterov: reader.boolean("nesterov").unwrap_or_default() }
        }
        "adagrad" => Optimizer::Adagrad { learning_rate, epsilon: get("epsilon") },
        "rmsprop" => {
            let (decay, momentum) = (get("decay"), get("momentum"));
            Optimizer::RmsProp { learning_rate, decay, momentum, epsilon: get("epsilon") }
        }
        "adam" => {
            let (beta1, beta2, epsilon) = (get("beta1"), get("beta2"), get("epsilon"));
            let lazy = reader.boolean("lazy").unwrap_or_default();
            Optimizer::Adam { learning_rate, beta1, beta2, epsilon, lazy }
        }
        "ftrl" => {
            let (power, l1, l2) = (get("power"), get("l1"), get("l2"));
            Optimizer::Ftrl { learning_rate, power, l1, l2, initial: get("initial") }
        }
        _ => {
            let (beta1, beta2, epsilon) = (get("beta1"), get("beta2"), get("epsilon"));
            Optimizer::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay: get("weight_decay") }
        }
    }
}

/// Complains of settings that stand there and belong to another of `all`.
fn refuse_foreign(
    reader: &mut Reader<'_>,
    what: &str,
    own: &[(&str, f64)],
    all: impl Iterator<Item = &'static [(&'static str, f64)]>,
) {
    let mut told: Vec<&str> = Vec::new();
    for (name, _) in all.flatten() {
        let Some(span) = reader.span(name) else { continue };
        if own.iter().all(|(setting, _)| setting != name) && !told.contains(name) {
            told.push(name);
            reader.complain(Diagnostic::new(format!("{what} has no {name}")).at(span));
        }
    }
}

/// `key` is where the schedule is named.
pub fn schedule(reader: &mut Reader<'_>, key: &str) -> Schedule {
    let kind = reader.choice(key).unwrap_or("constant");
    let settings = shape::schedule_settings(kind);
    let all = ["cosine", "step"].into_iter().map(shape::schedule_settings);
    refuse_foreign(reader, &format!("schedule '{kind}'"), settings, all);
    let default =
        |name: &str| settings.iter().find(|(setting, _)| *setting == name).map_or(0.0, |(_, default)| *default);
    let (warm_up, floor) = ("warm_up", "floor");
    let (every, factor) = ("every", "factor");
    match kind {
        "cosine" => Schedule::Cosine {
            warm_up: reader.whole(warm_up).unwrap_or(default(warm_up) as u64),
            floor: reader.number(floor).unwrap_or(default(floor)),
        },
        "linear" => Schedule::Linear {
            warm_up: reader.whole(warm_up).unwrap_or(default(warm_up) as u64),
            floor: reader.number(floor).unwrap_or(default(floor)),
        },
        "step" => Schedule::Step {
            every: reader.whole(every).unwrap_or(default(every) as u64),
            factor: reader.number(factor).unwrap_or(default(factor)),
        },
        _ => Schedule::Constant,
    }
}

pub fn clip(reader: &mut Reader<'_>) -> Clip {
    match (reader.number("clip_norm"), reader.number("clip_value")) {
        (Some(_), Some(limit)) => {
            let span = reader.span("clip_value").unwrap_or_default();
            let both = Diagnostic::new("both 'clip_norm' and 'clip_value' limit the gradients");
            reader.complain(both.at(span).help("leave one of them out"));
            Clip::Value { limit }
        }
        (Some(limit), None) => Clip::Norm { limit },
        (None, Some(limit)) => Clip::Value { limit },
        (None, None) => Clip::None,
    }
}

/// How long is trained, and which weights are kept.
pub struct Course {
    pub epochs: u32,
    pub steps: Option<u64>,
    pub batch: usize,
    pub accumulate: u32,
    pub early_stop: Option<EarlyStop>,
    pub keep_best: bool,
    pub seed: u64,
    pub checkpoint_steps: u64,
    pub strategy: Strategy,
    pub elastic: Option<Elastic>,
    pub evaluator: bool,
    /// Workers, servers and the evaluator.
    pub tasks: u32,
}

pub fn course(reader: &mut Reader<'_>) -> Course {
    let steps = reader.whole("steps");
    if let Some(span) = reader.span("steps").filter(|_| reader.has("epochs")) {
        let both = Diagnostic::new("both 'steps' and 'epochs' say how long to train");
        reader.complain(both.at(span).help("leave one of them out"));
    }
    let patience = reader.whole("patience");
    let least = reader.number("min_delta").unwrap_or_default();
    if let Some(span) = reader.span("min_delta").filter(|_| !reader.has("patience")) {
        reader.complain(Diagnostic::new("min_delta is a setting of patience").at(span).help("add patience = 5"));
    }
    let evaluator = reader.boolean("evaluator").unwrap_or_default();
    let keep_best = reader.boolean("keep_best").unwrap_or(patience.is_some());
    for (name, used) in [("patience", patience.is_some()), ("keep_best", keep_best)] {
        if let Some(span) = reader.span(name).filter(|_| used && evaluator) {
            let both = Diagnostic::new(format!(
                "{name} goes by what is found after each epoch, which the evaluator is behind"
            ));
            reader.complain(both.at(span).help("leave out one of the two"));
        }
    }
    let strategy = strategy(reader);
    let servers = match strategy {
        Strategy::ParameterServer { servers, .. } => servers,
        Strategy::AllReduce => 0,
    };
    let workers = reader.whole("workers").unwrap_or(1) as u32;
    Course {
        epochs: reader.whole("epochs").unwrap_or_default() as u32,
        steps,
        batch: reader.whole("batch").unwrap_or_default() as usize,
        accumulate: reader.whole("accumulate").unwrap_or(1) as u32,
        early_stop: patience.map(|patience| EarlyStop { patience: patience as u32, least }),
        keep_best,
        evaluator,
        seed: reader.whole("seed").unwrap_or_default(),
        checkpoint_steps: reader.whole("checkpoint_steps").unwrap_or_default(),
        strategy,
        elastic: elastic(reader, workers),
        tasks: workers + servers + u32::from(evaluator),
    }
}

fn elastic(reader: &mut Reader<'_>, workers: u32) -> Option<Elastic> {
    let Some(min_workers) = reader.whole("min_workers") else {
        if let Some(span) = reader.span("grow_after").filter(|_| !reader.has("min_workers")) {
            let foreign = Diagnostic::new("grow_after is a setting of min_workers").at(span);
            reader.complain(foreign.help("add min_workers = 1"));
        }
        return None;
    };
    let grow_after_ms = reader.duration_ms("grow_after").unwrap_or_default();
    if let Some(span) = reader.span("min_workers").filter(|_| min_workers >= u64::from(workers)) {
        let most = Diagnostic::new(format!("min_workers is {min_workers}, and there are {workers} workers in all"));
        reader.complain(most.at(span).help("it says with how few it goes on; workers with how many it is to run"));
    }
    Some(Elastic { min_workers: min_workers as u32, grow_after_ms })
}

fn strategy(reader: &mut Reader<'_>) -> Strategy {
    let chosen = reader.choice("strategy");
    if chosen == Some("parameter_server") {
        let servers = reader.whole("servers").unwrap_or(1) as u32;
        return Strategy::ParameterServer { servers, staleness: reader.whole("staleness").unwrap_or(0) };
    }
    for name in ["servers", "staleness"] {
        // A strategy that is not known was told already.
        if let Some(span) = reader.span(name).filter(|_| chosen.is_some()) {
            let foreign = Diagnostic::new(format!("strategy 'all_reduce' has no {name}")).at(span);
            reader.complain(foreign.help("add strategy = 'parameter_server'"));
        }
    }
    Strategy::AllReduce
}
