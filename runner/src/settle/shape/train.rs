//! Keys of training files and of `WITH (…)` of `CREATE MODEL`.

use super::model::{ACTIVATIONS, INPUTS, LAYERS};
use super::{Field, KIND, Kind, NAME, SWEEP, Shape, TRAIN_JOB, field, required};

pub const LOSSES: &[&str] =
    &["cross_entropy", "binary_cross_entropy", "mean_squared_error", "mean_absolute_error", "huber", "hinge"];
pub const TASKS: &[&str] = &["binary", "classes", "regression"];
pub const OPTIMIZERS: &[&str] = &["adamw", "adam", "sgd", "adagrad", "rmsprop", "ftrl"];
const SCHEDULES: &[&str] = &["constant", "cosine", "linear", "step"];

type Settings = &'static [(&'static str, f64)];

/// The settings that an optimizer has, with their defaults (yes or no as 1 or 0): PyTorch's, but for the momentum of SGD and
/// the learning rate of RMSProp, which is Keras's; FTRL's are TensorFlow's, but for a learning rate that is of use.
pub fn optimizer_settings(kind: &str) -> Settings {
    match kind {
        "adam" => &[("learning_rate", 0.001), ("beta1", 0.9), ("beta2", 0.999), ("epsilon", 1e-8), ("lazy", 0.0)],
        "sgd" => &[("learning_rate", 0.01), ("momentum", 0.9), ("nesterov", 0.0)],
        "adagrad" => &[("learning_rate", 0.01), ("epsilon", 1e-10)],
        "rmsprop" => &[("learning_rate", 0.001), ("decay", 0.99), ("momentum", 0.0), ("epsilon", 1e-8)],
        "ftrl" => &[("learning_rate", 0.05), ("power", -0.5), ("l1", 0.0), ("l2", 0.0), ("initial", 0.1)],
        _ => &[("learning_rate", 0.001), ("beta1", 0.9), ("beta2", 0.999), ("epsilon", 1e-8), ("weight_decay", 0.01)],
    }
}

/// The settings that a schedule has, with their defaults.
pub fn schedule_settings(kind: &str) -> Settings {
    match kind {
        "cosine" | "linear" => &[("warm_up", 0.0), ("floor", 0.0)],
        "step" => &[("every", 1000.0), ("factor", 0.1)],
        _ => &[],
    }
}

const STRATEGIES: &[&str] = &["all_reduce", "parameter_server"];
const EPOCHS: Field = field("epochs", Kind::Whole(1, 1_000_000), Some("20"), "passes over the training rows");
const STEPS: Field = field("steps", Kind::Whole(1, i64::MAX as u64), None, "steps in all, in place of epochs");
const BATCH: Field = field("batch", Kind::Whole(1, 1_000_000), Some("64"), "rows of a batch, over all workers");
const ACCUMULATE: Field =
    field("accumulate", Kind::Whole(1, 65_536), Some("1"), "batches whose gradients make one step");
const SEED: Field = field("seed", Kind::Whole(0, i64::MAX as u64), Some("1"), "same seed, same result");
const WORKERS: Field =
    field("workers", Kind::Whole(1, 4096), Some("1"), "number of tasks, placed all together or not at all");
const MIN_WORKERS: Field = field(
    "min_workers",
    Kind::Whole(1, 4096),
    None,
    "with how few workers it goes on while there is no room for all; it waits for all by default",
);
const GROW_AFTER: Field = field(
    "grow_after",
    Kind::Duration(0),
    Some("60s"),
    "of min_workers: how long fewer run before they stop for a moment to become more",
);
const STRATEGY: Field = field(
    "strategy",
    Kind::Choice(STRATEGIES),
    Some("all_reduce"),
    "every worker has all weights, or tasks besides the workers hold them and move them",
);
const SERVERS: Field = field(
    "servers",
    Kind::Whole(1, 1024),
    Some("1"),
    "of parameter_server: tasks besides the workers, each with some of the weights",
);
const STALENESS: Field = field(
    "staleness",
    Kind::Whole(0, 1_000_000),
    Some("0"),
    "of parameter_server: steps by which the weights that a worker sees may be behind; with 0 all wait for all",
);
const MODE: Field = field(
    "mode",
    Kind::Choice(&["once", "continuous"]),
    Some("once"),
    "on the rows that the query gives now, or on rows as they come, without an end",
);
const PUBLISH_STEPS: Field = field(
    "publish_steps",
    Kind::Whole(1, i64::MAX as u64),
    Some("100"),
    "of mode continuous: steps between two versions, each published by a checkpoint",
);
const EVALUATOR: Field = field(
    "evaluator",
    Kind::Boolean,
    Some("false"),
    "one more task judges checkpoints on the held-out rows, so that the others do not stop for that after each epoch",
);
const CHECKPOINT_STEPS: Field =
    field("checkpoint_steps", Kind::Whole(1, i64::MAX as u64), Some("100"), "steps between two checkpoints");
