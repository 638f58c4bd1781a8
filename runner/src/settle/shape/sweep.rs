//! Keys of `[sweep]`, and of `sweep.…` in `CREATE MODEL`.

use super::super::sweep::TRIALS_MAX;
use super::{Field, Kind, Shape, field, required};

const ALGORITHM: Field = required(
    "algorithm",
    Kind::Choice(&["grid", "random", "asha"]),
    "every combination, draws at random, or draws of which the better ones train on (asynchronous successive halving)",
);
const TRIALS: Field = field("trials", Kind::Whole(1, TRIALS_MAX), Some("20"), "of random and asha: how many are drawn");
const PARALLEL: Field =
    field("parallel", Kind::Whole(1, 256), Some("4"), "trials at work at once, at most; each is placed by itself");
const SEED: Field =
    field("seed", Kind::Whole(0, i64::MAX as u64), Some("1"), "of random and asha: same seed, same trials");
const MIN_EPOCHS: Field = field(
    "min_epochs",
    Kind::Whole(1, 1_000_000),
    Some("1"),
    "of asha: epochs after which trials pause the first time",
);
const REDUCTION: Field = field(
    "reduction",
    Kind::Whole(2, 64),
    Some("3"),
    "of asha: one of so many goes on from each pause, to so many times its epochs",
);

/// Settings of these tables may be tried.
pub static SPACE: Shape = Shape {
    place: "[sweep.space]",
    fields: &[
        field("model", Kind::Tried, None, "of [model]"),
        field("optimizer", Kind::Tried, None, "of [optimizer]"),
        field("schedule", Kind::Tried, None, "of [schedule]"),
        field("train", Kind::Tried, None, "of [train]"),
    ],
};

pub static SWEEP: Shape = Shape {
    place: "[sweep]",
    fields: &[
        ALGORITHM,
        TRIALS,
        PARALLEL,
        SEED,
        MIN_EPOCHS,
        REDUCTION,
        Field { name: "space", kind: Kind::Table(&SPACE), required: true, default: None, doc: "what is tried" },
    ],
};

/// What is tried stands beside these as `sweep.space.…`.
pub static SQL_SWEEP: Shape =
    Shape { place: "sweep.… of CREATE MODEL", fields: &[ALGORITHM, TRIALS, PARALLEL, SEED, MIN_EPOCHS, REDUCTION] };
