//! Any event by its number, as the `nexmark` crate makes it.
//!
//! The crate makes an event as a whole, in texts of its own; here its values go straight into columns, and what comes after
//! the last wanted one is not drawn at all.
//!
//! Invariant: what an event is depends on its number alone. Where the crate works out event time, in 32-bit floats which are
//! exact for some hours only, it is worked out here; for the rest the crate is taken to count the events of each
//! block from 0.

use super::channels::{self, Channel};
use super::columns::Kind;
use super::gather::Columns;
use super::random::{Random, price};
use std::io::Write;

/// Far within what 32-bit floats count exactly at the usual rates, and whole patterns of kinds.
const BLOCK: u64 = 20_000 * Kind::PATTERN;

// The crate writes these in lower case; the benchmark's queries ask for them as its other generators do.
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];

const AUCTIONS_EACH: u64 = 3;
const FIRST_ID: u64 = 1000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
/// Persons that still act, auctions that are still open, and how far ahead of those that are there an id may be.
const ACTIVE: u64 = 1000;
const IN_FLIGHT: u64 = 100;
const LEAD: u64 = 10;
/// One of so many persons or auctions is the one that most are about.
const HOT: u64 = 100;
/// Most events are about hot ones: all but one of so many.
const HOT_SELLERS: u64 = 4;
const HOT_AUCTIONS: u64 = 2;
const HOT_BIDDERS: u64 = 4;
const HOT_CHANNELS: u64 = 2;
/// What an event has on average, in the crate's count.
const PERSON_BYTES: usize = 200;
const AUCTION_BYTES: usize = 500;
const BID_BYTES: usize = 100;

pub struct Events {
    start_us: i64,
    rate: u64,
    channels: &'static [Channel],
    hot_channels: &'static [Channel],
}

impl Events {
    /// Events per second of event time.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// `rate`: events per second of event time.
    pub fn new(start_us: i64, rate: u64) -> Self {
        Self { start_us, rate, channels: channels::all(), hot_channels: channels::hot() }
    }

    /// Event time in whole milliseconds, as everywhere in the benchmark.
    #[inline]
    pub fn time_us(&self, number: u64) -> i64 {
        let half = self.rate / 2;
        let ms = match number.checked_mul(1000).and_then(|thousandths| thousandths.checked_add(half)) {
            Some(thousandths) => thousandths / self.rate,
            None => ((u128::from(number) * 1000 + u128::from(half)) / u128::from(self.rate)) as u64,
        };
        self.start_us.saturating_add(ms as i64 * 1000)
    }

    /// Adds what is wanted of an event to the columns of its kind.
    #[inline]
    pub fn add(&self, kind: Kind, number: u64, into: &mut Columns) {
        match kind {
            Kind::Person => person(number, into),
            Kind::Auction => self.auction(number, into),
            Kind::Bid => self.bid(number, into),
        }
        into.end_row();
    }

    fn auction(&self, number: u64, into: &mut Columns) {
        into.long(0, FIRST_ID + auction_of(number));
        if into.last() == 0 {
            return;
        }
        let random = &mut Random::new(number);
        let mut name = [0; 20];
        let mut description = [0; 100];
        random.letters(&mut name);
        random.letters(&mut description);
        into.text(1, &name);
        into.text(2, &description);
        if into.last() <= 2 {
            return;
        }
        let (first, more) = (random.power(), random.power());
        if into.wants(3) || into.wants(4) {
            let first = price(first);
            into.long(3, first as u64);
            into.long(4, (first + price(more)) as u64);
        }
        let open_ms = 1 + random.below((self.horizon_ms(number % BLOCK) * 2).max(1));
        into.time(5, || self.time_us(number) + open_ms as i64 * 1000);
        let last_person = person_of(number);
        let seller =
            if random.below(HOT_SELLERS) > 0 { last_person / HOT * HOT } else { some_person(last_person, random) };
        into.long(6, FIRST_ID + seller);
        into.long(7, FIRST_CATEGORY + random.below(CATEGORIES));
        if into.wants(8) {
            let length = extra_length(random, 8 + name.len() + description.len() + 40, AUCTION_BYTES);
            into.letters(8, length, random);
        }
    }

    /// How long it takes, in event time, until as many auctions have begun as are open at a time.
    fn horizon_ms(&self, within: u64) -> u64 {
        let delay_us = 1_000_000_f32 / self.rate as f32;
        let at = |number: u64| (number as f32 * delay_us / 1000.0).round() as u64;
        at(within + IN_FLIGHT * Kind::PATTERN / AUCTIONS_EACH) - at(within)
    }

    #[inline]
    fn bid(&self, number: u64, into: &mut Columns) {
        let random = &mut Random::new(number);
        let last_auction = auction_of(number);
        let auction = if random.below(HOT_AUCTIONS) > 0 {
            last_auction / HOT * HOT
        } else {
            let first = last_auction.saturating_sub(IN_FLIGHT);
            first + random.below(last_auction - first + 1 + LEAD)
        };
        into.long(0, FIRST_ID + auction);
        if into.last() == 0 {
            return;
        }
        let last_person = person_of(number);
        // The second of many, so that hot bidders are no hot sellers.
        let bidder =
            if random.below(HOT_BIDDERS) > 0 { last_person / HOT * HOT + 1 } else { some_person(last_person, random) };
        into.long(1, FIRST_ID + bidder);
        if into.last() == 1 {
            return;
        }
        let power = random.power();
        if into.wants(2) {
            into.long(2, price(power) as u64);
        }
        if into.last() == 2 {
            return;
        }
        let channel = if random.below(HOT_CHANNELS) > 0 {
            &self.hot_channels[random.below(self.hot_channels.len() as u64) as usize]
        } else {
            random.choose(self.channels)
        };
        into.text(3, channel.name.as_bytes());
        into.text(4, channel.url.as_bytes());
        if into.wants(5) {
            let length = extra_length(random, 32, BID_BYTES);
            into.letters(5, length, random);
        }
    }
}

