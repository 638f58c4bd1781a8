//! Where tasks may run: what the attributes of agents must be, and how the tasks of one job stand to each other.
//!
//! Invariant: pure text and comparison; which agents there are is not known here. An agent's host and id count as its
//! attributes `host` and `agent`, unless it has others of these names.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// More are not written by hand.
const CONSTRAINTS_MAX: usize = 64;

/// An agent, as far as it matters to whoever chooses among several.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    pub agent: &'a str,
    pub host: &'a str,
    pub attributes: &'a BTreeMap<String, String>,
}

impl<'a> Site<'a> {
    pub fn get(&self, key: &str) -> Option<&'a str> {
        match (self.attributes.get(key), key) {
            (Some(value), _) => Some(value),
            (None, "host") => Some(self.host),
            (None, "agent") => Some(self.agent),
            (None, _) => None,
        }
    }
}

/// One thing that must be so of an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Constraint {
    pub key: String,
    pub is: Is,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Is {
    OneOf(Vec<String>),
    /// So it is too where the agent has no such attribute.
    NoneOf(Vec<String>),
    There,
    Absent,
}

impl Constraint {
    pub fn allows(&self, site: Site<'_>) -> bool {
        let value = site.get(&self.key);
        let is_in = |list: &[String]| value.is_some_and(|value| list.iter().any(|one| one == value));
        match &self.is {
            Is::OneOf(list) => is_in(list),
            Is::NoneOf(list) => !is_in(list),
            Is::There => value.is_some(),
            Is::Absent => value.is_none(),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.is {
            Is::OneOf(list) if list.len() == 1 => write!(f, "{key} = {}", list[0]),
            Is::NoneOf(list) if list.len() == 1 => write!(f, "{key} != {}", list[0]),
            Is::OneOf(list) => write!(f, "{key} in ({})", list.join(", ")),
            Is::NoneOf(list) => write!(f, "{key} not in ({})", list.join(", ")),
            Is::There => write!(f, "{key} exists"),
            Is::Absent => write!(f, "{key} absent"),
        }
    }
}

/// `zone = z1`, `disk != hdd`, `zone in (z1, z2)`, `zone not in (z1, z2)`, `rack exists`, `rack absent`.
impl FromStr for Constraint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let unknown = || {
            format!(
                "'{text}' is no constraint; they are of the forms key = value, key != value, key in (a, b), \
                 key not in (a, b), key exists, key absent"
            )
        };
        let constraint = |key: &str, is: Is| match is_key(key.trim()) {
            true => Ok(Self { key: key.trim().to_string(), is }),
            false => Err(unknown()),
        };
        let value = |text: &str| match text.trim() {
            value if is_value(value) => Ok(vec![value.to_string()]),
            _ => Err(unknown()),
        };
        if let Some(before) = text.strip_suffix(')') {
            let (key, list) = before.split_once('(').ok_or_else(unknown)?;
            let values: Vec<String> = list.split(',').map(|value| value.trim().to_string()).collect();
            if !values.iter().all(|value| is_value(value)) {
                return Err(unknown());
            }
            let words: Vec<&str> = key.split_whitespace().collect();
            return match words[..] {
                [key, "not", "in"] => constraint(key, Is::NoneOf(values)),
                [key, "in"] => constraint(key, Is::OneOf(values)),
                _ => Err(unknown()),
            };
        }
        if let Some((key, rest)) = text.split_once("!=") {
            return constraint(key, Is::NoneOf(value(rest)?));
        }
        if let Some((key, rest)) = text.split_once('=') {
            return constraint(key, Is::OneOf(value(rest)?));
        }
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            [key, "exists"] => constraint(key, Is::There),
            [key, "absent"] => constraint(key, Is::Absent),
            _ => Err(unknown()),
        }
    }
}

/// Several, with `;` between them.
pub fn parse_constraints(text: &str) -> Result<Vec<Constraint>, String> {
    let constraints: Vec<Constraint> =
        text.split(';').filter(|part| !part.trim().is_empty()).map(str::parse).collect::<Result<_, _>>()?;
    match constraints.len() {
        0 => Err("no constraint is said; for example 'zone = z1; disk != hdd'".to_string()),
        n if n > CONSTRAINTS_MAX => Err(format!("{n} constraints are more than the {CONSTRAINTS_MAX} allowed")),
        _ => Ok(constraints),
    }
}

