//! Models of Keras 3: a `.keras` file, or the JSON of `model.to_json()` with weights beside it.
//!
//! Sequential and functional models are read; layers lie in Keras as in ours, channels last, so that most weights are taken over
//! as they are. What only training knows (regularizers, initializers) is left out.

mod layers;
mod weights;

use super::network::input_of;
use super::{Error, Network, zip};
use crate::preprocess::{InputState, State};
use jobs::train::{Layer, Loss, Node, Preprocess};
use layers::Read;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use weights::Store;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.weights.h5";

fn malformed(reason: impl Into<String>) -> Error {
    Error::Malformed { what: "the Keras model", reason: reason.into() }
}

/// `weights` where the file has none.
pub fn import(bytes: &[u8], weights: Option<&[u8]>) -> Result<Network, Error> {
    let (config, own) = if bytes.starts_with(b"PK") {
        let config = zip::file(bytes, CONFIG).map_err(malformed)?;
        let own = if weights.is_none() { Some(zip::file(bytes, WEIGHTS).map_err(malformed)?) } else { None };
        (config, own)
    } else {
        (bytes, None)
    };
    let Some(weights) = weights.or(own) else {
        return Err(malformed(
            "its file has layers only; give the weights with --weights FILE (.weights.h5 or .safetensors)",
        ));
    };
    let config: Value = serde_json::from_slice(config).map_err(|error| malformed(error.to_string()))?;
    let store = Store::open(weights).map_err(malformed)?;
    Model::of(&config)?.network(&store)
}

/// A layer as the file has it.
struct Entry<'a> {
    name: &'a str,
    class: &'a str,
    config: &'a Value,
    /// Layers that it reads.
    reads: Vec<&'a str>,
    /// What it is called with besides.
    arguments: Option<&'a Value>,
    /// Of which its class is the how-manieth, which is how weights are called.
    number: usize,
    input_dims: Option<Vec<usize>>,
}

struct Model<'a> {
    entries: Vec<Entry<'a>>,
    output: &'a str,
}

impl<'a> Model<'a> {
    fn of(file: &'a Value) -> Result<Self, Error> {
        let class = file["class_name"].as_str().unwrap_or_default();
        let config = &file["config"];
        let listed = config["layers"].as_array().ok_or_else(|| {
            malformed(format!("it is a '{class}'; Sequential and Functional models are read, which list their layers"))
        })?;
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut entries: Vec<Entry<'a>> = Vec::new();
        let sequential = class == "Sequential";
        for layer in listed {
            let class = layer["class_name"].as_str().unwrap_or_default();
            let config = &layer["config"];
            let name = config["name"].as_str().or(layer["name"].as_str()).unwrap_or_default();
            let number = *numbers.entry(class).and_modify(|number| *number += 1).or_insert(0);
            let failed = |reason: &str| Error::Layer {
                node: name.to_string(),
                kind: class.to_string(),
                reason: reason.to_string(),
            };
            let (reads, arguments) = if sequential {
                (entries.last().map(|last| last.name).into_iter().collect(), None)
            } else {
                calls(&layer["inbound_nodes"]).map_err(failed)?
            };
            let shape = ["batch_shape", "batch_input_shape"].iter().find_map(|key| config[key].as_array());
            let built = layer["build_config"]["input_shape"].as_array();
            let input_dims = dims(shape.or(built.filter(|_| class != "InputLayer")));
            entries.push(Entry { name, class, config, reads, arguments, number, input_dims });
        }
        if sequential && entries.first().is_some_and(|first| first.class != "InputLayer") {
            let first = &mut entries[0];
            let failed = |reason: &str| Error::Layer {
                node: first.name.to_string(),
                kind: first.class.to_string(),
                reason: reason.to_string(),
            };
            let dims = first.input_dims.clone();
            let dims =
                dims.ok_or_else(|| failed("the shape of its input is open; build the model before saving it"))?;
            first.reads = vec![INPUT];
            let config = &Value::Null;
            let input_dims = Some(dims);
            let input = Entry {
                name: INPUT,
                class: "InputLayer",
                config,
                reads: vec![],
                arguments: None,
                number: 0,
                input_dims,
            };
            entries.insert(0, input);
        }
        let output = if sequential {
            entries.last().map(|last| last.name)
        } else {
            let outputs = &config["output_layers"];
            match outputs.as_array().map(Vec::as_slice) {
                Some([Value::String(name), ..]) => Some(name.as_str()),
                Some([one]) => one[0].as_str(),
                _ => return Err(malformed(format!("it has several outputs, and ours one: {outputs}"))),
            }
        };
        let output = output.ok_or_else(|| malformed("it has no layers"))?;
        Ok(Self { entries, output })
    }

