//! Nodes, weights and names of a graph as ONNX has them.

use super::schema::{
    AttributeProto, NodeProto, StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto::Dimension, type_proto::Tensor,
};
use super::{attribute_type, data_type};
use crate::bytes;
use std::collections::BTreeSet;

/// What the batch is called in shapes.
const BATCH: &str = "batch";

/// A graph that grows from its inputs to its outputs.
#[derive(Default)]
pub struct Writer {
    pub nodes: Vec<NodeProto>,
    pub initializers: Vec<TensorProto>,
    /// All names of tensors so far.
    names: BTreeSet<String>,
}

impl Writer {
    /// `name`, or that with a number where something is called so already.
    pub fn fresh(&mut self, name: &str) -> String {
        let mut fresh = name.to_string();
        let mut number = 1;
        while !self.names.insert(fresh.clone()) {
            number += 1;
            fresh = format!("{name}_{number}");
        }
        fresh
    }

    /// Adds a node called `name` that gives one tensor of that name; the name that the tensor got.
    pub fn node(&mut self, name: &str, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.fresh(name);
        self.node_of(op, inputs, vec![output.clone()], attributes);
        output
    }

    pub fn node_of(&mut self, op: &str, inputs: &[&str], output: Vec<String>, attribute: Vec<AttributeProto>) {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(ToString::to_string).collect(),
            name: output.iter().find(|name| !name.is_empty()).cloned().unwrap_or_default(),
            output,
            op_type: op.to_string(),
            attribute,
            domain: String::new(),
        });
    }

    pub fn reals(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        self.initializer(name, dims, data_type::FLOAT, bytes::of_f32(values).to_vec())
    }

    pub fn wholes(&mut self, name: &str, dims: &[usize], values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, dims, data_type::INT64, bytes)
    }

    fn initializer(&mut self, name: &str, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> String {
        let name = self.fresh(name);
        let dims = dims.iter().map(|dim| *dim as i64).collect();
        self.initializers.push(TensorProto { dims, data_type, name: name.clone(), raw_data, ..TensorProto::default() });
        name
    }

    /// `Reshape` of each row to `dims`.
    pub fn reshaped(&mut self, name: &str, input: &str, dims: &[usize]) -> String {
        // 0: as it is there.
        let shape: Vec<i64> = std::iter::once(0).chain(dims.iter().map(|dim| *dim as i64)).collect();
        let shape = self.wholes(&format!("{name}/shape"), &[shape.len()], &shape);
        self.node(name, "Reshape", &[input, &shape], Vec::new())
    }

    pub fn transposed(&mut self, name: &str, input: &str, order: &[i64]) -> String {
        self.node(name, "Transpose", &[input], vec![wholes("perm", order)])
    }
}

pub fn whole(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_string(), i, r#type: attribute_type::INT, ..AttributeProto::default() }
}

pub fn real(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.to_string(), f, r#type: attribute_type::FLOAT, ..AttributeProto::default() }
}

pub fn wholes(name: &str, ints: &[i64]) -> AttributeProto {
    let ints = ints.to_vec();
    AttributeProto { name: name.to_string(), ints, r#type: attribute_type::INTS, ..AttributeProto::default() }
}

pub fn texts<'a>(name: &str, texts: impl Iterator<Item = &'a str>) -> AttributeProto {
    let strings = texts.map(|text| text.as_bytes().to_vec()).collect();
    AttributeProto { name: name.to_string(), strings, r#type: attribute_type::STRINGS, ..AttributeProto::default() }
}

/// A tensor of any number of rows.
pub fn value_info(name: &str, elem_type: i32, dims: &[usize], doc_string: String) -> ValueInfoProto {
    let batch = Dimension { dim_value: None, dim_param: Some(BATCH.to_string()) };
    let others = dims.iter().map(|dim| Dimension { dim_value: Some(*dim as i64), dim_param: None });
    let shape = TensorShapeProto { dim: std::iter::once(batch).chain(others).collect() };
    let tensor_type = Some(Tensor { elem_type, shape: Some(shape) });
    ValueInfoProto { name: name.to_string(), r#type: Some(TypeProto { tensor_type }), doc_string }
}

pub fn entry(key: &str, value: String) -> StringStringEntryProto {
    StringStringEntryProto { key: key.to_string(), value }
}
