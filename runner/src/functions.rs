//! The functions that SQL may call in every job of this program, besides `predict`: the place to register one's own.
//!
//! Everything that reads a job file asks here, so a function that [`own`] registers is known at the desk (`check`, `submit`,
//! `run`), to the runner and in every task. How they are made is told in `streaming::functions`.

use streaming::functions::{Functions, declared_predict};
use streaming::sql::Script;

/// The program's own functions.
pub fn own() -> Functions {
    Functions::new()
}

/// All functions where no model is at hand: calls of `predict` are checked, and fail when a row reaches them.
pub fn declared() -> Functions {
    declared_predict().and(&own())
}

/// Reads a job file.
pub fn parse(text: &str) -> Result<Script, Vec<jobs::Diagnostic>> {
    // Its tables may be models, which no connector of the usual ones trains.
    connectors::add(&crate::continuous::CONNECTOR);
    streaming::sql::parse_with(text, &own())
}
