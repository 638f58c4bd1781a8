//! Steps into a JSON document, found while it is read once and checked to its end.
//!
//! Invariant: a document is taken whole or not at all; of members with the same name the last counts.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    Key(&'a str),
    /// Counted from 0; from the end where it is negative: -1 is the last.
    Index(i64),
    /// The name of a member, or, in an array, the index that the name spells.
    Either(&'a str, Option<i64>),
}

/// What stands at the end of `steps`, if there is something; `None` where the text is no JSON.
pub(crate) fn find<'j>(json: &'j str, steps: &[Step<'_>]) -> Option<Option<&'j str>> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let found = Find { steps }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(found)
}

/// How many members or elements there are.
pub(crate) fn length(json: &str) -> Option<i64> {
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_any(Count).ok().flatten()
}

#[derive(Clone, Copy)]
struct Find<'s> {
    steps: &'s [Step<'s>],
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<&'de str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        match self.steps {
            [] => {
                let raw: &RawValue = serde::Deserialize::deserialize(reader)?;
                Ok(Some(raw.get()))
            }
            _ => reader.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let Some((Step::Key(wanted) | Step::Either(wanted, _), rest)) = self.steps.split_first() else {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        let mut found = None;
        while let Some(is_wanted) = members.next_key_seed(IsKey(wanted))? {
            match is_wanted {
                true => found = members.next_value_seed(Find { steps: rest })?,
                false => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<Self::Value, S::Error> {
        let Some((Step::Index(index) | Step::Either(_, Some(index)), rest)) = self.steps.split_first() else {
            while elements.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        if *index < 0 {
            return from_the_end(elements, index.unsigned_abs(), rest);
        }
        for _ in 0..*index {
            if elements.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = elements.next_element_seed(Find { steps: rest })?.flatten();
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// The element that many before the end: all are kept as places in the text, since only the end says which one it is.
fn from_the_end<'de, S: SeqAccess<'de>>(
    mut elements: S,
    back: u64,
    rest: &[Step<'_>],
) -> Result<Option<&'de str>, S::Error> {
    let mut all: Vec<&'de str> = Vec::new();
    while let Some(element) = elements.next_element::<&RawValue>()? {
        all.push(element.get());
    }
    let at = usize::try_from(back).ok().and_then(|back| all.len().checked_sub(back));
    Ok(at.and_then(|at| find(all[at], rest).flatten()))
}

/// Whether a member has this name.
struct IsKey<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

struct Count;

impl<'de> Visitor<'de> for Count {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let mut n = 0;
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            n += 1;
        }
        Ok(Some(n))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<Self::Value, S::Error> {
        let mut n = 0;
        while elements.next_element::<IgnoredAny>()?.is_some() {
            n += 1;
        }
        Ok(Some(n))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// `$`, then `.name`, `['name']`, `["name"]` or `[n]` as often as one likes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    steps: Vec<OwnStep>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum OwnStep {
    Key(String),
    Index(i64),
}

impl Path {
    pub(crate) fn parse(written: &str) -> Result<Self, String> {
        // In both modes of the standard what is not there is null.
        let plain = written.strip_prefix("lax ").or_else(|| written.strip_prefix("strict ")).unwrap_or(written);
        let mut rest = plain.trim_start().strip_prefix('$').ok_or("it begins with '$'")?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = match rest.strip_prefix('.') {
                Some(named) => {
                    let end = named.find(['.', '[']).unwrap_or(named.len());
                    let name = &named[..end];
                    if name.is_empty() || name == "*" {
                        return Err("after '.' stands a name".into());
                    }
                    (OwnStep::Key(name.to_owned()), &named[end..])
                }
                None => Self::bracket(rest)?,
            };
            steps.push(step);
            rest = after;
        }
        Ok(Self { steps })
    }

    fn bracket(rest: &str) -> Result<(OwnStep, &str), String> {
        let wrong = || format!("'{rest}' is neither .name nor ['name'] nor [n]");
        let inner = rest.strip_prefix('[').ok_or_else(wrong)?;
        for quote in ['\'', '"'] {
            if let Some(named) = inner.strip_prefix(quote) {
                let (name, after) = named.split_once(quote).ok_or_else(wrong)?;
                return Ok((OwnStep::Key(name.to_owned()), after.strip_prefix(']').ok_or_else(wrong)?));
            }
        }
        let (number, after) = inner.split_once(']').ok_or_else(wrong)?;
        Ok((OwnStep::Index(number.trim().parse().map_err(|_| wrong())?), after))
    }

    /// As [`find`].
    pub(crate) fn find<'j>(&self, json: &'j str) -> Option<Option<&'j str>> {
        let step = |step| match step {
            &OwnStep::Index(index) => Step::Index(index),
            OwnStep::Key(key) => Step::Key(key),
        };
        // Paths are short; more steps than fit are rare enough to be worth an allocation.
        let mut few = [Step::Index(0); 8];
        match few.get_mut(..self.steps.len()) {
            Some(few) => {
                few.iter_mut().zip(&self.steps).for_each(|(to, from)| *to = step(from));
                find(json, few)
            }
            None => find(json, &self.steps.iter().map(step).collect::<Vec<_>>()),
        }
    }
}
