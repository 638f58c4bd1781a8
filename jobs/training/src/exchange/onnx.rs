//! ONNX: our models for other programs, and theirs for us.
//!
//! [`export`] writes a model with operators that every runtime has (of [`OPSET`]; a layer for which there is none becomes
//! several), channels first where the operators want them. [`import`] goes the other way: it follows the graph from its output
//! back, and knows layers by the operators that exporters make of them; what is no layer of ours is refused with the name of the
//! node. Both are about scoring: what only training uses (a dropout's rate, a momentum) is kept where ONNX has a place for it.
//!
//! Invariant: an imported model answers as the file does, up to rounding, or it is refused. No file makes this panic, or takes
//! more memory than some times its own size.

mod constant;
mod export;
mod file;
mod flow;
mod import;
mod metadata;
#[cfg(test)]
mod tests;
mod view;
mod write;

pub use export::{Inputs, export};
pub use import::import;

/// The messages of `proto/onnx.proto`, as generated code.
mod schema {
    include!("onnx/generated/onnx.rs");
}

/// The version of the operators that are written: that of LayerNormalization, and of reductions whose axes are inputs.
pub const OPSET: i64 = 18;
/// Versions that are read: from that where shapes became inputs to the newest that was looked at.
const READ: std::ops::RangeInclusive<i64> = 9..=26;

mod attribute_type {
    pub const FLOAT: i32 = 1;
    pub const INT: i32 = 2;
    pub const FLOATS: i32 = 6;
    pub const INTS: i32 = 7;
    pub const STRINGS: i32 = 8;
}

mod data_type {
    pub const FLOAT: i32 = 1;
    pub const INT32: i32 = 6;
    pub const INT64: i32 = 7;
    pub const STRING: i32 = 8;
    pub const BOOL: i32 = 9;
    pub const FLOAT16: i32 = 10;
    pub const DOUBLE: i32 = 11;

    /// As a user would call it.
    pub fn name(type_: i32) -> String {
        match type_ {
            FLOAT => "float".to_string(),
            INT32 => "int32".to_string(),
            INT64 => "int64".to_string(),
            STRING => "string".to_string(),
            BOOL => "bool".to_string(),
            FLOAT16 => "float16".to_string(),
            DOUBLE => "double".to_string(),
            other => format!("type {other}"),
        }
    }
}