fn person(number: u64, into: &mut Columns) {
    into.long(0, FIRST_ID + person_of(number));
    if into.last() == 0 {
        return;
    }
    let random = &mut Random::new(number);
    let (first, last) = (random.choose(&FIRST_NAMES), random.choose(&LAST_NAMES));
    let name = [*first, *last].join(" ");
    into.text(1, name.as_bytes());
    let mut email = *b".......@.....com.";
    random.letters(&mut email[..7]);
    random.letters(&mut email[8..13]);
    email[13..].copy_from_slice(b".com");
    into.text(2, &email);
    let mut card = Vec::with_capacity(20);
    for part in 0..4 {
        let space = if part > 0 { " " } else { "" };
        // Writing into memory does not fail.
        let _ = write!(card, "{space}{:04}", random.below_small(10_000));
    }
    into.text(3, &card);
    let (city, state) = (random.choose(&CITIES), random.choose(&STATES));
    into.text(4, city.as_bytes());
    into.text(5, state.as_bytes());
    if into.wants(6) {
        let size = 8 + name.len() + email.len() + card.len() + city.len() + state.len();
        let length = extra_length(random, size, PERSON_BYTES);
        into.letters(6, length, random);
    }
}

/// The last person that was made with or before this event, counted from 0.
fn person_of(number: u64) -> u64 {
    number / Kind::PATTERN
}

/// The last auction that was made with or before this event, which is an auction or a bid.
fn auction_of(number: u64) -> u64 {
    let within = (number % Kind::PATTERN).saturating_sub(1).min(AUCTIONS_EACH - 1);
    number / Kind::PATTERN * AUCTIONS_EACH + within
}

fn some_person(last: u64, random: &mut Random) -> u64 {
    let active = (last + 1).min(ACTIVE);
    last + 1 - active + random.below(active + LEAD)
}

/// How much of a text without meaning brings an event to its size.
fn extra_length(random: &mut Random, size: usize, wanted: usize) -> usize {
    let Some(missing) = wanted.checked_sub(size) else { return 0 };
    let delta = (missing + 2) / 5;
    let more = if delta == 0 { 0 } else { random.below(2 * delta as u64) as usize };
    missing - delta + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexmark::EventGenerator;
    use nexmark::config::NexmarkConfig;
    use nexmark::event::Event;
    use proptest::prelude::*;

    /// As the crate says it: longs as texts; event times are left out, and what follows from them is told apart.
    fn of_crate(number: u64, rate: u64) -> (Vec<String>, u64) {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let config = NexmarkConfig {
            base_time: 0,
            first_rate: rate as usize,
            next_rate: rate as usize,
            first_event_id: (number / BLOCK * BLOCK) as usize,
            us_states: words(&STATES),
            us_cities: words(&CITIES),
            first_names: words(&FIRST_NAMES),
            last_names: words(&LAST_NAMES),
            ..NexmarkConfig::default()
        };
        match EventGenerator::new(config).with_offset(number % BLOCK).next().expect("an event") {
            Event::Person(p) => {
                (vec![p.id.to_string(), p.name, p.email_address, p.credit_card, p.city, p.state, p.extra], 0)
            }
            Event::Auction(a) => {
                let longs = [a.initial_bid, a.reserve, a.seller, a.category].map(|long| long.to_string());
                let [initial, reserve, seller, category] = longs;
                let texts =
                    vec![a.id.to_string(), a.item_name, a.description, initial, reserve, seller, category, a.extra];
                (texts, a.expires - a.date_time)
            }
            Event::Bid(b) => {
                let longs = [b.auction, b.bidder, b.price].map(|long| long.to_string());
                (longs.into_iter().chain([b.channel, b.url, b.extra]).collect(), 0)
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn events_are_those_of_the_crate(
            number in prop_oneof![0..2_000_u64, BLOCK - 500..BLOCK + 500, 0..400 * BLOCK],
            rate in prop::sample::select(vec![1_u64, 777, 10_000, 1_000_000]),
        ) {
            let events = Events::new(5_000_000, rate);
            let kind = Kind::of(number);
            let all: Vec<usize> = (0..kind.columns().len() - 1).collect();
            let mut columns = Columns::new(kind, &all, 1);
            events.add(kind, number, &mut columns);
            let (mut found, mut open_ms) = (Vec::new(), 0);
            for (at, (name, _)) in kind.columns().iter().enumerate().take(all.len()) {
                let column = columns.finish(at, None).expect("a column");
                let text = arrow::util::display::array_value_to_string(&column, 0).expect("a text");
                if *name == "expires" {
                    let expires = arrow::array::AsArray::as_primitive::<arrow::datatypes::TimestampMicrosecondType>(&*column);
                    open_ms = (expires.value(0) - events.time_us(number)) as u64 / 1000;
                } else {
                    found.push(text);
                }
            }
            prop_assert_eq!((found, open_ms), of_crate(number, rate));
        }
    }
}
