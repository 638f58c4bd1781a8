//! Layers with ONNX's operators: values stand in them as in ours, channels last; an operator that wants them first stands
//! between two transpositions, which runtimes cancel against each other.

use super::super::schema::AttributeProto;
use super::super::write::{Writer, real, whole, wholes};
use crate::exchange::Error;
use crate::graph::operation::Shape;
use crate::graph::ops::Axis;
use crate::graph::{Graph, layers};
use crate::registry::Manifest;
use jobs::train::{Activation, Combine, Layer, Node, Padding};
use std::collections::BTreeMap;

/// The dense layer that is behind the last node where the manifest names no output.
const OUTPUT: &str = "output";

struct Layers<'a> {
    writer: &'a mut Writer,
    graph: &'a Graph<f32>,
    /// Tensor and shape that a name stands for.
    names: BTreeMap<String, (String, Shape)>,
    last: Option<String>,
}

/// Adds all layers; the tensor of the output, and its shape.
pub fn write(
    writer: &mut Writer,
    manifest: &Manifest,
    graph: &Graph<f32>,
    sources: Vec<(String, (String, Shape))>,
) -> Result<(String, Shape), Error> {
    let last = match &sources[..] {
        [(only, _)] => Some(only.clone()),
        _ => None,
    };
    let mut all = Layers { writer, graph, names: sources.into_iter().collect(), last };
    for node in &manifest.layers {
        all.put(node)?;
    }
    let output = match &manifest.output {
        Some(output) => output.as_str(),
        None => {
            let layer = Layer::dense(manifest.outputs, Activation::Linear);
            all.put(&Node { name: OUTPUT.to_string(), inputs: Vec::new(), layer })?;
            OUTPUT
        }
    };
    all.names.remove(output).ok_or_else(|| strange(output, "it is no layer"))
}

/// The manifest was loaded, and so its graph was built; still it comes from a file.
fn strange(node: &str, reason: &str) -> Error {
    Error::Layer { node: node.to_string(), kind: "layer".to_string(), reason: reason.to_string() }
}

