//! Models that other programs wrote, for tests: `tests/exchange/fixtures.py` makes them, and says what they answer.

use super::{Network, Settings, pack, unpack};
use crate::graph::Graph;
use crate::metric;
use crate::registry::Manifest;
use arrow::array::{Array, ArrayRef, FixedSizeListArray, Float32Array, Int64Array};
use arrow::datatypes::Field;
use jobs::train::Loss;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

/// Answers of other programs are rounded in other places.
const TOLERANCE: f32 = 1e-5;

/// `SMACK_FIXTURES` names others, as `tests/exchange/run` makes them.
pub fn fixtures() -> PathBuf {
    match std::env::var_os("SMACK_FIXTURES") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/exchange"),
    }
}

/// As a registry would give it back.
pub fn taken_over(network: Network) -> (Manifest, Graph<f32>) {
    let bytes = network.packed(&Settings { model: "m".to_string(), ..Settings::default() }).unwrap();
    let package = unpack(&bytes).unwrap();
    assert_eq!(pack(&package.manifest, &package.graph).unwrap(), bytes);
    (package.manifest, package.graph)
}

/// The columns that a case gives an imported model.
fn given(manifest: &Manifest, case: &Value) -> Vec<ArrayRef> {
    let rows = case["rows"].as_u64().unwrap() as usize;
    let of = |column: &String| -> ArrayRef {
        let (name, at) = match case["inputs"].get(column) {
            Some(_) => (column.as_str(), None),
            None => column.rsplit_once('_').map(|(name, at)| (name, at.parse::<usize>().ok())).unwrap(),
        };
        let input = &case["inputs"][name];
        let values = input["values"].as_array().unwrap();
        let width = values.len() / rows;
        let seen: Vec<&Value> = match at {
            None => values.iter().collect(),
            Some(at) => values.iter().skip(at).step_by(width).collect(),
        };
        let array: ArrayRef = match input["type"].as_str() {
            Some("float") => Arc::new(seen.iter().map(|x| x.as_f64().map(|x| x as f32)).collect::<Float32Array>()),
            _ => Arc::new(seen.iter().map(|x| x.as_i64()).collect::<Int64Array>()),
        };
        let width = array.len() / rows;
        if width == 1 {
            return array;
        }
        let field = Arc::new(Field::new("item", array.data_type().clone(), true));
        Arc::new(FixedSizeListArray::new(field, width as i32, array, None))
    };
    manifest.features.iter().map(of).collect()
}

/// That a model answers as the case says; `found` is the probability that was taken off its end.
#[track_caller]
pub fn assert_near(name: &str, (manifest, graph): (&Manifest, &Graph<f32>), found: Option<Loss>, case: &Value) {
    let examples = manifest.preprocessing.read(&manifest.features, &given(manifest, case)).unwrap();
    let mut answers = metric::logits(graph, &examples).unwrap();
    match found {
        Some(Loss::BinaryCrossEntropy) => answers.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
        Some(Loss::CrossEntropy) => {
            for row in answers.chunks_exact_mut(manifest.outputs) {
                let sum: f32 = row.iter().map(|x| x.exp()).sum();
                row.iter_mut().for_each(|x| *x = x.exp() / sum);
            }
        }
        _ => {}
    }
    let expected = case["answers"].as_array().unwrap();
    assert_eq!(answers.len(), expected.len(), "{name}");
    for (at, (got, expected)) in answers.iter().zip(expected).enumerate() {
        let expected = expected.as_f64().unwrap() as f32;
        let near = (got - expected).abs() <= TOLERANCE * expected.abs().max(1.0);
        assert!(near, "{name}: value {at} is {got}, expected {expected}");
    }
}