    fn network(self, store: &Store<'_>) -> Result<Network, Error> {
        let mut building = Building::default();
        let entries = in_order(&self.entries)?;
        let mut loss = None;
        for entry in entries {
            let failed =
                |reason: String| Error::Layer { node: entry.name.to_string(), kind: entry.class.to_string(), reason };
            if entry.class == "InputLayer" {
                let dims = entry.input_dims.clone();
                let dims = dims.ok_or_else(|| failed("its shape is open in more than the rows".to_string()))?;
                let size = dims.iter().try_fold(1usize, |size, dim| size.checked_mul(*dim));
                if size.is_none_or(|size| size > MOST_VALUES) {
                    return Err(failed(format!("a row of it is {dims:?}, more than {MOST_VALUES} values")));
                }
                building.origins.insert(entry.name, if dims.is_empty() { vec![1] } else { dims });
                continue;
            }
            let is_output = entry.name == self.output;
            let weights = store.layer(entry.name, entry.class, entry.number).map_err(failed)?;
            let read = layers::read(entry, weights, is_output).map_err(failed)?;
            let readers = |name: &str| self.entries.iter().filter(|other| other.reads.contains(&name)).count();
            match read {
                Read::Layer { layer, weights, ends } => {
                    loss = loss.or(ends);
                    building.layer(entry, layer, weights).map_err(failed)?;
                }
                Read::Nothing { ends } => {
                    loss = loss.or(ends);
                    building.same(entry).map_err(failed)?;
                }
                Read::Normalized { mean, deviation } => {
                    building.normalized(entry, &mean, &deviation, readers(entry.reads[0]) == 1).map_err(failed)?;
                }
            }
        }
        building.finish(self.output, loss)
    }
}

/// Of a row of an input.
const MOST_VALUES: usize = 1 << 24;

/// What a Sequential model's input is called where it has no layer of its own.
const INPUT: &str = "input";

/// Dimensions of a row; `None` where they are open.
fn dims(shape: Option<&Vec<Value>>) -> Option<Vec<usize>> {
    shape?.get(1..)?.iter().map(|dim| dim.as_u64().filter(|dim| *dim > 0).map(|dim| dim as usize)).collect()
}

/// Names of layers that a layer is called with, once, and what it is called with besides.
fn calls(nodes: &Value) -> Result<(Vec<&str>, Option<&Value>), &'static str> {
    let nodes = nodes.as_array().map(Vec::as_slice).unwrap_or_default();
    let [node] = nodes else {
        return if nodes.is_empty() {
            Ok((Vec::new(), None))
        } else {
            Err("it is called several times; ours are called once")
        };
    };
    let mut names = Vec::new();
    // Of Keras 2: [[name, node, tensor, arguments], …].
    if let Some(calls) = node.as_array() {
        names.extend(calls.iter().filter_map(|call| call[0].as_str()));
        return Ok((names, None));
    }
    for key in ["args", "kwargs"] {
        tensors(&node[key], 0, &mut names);
    }
    Ok((names, node.get("kwargs")))
}

fn tensors<'a>(value: &'a Value, depth: usize, names: &mut Vec<&'a str>) {
    if value["class_name"] == "__keras_tensor__" {
        names.extend(value["config"]["keras_history"][0].as_str());
        return;
    }
    if depth < 4 {
        match value {
            Value::Array(values) => values.iter().for_each(|value| tensors(value, depth + 1, names)),
            Value::Object(values) => values.values().for_each(|value| tensors(value, depth + 1, names)),
            _ => {}
        }
    }
}

/// Each behind those that it reads.
fn in_order<'b, 'a>(entries: &'b [Entry<'a>]) -> Result<Vec<&'b Entry<'a>>, Error> {
    let mut ordered: Vec<&Entry<'a>> = Vec::with_capacity(entries.len());
    let mut known: BTreeSet<&str> = BTreeSet::new();
    let mut waiting: Vec<&Entry<'a>> = entries.iter().collect();
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain(|entry| {
            let ready = entry.reads.iter().all(|read| known.contains(read));
            if ready {
                known.insert(entry.name);
                ordered.push(entry);
            }
            !ready
        });
        if waiting.len() == before {
            let names: Vec<&str> = waiting.iter().take(3).map(|entry| entry.name).collect();
            return Err(malformed(format!("layers {} read what is not there, or each other", names.join(", "))));
        }
    }
    Ok(ordered)
}

