//! An ONNX file as layers of ours.
//!
//! The graph is walked from its output back, so what only other outputs need is never looked at. Each operator gives a
//! [`Value`]: what flows through layers, a constant, or a part of something that takes several operators to say.

mod attention;
mod elementwise;
mod finish;
mod inputs;
mod operators;
mod recurrent;
mod windows;

use super::READ;
use super::constant::{self, Budget, Constant, Values};
use super::file::{self, Attributes};
use super::flow::{Flow, Heads, Layers};
use super::schema::{GraphProto, NodeProto};
use crate::exchange::{Error, Network};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

/// What a tensor of the file is.
#[derive(Clone, Debug)]
pub enum Value {
    Flow(Flow),
    Constant(Rc<Constant>),
    Partial(Partial),
}

/// A beginning.
#[derive(Clone, Debug)]
pub enum Partial {
    /// exp(x) / sum(exp(x)) over the last dimension.
    Softmax(Flow),
    /// erf(x / √2).
    Erf(Flow),
    /// (1 + erf(x / √2)) times a number.
    OneAndErf(Flow, f64),
    /// x (1 + erf(x / √2)) times a number.
    Gelu(Flow, f64),
    Square(Flow),
    /// Over the last dimension, and what was added.
    MeanSquare(Flow, f64),
    RootMeanSquare {
        of: Flow,
        epsilon: f64,
        inverse: bool,
    },
    /// x over the root of its mean square.
    Normal(Flow, f64),
    /// Whether x is above a number.
    Above(Flow, f64),
    /// Products of queries and keys.
    Scores(Box<Heads>),
    /// Their softmax.
    Shares(Box<Heads>),
    /// Whether shares are no numbers, which exporters ask of rows that see nothing.
    AreNaN(Box<Heads>),
}

/// What an operator reads and is called.
pub struct Operator<'a> {
    pub op: &'a str,
    /// What a layer that it becomes would be called.
    pub wish: String,
    pub attributes: Attributes<'a>,
    pub inputs: Vec<Option<Value>>,
    pub names: &'a [String],
}

impl Operator<'_> {
    pub fn input(&self, at: usize) -> Result<&Value, String> {
        self.inputs.get(at).and_then(Option::as_ref).ok_or_else(|| format!("it lacks input {at}"))
    }

    pub fn flow(&self, at: usize) -> Result<&Flow, String> {
        match self.input(at)? {
            Value::Flow(flow) => Ok(flow),
            Value::Constant(_) => Err("it reads a constant where rows are expected".to_string()),
            Value::Partial(partial) => Err(partial.unfinished()),
        }
    }

    pub fn constant(&self, at: usize) -> Result<&Constant, String> {
        match self.input(at)? {
            Value::Constant(constant) => Ok(constant),
            _ => Err(format!("its input {at} depends on the rows; it must be a constant")),
        }
    }

    pub fn optional(&self, at: usize) -> Result<Option<&Constant>, String> {
        if self.inputs.get(at).is_some_and(Option::is_some) { self.constant(at).map(Some) } else { Ok(None) }
    }
}

impl Partial {
    /// What is said of one that its operator cannot go on with.
    pub fn unfinished(&self) -> String {
        let what = match self {
            Self::Softmax(_) => "a softmax that neither ends the model nor is part of an attention",
            Self::Erf(_) | Self::OneAndErf(..) | Self::Gelu(..) => "a part of a gelu that is not whole",
            Self::Square(_) | Self::MeanSquare(..) | Self::RootMeanSquare { .. } => {
                "a part of an RMS norm that is not whole"
            }
            Self::Normal(..) => "an RMS norm without weights",
            Self::Above(..) => "a comparison",
            Self::Scores(_) | Self::Shares(_) | Self::AreNaN(_) => "a part of an attention that is not whole",
        };
        format!("it reads {what}")
    }
}

struct Importer<'a> {
    nodes: HashMap<&'a str, &'a NodeProto>,
    values: HashMap<String, Value>,
    /// Operators that read a tensor.
    readers: HashMap<&'a str, usize>,
    layers: Layers,
    /// Version of the operators.
    opset: i64,
}

/// What the file beside `folder` says; `output` is the tensor that answers, by default the file's first.
pub fn import(bytes: &[u8], folder: Option<&Path>, output: Option<&str>) -> Result<Network, Error> {
    let model = file::read(bytes)?;
    let Some(graph) = &model.graph else {
        return Err(Error::Malformed { what: "the ONNX file", reason: "there is no graph in it".to_string() });
    };
    let metadata = inputs::metadata(&model)?;
    // A value for each byte of the file, and some for what small files make of little.
    let budget = Budget(bytes.len().saturating_add(1 << 24));
    let mut importer = Importer::new(graph, folder, budget)?;
    importer.opset = file::opset(&model).unwrap_or(*READ.end());
    importer.sources(graph, metadata.as_ref())?;
    let ours = metadata.as_ref().map(|metadata| metadata.output.as_str());
    let first = graph.output.first().map(|output| output.name.as_str());
    let Some(output) = output.or(ours).or(first).map(ToString::to_string) else {
        return Err(Error::Malformed { what: "the ONNX file", reason: "it has no output".to_string() });
    };
    importer.run(&output)?;
    importer.finish(&output, metadata)
}

