//! Which keys a job file has, of which kind, with which defaults: one description from which files are read, unknown
//! keys are answered with the nearest name, and the JSON Schema of `smack check --schema` is printed.
//!
//! Invariant: a default stands here and nowhere else.

use serde_json::{Map, Value, json};

#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    /// As it would be written in SQL.
    pub default: Option<&'static str>,
    pub doc: &'static str,
}

#[derive(Debug)]
pub enum Kind {
    Text,
    /// Whole and within these bounds.
    Whole(u64, u64),
    /// Within these bounds.
    Number(f64, f64),
    Boolean,
    Choice(&'static [&'static str]),
    /// `10s`; at least this many milliseconds.
    Duration(u64),
    /// MiB, or a text like `2g`.
    Memory,
    TextList,
    TextTable,
    Table(&'static Shape),
    ListOf(&'static Shape),
}

#[derive(Debug)]
pub struct Shape {
    /// For error texts: `[train]`, `the file`.
    pub place: &'static str,
    pub fields: &'static [Field],
}

impl Shape {
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

const fn field(name: &'static str, kind: Kind, default: Option<&'static str>, doc: &'static str) -> Field {
    Field { name, kind, required: false, default, doc }
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, kind, required: true, default: None, doc }
}

pub const KINDS: &[&str] = &["stream", "train", "command", "service"];
pub const ACTIVATIONS: &[&str] = &["relu", "tanh", "sigmoid", "gelu", "linear"];
pub const LOSSES: &[&str] = &["cross_entropy", "binary_cross_entropy", "mean_squared_error"];
pub const TASKS: &[&str] = &["binary", "classes", "regression"];
pub const OPTIMIZERS: &[&str] = &["adamw", "sgd"];
pub const RESTARTS: &[&str] = &["on_failure", "always", "never"];
pub const COMMAND_RESTARTS: &[&str] = &["on_failure", "always", "never", "exit_code"];
pub const DISTRIBUTED: &[&str] = &["tensorflow", "torch"];

const ROLE: Field = field("role", Kind::Text, Some("default"), "whose share of the cluster is used");
const PARALLELISM: Field =
    field("parallelism", Kind::Whole(1, 4096), Some("1"), "number of tasks, placed all together or not at all");
const CPUS: Field = field("cpus", Kind::Number(0.01, 1024.0), Some("1"), "cores that each task needs");
const MEM: Field = field("mem", Kind::Memory, Some("256"), "memory that each task needs: MiB, or a text like '2g'");
const GPUS: Field = field(
    "gpus",
    Kind::Whole(0, 64),
    Some("0"),
    "GPUs that each task needs, whole; it finds them in CUDA_VISIBLE_DEVICES",
);
const GPU_MODEL: Field =
    field("gpu_model", Kind::Text, None, "model of these GPUs, as the agents call it; any without it");
const PORTS: Field = field(
    "ports",
    Kind::Whole(0, 1000),
    Some("0"),
    "ports that each task needs; it finds them in SMACK_PORTS, with commas",
);
const RESTART: Field =
    field("restart", Kind::Choice(RESTARTS), Some("on_failure"), "when a job that ended is started again");
const COMMAND_RESTART: Field = field(
    "restart",
    Kind::Choice(COMMAND_RESTARTS),
    Some("on_failure"),
    "when a command that ended is started again; exit_code: after a code that says that it may go better",
);
const WIND_DOWN: Field = field(
    "wind_down",
    Kind::Duration(0),
    None,
    "time that evaluators, and workers beside a chief, have to end by themselves once the work is done; 5m by default",
);
const SERVICE_RESTART: Field =
    field("restart", Kind::Choice(RESTARTS), Some("always"), "when a service that ended is started again");
const KILL_GRACE: Field =
    field("kill_grace", Kind::Duration(0), Some("5s"), "time that a task has to end by itself when it is told to");
const MAX_COMPLETION: Field =
    field("max_completion", Kind::Duration(1), None, "how long a task may run before it is ended; for ever by default");
const UNREACHABLE: Field = field(
    "unreachable",
    Kind::Duration(1),
    None,
    "how long a task goes on when its agent hears no master; for ever by default",
);
const GROUP: Field = field("name", Kind::Text, None, "name of the group of all jobs of the file; its stem by default");

/// `[job]` of a stream or a command, and `SET job.…` in SQL.
pub static JOB: Shape = Shape { place: "[job]", fields: JOB_FIELDS };
pub static SQL_JOB: Shape = Shape { place: "SET job.…", fields: JOB_FIELDS };
const JOB_FIELDS: &[Field] = &[GROUP, ROLE, PARALLELISM, CPUS, MEM, RESTART, KILL_GRACE, MAX_COMPLETION, UNREACHABLE];
static TRAIN_JOB: Shape =
    Shape { place: "[job]", fields: &[GROUP, ROLE, CPUS, MEM, RESTART, KILL_GRACE, MAX_COMPLETION, UNREACHABLE] };
static COMMAND_JOB: Shape = Shape {
    place: "[job]",
    fields: &[
        GROUP,
        ROLE,
        PARALLELISM,
        CPUS,
        MEM,
        COMMAND_RESTART,
        KILL_GRACE,
        MAX_COMPLETION,
        UNREACHABLE,
        GPUS,
        GPU_MODEL,
        PORTS,
        WIND_DOWN,
    ],
};
static SERVICE_JOB: Shape = Shape {
    place: "[job]",
    fields: &[
        GROUP,
        ROLE,
        PARALLELISM,
        CPUS,
        MEM,
        SERVICE_RESTART,
        KILL_GRACE,
        MAX_COMPLETION,
        UNREACHABLE,
        GPUS,
        GPU_MODEL,
        PORTS,
    ],
};

/// `[health]` of a service: one of the first three keys.
static HEALTH: Shape = Shape {
    place: "[health]",
    fields: &[
        field("command", Kind::TextList, None, "healthy if it ends with exit code 0; runs in the task's folder"),
        field("tcp", Kind::Whole(1, 65_535), None, "healthy if it takes a connection on this port of 127.0.0.1"),
        field("http", Kind::Text, None, "PORT/PATH; healthy if it answers a GET with a status from 200 to 399"),
        field("interval", Kind::Duration(10), Some("10s"), "time between two checks"),
        field("timeout", Kind::Duration(1), Some("5s"), "no answer within this is a failure"),
        field("grace", Kind::Duration(0), Some("10s"), "failures do not count for this long after the start"),
        field("failures", Kind::Whole(1, 1_000), Some("3"), "so many in a row, and the task is started again"),
    ],
};

/// `[checkpoint]` of a stream, and `SET checkpoint.…` in SQL.
pub static CHECKPOINT: Shape = Shape { place: "[checkpoint]", fields: CHECKPOINT_FIELDS };
pub static SQL_CHECKPOINT: Shape = Shape { place: "SET checkpoint.…", fields: CHECKPOINT_FIELDS };
const CHECKPOINT_FIELDS: &[Field] = &[
    field("interval", Kind::Duration(10), Some("10s"), "time between two checkpoints"),
    field("dir", Kind::Text, None, "folder of the checkpoints, or s3://bucket/prefix; the runner's own by default"),
    field("retain", Kind::Whole(1, 1000), Some("3"), "number of checkpoints that are kept"),
];

/// `[state]` of a stream, and `SET state.…` in SQL.
pub static STATE: Shape = Shape { place: "[state]", fields: STATE_FIELDS };
pub static SQL_STATE: Shape = Shape { place: "SET state.…", fields: STATE_FIELDS };
const STATE_FIELDS: &[Field] = &[
    field(
        "memory",
        Kind::Memory,
        None,
        "memory that the state of each task may take, the rest goes to its disk; half of the task's by default",
    ),
    field(
        "ttl",
        Kind::Duration(1),
        None,
        "event time after which state is forgotten that no row touches; by default it is kept for ever",
    ),
];

const KIND: Field = required("kind", Kind::Choice(KINDS), "what the file declares");
const NAME: Field = field("name", Kind::Text, None, "name of the job; the stem of the file's name by default");

pub static STREAM: Shape = Shape {
    place: "the file",
    fields: &[
        KIND,
        NAME,
        field("sql", Kind::Text, None, "the statements"),
        field("file", Kind::Text, None, "a file with the statements, relative to this file"),
        field("job", Kind::Table(&JOB), None, "who runs it and on how much; SET in the SQL wins"),
        field(
            "checkpoint",
            Kind::Table(&CHECKPOINT),
            None,
            "when and where checkpoints are taken; SET in the SQL wins",
        ),
        field("state", Kind::Table(&STATE), None, "how state is kept; SET in the SQL wins"),
    ],
};

const EPOCHS: Field = field("epochs", Kind::Whole(1, 1_000_000), Some("20"), "passes over the training rows");
const BATCH: Field = field("batch", Kind::Whole(1, 1_000_000), Some("64"), "rows per step, over all workers");
const SEED: Field = field("seed", Kind::Whole(0, i64::MAX as u64), Some("1"), "same seed, same result");
const WORKERS: Field =
    field("workers", Kind::Whole(1, 4096), Some("1"), "number of tasks, placed all together or not at all");
const CHECKPOINT_STEPS: Field =
    field("checkpoint_steps", Kind::Whole(1, i64::MAX as u64), Some("100"), "steps between two checkpoints");
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
    field("normalize", Kind::Boolean, Some("true"), "learn mean and deviation of each feature and normalise with them");
const LEARNING_RATE: Field = field("learning_rate", Kind::Number(1e-12, 100.0), None, "0.001 for adamw, 0.01 for sgd");
const MOMENTUM: Field = field("momentum", Kind::Number(0.0, 0.9999), Some("0.9"), "of sgd");
const WEIGHT_DECAY: Field = field("weight_decay", Kind::Number(0.0, 10.0), Some("0.01"), "of adamw");
const LOSS: Field = field("loss", Kind::Choice(LOSSES), None, "what is made small; or say what the task is");
const TASK: Field = field("task", Kind::Choice(TASKS), None, "kind of label: 0 or 1, a class index, or a number");

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

pub static LAYER: Shape = Shape {
    place: "a layer",
    fields: &[
        field("dense", Kind::Whole(1, 1_000_000), None, "fully connected layer with this many outputs"),
        field("activation", Kind::Choice(ACTIVATIONS), Some("relu"), "of a dense layer"),
        field("dropout", Kind::Number(0.0, 0.99), None, "share of the inputs that is dropped while training"),
    ],
};

static MODEL: Shape = Shape {
    place: "[model]",
    fields: &[
        field("layers", Kind::ListOf(&LAYER), Some("32,16"), "hidden layers; the output layer is added"),
        LOSS,
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
        WEIGHT_DECAY,
        field("beta1", Kind::Number(0.0, 0.999_999), Some("0.9"), "of adamw"),
        field("beta2", Kind::Number(0.0, 0.999_999), Some("0.999"), "of adamw"),
        field("epsilon", Kind::Number(1e-15, 1.0), Some("0.00000001"), "of adamw"),
    ],
};

static SCHEDULE: Shape = Shape { place: "[train]", fields: &[EPOCHS, BATCH, SEED, WORKERS, CHECKPOINT_STEPS] };

pub static TRAIN: Shape = Shape {
    place: "the file",
    fields: &[
        KIND,
        NAME,
        Field { name: "data", kind: Kind::Table(&DATA), required: true, default: None, doc: "what is trained on" },
        field("model", Kind::Table(&MODEL), None, "the network"),
        field("optimizer", Kind::Table(&OPTIMIZER), None, "how the weights are moved"),
        field("train", Kind::Table(&SCHEDULE), None, "how long, and on how many workers"),
        field("job", Kind::Table(&TRAIN_JOB), None, "who runs it and on how much"),
    ],
};

const ARGV: Field = required("argv", Kind::TextList, "the program and its arguments");
const ENV: Field = field("env", Kind::TextTable, None, "environment variables");

/// One role of a gang. What it does not say is as the file and its `[job]` say.
static GANG_ROLE: Shape = Shape {
    place: "a role",
    fields: &[
        field("count", Kind::Whole(1, 4096), Some("1"), "number of tasks of this role"),
        field("argv", Kind::TextList, None, "the program and its arguments; those of the file by default"),
        field("env", Kind::TextTable, None, "environment variables, besides those of the file"),
        field("cpus", Kind::Number(0.01, 1024.0), None, "cores that each of them needs; as [job] says by default"),
        field("mem", Kind::Memory, None, "memory that each of them needs; as [job] says by default"),
        field("gpus", Kind::Whole(0, 64), None, "GPUs that each of them needs; as [job] says by default"),
        GPU_MODEL,
        field("ports", Kind::Whole(0, 1000), None, "ports besides the one by which the others find it"),
    ],
};

static ROLES: Shape = Shape {
    place: "[roles]",
    fields: &[
        field("chief", Kind::Table(&GANG_ROLE), None, "writes checkpoints and the model; else the first worker does"),
        field("worker", Kind::Table(&GANG_ROLE), None, "trains"),
        field("ps", Kind::Table(&GANG_ROLE), None, "parameter server"),
        field("evaluator", Kind::Table(&GANG_ROLE), None, "judges checkpoints beside the training"),
    ],
};

pub static COMMAND: Shape = Shape {
    place: "the file",
    fields: &[
        KIND,
        NAME,
        field("argv", Kind::TextList, None, "the program and its arguments; required unless every role has its own"),
        ENV,
        field(
            "distributed",
            Kind::Choice(DISTRIBUTED),
            None,
            "its tasks train together, and are told of one another in the words of this framework",
        ),
        field("roles", Kind::Table(&ROLES), None, "its roles, where they are not all workers"),
        field("job", Kind::Table(&COMMAND_JOB), None, "who runs it and on how much"),
    ],
};

pub static SERVICE: Shape = Shape {
    place: "the file",
    fields: &[
        KIND,
        NAME,
        ARGV,
        ENV,
        field("job", Kind::Table(&SERVICE_JOB), None, "who runs it and on how much"),
        field("health", Kind::Table(&HEALTH), None, "how it is found out whether it works; it runs once it does"),
    ],
};

/// `WITH (…)` of `CREATE MODEL`.
pub static SQL_MODEL: Shape = Shape {
    place: "CREATE MODEL",
    fields: &[
        LABEL,
        TASK,
        LOSS,
        field("hidden", Kind::Text, Some("32,16"), "outputs of each hidden layer, with commas"),
        field("activation", Kind::Choice(ACTIVATIONS), Some("relu"), "of the hidden layers"),
        field("dropout", Kind::Number(0.0, 0.99), Some("0"), "after each hidden layer, while training"),
        EPOCHS,
        BATCH,
        field("optimizer", Kind::Choice(OPTIMIZERS), Some("adamw"), "how the weights are moved"),
        LEARNING_RATE,
        MOMENTUM,
        WEIGHT_DECAY,
        SEED,
        WORKERS,
        MIN_ROWS,
        TEST_FRACTION,
        TIME_COLUMN,
        field("ignore", Kind::TextList, None, "columns that are neither feature nor label, with commas"),
        NORMALIZE,
        CHECKPOINT_STEPS,
    ],
};

/// The shape of a file by its `kind`.
pub fn of_kind(kind: &str) -> Option<&'static Shape> {
    match kind {
        "stream" => Some(&STREAM),
        "train" => Some(&TRAIN),
        "command" => Some(&COMMAND),
        "service" => Some(&SERVICE),
        _ => None,
    }
}

