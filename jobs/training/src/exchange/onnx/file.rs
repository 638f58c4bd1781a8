//! An ONNX file as it lies on the disk: its messages, and the arrays in it and beside it.
//!
//! Invariant: nothing is allocated that the file has no bytes for, up to a fixed factor: messages are counted before they are
//! decoded, and an array must be as long as its shape says.

use super::constant::{Budget, Constant, Values};
use super::data_type::{self, BOOL, DOUBLE, FLOAT, INT32, INT64, STRING};
use super::schema::{AttributeProto, ModelProto, NodeProto, TensorProto};
use super::{READ, attribute_type};
use crate::bytes;
use crate::exchange::Error;
use prost::Message;
use std::path::Path;
use std::rc::Rc;

/// Nodes, tensors and attributes take some hundred bytes each once decoded, and real ones no less in the file than this.
const LEAST_OF_MESSAGE: usize = 8;

pub fn read(bytes: &[u8]) -> Result<ModelProto, Error> {
    let strange = |reason: String| Error::Malformed { what: "the ONNX file", reason };
    let Some(messages) = count(bytes, Kind::Model) else {
        return Err(strange("it is cut off, or no ONNX file".to_string()));
    };
    if messages > 1000 + bytes.len() / LEAST_OF_MESSAGE {
        return Err(strange(format!("{} bytes hold {messages} parts, most of which must be empty", bytes.len())));
    }
    let model = ModelProto::decode(bytes).map_err(|error| strange(error.to_string()))?;
    let Some(graph) = &model.graph else { return Err(strange("there is no graph in it".to_string())) };
    if graph.node.is_empty() {
        return Err(strange("its graph has no nodes".to_string()));
    }
    match opset(&model) {
        Some(version) if READ.contains(&version) => Ok(model),
        Some(version) => Err(Error::Opset { version, from: *READ.start(), to: *READ.end() }),
        None => Err(strange("it does not say of which version its operators are".to_string())),
    }
}

/// Version of the operators.
pub fn opset(model: &ModelProto) -> Option<i64> {
    let own = model.opset_import.iter().find(|set| set.domain.is_empty() || set.domain == "ai.onnx");
    own.map(|set| set.version)
}

/// Messages that hold others.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Leaf,
}

impl Kind {
    /// What a field of such a message holds, if it is a message that is counted.
    fn of_field(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) => Some(Self::Graph),
            (Self::Model, 8 | 14) => Some(Self::Leaf),
            (Self::Graph, 1) => Some(Self::Node),
            (Self::Graph, 5 | 11 | 12) => Some(Self::Leaf),
            (Self::Node, 5) => Some(Self::Attribute),
            (Self::Attribute, 5) => Some(Self::Leaf),
            _ => None,
        }
    }
}

/// How many messages there are within; `None` where the bytes are none.
fn count(mut bytes: &[u8], kind: Kind) -> Option<usize> {
    let mut messages = 1;
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let len = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (within, rest) = bytes.split_at_checked(len)?;
        bytes = rest;
        if let Some(kind) = kind.of_field(tag >> 3).filter(|_| tag & 7 == 2) {
            messages += if matches!(kind, Kind::Leaf) { 1 } else { count(within, kind)? };
        }
    }
    Some(messages)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The array that a message holds; `folder` is where the files lie that it may name.
pub fn constant(tensor: &TensorProto, folder: Option<&Path>, budget: &mut Budget) -> Result<Constant, Error> {
    let wrong = |reason: String| Error::Tensor { tensor: tensor.name.clone(), dims: tensor.dims.clone(), reason };
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect();
    let size = dims.as_ref().and_then(|dims| dims.iter().try_fold(1usize, |size, dim| size.checked_mul(*dim)));
    let (Some(dims), Some(size)) = (dims, size) else { return Err(wrong("that is no shape".to_string())) };
    let beside;
    let raw = if tensor.data_location == 1 {
        beside = external(tensor, folder).map_err(wrong)?;
        // What lies in another file is not in the size of this one.
        budget.0 = budget.0.saturating_add(4 * beside.len());
        &beside
    } else {
        &tensor.raw_data
    };
    let values = values(tensor, raw).map_err(wrong)?;
    let got = match &values {
        Values::Reals(values) => values.len(),
        Values::Wholes(values) => values.len(),
        Values::Words(values) => values.len(),
        Values::Same { .. } => size,
    };
    if got != size {
        return Err(wrong(format!("it holds {got} values of {size}")));
    }
    Ok(Constant { dims, values })
}

