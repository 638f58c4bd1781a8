//! What an agent has and a task needs: named scalars and port ranges.
//!
//! Invariant: scalars are whole thousandths (as in Mesos), so sums are exact and free + offered + used = total can be
//! checked with `==`. Mem and disk are MiB.

use crate::scalars::Scalars;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Quantities by name, and ports. A scalar that is zero is not kept, so equal means equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths by name: `cpus` 1500 is one and a half cores; `mem` 512000 is 512 MiB.
    scalars: Scalars,
    /// Inclusive, sorted, disjoint, not adjacent.
    ports: Vec<(u16, u16)>,
}

impl Resources {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a scalar, in units (not thousandths); rounds to the nearest thousandth.
    pub fn with(mut self, name: &str, amount: f64) -> Self {
        self.set_milli(name, (amount * 1000.0).round() as i64);
        self
    }

    pub fn cpus(self, amount: f64) -> Self {
        self.with("cpus", amount)
    }

    pub fn mem_mib(self, amount: f64) -> Self {
        self.with("mem", amount)
    }

    pub fn with_ports(mut self, ranges: impl IntoIterator<Item = (u16, u16)>) -> Self {
        self.ports = normalize(self.ports.iter().copied().chain(ranges));
        self
    }

    pub fn set_milli(&mut self, name: &str, milli: i64) {
        self.scalars.set(name, milli);
    }

    pub fn milli(&self, name: &str) -> i64 {
        self.scalars.get(name)
    }

    /// The scalar in units.
    pub fn amount(&self, name: &str) -> f64 {
        self.milli(name) as f64 / 1000.0
    }

    pub fn scalars(&self) -> impl Iterator<Item = (&str, i64)> {
        self.scalars.iter()
    }

    /// The scalars alone.
    pub fn amounts(&self) -> &Scalars {
        &self.scalars
    }

    pub fn with_amounts(mut self, scalars: Scalars) -> Self {
        self.scalars = scalars;
        self
    }

    pub fn ports(&self) -> &[(u16, u16)] {
        &self.ports
    }

    pub fn n_ports(&self) -> usize {
        self.ports.iter().map(|(low, high)| (*high - *low) as usize + 1).sum()
    }

    /// The lowest `n` ports, or `None` if there are fewer.
    pub fn take_ports(&self, n: usize) -> Option<Vec<u16>> {
        let ports: Vec<u16> = self.ports.iter().flat_map(|(low, high)| *low..=*high).take(n).collect();
        (ports.len() == n).then_some(ports)
    }

    /// The lowest `n` ports, as ranges; fewer where there are fewer.
    pub fn first_ports(&self, n: usize) -> Vec<(u16, u16)> {
        let mut left = n;
        let mut first = Vec::new();
        for (low, high) in &self.ports {
            let n = left.min(usize::from(high - low) + 1);
            if n == 0 {
                break;
            }
            first.push((*low, low + (n - 1) as u16));
            left -= n;
        }
        first
    }

    pub fn is_empty(&self) -> bool {
        self.scalars.is_empty() && self.ports.is_empty()
    }

    /// Whether every quantity and port of `other` is here too.
    pub fn contains(&self, other: &Resources) -> bool {
        self.scalars.contains(&other.scalars)
            && (self.ports == other.ports || self.has_ports(&other.ports))
    }

    /// Both are in order, so one walk along both is enough.
    fn has_ports(&self, ranges: &[(u16, u16)]) -> bool {
        let mut own = self.ports.iter().peekable();
        ranges.iter().all(|(low, high)| {
            while own.next_if(|(_, end)| end < low).is_some() {}
            own.peek().is_some_and(|(a, b)| a <= low && high <= b)
        })
    }

    pub fn add(&mut self, other: &Resources) {
        self.scalars.add(&other.scalars);
        if self.ports.is_empty() {
            self.ports.clone_from(&other.ports);
        } else if !other.ports.is_empty() {
            self.ports = normalize(self.ports.iter().chain(&other.ports).copied());
        }
    }

    /// Takes `other` away; what is not here is a defect of the caller, so check [`contains`](Self::contains) first.
    pub fn subtract(&mut self, other: &Resources) {
        assert!(self.contains(other), "resources {self} do not contain {other}");
        self.scalars.subtract(&other.scalars);
        if other.ports.is_empty() {
            return;
        }
        if self.ports == other.ports {
            return self.ports.clear();
        }
        let mut left = Vec::with_capacity(self.ports.len() + other.ports.len());
        for &(start, high) in &self.ports {
            let (mut low, mut open) = (start, true);
            for &(cut_low, cut_high) in other.ports.iter().filter(|(a, b)| start <= *b && *a <= high) {
                if cut_low > low {
                    left.push((low, cut_low - 1));
                }
                match cut_high.checked_add(1) {
                    Some(next) if next <= high => low = next,
                    _ => open = false,
                }
            }
            if open {
                left.push((low, high));
            }
        }
        self.ports = left;
    }
}

fn normalize(ranges: impl IntoIterator<Item = (u16, u16)>) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = ranges.into_iter().filter(|(low, high)| low <= high).collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if u32::from(low) <= u32::from(last.1) + 1 => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        let mut first = true;
        for (name, milli) in self.scalars.iter() {
            if !std::mem::take(&mut first) {
                f.write_str(", ")?;
            }
            write!(f, "{name} {}", milli as f64 / 1000.0)?;
            if name == "mem" || name == "disk" {
                f.write_str(" MiB")?;
            }
        }
        if !self.ports.is_empty() {
            if !first {
                f.write_str(", ")?;
            }
            f.write_str("ports ")?;
            for (at, (low, high)) in self.ports.iter().enumerate() {
                if at > 0 {
                    f.write_str("+")?;
                }
                if low == high { write!(f, "{low}")? } else { write!(f, "{low}-{high}")? }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resources() -> impl Strategy<Value = Resources> {
        (0i64..5000, 0i64..5000, prop::collection::vec((100u16..200, 0u16..5), 0..4)).prop_map(|(cpus, mem, ports)| {
            let mut resources = Resources::new().with_ports(ports.into_iter().map(|(low, n)| (low, low + n)));
            resources.set_milli("cpus", cpus);
            resources.set_milli("mem", mem);
            resources
        })
    }

    proptest! {
        #[test]
        fn add_then_subtract_is_identity_for_disjoint_ports(a in resources(), b in resources()) {
            let b = Resources::new().with("cpus", b.amount("cpus"))
                .with_ports(b.ports().iter().map(|(low, high)| (low + 1000, high + 1000)));
            let mut sum = a.clone();
            sum.add(&b);
            prop_assert!(sum.contains(&a) && sum.contains(&b));
            sum.subtract(&b);
            prop_assert_eq!(sum, a);
        }
    }

    #[test]
    fn ports_are_cut_out() {
        let mut have = Resources::new().with_ports([(10, 20)]);
        have.subtract(&Resources::new().with_ports([(12, 13), (20, 20)]));
        assert_eq!(have.ports(), &[(10, 11), (14, 19)]);
        assert_eq!(have.n_ports(), 8);
        let mut top = Resources::new().with_ports([(65534, 65535)]);
        top.subtract(&Resources::new().with_ports([(65535, 65535)]));
        assert_eq!(top.ports(), &[(65534, 65534)]);
    }

    #[test]
    fn shown_for_people() {
        let shown = Resources::new().cpus(1.5).mem_mib(512.0).with_ports([(31000, 31001)]).to_string();
        assert_eq!(shown, "cpus 1.5, mem 512 MiB, ports 31000-31001");
    }
}
