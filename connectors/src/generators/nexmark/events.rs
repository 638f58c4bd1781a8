//! Any event by its number, from the crate's generator.
//!
//! Invariant: what an event is depends on its number alone, whatever was asked for before it.
//!
//! The crate works out event time in 32-bit floats, which are exact for some hours only; so event time is worked out
//! here, and the crate is shown small numbers: the events of each block count from 0, and only their ids go on.

use super::columns::Kind;
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::Event;

/// Far within what 32-bit floats count exactly at the usual rates, and whole patterns of kinds.
const BLOCK: u64 = 20_000 * Kind::PATTERN;

pub struct Events {
    config: NexmarkConfig,
    start_us: i64,
    rate: u64,
}

impl Events {
    /// `rate`: events per second of event time.
    pub fn new(start_us: i64, rate: u64) -> Self {
        let words = |text: &str| text.split(',').map(str::to_owned).collect();
        let config = NexmarkConfig {
            base_time: 0,
            first_rate: rate as usize,
            next_rate: rate as usize,
            // The crate writes these in lower case; the benchmark's queries ask for them as its other generators do.
            us_states: words("AZ,CA,ID,OR,WA,WY"),
            us_cities: words("Phoenix,Los Angeles,San Francisco,Boise,Portland,Bend,Redmond,Seattle,Kent,Cheyenne"),
            first_names: words("Peter,Paul,Luke,John,Saul,Vicky,Kate,Julie,Sarah,Deiter,Walter"),
            last_names: words("Shultz,Abrams,Spencer,White,Bartels,Walton,Smith,Jones,Noris"),
            ..NexmarkConfig::default()
        };
        Self { config, start_us, rate }
    }

    /// Event time in whole milliseconds, as everywhere in the benchmark.
    pub fn time_us(&self, number: u64) -> i64 {
        let (thousandths, rate) = (u128::from(number) * 1000, u128::from(self.rate));
        self.start_us.saturating_add(((thousandths + rate / 2) / rate) as i64 * 1000)
    }

    /// Gives events in rising order, mostly `step` apart.
    pub fn cursor(&self, step: u64) -> Cursor<'_> {
        Cursor { events: self, step, at: None }
    }
}

pub struct Cursor<'a> {
    events: &'a Events,
    step: u64,
    /// A block and its generator.
    at: Option<(u64, EventGenerator)>,
}

impl Cursor<'_> {
    pub fn at(&mut self, number: u64) -> Event {
        let (block, within) = (number / BLOCK, number % BLOCK);
        let generator = match self.at.take() {
            Some((known, generator)) if known == block && generator.offset() == within => generator,
            Some((known, generator)) if known == block => generator.with_offset(within),
            _ => {
                let first_event_id = (block * BLOCK) as usize;
                let config = NexmarkConfig { first_event_id, ..self.events.config.clone() };
                EventGenerator::new(config).with_step(self.step).with_offset(within)
            }
        };
        let (_, generator) = self.at.insert((block, generator));
        generator.next().expect("the generator never ends")
    }
}