impl<'a> Importer<'a> {
    fn new(graph: &'a GraphProto, folder: Option<&Path>, mut budget: Budget) -> Result<Self, Error> {
        let mut values = HashMap::new();
        for tensor in &graph.initializer {
            let constant = file::constant(tensor, folder, &mut budget)?;
            values.insert(tensor.name.clone(), Value::Constant(Rc::new(constant)));
        }
        let mut nodes = HashMap::new();
        let mut readers: HashMap<&str, usize> = HashMap::new();
        for node in &graph.node {
            for output in node.output.iter().filter(|output| !output.is_empty()) {
                if nodes.insert(output.as_str(), node).is_some() {
                    let reason = format!("two nodes give '{output}'");
                    return Err(Error::Malformed { what: "the ONNX file", reason });
                }
            }
            for input in &node.input {
                *readers.entry(input).or_default() += 1;
            }
        }
        Ok(Self { nodes, values, readers, layers: Layers::new(1, budget), opset: *READ.end() })
    }

    /// Finds out what a tensor is, and before it everything that it depends on.
    fn run(&mut self, output: &str) -> Result<(), Error> {
        let mut waiting: Vec<&NodeProto> = Vec::new();
        let mut begun: HashSet<*const NodeProto> = HashSet::new();
        let lacks = |name: &str| Error::Output {
            output: name.to_string(),
            reason: "the file has no such tensor, or a node that gives it reads itself".to_string(),
        };
        if !self.values.contains_key(output) {
            waiting.push(self.nodes.get(output).copied().ok_or_else(|| lacks(output))?);
        }
        while let Some(node) = waiting.last().copied() {
            let first_visit = begun.insert(std::ptr::from_ref(node));
            let mut missing = node.input.iter().filter(|name| !name.is_empty() && !self.values.contains_key(*name));
            if first_visit {
                let mut before = Vec::new();
                for name in missing {
                    let giver = self.nodes.get(name.as_str()).copied().ok_or_else(|| lacks(name))?;
                    if begun.contains(&std::ptr::from_ref(giver)) {
                        // Either it waits below, which is a circle, or it was run and did not give this.
                        return Err(lacks(name));
                    }
                    before.push(giver);
                }
                waiting.extend(before);
                continue;
            }
            if let Some(name) = missing.next() {
                return Err(lacks(name));
            }
            waiting.pop();
            if node.output.iter().all(|output| output.is_empty() || self.values.contains_key(output)) {
                continue;
            }
            self.node(node)?;
        }
        Ok(())
    }

    fn node(&mut self, node: &'a NodeProto) -> Result<(), Error> {
        let failed = |reason: String| Error::Node { node: called(node), op: node.op_type.clone(), reason };
        if !["", "ai.onnx"].contains(&node.domain.as_str()) {
            return Err(failed(format!("operators of '{}' are not known", node.domain)));
        }
        let inputs: Vec<Option<Value>> = node.input.iter().map(|name| self.values.get(name).cloned()).collect();
        let attributes = Attributes(node);
        let outputs = if node.op_type == "Constant" {
            vec![Value::Constant(Rc::new(attributes.constant(&mut self.layers.budget).map_err(failed)?))]
        } else if let Some(constants) = constants(&inputs) {
            let folded = constant::fold(&node.op_type, &attributes, &constants, &mut self.layers.budget);
            match folded.map_err(failed)? {
                Some(value) => vec![Value::Constant(Rc::new(value))],
                None => return Err(failed("it computes with constants alone what is not computed here".to_string())),
            }
        } else {
            let wish = self.wish(node);
            let operator = Operator { op: &node.op_type, wish, attributes, inputs, names: &node.input };
            self.operator(&operator, node.output.len()).map_err(failed)?
        };
        for (name, value) in node.output.iter().zip(outputs) {
            if !name.is_empty() {
                self.values.insert(name.clone(), value);
            }
        }
        Ok(())
    }

    /// What a layer that a node becomes is called: as its weights, if these have a name with a dot in it, else as the node.
    fn wish(&self, node: &NodeProto) -> String {
        let mut weights = node.input.iter().filter(|name| match self.values.get(*name) {
            Some(Value::Constant(constant)) => matches!(constant.values, Values::Reals(_)) && constant.size() > 1,
            _ => false,
        });
        let of_weights = weights.find_map(|name| Some(name.rsplit_once('.')?.0));
        let name = of_weights.unwrap_or_else(|| node.name.trim_start_matches('/'));
        let plain: String = name
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() || "_-".contains(letter) { letter } else { '_' })
            .take(80)
            .collect();
        if plain.is_empty() { node.op_type.to_lowercase() } else { plain }
    }

    /// Whether only one operator reads this input.
    fn read_once(&self, operator: &Operator<'_>, at: usize) -> bool {
        operator.names.get(at).is_some_and(|name| self.readers.get(name.as_str()) == Some(&1))
    }
}

fn called(node: &NodeProto) -> String {
    match (&node.name, node.output.first()) {
        (name, Some(output)) if name.is_empty() => output.clone(),
        (name, _) => name.clone(),
    }
}

/// The inputs of an operator that depends on no rows.
fn constants(inputs: &[Option<Value>]) -> Option<Vec<Option<&Constant>>> {
    inputs
        .iter()
        .map(|input| match input {
            None => Some(None),
            Some(Value::Constant(constant)) => Some(Some(&**constant)),
            Some(_) => None,
        })
        .collect()
}