/// How many tasks of a job may share one value of an attribute: they are dealt to its values as evenly as can be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spread {
    pub key: String,
    /// `None`: as many as have to.
    pub most: Option<u32>,
}

/// `zone`, or `host:1` for at most one on each.
impl FromStr for Spread {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, most) = match text.trim().split_once(':') {
            Some((key, most)) => (key, Some(most)),
            None => (text.trim(), None),
        };
        let most = most.map(|most| most.trim().parse::<u32>().ok().filter(|most| *most > 0));
        match (is_key(key), most) {
            (true, None) => Ok(Self { key: key.to_string(), most: None }),
            (true, Some(Some(most))) => Ok(Self { key: key.to_string(), most: Some(most) }),
            _ => Err(format!(
                "'{text}' is no attribute to spread over; for example 'zone', or 'host:1' for at most one on each"
            )),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.most {
            None => f.write_str(&self.key),
            Some(most) => write!(f, "{}:{most}", self.key),
        }
    }
}

/// All that is said of where the tasks of a job run.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rules {
    pub constraints: Vec<Constraint>,
    /// All of them on agents that have the same value of this attribute.
    pub together: Option<String>,
    pub spread: Option<Spread>,
}

impl Rules {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether they say something of the tasks beside each other, and not of each alone.
    pub fn bind_tasks(&self) -> bool {
        self.together.is_some() || self.spread.as_ref().is_some_and(|spread| spread.most.is_some())
    }

    /// Whether one task may run there, whatever the others do.
    pub fn allow(&self, site: Site<'_>) -> bool {
        self.constraints.iter().all(|constraint| constraint.allows(site))
            && self.together.as_ref().is_none_or(|key| site.get(key).is_some())
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.constraints.iter().map(Constraint::to_string).collect();
        parts.extend(self.together.iter().map(|key| format!("all in one {key}")));
        if let Some(Spread { key, most: Some(most) }) = &self.spread {
            parts.push(format!("at most {most} in one {key}"));
        }
        f.write_str(&parts.join(" and "))
    }
}

/// Whether this can name an attribute.
pub fn is_key(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    !text.is_empty() && text.len() <= 256 && text.chars().all(is_plain)
}

fn is_value(text: &str) -> bool {
    let is_odd = |c: char| c.is_control() || matches!(c, '(' | ')' | ',' | ';' | '=');
    !text.is_empty() && text.len() <= 256 && !text.chars().any(is_odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(constraint: &str, attributes: &[(&str, &str)]) -> bool {
        let attributes = attributes.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let site = Site { agent: "agent-1", host: "h", attributes: &attributes };
        constraint.parse::<Constraint>().expect("a constraint").allows(site)
    }

    #[test]
    fn constraints_are_read_shown_and_kept() {
        let z1 = [("zone", "z1")];
        for (text, with, without) in [
            ("zone = z1", true, false),
            ("zone != z1", false, true),
            ("zone in (z0, z1)", true, false),
            ("zone not in (z0, z1)", false, true),
            ("zone exists", true, false),
            ("zone absent", false, true),
        ] {
            assert_eq!((allows(text, &z1), allows(text, &[])), (with, without), "{text}");
            assert_eq!(text.parse::<Constraint>().map(|constraint| constraint.to_string()), Ok(text.to_string()));
        }
        assert!(allows("host=h", &[]) && allows("agent = agent-1", &[]) && !allows("host = h", &[("host", "other")]));
        assert_eq!(parse_constraints("zone=z1 ; disk != hdd;").map(|list| list.len()), Ok(2));
    }

    #[test]
    fn what_is_no_constraint_is_refused() {
        for text in [
            "",
            "zone",
            "zone =",
            "= z1",
            "zone == z1",
            "zone in z1",
            "zone in ()",
            "zone in (a,,b)",
            "a b = c",
            "x is (a)",
        ] {
            assert!(text.parse::<Constraint>().is_err(), "{text}");
        }
        assert!(parse_constraints(" ; ").is_err());
    }

    #[test]
    fn spread_is_an_attribute_and_perhaps_a_number() {
        assert_eq!("zone".parse(), Ok(Spread { key: "zone".into(), most: None }));
        assert_eq!("host:1".parse(), Ok(Spread { key: "host".into(), most: Some(1) }));
        for text in ["", ":1", "host:", "host:0", "host:x", "a b"] {
            assert!(text.parse::<Spread>().is_err(), "{text}");
        }
    }
}