const PATIENCE: Field = field(
    "patience",
    Kind::Whole(1, 1_000_000),
    None,
    "stop when the metric on the held-out rows has not become better for so many epochs",
);
const MIN_DELTA: Field =
    field("min_delta", Kind::Number(0.0, 1e9), Some("0"), "a change of the metric by less is not better, for patience");
const KEEP_BEST: Field = field(
    "keep_best",
    Kind::Boolean,
    None,
    "keep the weights of the epoch with the best metric, not the last; true with patience, else false",
);
const LABEL: Field = required("label", Kind::Text, "column that is to be predicted");
const MIN_ROWS: Field = field(
    "min_rows",
    Kind::Whole(1, i64::MAX as u64),
    Some("1"),
    "training waits until the query gives this many rows",
);
const TEST_FRACTION: Field =
    field("test_fraction", Kind::Number(0.0, 0.9), Some("0.2"), "share of the rows that is held out to measure with");
const TIME_COLUMN: Field = field(
    "time_column",
    Kind::Text,
    None,
    "event time of a row; not a feature, and its largest value is kept as the model's training cut-off",
);
const NORMALIZE: Field =
    field("normalize", Kind::Boolean, Some("true"), "learn mean and deviation of each number and normalise with them");
const LOSS: Field = field("loss", Kind::Choice(LOSSES), None, "what is made small; or say what the task is");
const DELTA: Field = field("delta", Kind::Number(1e-9, 1e9), Some("1"), "where huber goes from square to straight");
const TASK: Field = field("task", Kind::Choice(TASKS), None, "kind of label: 0 or 1, a class, or a number");

const LEARNING_RATE: Field = field(
    "learning_rate",
    Kind::Number(1e-12, 100.0),
    None,
    "0.001 for adamw, adam and rmsprop, 0.01 for sgd and adagrad, 0.05 for ftrl",
);
const MOMENTUM: Field = field("momentum", Kind::Number(0.0, 0.9999), None, "of sgd (0.9) and rmsprop (0)");
const NESTEROV: Field = field("nesterov", Kind::Boolean, None, "momentum of sgd that looks ahead; false");
const WEIGHT_DECAY: Field = field("weight_decay", Kind::Number(0.0, 10.0), None, "of adamw (0.01)");
const BETA1: Field = field("beta1", Kind::Number(0.0, 0.999_999), None, "of adamw and adam (0.9)");
const BETA2: Field = field("beta2", Kind::Number(0.0, 0.999_999), None, "of adamw and adam (0.999)");
const EPSILON: Field = field(
    "epsilon",
    Kind::Number(1e-15, 1.0),
    None,
    "of adamw, adam and rmsprop (0.00000001) and adagrad (0.0000000001)",
);
const LAZY: Field =
    field("lazy", Kind::Boolean, None, "adam moves rows of an embedding only in steps that touch them; false");
const DECAY: Field = field("decay", Kind::Number(0.0, 0.999_999), None, "of the mean of squares of rmsprop (0.99)");
const POWER: Field = field("power", Kind::Number(-1.0, 0.0), None, "of the sum of squares of ftrl (-0.5)");
const L1: Field = field("l1", Kind::Number(0.0, 1e6), None, "of ftrl (0): keeps weights at zero");
const L2: Field = field("l2", Kind::Number(0.0, 1e6), None, "of ftrl (0): keeps weights small");
const INITIAL: Field = field("initial", Kind::Number(0.0, 1e6), None, "first sum of squares of ftrl (0.1)");
const CLIP_NORM: Field =
    field("clip_norm", Kind::Number(1e-9, 1e9), None, "all gradients are scaled so that their norm is at most this");
const CLIP_VALUE: Field = field("clip_value", Kind::Number(1e-9, 1e9), None, "no gradient is larger than this");

const WARM_UP: Field = field(
    "warm_up",
    Kind::Whole(0, i64::MAX as u64),
    None,
    "steps in which the learning rate rises from 0, for cosine and linear (0)",
);
const FLOOR: Field =
    field("floor", Kind::Number(0.0, 1.0), None, "share that is left at the end, for cosine and linear (0)");
const EVERY: Field = field("every", Kind::Whole(1, i64::MAX as u64), None, "steps of one rate, for step (1000)");
const FACTOR: Field = field("factor", Kind::Number(0.0, 1.0), None, "times this after them, for step (0.1)");

static DATA: Shape = Shape {
    place: "[data]",
    fields: &[
        required("tables", Kind::Text, "CREATE TABLE and CREATE VIEW statements that the queries read from"),
        required("train", Kind::Text, "SELECT whose rows are trained on; all columns but the label are features"),
        field("test", Kind::Text, None, "SELECT of the held-out rows"),
        LABEL,
        field("ignore", Kind::TextList, None, "columns that are neither feature nor label"),
        TIME_COLUMN,
        MIN_ROWS,
        TEST_FRACTION,
    ],
};

