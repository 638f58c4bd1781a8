//! What an agent has and a task needs: named scalars, port ranges, GPUs one by one, and items of named sets.
//!
//! Invariant: scalars are whole thousandths (as in Mesos), so sums are exact and free + offered + used = total can be
//! checked with `==`. Mem and disk are MiB.

use crate::revocable::lent_of;
use crate::scalars::Scalars;
use crate::things::{Gpu, Things, gpu_counts, model_of};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Quantities by name, and ports. A scalar that is zero is not kept, so equal means equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths by name: `cpus` 1500 is one and a half cores; `mem` 512000 is 512 MiB.
    scalars: Scalars,
    /// Inclusive, sorted, disjoint, not adjacent. Shared with copies: what is offered is what was free, and what is
    /// refused is what was offered.
    ports: Arc<[(u16, u16)]>,
    /// GPUs and the items of sets; `None` where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    things: Option<Box<Things>>,
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

    /// With these GPUs, and no others; the scalars count them.
    pub fn with_gpus(mut self, gpus: impl IntoIterator<Item = Gpu>) -> Self {
        let counters: Vec<String> = self
            .scalars
            .iter()
            .filter(|(name, _)| model_of(name).is_some())
            .map(|(name, _)| name.to_string())
            .collect();
        for name in counters {
            self.scalars.set(&name, 0);
        }
        let mut things = self.things.take().map(|things| *things).unwrap_or_default();
        things.gpus = gpus.into_iter().collect();
        self.scalars.add(&gpu_counts(&things.gpus));
        self.set_things(things);
        self
    }

    /// With these items of a set besides those that are there.
    pub fn with_set(mut self, name: &str, items: impl IntoIterator<Item = String>) -> Self {
        let mut things = self.things.take().map(|things| *things).unwrap_or_default();
        things.sets.entry(name.to_string()).or_default().extend(items);
        self.set_things(things);
        self
    }

    fn set_things(&mut self, things: Things) {
        self.things = (!things.is_empty()).then(|| Box::new(things));
    }

    /// GPUs and sets, if there are any.
    pub fn things(&self) -> Option<&Things> {
        self.things.as_deref()
    }

    pub fn gpus(&self) -> impl Iterator<Item = &Gpu> {
        self.things.iter().flat_map(|things| &things.gpus)
    }

    /// Whether the scalars that count GPUs count exactly those that are here. What a demand asks for has counts only.
    pub fn has_the_gpus_it_counts(&self) -> bool {
        let counters = self.scalars.iter().filter(|(name, _)| model_of(name).is_some());
        counters.collect::<Scalars>() == gpu_counts(self.gpus())
    }

    /// Whether every count of GPUs is one of whole devices.
    pub fn wants_whole_gpus(&self) -> bool {
        self.scalars.iter().all(|(name, milli)| model_of(name).is_none() || milli % 1000 == 0)
    }

    /// One task of a shape as it would run on what is here: with the ports and the GPUs that it gets. `None` if it does
    /// not fit.
    pub fn place(&self, shape: &Resources, n_ports: usize) -> Option<Resources> {
        if !self.contains(shape) {
            return None;
        }
        let mut rest = Resources { ports: Arc::clone(&self.ports), ..Resources::new() };
        if !shape.ports.is_empty() {
            rest.subtract(&Resources { ports: Arc::clone(&shape.ports), ..Resources::new() });
        }
        let ports = rest.first_ports(n_ports);
        let placed = shape.clone().with_ports(ports);
        if placed.n_ports() != shape.n_ports() + n_ports {
            return None;
        }
        match self.things.as_ref().filter(|_| shape.scalars.iter().any(|(name, _)| model_of(name).is_some())) {
            Some(things) if shape.gpus().next().is_none() => Some(placed.with_gpus(things.pick_gpus(&shape.scalars)?)),
            _ => Some(placed),
        }
    }

    /// What both have.
    pub fn common(&self, other: &Resources) -> Resources {
        let overlaps = self.ports.iter().flat_map(|(low, high)| {
            let overlap = move |(l, h): &(u16, u16)| (*low.max(l), *high.min(h));
            other.ports.iter().map(overlap).filter(|(l, h)| l <= h)
        });
        let common = Resources::new().with_amounts(self.scalars.least(&other.scalars)).with_ports(overlaps);
        let (Some(own), Some(others)) = (&self.things, &other.things) else { return common.with_gpus([]) };
        let things = own.common(others);
        let mut common = common.with_gpus(things.gpus.iter().cloned());
        common.set_things(things);
        common
    }

    /// The part of this with no more of each scalar than `most`, with the GPUs that fit into it and these ports.
    pub fn part(&self, most: Scalars, ports: impl IntoIterator<Item = (u16, u16)>) -> Resources {
        let gpus = self.things.as_ref().map(|things| things.gpus_within(&most));
        let mut part = Resources::new().with_amounts(most).with_ports(ports);
        if let Some(things) = &self.things {
            part.things = Some(Box::new(Things { sets: things.sets.clone(), ..Things::default() }));
        }
        match gpus {
            Some(gpus) => part.with_gpus(gpus),
            None => part,
        }
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
    #[inline]
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

    #[inline]
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
        for (low, high) in &*self.ports {
            let n = left.min(usize::from(high - low) + 1);
            if n == 0 {
                break;
            }
            first.push((*low, low + (n - 1) as u16));
            left -= n;
        }
        first
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.scalars.is_empty() && self.ports.is_empty() && self.things.is_none()
    }

    /// Whether every quantity and port of `other` is here too.
    #[inline]
    pub fn contains(&self, other: &Resources) -> bool {
        self.scalars.contains(&other.scalars)
            && (self.ports == other.ports || self.has_ports(&other.ports))
            && other.things.as_ref().is_none_or(|things| self.things.as_ref().is_some_and(|own| own.contains(things)))
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
        if let Some(things) = &other.things {
            self.things.get_or_insert_default().add(things);
        }
        if self.ports.is_empty() {
            self.ports.clone_from(&other.ports);
        } else if !other.ports.is_empty() {
            self.ports = normalize(self.ports.iter().chain(&*other.ports).copied());
        }
    }

    /// Takes `other` away; what is not here is a defect of the caller, so check [`contains`](Self::contains) first.
    pub fn subtract(&mut self, other: &Resources) {
        assert!(self.contains(other), "resources {self} do not contain {other}");
        self.scalars.subtract(&other.scalars);
        if let Some(things) = &other.things
            && let Some(mut own) = self.things.take()
        {
            own.subtract(things);
            self.set_things(*own);
        }
        if other.ports.is_empty() {
            return;
        }
        if self.ports == other.ports {
            self.ports = Arc::default();
            return;
        }
        let mut left = Vec::with_capacity(self.ports.len() + other.ports.len());
        for &(start, high) in &*self.ports {
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
        self.ports = left.into();
    }
}