/// The network as far as it goes.
#[derive(Default)]
struct Building<'a> {
    /// Dimensions of a row of each input of the file.
    origins: BTreeMap<&'a str, Vec<usize>>,
    /// Inputs that layers read, by name.
    inputs: BTreeMap<String, InputState>,
    layers: Vec<Node>,
    weights: BTreeMap<String, (Vec<usize>, std::rc::Rc<Vec<f32>>)>,
    /// What stands for a layer that does nothing here.
    stands_for: BTreeMap<&'a str, String>,
}

impl<'a> Building<'a> {
    /// What a layer reads, by our names. `step` is what is done with an input that nothing was done with.
    fn read(&mut self, name: &str, step: Preprocess) -> Result<String, String> {
        if let Some(stands) = self.stands_for.get(name) {
            return Ok(stands.clone());
        }
        let Some(dims) = self.origins.get(name) else { return Ok(name.to_string()) };
        match self.inputs.get(name) {
            Some(state) if state.input.step == step => {}
            Some(state) => {
                return Err(format!(
                    "it reads input '{name}' as {}, another as {}",
                    step.kind(),
                    state.input.step.kind()
                ));
            }
            None => {
                self.inputs.insert(name.to_string(), input_of(name, dims, step, State::Nothing));
            }
        }
        Ok(name.to_string())
    }

    fn layer(&mut self, entry: &Entry<'a>, layer: Layer, weights: Vec<weights::Named>) -> Result<(), String> {
        let step = match &layer {
            Layer::Embedding { vocabulary, .. } => Preprocess::Ids { size: *vocabulary },
            _ => Preprocess::Numbers,
        };
        let mut reads: Vec<&str> = entry.reads.clone();
        if matches!(layer, Layer::Attention { .. }) {
            reads.dedup();
            if reads.len() != 1 {
                return Err("its query, key and value differ; ours is self-attention".to_string());
            }
        }
        let inputs = reads.into_iter().map(|read| self.read(read, step.clone())).collect::<Result<_, _>>()?;
        for (name, dims, values) in weights {
            self.weights.insert(format!("{}.{name}", entry.name), (dims, values.into()));
        }
        self.layers.push(Node { name: entry.name.to_string(), inputs, layer });
        Ok(())
    }

    fn same(&mut self, entry: &Entry<'a>) -> Result<(), String> {
        let [read] = entry.reads[..] else { return Err(format!("it reads {} layers", entry.reads.len())) };
        let stands = self.read(read, Preprocess::Numbers)?;
        self.stands_for.insert(entry.name, stands);
        Ok(())
    }

    /// `alone`: no other layer reads the input.
    fn normalized(&mut self, entry: &Entry<'a>, mean: &[f32], deviation: &[f32], alone: bool) -> Result<(), String> {
        let [read] = entry.reads[..] else { return Err(format!("it reads {} layers", entry.reads.len())) };
        let Some(dims) = self.origins.get(read) else {
            return Err("it normalises what a layer gives; only inputs are normalised here".to_string());
        };
        let width: usize = dims.iter().product();
        let spread = |values: &[f32]| -> Result<Vec<f32>, String> {
            if values.is_empty() || !width.is_multiple_of(values.len()) {
                return Err(format!("it has {} values for rows of {dims:?}", values.len()));
            }
            Ok(values.iter().copied().cycle().take(width).collect())
        };
        let learned = crate::normalization::Normalization { mean: spread(mean)?, deviation: spread(deviation)? };
        let mut state = input_of(read, dims, Preprocess::Normalize, State::Normalization(learned));
        if !alone {
            state.input.name = entry.name.to_string();
        }
        self.stands_for.insert(entry.name, state.input.name.clone());
        self.inputs.insert(state.input.name.clone(), state);
        Ok(())
    }

    fn finish(self, output: &str, loss: Option<Loss>) -> Result<Network, Error> {
        let output = self.stands_for.get(output).cloned().unwrap_or_else(|| output.to_string());
        let mut layers = self.layers;
        // Layers that lead nowhere would not be trained.
        let mut live = BTreeSet::from([output.clone()]);
        for node in layers.iter().rev() {
            if live.contains(&node.name) {
                live.extend(node.inputs.iter().cloned());
            }
        }
        layers.retain(|node| live.contains(&node.name));
        let mut inputs: Vec<InputState> = Vec::new();
        for name in layers.iter().flat_map(|node| &node.inputs) {
            if let Some(state) = self.inputs.get(name)
                && !inputs.contains(state)
            {
                inputs.push(state.clone());
            }
        }
        Ok(Network {
            inputs,
            layers,
            output,
            weights: self.weights,
            loss,
            classes: Vec::new(),
            label: None,
            features: None,
        })
    }
}

#[cfg(test)]
mod tests;