/// JSON Schema (2020-12) of job files in TOML and YAML.
pub fn json_schema() -> Value {
    let kinds: Vec<Value> = KINDS
        .iter()
        .filter_map(|kind| {
            let mut schema = shape_schema(of_kind(kind)?);
            schema["title"] = json!(kind);
            schema["properties"]["kind"] = json!({ "const": kind, "description": KIND.doc });
            Some(schema)
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "smack job file",
        "oneOf": kinds,
    })
}

fn shape_schema(shape: &Shape) -> Value {
    let properties: Map<String, Value> =
        shape.fields.iter().map(|field| (field.name.to_string(), field_schema(field))).collect();
    let required: Vec<&str> = shape.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn field_schema(field: &Field) -> Value {
    let mut schema = match &field.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Whole(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Kind::Number(low, high) => json!({ "type": "number", "minimum": low, "maximum": high }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Choice(choices) => json!({ "enum": choices }),
        Kind::Duration(_) => json!({ "type": "string", "pattern": "^[0-9.]+ *[A-Za-z]+$" }),
        Kind::Memory => json!({ "type": ["number", "string"] }),
        Kind::TextList => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::TextTable => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::Table(shape) => shape_schema(shape),
        Kind::ListOf(shape) => json!({ "type": "array", "items": shape_schema(shape) }),
    };
    schema["description"] = json!(field.doc);
    if let Some(default) = field.default {
        let value = match &field.kind {
            Kind::Whole(..) | Kind::Number(..) | Kind::Boolean | Kind::Memory => {
                serde_json::from_str(default).unwrap_or_else(|_| json!(default))
            }
            Kind::ListOf(_) => json!(null),
            _ => json!(default),
        };
        if !value.is_null() {
            schema["default"] = value;
        }
    }
    schema
}
