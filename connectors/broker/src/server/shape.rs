//! A walk over a request before it is decoded.
//!
//! The decoder makes room for as many elements as an array says that it has; twelve bytes could ask for gigabytes. This
//! walk counts: what passes has all its elements within its bytes.
//!
//! A shape is the fields in their order: `1 2 4 8` bytes, `u` an id of 16, `s` a text, `b` bytes, `[x]` an array of plain
//! ones, `{…}` an array of structures, `(…)` a structure that may be absent; `@3-`, `@-7`, `@7-12` are versions.

/// Elements in all arrays of a request together.
const ELEMENTS_MAX: usize = 200_000;

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Fixed(usize),
    Text,
    Blob,
    Plain(Box<Kind>),
    Structures(Vec<Field>),
    Optional(Vec<Field>),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    kind: Kind,
    from: i16,
    to: i16,
}

/// Reads the text of a shape; what it does not know is left out, which the tests would notice.
pub fn parse(shape: &str) -> Vec<Field> {
    fields(&mut shape.as_bytes())
}

fn fields(text: &mut &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    while let Some((first, rest)) = text.split_first() {
        if matches!(first, b']' | b'}' | b')') {
            break;
        }
        *text = rest;
        let kind = match first {
            b'1' => Kind::Fixed(1),
            b'2' => Kind::Fixed(2),
            b'4' => Kind::Fixed(4),
            b'8' => Kind::Fixed(8),
            b'u' => Kind::Fixed(16),
            b's' => Kind::Text,
            b'b' => Kind::Blob,
            b'[' | b'{' | b'(' => {
                let mut inner = self::fields(text);
                *text = text.get(1..).unwrap_or_default();
                match first {
                    b'{' => Kind::Structures(inner),
                    b'(' => Kind::Optional(inner),
                    _ => match inner.pop() {
                        Some(field) => Kind::Plain(Box::new(field.kind)),
                        None => continue,
                    },
                }
            }
            _ => continue,
        };
        let (from, to) = versions(text);
        fields.push(Field { kind, from, to });
    }
    fields
}

fn versions(text: &mut &[u8]) -> (i16, i16) {
    if text.first() != Some(&b'@') {
        return (0, i16::MAX);
    }
    *text = &text[1..];
    let from = number(text).unwrap_or(0);
    *text = text.get(1..).unwrap_or_default();
    (from, number(text).unwrap_or(i16::MAX))
}

fn number(text: &mut &[u8]) -> Option<i16> {
    let n_digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(n_digits);
    *text = rest;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether `bytes` hold what the fields say, in this version.
pub fn fits(fields: &[Field], version: i16, flexible: bool, bytes: &[u8]) -> bool {
    let mut walk = Walk { rest: bytes, version, flexible, elements_left: ELEMENTS_MAX };
    walk.structure(fields).is_some()
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements_left: usize,
}

impl Walk<'_> {
    fn skip(&mut self, n: usize) -> Option<()> {
        self.rest = self.rest.get(n..)?;
        Some(())
    }

    fn structure(&mut self, fields: &[Field]) -> Option<()> {
        for field in fields {
            if (field.from..=field.to).contains(&self.version) {
                self.field(&field.kind)?;
            }
        }
        if self.flexible { self.tags() } else { Some(()) }
    }

    fn tags(&mut self) -> Option<()> {
        for _ in 0..self.count(|walk| walk.varint())? {
            self.varint()?;
            let n = self.varint()?;
            self.skip(n)?;
        }
        Some(())
    }

    fn field(&mut self, kind: &Kind) -> Option<()> {
        match kind {
            Kind::Fixed(n) => self.skip(*n),
            Kind::Text | Kind::Blob => {
                let n = match (self.flexible, kind) {
                    (true, _) => self.varint()?.saturating_sub(1),
                    (false, Kind::Text) => self.length(2)?,
                    (false, _) => self.length(4)?,
                };
                self.skip(n)
            }
            Kind::Plain(element) => {
                for _ in 0..self.n_elements()? {
                    self.field(element)?;
                }
                Some(())
            }
            Kind::Structures(fields) => {
                for _ in 0..self.n_elements()? {
                    self.structure(fields)?;
                }
                Some(())
            }
            Kind::Optional(fields) => {
                let there = *self.rest.first()? as i8;
                self.skip(1)?;
                if there < 0 { Some(()) } else { self.structure(fields) }
            }
        }
    }

    fn n_elements(&mut self) -> Option<usize> {
        self.count(|walk| if walk.flexible { Some(walk.varint()?.saturating_sub(1)) } else { walk.length(4) })
    }

    fn count(&mut self, read: impl FnOnce(&mut Self) -> Option<usize>) -> Option<usize> {
        let n = read(self)?;
        self.elements_left = self.elements_left.checked_sub(n)?;
        Some(n)
    }

    /// A length of two or four bytes; -1, for nothing, counts as 0.
    fn length(&mut self, width: usize) -> Option<usize> {
        let said = match (width, self.rest) {
            (2, [a, b, ..]) => i32::from(i16::from_be_bytes([*a, *b])),
            (4, [a, b, c, d, ..]) => i32::from_be_bytes([*a, *b, *c, *d]),
            _ => return None,
        };
        self.skip(width)?;
        if said == -1 { Some(0) } else { usize::try_from(said).ok() }
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0u64;
        for at in 0..5 {
            let byte = *self.rest.first()?;
            self.skip(1)?;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return usize::try_from(value).ok();
            }
        }
        None
    }
}