const INIT: Field = field(
    "init",
    Kind::Text,
    None,
    "version of a model, as in 'fraud@3', that training goes on from: its inputs, layers and weights",
);

static MODEL: Shape = Shape {
    place: "[model]",
    fields: &[
        INIT,
        field(
            "inputs",
            Kind::ListOf(INPUTS),
            None,
            "what the layers read; by default one input 'features' of all numbers",
        ),
        field("layers", Kind::ListOf(LAYERS), None, "layers before the output layer, which is added; dense 32 and 16"),
        field("output", Kind::Text, None, "layer that gives the outputs; then no output layer is added"),
        LOSS,
        DELTA,
        TASK,
        NORMALIZE,
    ],
};

static OPTIMIZER: Shape = Shape {
    place: "[optimizer]",
    fields: &[
        field("kind", Kind::Choice(OPTIMIZERS), Some("adamw"), "how the weights are moved"),
        LEARNING_RATE,
        MOMENTUM,
        NESTEROV,
        WEIGHT_DECAY,
        BETA1,
        BETA2,
        EPSILON,
        LAZY,
        DECAY,
        POWER,
        L1,
        L2,
        INITIAL,
        CLIP_NORM,
        CLIP_VALUE,
    ],
};

static SCHEDULE: Shape = Shape {
    place: "[schedule]",
    fields: &[
        field("kind", Kind::Choice(SCHEDULES), Some("constant"), "learning rate over time"),
        WARM_UP,
        FLOOR,
        EVERY,
        FACTOR,
    ],
};

static TRAINING: Shape = Shape {
    place: "[train]",
    fields: &[
        EPOCHS,
        STEPS,
        BATCH,
        ACCUMULATE,
        SEED,
        WORKERS,
        MIN_WORKERS,
        GROW_AFTER,
        STRATEGY,
        SERVERS,
        STALENESS,
        EVALUATOR,
        CHECKPOINT_STEPS,
        PATIENCE,
        MIN_DELTA,
        KEEP_BEST,
    ],
};

pub static TRAIN: Shape = Shape {
    place: "the file",
    fields: &[
        KIND,
        NAME,
        Field { name: "data", kind: Kind::Table(&DATA), required: true, default: None, doc: "what is trained on" },
        field("model", Kind::Table(&MODEL), None, "the network"),
        field("optimizer", Kind::Table(&OPTIMIZER), None, "how the weights are moved"),
        field("schedule", Kind::Table(&SCHEDULE), None, "learning rate over time"),
        field("train", Kind::Table(&TRAINING), None, "how long, and on how many workers"),
        field("job", Kind::Table(&TRAIN_JOB), None, "who runs it and on how much"),
        field("sweep", Kind::Table(&SWEEP), None, "train it many times with other settings, and keep the best"),
    ],
};

/// `WITH (…)` of `CREATE MODEL`.
pub static SQL_MODEL: Shape = Shape {
    place: "CREATE MODEL",
    fields: &[
        LABEL,
        TASK,
        LOSS,
        DELTA,
        INIT,
        field("hidden", Kind::Text, Some("32,16"), "outputs of each hidden layer, with commas"),
        field("activation", Kind::Choice(ACTIVATIONS), Some("relu"), "of the hidden layers"),
        field("dropout", Kind::Number(0.0, 0.99), Some("0"), "after each hidden layer, while training"),
        field(
            "categorical",
            Kind::TextList,
            None,
            "columns of texts or whole numbers that are told apart by value, with commas: hashed, then a learned vector each",
        ),
        field("hash_buckets", Kind::Whole(2, 1 << 31), Some("16384"), "ids that categorical values are hashed into"),
        field("embedding", Kind::Whole(1, 4096), Some("8"), "size of the vector of a categorical value"),
        EPOCHS,
        STEPS,
        BATCH,
        ACCUMULATE,
        field("optimizer", Kind::Choice(OPTIMIZERS), Some("adamw"), "how the weights are moved"),
        LEARNING_RATE,
        MOMENTUM,
        NESTEROV,
        WEIGHT_DECAY,
        BETA1,
        BETA2,
        EPSILON,
        LAZY,
        DECAY,
        POWER,
        L1,
        L2,
        INITIAL,
        CLIP_NORM,
        CLIP_VALUE,
        field("schedule", Kind::Choice(SCHEDULES), Some("constant"), "learning rate over time"),
        WARM_UP,
        FLOOR,
        EVERY,
        FACTOR,
        PATIENCE,
        MIN_DELTA,
        KEEP_BEST,
        SEED,
        WORKERS,
        MIN_WORKERS,
        GROW_AFTER,
        STRATEGY,
        SERVERS,
        STALENESS,
        EVALUATOR,
        MODE,
        PUBLISH_STEPS,
        MIN_ROWS,
        TEST_FRACTION,
        TIME_COLUMN,
        field("ignore", Kind::TextList, None, "columns that are neither feature nor label, with commas"),
        NORMALIZE,
        CHECKPOINT_STEPS,
    ],
};
