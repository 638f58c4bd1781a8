//! Resources as one writes them in a command: `cpus=4;mem=8GiB;ports=[31000-32000];gpus=[a100:80GiB,a100:80GiB]`.
//!
//! Invariant: what is read is what a machine can have; whatever is not understood is refused with its part of the text.

use crate::resources::Resources;
use crate::text::parse_mem_mib;
use crate::things::{Gpu, model_of};
use std::collections::BTreeMap;

fn parts(text: &str) -> impl Iterator<Item = Result<(&str, &str), String>> {
    text.split(';').map(str::trim).filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("'{part}' is not of the form name=value"))?;
        match (name.trim(), value.trim()) {
            ("", _) | (_, "") => Err(format!("'{part}' is not of the form name=value")),
            both => Ok(both),
        }
    })
}

fn parse_amount(name: &str, text: &str) -> Result<f64, String> {
    let amount = match name {
        "mem" | "disk" => parse_mem_mib(text)?,
        _ => text.parse().map_err(|_| format!("{name}: '{text}' is not a number"))?,
    };
    match (0.0..1e12).contains(&amount) {
        true => Ok(amount),
        false => Err(format!("{name}: '{text}' is not what a machine can have")),
    }
}

/// Scalars by name, in units: `cpus=8;mem=32GiB;gpus:a100=2`.
pub fn parse_amounts(text: &str) -> Result<BTreeMap<String, f64>, String> {
    let mut amounts = BTreeMap::new();
    for part in parts(text) {
        let (name, value) = part?;
        if amounts.insert(name.to_string(), parse_amount(name, value)?).is_some() {
            return Err(format!("'{name}' is said twice"));
        }
    }
    if amounts.is_empty() {
        return Err("no amount is said; for example 'cpus=4;mem=8GiB'".into());
    }
    Ok(amounts)
}

/// What a machine has: amounts, `ports=[31000-32000,33000]`, `gpus=2` or `gpus=[a100:80GiB,a100:80GiB]`, and sets of
/// other things: `licences={a,b}`.
pub fn parse_resources(text: &str) -> Result<Resources, String> {
    let mut resources = Resources::new();
    let mut said = Vec::new();
    for part in parts(text) {
        let (name, value) = part?;
        if said.contains(&name) {
            return Err(format!("'{name}' is said twice"));
        }
        said.push(name);
        resources = match (name, inside(value, '[', ']'), inside(value, '{', '}')) {
            ("ports", Some(list), _) => resources.with_ports(parse_ports(list)?),
            ("ports", None, _) => return Err(format!("ports: '{value}' is not a list like [31000-32000,33000]")),
            ("gpus", Some(list), _) => resources.with_gpus(parse_gpus(list)?),
            ("gpus", None, _) => resources.with_gpus(unnamed_gpus(value)?),
            (name, ..) if model_of(name).is_some() => {
                return Err(format!("{name}: the GPUs of a machine are listed: gpus=[a100:80GiB,a100:80GiB]"));
            }
            (name, _, Some(list)) => {
                let items: Vec<String> = items(list).map(str::to_string).collect();
                if items.is_empty() {
                    return Err(format!("{name}: the set is empty"));
                }
                resources.with_set(name, items)
            }
            (name, ..) => resources.with(name, parse_amount(name, value)?),
        };
    }
    Ok(resources)
}

fn inside(text: &str, open: char, close: char) -> Option<&str> {
    text.strip_prefix(open)?.strip_suffix(close)
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn parse_ports(list: &str) -> Result<Vec<(u16, u16)>, String> {
    let range = |item: &str| -> Result<(u16, u16), String> {
        let (low, high) = item.split_once('-').unwrap_or((item, item));
        match (low.trim().parse(), high.trim().parse()) {
            (Ok(low), Ok(high)) if 0 < low && low <= high => Ok((low, high)),
            _ => Err(format!("ports: '{item}' is not a range of ports; for example 31000-31999")),
        }
    };
    items(list).map(range).collect()
}

fn unnamed_gpus(text: &str) -> Result<Vec<Gpu>, String> {
    let n: u16 = text.parse().map_err(|_| format!("gpus: '{text}' is neither a whole number nor a list of GPUs"))?;
    Ok((0..n).map(|index| Gpu { index, model: String::new(), mem_mib: 0 }).collect())
}

/// `MODEL` or `MODEL:MEMORY`, numbered in their order.
fn parse_gpus(list: &str) -> Result<Vec<Gpu>, String> {
    let gpu = |(index, item): (usize, &str)| -> Result<Gpu, String> {
        let (model, memory) = item.split_once(':').map_or((item, None), |(model, memory)| (model, Some(memory)));
        if model.is_empty() || model.contains(char::is_whitespace) {
            return Err(format!("gpus: '{item}' is not of the form MODEL or MODEL:MEMORY"));
        }
        let index = u16::try_from(index).map_err(|_| "gpus: there are too many".to_string())?;
        let mem_mib = memory.map_or(Ok(0.0), parse_mem_mib)? as u64;
        Ok(Gpu { index, model: model.to_string(), mem_mib })
    };
    items(list).enumerate().map(gpu).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_read_from_one_line() {
        let text = "cpus=4;mem=8GiB; ports=[31000-31999,33000];gpus=[a100:80GiB,h200];licence={x,y};fpgas=2";
        let machine = parse_resources(text).expect("it is well-formed");
        assert_eq!((machine.milli("cpus"), machine.amount("mem"), machine.n_ports()), (4_000, 8192.0, 1_001));
        assert_eq!((machine.milli("gpus"), machine.milli("gpus:a100"), machine.milli("fpgas")), (2_000, 1_000, 2_000));
        let memories: Vec<u64> = machine.gpus().map(|gpu| gpu.mem_mib).collect();
        assert_eq!(memories, [81_920, 0]);
        assert_eq!(machine.things().map(|things| things.sets["licence"].len()), Some(2));
        let plain = parse_resources("gpus=2").expect("it is well-formed");
        assert_eq!((plain.gpus().count(), plain.milli("gpus")), (2, 2_000));
    }

    #[test]
    fn what_no_machine_has_is_refused_by_name() {
        for (text, part) in [
            ("cpus", "'cpus'"),
            ("cpus=four", "cpus: 'four'"),
            ("cpus=-1", "cpus: '-1'"),
            ("cpus=1;cpus=2", "'cpus' is said twice"),
            ("mem=1parsec", "parsec"),
            ("ports=31000-32000", "ports: '31000-32000'"),
            ("ports=[9-1]", "'9-1'"),
            ("gpus=0.5", "gpus: '0.5'"),
            ("gpus:a100=2", "gpus=[a100"),
            ("licence={}", "licence"),
        ] {
            let error = parse_resources(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn amounts_are_in_units() {
        let amounts = parse_amounts("cpus=8;mem=2g;gpus:a100=2").expect("it is well-formed");
        let expected = [("cpus", 8.0), ("gpus:a100", 2.0), ("mem", 2048.0)].map(|(name, n)| (name.to_string(), n));
        assert_eq!(amounts, BTreeMap::from(expected));
        assert!(parse_amounts("").is_err() && parse_amounts("cpus=1;cpus=1").is_err());
    }
}