#[cfg(test)]
pub mod made_up {
    //! Requests of a shape with random contents, for the tests.

    use super::{Field, Kind};
    use proptest::prelude::Rng;
    use proptest::test_runner::TestRng;

    fn put_varint(to: &mut Vec<u8>, mut value: usize) {
        while value >= 0x80 {
            to.push(value as u8 | 0x80);
            value >>= 7;
        }
        to.push(value as u8);
    }

    fn below(rng: &mut TestRng, n: u32) -> usize {
        (rng.next_u32() % n) as usize
    }

    pub fn request(fields: &[Field], version: i16, flexible: bool, rng: &mut TestRng) -> Vec<u8> {
        let mut bytes = Vec::new();
        structure(fields, version, flexible, rng, &mut bytes);
        bytes
    }

    fn structure(fields: &[Field], version: i16, flexible: bool, rng: &mut TestRng, to: &mut Vec<u8>) {
        for field in fields.iter().filter(|field| (field.from..=field.to).contains(&version)) {
            put(&field.kind, version, flexible, rng, to);
        }
        if flexible {
            to.push(0);
        }
    }

    fn put(kind: &Kind, version: i16, flexible: bool, rng: &mut TestRng, to: &mut Vec<u8>) {
        match kind {
            Kind::Fixed(n) => {
                let small = rng.next_u32().is_multiple_of(2);
                to.extend((0..*n).map(|at| match (small, at + 1 == *n) {
                    (true, false) => 0,
                    (true, true) => (rng.next_u32() % 4) as u8,
                    (false, _) => rng.next_u32() as u8,
                }));
            }
            Kind::Text | Kind::Blob => {
                let words: [&[u8]; 6] = [b"", b"t", b"topic", b"consumer", b"range", b"1"];
                let word = words[below(rng, 6)];
                match (flexible, kind) {
                    (true, _) => put_varint(to, word.len() + 1),
                    (false, Kind::Text) => to.extend((word.len() as i16).to_be_bytes()),
                    (false, _) => to.extend((word.len() as i32).to_be_bytes()),
                }
                to.extend(word);
            }
            Kind::Plain(_) | Kind::Structures(_) => {
                let n = below(rng, 4);
                if flexible {
                    put_varint(to, n + 1)
                } else {
                    to.extend((n as i32).to_be_bytes())
                }
                for _ in 0..n {
                    match kind {
                        Kind::Plain(element) => put(element, version, flexible, rng, to),
                        Kind::Structures(fields) => structure(fields, version, flexible, rng, to),
                        _ => {}
                    }
                }
            }
            Kind::Optional(fields) => {
                if rng.next_u32().is_multiple_of(2) {
                    to.push(0xff);
                } else {
                    to.push(1);
                    structure(fields, version, flexible, rng, to);
                }
            }
        }
    }
}
