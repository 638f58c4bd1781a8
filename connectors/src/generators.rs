//! Tables that make their rows up: seekable, so that they restart like a log, and paced by the wall clock.
//!
//! Invariant: a row is a pure function of the options and its number; reading twice gives the same rows, from any
//! position, at any parallelism and any pace.

pub mod auc;
pub mod cards;
pub mod datagen;
pub mod nexmark;
mod noise;
mod paced;

pub use auc::auc;

use crate::OptionInfo;

pub const ROWS: OptionInfo = OptionInfo {
    name: "rows",
    kind: "number",
    default: None,
    required: false,
    doc: "how many rows there are in all; without it they never end",
};
pub const RATE: OptionInfo = OptionInfo {
    name: "rate",
    kind: "number",
    default: None,
    required: false,
    doc: "rows per second over all splits, 0 for as many as possible; 2000 where rows never end, else 0",
};
pub const SPLITS: OptionInfo = OptionInfo {
    name: "splits",
    kind: "number",
    default: Some("4"),
    required: false,
    doc: "into how many parts the rows are dealt; bounds the parallelism of reading",
};
pub const SEED: OptionInfo = OptionInfo {
    name: "seed",
    kind: "number",
    default: Some("1"),
    required: false,
    doc: "another seed gives other rows",
};
pub const START: OptionInfo = OptionInfo {
    name: "start",
    kind: "text",
    default: Some("2026-01-01T00:00:00Z"),
    required: false,
    doc: "event time of the first row",
};
