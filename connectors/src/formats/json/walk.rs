//! A walk over the bytes of one JSON text: the grammar, and nothing of columns.
//!
//! Invariant: a step either goes past exactly one well-formed token or value, or is an error. What is past the end reads
//! as a zero byte, which JSON has nowhere outside of text.

use memchr::{memchr, memchr2};

/// Deeper values are refused.
pub const MOST_DEPTH: u32 = 1000;

/// Why a record is bad. Boxed, so that good values pay little for the possibility.
#[derive(Debug)]
pub struct Wrong {
    pub error: String,
}

pub type Result<T> = std::result::Result<T, Box<Wrong>>;

#[cold]
pub fn wrong(error: impl Into<String>) -> Box<Wrong> {
    Box::new(Wrong { error: error.into() })
}

impl Wrong {
    #[cold]
    pub fn within(&self, field: &str) -> Box<Self> {
        wrong(format!("whilst decoding field '{field}': {}", self.error))
    }
}

/// A text between its quotes, as it is written.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    pub raw: &'a [u8],
    pub escaped: bool,
}

pub struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    #[inline(always)]
    pub fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub fn advance(&mut self, n: usize) {
        self.at += n;
    }

    #[inline(always)]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub fn at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline(always)]
    pub fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\t' | b'\r') {
            self.at += 1;
        }
    }

    #[cold]
    pub fn expected(&self, what: &str) -> Box<Wrong> {
        match self.bytes.get(self.at) {
            None => wrong("ends in the middle of a JSON value"),
            Some(byte) => {
                wrong(format!("expected {what}, found '{}' at byte {}", char::from(*byte).escape_default(), self.at))
            }
        }
    }

    /// Goes past a text, whose opening quote is next.
    #[inline(always)]
    pub fn text(&mut self) -> Result<Text<'a>> {
        let begin = self.at + 1;
        match quote_or_backslash(self.bytes, begin) {
            Some(end) if self.bytes[end] == b'"' => {
                self.at = end + 1;
                Ok(Text { raw: &self.bytes[begin..end], escaped: false })
            }
            Some(escape) => self.escaped_text(begin, escape),
            None => Err(wrong("ends in the middle of a text")),
        }
    }

    #[inline(never)]
    fn escaped_text(&mut self, begin: usize, mut escape: usize) -> Result<Text<'a>> {
        loop {
            let after = self.bytes.get(escape + 2..).unwrap_or_default();
            match memchr2(b'"', b'\\', after).map(|found| escape + 2 + found) {
                Some(end) if self.bytes[end] == b'"' => {
                    self.at = end + 1;
                    return Ok(Text { raw: &self.bytes[begin..end], escaped: true });
                }
                Some(next) => escape = next,
                None => return Err(wrong("ends in the middle of a text")),
            }
        }
    }

    pub fn literal(&mut self, word: &[u8]) -> Result<()> {
        if !self.rest().starts_with(word) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> Result<()> {
        let begin = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == begin { Err(self.expected("a digit")) } else { Ok(()) }
    }

    /// Goes past a number and gives its text, and whether it is written as a whole number.
    #[inline]
    pub fn number(&mut self) -> Result<(&'a [u8], bool)> {
        let begin = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        let mut whole = true;
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
            whole = false;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
            whole = false;
        }
        Ok((&self.bytes[begin..self.at], whole))
    }

    /// Goes past a number that must be whole, however it is written.
    #[inline(always)]
    pub fn integer(&mut self) -> Result<i64> {
        let begin = self.at;
        let negative = self.peek() == b'-';
        self.at += usize::from(negative);
        let first = self.at;
        let mut value = 0u64;
        loop {
            let digit = self.peek().wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
        let n_digits = self.at - first;
        // Up to 18 digits fit without a check of each step.
        let plain = n_digits == 1 || (2..=18).contains(&n_digits) && self.bytes[first] != b'0';
        if !plain || matches!(self.peek(), b'.' | b'e' | b'E') {
            self.at = begin;
            return self.unusual_integer();
        }
        Ok(if negative { -(value as i64) } else { value as i64 })
    }

    #[cold]
    fn unusual_integer(&mut self) -> Result<i64> {
        if !matches!(self.peek(), b'-' | b'0'..=b'9') {
            return Err(self.expected("a number"));
        }
        let (raw, whole) = self.number()?;
        let text = str_of(raw)?;
        let value = if whole { text.parse().ok() } else { text.parse().ok().and_then(whole_float) };
        value.ok_or_else(|| wrong(format!("{text} is not a whole number of 64 bits")))
    }

    /// Goes past a value of any kind, checking only its form.
    pub fn skip(&mut self, depth: u32) -> Result<()> {
        match self.peek() {
            b'"' => self.text().map(|_| ()),
            b'n' => self.literal(b"null"),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'{' | b'[' if depth == MOST_DEPTH => Err(wrong(format!("nested deeper than {MOST_DEPTH} levels"))),
            b'{' => self.skip_object(depth),
            b'[' => self.skip_list(depth),
            _ => Err(self.expected("a value")),
        }
    }

    fn skip_object(&mut self, depth: u32) -> Result<()> {
        self.at += 1;
        self.skip_space();
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.key()?;
            self.skip_space();
            self.skip(depth + 1)?;
            if !self.goes_on(b'}')? {
                return Ok(());
            }
        }
    }

    fn skip_list(&mut self, depth: u32) -> Result<()> {
        self.at += 1;
        self.skip_space();
        if self.peek() == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip(depth + 1)?;
            if !self.goes_on(b']')? {
                return Ok(());
            }
        }
    }

    /// Goes past the name of a field and its colon.
    #[inline]
    pub fn key(&mut self) -> Result<Text<'a>> {
        if self.peek() != b'"' {
            return Err(self.expected("a field name"));
        }
        let name = self.text()?;
        self.skip_space();
        if self.peek() != b':' {
            return Err(self.expected("':'"));
        }
        self.at += 1;
        Ok(name)
    }

    /// After a value: goes past a comma (true) or the end of the object or list (false).
    #[inline(always)]
    pub fn goes_on(&mut self, end: u8) -> Result<bool> {
        self.skip_space();
        let byte = self.peek();
        if byte == b',' {
            self.at += 1;
            self.skip_space();
            Ok(true)
        } else if byte == end {
            self.at += 1;
            Ok(false)
        } else {
            Err(self.expected(if end == b'}' { "',' or '}'" } else { "',' or ']'" }))
        }
    }
}

