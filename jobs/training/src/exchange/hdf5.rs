//! Arrays in an HDF5 file, as far as Keras writes it: groups as symbol tables, arrays of floats that lie in one piece.
//!
//! The format is that of the HDF5 File Format Specification, version 0 of the superblock, which h5py writes unless told
//! otherwise. Invariant: every place is looked up within the file's bytes, and no walk is longer than the file.

use std::collections::BTreeMap;

const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
/// Entries of the messages of an object.
const DATASPACE: u16 = 0x01;
const DATATYPE: u16 = 0x03;
const LAYOUT: u16 = 0x08;
const FILTERS: u16 = 0x0b;
const CONTINUATION: u16 = 0x10;
const SYMBOL_TABLE: u16 = 0x11;

pub struct File<'a> {
    bytes: &'a [u8],
    root: u64,
}

#[derive(Debug, PartialEq)]
pub struct Array {
    pub dims: Vec<usize>,
    pub values: Vec<f32>,
}

type Result<T> = std::result::Result<T, String>;

fn cut() -> String {
    "the HDF5 file is cut off or damaged".to_string()
}

impl<'a> File<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self> {
        if !bytes.starts_with(SIGNATURE) {
            return Err("the weights are no HDF5 file".to_string());
        }
        let file = Self { bytes, root: 0 };
        match file.u8(8)? {
            0 | 1 if file.u8(13)? == 8 && file.u8(14)? == 8 => {}
            _ => {
                return Err("the HDF5 file is of a newer form (libver='latest'); save the weights as Keras does by itself, or as \
                            safetensors"
                    .to_string());
            }
        }
        let entry = if file.u8(8)? == 0 { 56 } else { 60 };
        Ok(Self { root: file.u64(entry + 8)?, ..file })
    }

    /// The array at a path; `None` where there is none.
    pub fn array(&self, path: &[&str]) -> Result<Option<Array>> {
        let mut at = self.root;
        for name in path {
            match self.group(at)?.get(*name) {
                Some(object) => at = *object,
                None => return Ok(None),
            }
        }
        self.values(at, &path.join("/")).map(Some)
    }

    fn get(&self, at: u64, len: u64) -> Result<&'a [u8]> {
        let end = at.checked_add(len).ok_or_else(cut)?;
        let range = usize::try_from(at).ok().zip(usize::try_from(end).ok());
        range.and_then(|(at, end)| self.bytes.get(at..end)).ok_or_else(cut)
    }

    fn u8(&self, at: u64) -> Result<u8> {
        Ok(self.get(at, 1)?[0])
    }

    fn u16(&self, at: u64) -> Result<u16> {
        Ok(u16::from_le_bytes(self.get(at, 2)?.try_into().map_err(|_| cut())?))
    }

    fn u64(&self, at: u64) -> Result<u64> {
        Ok(u64::from_le_bytes(self.get(at, 8)?.try_into().map_err(|_| cut())?))
    }

    /// The messages of an object: type, and place and length of what they say.
    fn messages(&self, object: u64) -> Result<Vec<(u16, u64, u64)>> {
        if self.u8(object)? != 1 {
            return Err(cut());
        }
        let count = self.u16(object + 2)?;
        let mut blocks = vec![(object + 16, u64::from(self.u16(object + 8)?))];
        let mut messages = Vec::new();
        while let Some((mut at, len)) = blocks.pop() {
            let end = at.checked_add(len).ok_or_else(cut)?;
            while at + 8 <= end && messages.len() < usize::from(count) {
                let (type_, size) = (self.u16(at)?, u64::from(self.u16(at + 2)?));
                self.get(at + 8, size)?;
                if type_ == CONTINUATION {
                    blocks.push((self.u64(at + 8)?, self.u64(at + 16)?));
                }
                messages.push((type_, at + 8, size));
                at += 8 + size;
            }
        }
        Ok(messages)
    }

    /// Objects by name; none for one that is no group.
    fn group(&self, object: u64) -> Result<BTreeMap<String, u64>> {
        let mut objects = BTreeMap::new();
        let Some((_, at, _)) = self.messages(object)?.into_iter().find(|(type_, ..)| *type_ == SYMBOL_TABLE) else {
            return Ok(objects);
        };
        let (tree, heap) = (self.u64(at)?, self.u64(at + 8)?);
        if self.get(heap, 4)? != b"HEAP" {
            return Err(cut());
        }
        let names = self.u64(heap + 24)?;
        let mut nodes = vec![tree];
        // No more nodes than fit into the file.
        let mut left = self.bytes.len() / 8 + 1;
        while let Some(node) = nodes.pop() {
            left = left.checked_sub(1).ok_or_else(cut)?;
            match self.get(node, 4)? {
                b"TREE" => {
                    for child in 0..u64::from(self.u16(node + 6)?) {
                        nodes.push(self.u64(node + 32 + 16 * child)?);
                    }
                }
                b"SNOD" => {
                    for entry in 0..u64::from(self.u16(node + 6)?) {
                        let entry = node + 8 + 40 * entry;
                        let name = self.text(names.checked_add(self.u64(entry)?).ok_or_else(cut)?)?;
                        objects.insert(name, self.u64(entry + 8)?);
                    }
                }
                _ => return Err(cut()),
            }
        }
        Ok(objects)
    }

    fn text(&self, at: u64) -> Result<String> {
        let rest = self.get(at, (self.bytes.len() as u64).saturating_sub(at))?;
        let len = rest.iter().take(1024).position(|byte| *byte == 0).ok_or_else(cut)?;
        String::from_utf8(rest[..len].to_vec()).map_err(|_| cut())
    }

    fn values(&self, object: u64, path: &str) -> Result<Array> {
        let messages = self.messages(object)?;
        let find = |wanted| messages.iter().find(|(type_, ..)| *type_ == wanted).map(|(_, at, _)| *at);
        let (Some(space), Some(type_), Some(layout)) = (find(DATASPACE), find(DATATYPE), find(LAYOUT)) else {
            return Err(format!("'{path}' in the HDF5 file is no array"));
        };
        if find(FILTERS).is_some() {
            return Err(format!("'{path}' in the HDF5 file is compressed; Keras writes it without"));
        }
        let rank = u64::from(self.u8(space + 1)?);
        let first = match self.u8(space)? {
            1 => space + 8,
            2 => space + 4,
            _ => return Err(cut()),
        };
        let mut dims = Vec::new();
        let mut count: u64 = 1;
        for at in 0..rank {
            let dim = self.u64(first + 8 * at)?;
            count = count.checked_mul(dim).ok_or_else(cut)?;
            dims.push(usize::try_from(dim).map_err(|_| cut())?);
        }
        let (class, big_endian, width) = (self.u8(type_)? & 15, self.u8(type_ + 1)? & 1, self.get(type_ + 4, 4)?);
        let width = u32::from_le_bytes(width.try_into().map_err(|_| cut())?);
        if class != 1 || big_endian != 0 || ![4, 8].contains(&width) {
            return Err(format!("'{path}' in the HDF5 file is not of float32 or float64"));
        }
        let len = count.checked_mul(u64::from(width)).ok_or_else(cut)?;
        let bytes = match (self.u8(layout)?, self.u8(layout + 1)?) {
            (3, 0) => self.get(layout + 4, len)?,
            (3, 1) => self.get(self.u64(layout + 2)?, len)?,
            _ => return Err(format!("'{path}' in the HDF5 file lies in pieces; Keras writes it in one")),
        };
        let values = if width == 4 {
            crate::bytes::to_f32(bytes)
        } else {
            let eight = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().unwrap_or_default()) as f32;
            bytes.chunks_exact(8).map(eight).collect()
        };
        Ok(Array { dims, values })
    }
}
