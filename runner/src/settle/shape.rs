//! Which keys a job file has, of which kind, with which defaults: one description from which files are read, unknown
//! keys are answered with the nearest name, and the JSON Schema of `smack check --schema` is printed.
//!
//! Invariant: a default stands here and nowhere else.

mod model;
mod schema;
mod sweep;
mod train;

pub use schema::json_schema;
pub use sweep::{SPACE, SQL_SWEEP, SWEEP};
pub use train::{OPTIMIZERS, SQL_MODEL, TASKS, TRAIN, optimizer_settings, schedule_settings};

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
    /// A text or a list of texts.
    Names,
    /// One whole number from 1 for all directions, or two.
    Sizes,
    WholeList,
    Table(&'static Shape),
    /// Tables under names of the file's own choosing; a text is the first setting alone.
    Tables(&'static Shape),
    /// What each of some settings may be in a sweep: a list, or a table that says how it is drawn.
    Tried,
    /// Tables of several kinds, see [`Variant`].
    ListOf(&'static [Variant]),
}

/// A table that says what it is by one of its keys, whose value is its main setting: `{ dense = 32, activation = "relu" }`.
#[derive(Debug)]
pub struct Variant {
    /// The key.
    pub name: &'static str,
    /// There is no main setting: `flatten = true`, or the bare word.
    pub bare: bool,
    pub shape: Shape,
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
pub const RESTARTS: &[&str] = &["on_failure", "always", "never"];
pub const COMMAND_RESTARTS: &[&str] = &["on_failure", "always", "never", "exit_code"];
pub const DISTRIBUTED: &[&str] = &["tensorflow", "torch"];

const ROLE: Field = field("role", Kind::Text, Some("default"), "whose share of the cluster is used");
const PRIORITY: Field = field(
    "priority",
    Kind::Number(-1000.0, 1000.0),
    Some("0"),
    "whole; jobs of the role with a lower one make room for this one",
);
const CONSTRAINTS: Field = field(
    "constraints",
    Kind::Text,
    None,
    "what attributes of agents must be, with ; between them: 'zone = z1; disk != hdd; rack in (r1, r2); gpu exists'",
);
const TOGETHER: Field =
    field("together", Kind::Text, None, "attribute of which the agents of all its tasks have the same value: rack");
const SPREAD: Field = field(
    "spread",
    Kind::Text,
    None,
    "attribute over whose values its tasks are spread: zone, or host:1 for at most one on each",
);
const PARALLELISM: Field =
    field("parallelism", Kind::Whole(1, 4096), Some("1"), "number of tasks, placed all together or not at all");
const CPUS: Field = field("cpus", Kind::Number(0.01, 1024.0), Some("1"), "cores that each task needs");
const MEM: Field = field("mem", Kind::Memory, Some("256"), "memory that each task needs: MiB, or a text like '2g'");
const DISK: Field = field(
    "disk",
    Kind::Memory,
    None,
    "what each task may write in its folder: MiB, or a text like '2g'; one that writes more is ended; any by default",
);
const REVOCABLE: Field = field(
    "revocable",
    Kind::Boolean,
    Some("false"),
    "its cores and memory are only lent, by tasks that do not use theirs; a task is ended when these do",
);
const VOLUMES: Field = field(
    "volumes",
    Kind::TextTable,
    None,
    "directories that outlive its tasks, each task its own, with how large they may get: data = \"20g\" is ./data",
);
const USER: Field = field(
    "user",
    Kind::Text,
    None,
    "user of the agents' machines whose rights its tasks have; by default whose the agents say, else the agents' own",
);
const SECRETS: Field = field(
    "secrets",
    Kind::TextTable,
    None,
    "environment variables whose values the agents keep: DB_PASSWORD = \"db\" is what an agent has under db",
);
const ARTIFACTS: Field = field(
    "artifacts",
    Kind::Tables(&ARTIFACT),
    None,
    "what is fetched into the folder of each task before it starts, by the names that it has there",
);
static ARTIFACT: Shape = Shape {
    place: "an artifact",
    fields: &[
        required("from", Kind::Text, "https://…, s3://bucket/key, or a path on the agents' machines"),
        field("sha256", Kind::Text, None, "of its bytes; others are refused, and agents that have these fetch nothing"),
        field("unpack", Kind::Boolean, Some("false"), "it is a .tar, .tar.gz or .tar.zst, and becomes a folder"),
        field("executable", Kind::Boolean, Some("false"), "it is a program"),
    ],
};
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
const START_WITHIN: Field = field(
    "start_within",
    Kind::Duration(1),
    None,
    "how long it may wait for room for its tasks before it has failed; for ever by default",
);
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
const JOB_FIELDS: &[Field] = &[
    GROUP,
    ROLE,
    PRIORITY,
    CONSTRAINTS,
    TOGETHER,
    SPREAD,
    PARALLELISM,
    CPUS,
    MEM,
    DISK,
    REVOCABLE,
    RESTART,
    KILL_GRACE,
    START_WITHIN,
    MAX_COMPLETION,
    UNREACHABLE,
    USER,
];
static TRAIN_JOB: Shape = Shape {
    place: "[job]",
    fields: &[
        GROUP,
        ROLE,
        PRIORITY,
        CONSTRAINTS,
        TOGETHER,
        SPREAD,
        CPUS,
        MEM,
        DISK,
        REVOCABLE,
        RESTART,
        KILL_GRACE,
        START_WITHIN,
        MAX_COMPLETION,
        UNREACHABLE,
        USER,
    ],
};
static COMMAND_JOB: Shape = Shape {
    place: "[job]",
    fields: &[
        GROUP,
        ROLE,
        PRIORITY,
        CONSTRAINTS,
        TOGETHER,
        SPREAD,
        PARALLELISM,
        CPUS,
        MEM,
        DISK,
        REVOCABLE,
        COMMAND_RESTART,
        KILL_GRACE,
        START_WITHIN,
        MAX_COMPLETION,
        UNREACHABLE,
        USER,
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
        PRIORITY,
        CONSTRAINTS,
        TOGETHER,
        SPREAD,
        PARALLELISM,
        CPUS,
        MEM,
        DISK,
        REVOCABLE,
        SERVICE_RESTART,
        KILL_GRACE,
        START_WITHIN,
        MAX_COMPLETION,
        UNREACHABLE,
        USER,
        GPUS,
        GPU_MODEL,
        PORTS,
    ],
};

/// `[health]` of a service: one of the first four keys.
static HEALTH: Shape = Shape {
    place: "[health]",
    fields: &[
        field("command", Kind::TextList, None, "healthy if it ends with exit code 0; runs in the task's folder"),
        field("tcp", Kind::Whole(1, 65_535), None, "healthy if it takes a connection on this port of 127.0.0.1"),
        field("http", Kind::Text, None, "PORT/PATH; healthy if it answers a GET with a status from 200 to 399"),
        field("grpc", Kind::Text, None, "PORT or PORT/SERVICE; healthy if it is SERVING by gRPC's health protocol"),
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
        VOLUMES,
        ARTIFACTS,
        SECRETS,
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
        VOLUMES,
        ARTIFACTS,
        SECRETS,
        field("health", Kind::Table(&HEALTH), None, "how it is found out whether it works; it runs once it does"),
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