/// Numbers and texts of a record that was found to be UTF-8 as a whole are UTF-8 too: they end at ASCII.
pub fn str_of(raw: &[u8]) -> Result<&str> {
    std::str::from_utf8(raw).map_err(|_| wrong("is not UTF-8 text"))
}

fn whole_float(value: f64) -> Option<i64> {
    // 2^63 as a float; anything at or beyond it does not fit.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    (value.fract() == 0.0 && (-LIMIT..LIMIT).contains(&value)).then_some(value as i64)
}

/// The first of the two from `from` on. Most texts are short: a few words of eight bytes at a time come before the call
/// of a vectorised search.
#[inline(always)]
fn quote_or_backslash(bytes: &[u8], from: usize) -> Option<usize> {
    const WORDS: usize = 4;
    let mut at = from;
    let mut rest = bytes.get(from..)?;
    for _ in 0..WORDS {
        let Some((word, after)) = rest.split_first_chunk::<8>() else {
            return rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).map(|found| at + found);
        };
        let word = u64::from_le_bytes(*word);
        let hits = zero_bytes(word ^ every(b'"')) | zero_bytes(word ^ every(b'\\'));
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize / 8);
        }
        at += 8;
        rest = after;
    }
    memchr2(b'"', b'\\', rest).map(|found| at + found)
}

const fn every(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The highest bit of every zero byte, and perhaps bits above the lowest of them.
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(every(0x01)) & !word & every(0x80)
}

/// Appends what a text with escapes stands for.
pub fn unescape(mut raw: &[u8], out: &mut Vec<u8>) -> Result<()> {
    while let Some(at) = memchr(b'\\', raw) {
        out.extend_from_slice(&raw[..at]);
        let escape = raw.get(at + 1).copied().unwrap_or(0);
        raw = raw.get(at + 2..).unwrap_or_default();
        out.push(match escape {
            b'"' | b'\\' | b'/' => escape,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (character, rest) = unicode(raw)?;
                raw = rest;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            other => return Err(wrong(format!("'\\{}' is no escape", char::from(other).escape_default()))),
        });
    }
    out.extend_from_slice(raw);
    Ok(())
}

/// The character after `\u`, perhaps of two escapes, and what follows it.
fn unicode(raw: &[u8]) -> Result<(char, &[u8])> {
    let broken = || wrong("a \\u escape is broken");
    let (high, rest) = four_hex(raw).ok_or_else(broken)?;
    if let Some(character) = char::from_u32(high) {
        return Ok((character, rest));
    }
    let (low, rest) = rest.strip_prefix(b"\\u").and_then(four_hex).ok_or_else(broken)?;
    if !(0xd800..0xdc00).contains(&high) || !(0xdc00..0xe000).contains(&low) {
        return Err(broken());
    }
    let character = char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or_else(broken)?;
    Ok((character, rest))
}

fn four_hex(raw: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = raw.split_first_chunk::<4>()?;
    let mut value = 0;
    for digit in digits {
        value = value << 4 | char::from(*digit).to_digit(16)?;
    }
    Some((value, rest))
}