fn values(tensor: &TensorProto, raw: &[u8]) -> Result<Values, String> {
    let width = match tensor.data_type {
        FLOAT | INT32 => 4,
        INT64 | DOUBLE => 8,
        BOOL => 1,
        STRING => {
            let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).map_err(|_| "a text of it is no UTF-8");
            return Ok(Values::Words(Rc::new(tensor.string_data.iter().map(text).collect::<Result<_, _>>()?)));
        }
        other => {
            return Err(format!(
                "its values are {}; float, double, int32, int64, bool and string are read: convert the model to float",
                data_type::name(other)
            ));
        }
    };
    if !raw.len().is_multiple_of(width) {
        return Err(format!("{} bytes are no values of {width} bytes each", raw.len()));
    }
    let eight = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).unwrap_or_default();
    let four = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).unwrap_or_default();
    let wholes = |values: Vec<i64>| Values::Wholes(Rc::new(values));
    let reals = |values: Vec<f32>| Values::Reals(Rc::new(values));
    Ok(match (tensor.data_type, raw.is_empty()) {
        (FLOAT, false) => reals(bytes::to_f32(raw)),
        (FLOAT, true) => reals(tensor.float_data.clone()),
        (DOUBLE, false) => reals(raw.chunks_exact(8).map(|bytes| f64::from_le_bytes(eight(bytes)) as f32).collect()),
        (DOUBLE, true) => reals(tensor.double_data.iter().map(|value| *value as f32).collect()),
        (INT64, false) => wholes(raw.chunks_exact(8).map(|bytes| i64::from_le_bytes(eight(bytes))).collect()),
        (INT64, true) => wholes(tensor.int64_data.clone()),
        (INT32, false) => wholes(raw.chunks_exact(4).map(|b| i64::from(i32::from_le_bytes(four(b)))).collect()),
        (BOOL, false) => wholes(raw.iter().map(|flag| i64::from(*flag != 0)).collect()),
        _ => wholes(tensor.int32_data.iter().map(|value| i64::from(*value)).collect()),
    })
}

/// Values that lie in a file beside this one.
fn external(tensor: &TensorProto, folder: Option<&Path>) -> Result<Vec<u8>, String> {
    let get = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
    let number =
        |key: &str| get(key).map(|text| text.parse::<u64>().map_err(|_| format!("{key} is no number: {text}")));
    let location = get("location").ok_or("it lies in another file that is not named")?;
    let Some(folder) = folder else { return Err(format!("it lies in '{location}', which was not given")) };
    let path = Path::new(location);
    if path.file_name().is_none_or(|name| name != location) {
        return Err(format!("it lies in '{location}'; only files beside the model's are read"));
    }
    let failed = |error: std::io::Error| format!("failed to read '{location}' beside the model: {error}");
    let mut file = std::fs::File::open(folder.join(path)).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let offset = number("offset").transpose()?.unwrap_or(0);
    let length = number("length").transpose()?.unwrap_or(len.saturating_sub(offset));
    if offset.checked_add(length).is_none_or(|end| end > len) {
        return Err(format!("'{location}' is cut off: it has {len} bytes, {length} from {offset} on are wanted"));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| "it is too long".to_string())?];
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(offset)).map_err(failed)?;
    std::io::Read::read_exact(&mut file, &mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The settings of a node.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(pub &'a NodeProto);

impl<'a> Attributes<'a> {
    fn get(&self, name: &str) -> Option<&'a AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub fn whole(&self, name: &str, default: i64) -> i64 {
        self.get(name).map_or(default, |attribute| attribute.i)
    }

    pub fn real(&self, name: &str, default: f32) -> f32 {
        self.get(name).map_or(default, |attribute| attribute.f)
    }

    pub fn wholes(&self, name: &str) -> Option<&'a [i64]> {
        self.get(name).map(|attribute| attribute.ints.as_slice())
    }

    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(|attribute| std::str::from_utf8(&attribute.s).ok())
    }

    pub fn texts(&self, name: &str) -> Option<Vec<&'a str>> {
        self.get(name)?.strings.iter().map(|text| std::str::from_utf8(text).ok()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn tensor(&self, name: &str, budget: &mut Budget) -> Result<Option<Constant>, String> {
        let Some(tensor) = self.get(name).and_then(|attribute| attribute.t.as_ref()) else { return Ok(None) };
        constant(tensor, None, budget).map(Some).map_err(|error| error.to_string())
    }

    /// The value of a `Constant`, in whichever of its forms.
    pub fn constant(&self, budget: &mut Budget) -> Result<Constant, String> {
        if let Some(value) = self.tensor("value", budget)? {
            return Ok(value);
        }
        let Some(attribute) = self.0.attribute.first() else { return Err("it has no value".to_string()) };
        match attribute.r#type {
            attribute_type::FLOAT => Ok(Constant::reals(&[], vec![attribute.f])),
            attribute_type::INT => Ok(Constant::wholes(&[], vec![attribute.i])),
            attribute_type::FLOATS => Ok(Constant::reals(&[attribute.floats.len()], attribute.floats.clone())),
            attribute_type::INTS => Ok(Constant::wholes(&[attribute.ints.len()], attribute.ints.clone())),
            _ => Err(format!("its value '{}' is of a type that is not read", attribute.name)),
        }
    }

    pub fn casts_to_whole(&self) -> bool {
        matches!(self.whole("to", 0), 2..=7 | 9 | 12 | 13)
    }

    pub fn casts_to_flag(&self) -> bool {
        self.whole("to", 0) == i64::from(BOOL)
    }

    /// How many axes there are, in the attribute or the input that holds them.
    pub fn count(&self, name: &str, input: Option<&Constant>) -> usize {
        self.wholes(name).map_or_else(|| input.map_or(0, Constant::size), <[i64]>::len)
    }
}
