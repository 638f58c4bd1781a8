//! Preprocessing with ONNX's operators.

use super::super::data_type;
use super::super::write::{Writer, texts, whole, wholes};
use super::ML_DOMAIN;
use crate::exchange::Error;
use crate::graph::operation::Shape;
use crate::preprocess::{Boundaries, InputState, State};
use jobs::train::Preprocess;

/// Type and dimensions of a row before anything is done with it.
pub fn raw(state: &InputState, shape: &Shape) -> (i32, Vec<usize>) {
    match state.input.step {
        Preprocess::Numbers | Preprocess::Normalize | Preprocess::Buckets { .. } => {
            (data_type::FLOAT, shape.dims.clone())
        }
        Preprocess::Ids { .. } => (data_type::INT64, shape.dims.clone()),
        Preprocess::Vocabulary { .. } | Preprocess::Hash { .. } => (data_type::STRING, shape.dims.clone()),
        Preprocess::OneHot { .. } => (data_type::STRING, vec![state.width()]),
    }
}

/// The tensor of what the layers read, made of the raw one.
pub fn prepared(writer: &mut Writer, state: &InputState, shape: &Shape, raw: &str) -> Result<String, Error> {
    let name = |part: &str| format!("{}/{part}", state.input.name);
    match (&state.input.step, &state.state) {
        (Preprocess::Numbers, _) => Ok(filled(writer, state, raw, &[], &[0.0])),
        (Preprocess::Normalize, State::Normalization(learned)) => {
            let there = filled(writer, state, raw, &shape.dims, &learned.mean);
            let mean = writer.reals(&name("mean"), &shape.dims, &learned.mean);
            let deviation = writer.reals(&name("deviation"), &shape.dims, &learned.deviation);
            let centred = writer.node(&name("centred"), "Sub", &[&there, &mean], Vec::new());
            Ok(writer.node(&name("prepared"), "Div", &[&centred, &deviation], Vec::new()))
        }
        (Preprocess::Buckets { .. }, State::Boundaries(boundaries)) => {
            Ok(buckets(writer, state, shape, boundaries, raw))
        }
        (Preprocess::Vocabulary { .. }, State::Words(words)) => Ok(ids_of_words(writer, state, words, raw)),
        (Preprocess::OneHot { size }, State::Words(words)) => {
            let ids = ids_of_words(writer, state, words, raw);
            let depth = writer.wholes(&name("depth"), &[], &[*size as i64]);
            let values = writer.reals(&name("off_and_on"), &[2], &[0.0, 1.0]);
            let hot = writer.node(&name("hot"), "OneHot", &[&ids, &depth, &values], vec![whole("axis", -1)]);
            Ok(writer.reshaped(&name("prepared"), &hot, &shape.dims))
        }
        (Preprocess::Ids { .. }, _) => Ok(raw.to_string()),
        (step, _) => Err(Error::NoOperator { input: state.input.name.clone(), step: step.kind() }),
    }
}

/// With `values` (of a row, or one for all) where a number is absent.
fn filled(writer: &mut Writer, state: &InputState, raw: &str, dims: &[usize], values: &[f32]) -> String {
    let name = |part: &str| format!("{}/{part}", state.input.name);
    let absent = writer.node(&name("absent"), "IsNaN", &[raw], Vec::new());
    let values = writer.reals(&name("where_absent"), dims, values);
    writer.node(&name("filled"), "Where", &[&absent, &values, raw], Vec::new())
}

/// How many boundaries do not exceed the value.
fn buckets(writer: &mut Writer, state: &InputState, shape: &Shape, boundaries: &[Boundaries], raw: &str) -> String {
    let name = |part: &str| format!("{}/{part}", state.input.name);
    let most = boundaries.iter().map(|one| one.values.len()).max().unwrap_or(0).max(1);
    // No value reaches what is no number.
    let values: Vec<f32> = boundaries
        .iter()
        .flat_map(|one| one.values.iter().copied().chain(std::iter::repeat(f32::NAN)).take(most))
        .collect();
    let boundaries_dims: Vec<usize> = shape.dims.iter().copied().chain([most]).collect();
    let values = writer.reals(&name("boundaries"), &boundaries_dims, &values);
    let last = writer.wholes(&name("last"), &[1], &[-1]);
    let column = writer.node(&name("column"), "Unsqueeze", &[raw, &last], Vec::new());
    let reached = writer.node(&name("reached"), "GreaterOrEqual", &[&column, &values], Vec::new());
    let ones = writer.node(&name("ones"), "Cast", &[&reached], vec![whole("to", i64::from(data_type::INT64))]);
    let counted = writer.node(&name("counted"), "ReduceSum", &[&ones, &last], vec![whole("keepdims", 0)]);
    let absent = writer.node(&name("absent"), "IsNaN", &[raw], Vec::new());
    let medians: Vec<i64> = boundaries.iter().map(|one| i64::from(one.absent)).collect();
    let medians = writer.wholes(&name("where_absent"), &shape.dims, &medians);
    writer.node(&name("prepared"), "Where", &[&absent, &medians, &counted], Vec::new())
}

fn ids_of_words(writer: &mut Writer, state: &InputState, words: &[String], raw: &str) -> String {
    let ids: Vec<i64> = (1..=words.len() as i64).collect();
    // The operator has no form for an empty table.
    let (words, ids) = if words.is_empty() { (vec![String::new()], vec![0]) } else { (words.to_vec(), ids) };
    let output = writer.fresh(&format!("{}/ids", state.input.name));
    let attributes = vec![
        texts("keys_strings", words.iter().map(String::as_str)),
        wholes("values_int64s", &ids),
        whole("default_int64", 0),
    ];
    writer.node_of("LabelEncoder", &[raw], vec![output.clone()], attributes);
    if let Some(node) = writer.nodes.last_mut() {
        node.domain = ML_DOMAIN.to_string();
    }
    output
}