fn normalize(ranges: impl IntoIterator<Item = (u16, u16)>) -> Arc<[(u16, u16)]> {
    let mut ranges: Vec<(u16, u16)> = ranges.into_iter().filter(|(low, high)| low <= high).collect();
    if ranges.is_empty() {
        return Arc::default();
    }
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if u32::from(low) <= u32::from(last.1) + 1 => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged.into()
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        let mut first = true;
        // GPUs of a model are counted among all, and named below one by one.
        let all_counted = self.scalars.get(crate::things::GPUS) > 0;
        let shown = |name: &str| !all_counted || self.things.is_none() || !name.starts_with("gpus:");
        for (name, milli) in self.scalars.iter().filter(|(name, _)| shown(name)) {
            if !std::mem::take(&mut first) {
                f.write_str(", ")?;
            }
            write!(f, "{name} {}", milli as f64 / 1000.0)?;
            if matches!(lent_of(name), "mem" | "disk") {
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
            first = false;
        }
        if let Some(things) = &self.things {
            write!(f, "{}{things}", if first { "" } else { ", " })?;
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

    fn gpu(index: u16, model: &str) -> Gpu {
        Gpu { index, model: model.into(), mem_mib: 1024 }
    }

    #[test]
    fn a_task_gets_gpus_and_ports_of_its_own() {
        let machine =
            Resources::new().cpus(8.0).with_ports([(10, 13)]).with_gpus([gpu(0, "a"), gpu(1, "b"), gpu(2, "b")]);
        assert!(machine.has_the_gpus_it_counts());
        let shape = Resources::new().cpus(1.0).with("gpus", 1.0).with("gpus:b", 1.0);
        assert!(!shape.has_the_gpus_it_counts() && shape.wants_whole_gpus());
        let mut left = machine.clone();
        let first = left.place(&shape, 2).expect("it fits");
        assert_eq!(first.to_string(), "cpus 1, gpus 1, ports 10-11, gpu 1:b");
        left.subtract(&first);
        let second = left.place(&shape, 2).expect("it fits");
        left.subtract(&second);
        assert_eq!(left.place(&shape, 0), None);
        assert_eq!(left, Resources::new().cpus(6.0).with_gpus([gpu(0, "a")]));
        assert!(left.contains(&Resources::new().with("gpus", 1.0)));
        left.add(&first);
        left.add(&second);
        assert_eq!(left, machine);
        assert_eq!(machine.common(&first), first);
        assert!(!Resources::new().with("gpus", 0.5).wants_whole_gpus());
    }

    #[test]
    fn a_part_has_whole_gpus() {
        let machine =
            Resources::new().cpus(8.0).with_gpus([gpu(0, "a"), gpu(1, "a")]).with_set("licence", ["x".into()]);
        let most: Scalars = [("cpus", 2_000), ("gpus", 1_500), ("gpus:a", 2_000)].into_iter().collect();
        let part = machine.part(most, []);
        assert_eq!(part.to_string(), "cpus 2, gpus 1, gpu 0:a, licence x");
        assert!(part.has_the_gpus_it_counts());
    }

    #[test]
    fn shown_for_people() {
        let shown = Resources::new().cpus(1.5).mem_mib(512.0).with_ports([(31000, 31001)]).to_string();
        assert_eq!(shown, "cpus 1.5, mem 512 MiB, ports 31000-31001");
    }
}