impl Layers<'_> {
    fn put(&mut self, node: &Node) -> Result<(), Error> {
        let wrong =
            |reason: String| Error::Layer { node: node.name.clone(), kind: node.layer.kind().to_string(), reason };
        let mut reads = node.inputs.clone();
        if reads.is_empty() {
            reads.extend(self.last.clone());
        }
        let known: Option<Vec<(String, Shape)>> = reads.iter().map(|name| self.names.get(name).cloned()).collect();
        let Some(known) = known.filter(|known| !known.is_empty()) else {
            return Err(wrong(format!("it reads {}, not all of which stand before it", reads.join(", "))));
        };
        let (tensors, shapes): (Vec<String>, Vec<Shape>) = known.into_iter().unzip();
        self.last = Some(node.name.clone());
        let width = shapes[0].dims.last().copied().unwrap_or(0);
        if let Some(parts) = layers::parts(node, &reads[0], width) {
            return parts.iter().try_for_each(|part| self.put(part));
        }
        let tensors: Vec<&str> = tensors.iter().map(String::as_str).collect();
        let (tensor, shape) = if let Some(shape) = layers::renamed(&node.layer, &shapes) {
            let shape = shape.map_err(wrong)?;
            (self.writer.reshaped(&node.name, tensors[0], &shape.dims), shape)
        } else {
            let shape = layers::built(&node.name, &node.layer, &shapes).map_err(wrong)?.output;
            (self.layer(node, &tensors, &shapes[0], &shape)?, shape)
        };
        self.names.insert(node.name.clone(), (tensor, shape));
        Ok(())
    }

    /// Dimensions and values of a parameter.
    fn parameter(&self, node: &Node, name: &str) -> Result<(&[usize], &[f32]), Error> {
        let full = format!("{}.{name}", node.name);
        let slot = self.graph.slots().iter().find(|slot| slot.name == full);
        let slot = slot.ok_or_else(|| strange(&node.name, &format!("it has no {name}")))?;
        Ok((&slot.dims, &self.graph.weights()[slot.range.clone()]))
    }

    /// A parameter as it is.
    fn weight(&mut self, node: &Node, name: &str) -> Result<String, Error> {
        let (dims, values) = self.parameter(node, name)?;
        let (dims, values) = (dims.to_vec(), values.to_vec());
        Ok(self.writer.reals(&format!("{}.{name}", node.name), &dims, &values))
    }

    fn layer(&mut self, node: &Node, inputs: &[&str], read: &Shape, gives: &Shape) -> Result<String, Error> {
        let (name, input) = (node.name.as_str(), inputs[0]);
        Ok(match &node.layer {
            Layer::Dense { activation, bias, .. } => {
                let weight = self.weight(node, "weight")?;
                let bias = if *bias { Some(self.weight(node, "bias")?) } else { None };
                let product = match bias {
                    Some(bias) if read.dims.len() == 1 => {
                        self.writer.node(name, "Gemm", &[input, &weight, &bias], Vec::new())
                    }
                    Some(bias) => {
                        let product = self.writer.node(&format!("{name}/product"), "MatMul", &[input, &weight], vec![]);
                        self.writer.node(name, "Add", &[&product, &bias], Vec::new())
                    }
                    None => self.writer.node(name, "MatMul", &[input, &weight], Vec::new()),
                };
                self.activation(name, *activation, product)
            }
            Layer::Activation { function: Activation::Linear } => {
                self.writer.node(name, "Identity", &[input], Vec::new())
            }
            Layer::Activation { function } => self.activation(name, *function, input.to_string()),
            Layer::Dropout { rate } => {
                let rate = self.writer.reals(&format!("{name}/rate"), &[], &[*rate as f32]);
                self.writer.node(name, "Dropout", &[input, &rate], Vec::new())
            }
            Layer::Embedding { combine, .. } => {
                let table = self.weight(node, "table")?;
                let rows = self.writer.node(name, "Gather", &[&table, input], Vec::new());
                match combine {
                    Combine::None => rows,
                    Combine::Sum => self.reduced(name, "ReduceSum", &rows, &[-2]),
                    Combine::Mean => self.reduced(name, "ReduceMean", &rows, &[-2]),
                }
            }
            Layer::Position => {
                let weight = self.weight(node, "weight")?;
                self.writer.node(name, "Add", &[input, &weight], Vec::new())
            }
            Layer::Conv1d { kernel, stride, padding, activation, .. } => {
                self.convolution(node, input, read, &[*kernel], &[*stride], *padding, *activation)?
            }
            Layer::Conv2d { kernel, stride, padding, activation, .. } => {
                self.convolution(node, input, read, kernel, stride, *padding, *activation)?
            }
            Layer::MaxPool { size, stride, padding } => {
                self.pool(node, "MaxPool", input, read, (size, stride, *padding))?
            }
            Layer::AveragePool { size, stride, padding } => {
                self.pool(node, "AveragePool", input, read, (size, stride, *padding))?
            }
            Layer::GlobalMaxPool => self.over_places(name, "ReduceMax", input, read),
            Layer::GlobalAveragePool => self.over_places(name, "ReduceMean", input, read),
            Layer::BatchNorm { momentum, epsilon } => {
                let parameters = ["weight", "bias", "mean", "variance"];
                let [weight, bias, mean, variance] = parameters.map(|parameter| self.weight(node, parameter));
                let parameters = [weight?, bias?, mean?, variance?];
                let attributes = vec![real("epsilon", *epsilon as f32), real("momentum", *momentum as f32)];
                let [weight, bias, mean, variance] = &parameters;
                self.channels_first(name, input, read, |writer, name, input| {
                    let inputs = [input, weight, bias, mean, variance];
                    writer.node(name, "BatchNormalization", &inputs, attributes)
                })
            }
            Layer::LayerNorm { epsilon } => {
                let (weight, bias) = (self.weight(node, "weight")?, self.weight(node, "bias")?);
                let attributes = vec![whole("axis", -1), real("epsilon", *epsilon as f32)];
                self.writer.node(name, "LayerNormalization", &[input, &weight, &bias], attributes)
            }
            Layer::RmsNorm { epsilon } => {
                let weight = self.weight(node, "weight")?;
                let epsilon = self.writer.reals(&format!("{name}/epsilon"), &[], &[*epsilon as f32]);
                let square = self.writer.node(&format!("{name}/square"), "Mul", &[input, input], Vec::new());
                let last = self.writer.wholes(&format!("{name}/last"), &[1], &[-1]);
                let mean = self.writer.node(&format!("{name}/mean"), "ReduceMean", &[&square, &last], Vec::new());
                let sum = self.writer.node(&format!("{name}/sum"), "Add", &[&mean, &epsilon], Vec::new());
                let root = self.writer.node(&format!("{name}/root"), "Sqrt", &[&sum], Vec::new());
                let normal = self.writer.node(&format!("{name}/normal"), "Div", &[input, &root], Vec::new());
                self.writer.node(name, "Mul", &[&normal, &weight], Vec::new())
            }
            Layer::Gru { units, sequences } => {
                // Ours are reset, update, new; ONNX's update, reset, new.
                let biases = [
                    self.by_gate(node, "input_bias", *units, &[1, 0, 2])?,
                    self.by_gate(node, "hidden_bias", *units, &[1, 0, 2])?,
                ];
                self.recurrent(node, input, ("GRU", *units, *sequences), &[1, 0, 2], biases.concat())?
            }
            Layer::Lstm { units, sequences } => {
                // Ours are input, forget, cell, output; ONNX's input, output, forget, cell.
                let mut bias = self.by_gate(node, "bias", *units, &[0, 3, 1, 2])?;
                bias.resize(8 * units, 0.0);
                self.recurrent(node, input, ("LSTM", *units, *sequences), &[0, 3, 1, 2], bias)?
            }
            Layer::Attention { heads, causal } => self.attention(node, input, read, *heads, *causal)?,
            Layer::Add if inputs.len() == 2 => self.writer.node(name, "Add", inputs, Vec::new()),
            Layer::Add => self.writer.node(name, "Sum", inputs, Vec::new()),
            Layer::Concat => self.writer.node(name, "Concat", inputs, vec![whole("axis", -1)]),
            Layer::Permute { dims } => {
                let order: Vec<i64> = std::iter::once(0).chain(dims.iter().map(|dim| *dim as i64)).collect();
                self.writer.transposed(name, input, &order)
            }
            Layer::Flatten | Layer::Reshape { .. } | Layer::Transformer { .. } => {
                return Err(strange(name, &format!("{:?} is no operation that gives {gives:?}", node.layer)));
            }
        })
    }

    fn activation(&mut self, name: &str, activation: Activation, input: String) -> String {
        let mut node = |part: &str, op: &str, inputs: &[&str], attributes| {
            let name = if part.is_empty() { name.to_string() } else { format!("{name}/{part}") };
            self.writer.node(&name, op, inputs, attributes)
        };
        let input = input.as_str();
        match activation {
            Activation::Linear => input.to_string(),
            Activation::Relu => node("relu", "Relu", &[input], Vec::new()),
            Activation::LeakyRelu => node("leaky_relu", "LeakyRelu", &[input], vec![real("alpha", 0.01)]),
            Activation::Elu => node("elu", "Elu", &[input], vec![real("alpha", 1.0)]),
            Activation::Tanh => node("tanh", "Tanh", &[input], Vec::new()),
            Activation::Sigmoid => node("sigmoid", "Sigmoid", &[input], Vec::new()),
            Activation::Softplus => node("softplus", "Softplus", &[input], Vec::new()),
            Activation::Silu => {
                let gate = node("gate", "Sigmoid", &[input], Vec::new());
                node("silu", "Mul", &[input, &gate], Vec::new())
            }
            Activation::Gelu => {
                let mut number = |part: &str, value: f32| self.writer.reals(&format!("{name}/{part}"), &[], &[value]);
                let root = number("root_of_two", std::f32::consts::SQRT_2);
                let (one, half) = (number("one", 1.0), number("half", 0.5));
                let mut node = |part: &str, op: &str, inputs: &[&str]| {
                    self.writer.node(&format!("{name}/{part}"), op, inputs, Vec::new())
                };
                let scaled = node("scaled", "Div", &[input, &root]);
                let erf = node("erf", "Erf", &[&scaled]);
                let sum = node("sum", "Add", &[&erf, &one]);
                let product = node("both", "Mul", &[input, &sum]);
                node("gelu", "Mul", &[&product, &half])
            }
        }
    }

    fn reduced(&mut self, name: &str, op: &str, input: &str, axes: &[i64]) -> String {
        let axes = self.writer.wholes(&format!("{name}/axes"), &[axes.len()], axes);
        self.writer.node(name, op, &[input, &axes], vec![whole("keepdims", 0)])
    }

    /// Over all dimensions of a row but the last.
    fn over_places(&mut self, name: &str, op: &str, input: &str, read: &Shape) -> String {
        let axes: Vec<i64> = (1..read.dims.len() as i64).collect();
        if axes.is_empty() {
            return self.writer.node(name, "Identity", &[input], Vec::new());
        }
        self.reduced(name, op, input, &axes)
    }

    /// `[batch, …, channels]` is `[batch, channels, …]` within.
    fn channels_first(
        &mut self,
        name: &str,
        input: &str,
        read: &Shape,
        within: impl FnOnce(&mut Writer, &str, &str) -> String,
    ) -> String {
        let rank = read.dims.len() as i64;
        if rank == 1 {
            return within(self.writer, name, input);
        }
        let to: Vec<i64> = [0, rank].into_iter().chain(1..rank).collect();
        let back: Vec<i64> = std::iter::once(0).chain(2..=rank).chain([1]).collect();
        let first = self.writer.transposed(&format!("{name}/channels_first"), input, &to);
        let output = within(self.writer, name, &first);
        self.writer.transposed(&format!("{name}/channels_last"), &output, &back)
    }

    #[expect(clippy::too_many_arguments, reason = "the settings of a convolution")]
    fn convolution(
        &mut self,
        node: &Node,
        input: &str,
        read: &Shape,
        kernel: &[usize],
        stride: &[usize],
        padding: Padding,
        activation: Activation,
    ) -> Result<String, Error> {
        let name = node.name.as_str();
        let attributes = windows(name, read, kernel, stride, padding)?;
        let (dims, values) = self.parameter(node, "weight")?;
        let (places, dims) = (kernel.iter().product::<usize>(), dims.to_vec());
        let [channels, filters] = [dims[dims.len() - 2], dims[dims.len() - 1]];
        let mut turned = Vec::with_capacity(values.len());
        for filter in 0..filters {
            for channel in 0..channels {
                turned.extend((0..places).map(|place| values[(place * channels + channel) * filters + filter]));
            }
        }
        let dims = [&[filters, channels], kernel].concat();
        let weight = self.writer.reals(&format!("{name}.weight"), &dims, &turned);
        let bias = self.weight(node, "bias")?;
        let output = self.channels_first(name, input, read, |writer, name, input| {
            writer.node(name, "Conv", &[input, &weight, &bias], attributes)
        });
        Ok(self.activation(name, activation, output))
    }

    fn pool(
        &mut self,
        node: &Node,
        op: &str,
        input: &str,
        read: &Shape,
        (size, stride, padding): (&[usize; 2], &[usize; 2], Padding),
    ) -> Result<String, Error> {
        let n = (read.dims.len() - 1).min(2);
        let attributes = windows(&node.name, read, &size[..n], &stride[..n], padding)?;
        Ok(self
            .channels_first(&node.name, input, read, |writer, name, input| writer.node(name, op, &[input], attributes)))
    }

    /// The columns of a parameter in another order of its gates, transposed.
    fn by_gate(&self, node: &Node, name: &str, units: usize, order: &[usize]) -> Result<Vec<f32>, Error> {
        let (_, values) = self.parameter(node, name)?;
        let columns = order.len() * units;
        let mut turned = Vec::with_capacity(values.len());
        for column in order.iter().flat_map(|gate| gate * units..(gate + 1) * units) {
            turned.extend(values.chunks_exact(columns).map(|row| row[column]));
        }
        Ok(turned)
    }

    fn recurrent(
        &mut self,
        node: &Node,
        input: &str,
        (op, units, sequences): (&str, usize, bool),
        gates: &[usize],
        biases: Vec<f32>,
    ) -> Result<String, Error> {
        let name = node.name.as_str();
        let part = |part: &str| format!("{name}/{part}");
        let fed = self.by_gate(node, "input_weight", units, gates)?;
        let hidden = self.by_gate(node, "hidden_weight", units, gates)?;
        let columns = gates.len() * units;
        let fed = self.writer.reals(&format!("{name}.input_weight"), &[1, columns, fed.len() / columns], &fed);
        let hidden = self.writer.reals(&format!("{name}.hidden_weight"), &[1, columns, units], &hidden);
        let bias = self.writer.reals(&format!("{name}.bias"), &[1, biases.len()], &biases);
        let by_step = self.writer.transposed(&part("by_step"), input, &[1, 0, 2]);
        let mut attributes = vec![whole("hidden_size", units as i64)];
        if op == "GRU" {
            attributes.push(whole("linear_before_reset", 1));
        }
        let output = self.writer.fresh(name);
        let outputs = if sequences { vec![output.clone()] } else { vec![String::new(), output.clone()] };
        self.writer.node_of(op, &[&by_step, &fed, &hidden, &bias], outputs, attributes);
        let direction = self.writer.wholes(&part("direction"), &[1], &[i64::from(sequences)]);
        let states = self.writer.node(&part("states"), "Squeeze", &[&output, &direction], Vec::new());
        Ok(if sequences { self.writer.transposed(&part("by_row"), &states, &[1, 0, 2]) } else { states })
    }

    fn attention(
        &mut self,
        node: &Node,
        input: &str,
        read: &Shape,
        heads: usize,
        causal: bool,
    ) -> Result<String, Error> {
        let name = node.name.as_str();
        let part = |part: &str| format!("{name}/{part}");
        let (length, width) = (read.dims[0], read.dims[1]);
        let depth = width / heads;
        let [in_weight, in_bias, out_weight, out_bias] =
            ["in_weight", "in_bias", "out_weight", "out_bias"].map(|parameter| self.weight(node, parameter));
        let product = self.writer.node(&part("product"), "MatMul", &[input, &in_weight?], Vec::new());
        let joined = self.writer.node(&part("joined"), "Add", &[&product, &in_bias?], Vec::new());
        let sizes = self.writer.wholes(&part("sizes"), &[3], &[width as i64; 3]);
        let thirds = ["queries", "keys", "values"].map(|third| self.writer.fresh(&part(third)));
        self.writer.node_of("Split", &[&joined, &sizes], thirds.to_vec(), vec![whole("axis", -1)]);
        let orders: [&[i64]; 3] = [&[0, 2, 1, 3], &[0, 2, 3, 1], &[0, 2, 1, 3]];
        let by_head: Vec<String> = thirds
            .iter()
            .zip(orders)
            .map(|(third, order)| {
                let split = self.writer.reshaped(&format!("{third}_split"), third, &[length, heads, depth]);
                self.writer.transposed(&format!("{third}_by_head"), &split, order)
            })
            .collect();
        let scores = self.writer.node(&part("scores"), "MatMul", &[&by_head[0], &by_head[1]], Vec::new());
        let scale = self.writer.reals(&part("scale"), &[], &[1.0 / (depth as f32).sqrt()]);
        let mut scores = self.writer.node(&part("scaled"), "Mul", &[&scores, &scale], Vec::new());
        if causal {
            let places = (0..length).flat_map(|query| (0..length).map(move |key| (query, key)));
            let mask: Vec<f32> = places.map(|(query, key)| if key > query { f32::NEG_INFINITY } else { 0.0 }).collect();
            let mask = self.writer.reals(&part("mask"), &[length, length], &mask);
            scores = self.writer.node(&part("masked"), "Add", &[&scores, &mask], Vec::new());
        }
        let shares = self.writer.node(&part("shares"), "Softmax", &[&scores], vec![whole("axis", -1)]);
        let outputs = self.writer.node(&part("by_head"), "MatMul", &[&shares, &by_head[2]], Vec::new());
        let by_place = self.writer.transposed(&part("by_place"), &outputs, &[0, 2, 1, 3]);
        let merged = self.writer.reshaped(&part("merged"), &by_place, &[length, width]);
        let product = self.writer.node(&part("out_product"), "MatMul", &[&merged, &out_weight?], Vec::new());
        Ok(self.writer.node(name, "Add", &[&product, &out_bias?], Vec::new()))
    }
}

/// Of a convolution or a pool over all dimensions of a row but the last.
fn windows(
    name: &str,
    read: &Shape,
    size: &[usize],
    stride: &[usize],
    padding: Padding,
) -> Result<Vec<AttributeProto>, Error> {
    let (mut before, mut behind) = (Vec::new(), Vec::new());
    for ((len, size), stride) in read.dims.iter().zip(size).zip(stride) {
        let axis = Axis::new("dimension", *len, *size, *stride, padding).map_err(|reason| strange(name, &reason))?;
        before.push(axis.padding().0);
        behind.push(axis.padding().1);
    }
    let pads = [before, behind].concat();
    let of = |values: &[usize]| values.iter().map(|value| *value as i64).collect::<Vec<_>>();
    Ok(vec![wholes("kernel_shape", &of(size)), wholes("strides", &of(stride)), wholes("pads", &of(&pads))])
}
