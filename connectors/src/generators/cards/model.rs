//! The hidden world behind the card transactions.
//!
//! Cards live in episodes of ten minutes of event time. In each, a few are *compromised*: a thief pays besides the
//! owner, often, online, from several countries, with amounts a little above the owner's. Others make nearly the same
//! impression: a *traveller* pays abroad, on a *spree* an owner pays often, online, at many merchants. And amounts tell
//! little, because what is much for one card is nothing for another. Who paid decides the chance of fraud, not the row.
//!
//! Invariant: pure. An event is drawn from (seed, number) and a card's state from (seed, card, episode), so the stream
//! can be read from any number without what came before.

use crate::generators::noise::{Draws, Permutation, below, mix, unit};

const EPISODE_US: i64 = 600_000_000;
/// Groups of cards change episodes at different minutes, so that the world never changes all at once.
const GROUPS: u64 = 10;
const MERCHANTS: u64 = 1000;
const FAVOURITES: u64 = 12;
const COUNTRIES: [&str; 24] = [
    "US", "DE", "GB", "FR", "IN", "BR", "JP", "ES", "IT", "NL", "PL", "SE", "CA", "MX", "AU", "ZA", "NG", "TR", "RO",
    "UA", "CN", "KR", "ID", "VN",
];

/// What a draw is for; the numbers are part of the generated data.
mod purpose {
    pub const EVENT: u64 = 1;
    pub const HOME: u64 = 2;
    pub const SCALE: u64 = 3;
    pub const EPISODE: u64 = 4;
    pub const ABROAD: u64 = 5;
    pub const FAVOURITE: u64 = 6;
    pub const SCALE_NOISE: u64 = 7;
}

/// What a card is going through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Normal,
    Compromised,
    Travelling,
    Spree,
}

/// Hot states: share of the cards, and how many events they make on top, as a multiple of a card's usual ones.
const HOT: [(State, f64, f64); 3] =
    [(State::Compromised, 0.015, 8.0), (State::Travelling, 0.05, 2.0), (State::Spree, 0.04, 4.0)];

/// One transaction, and what only the generator knows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: u64,
    pub card: u64,
    pub ts_us: i64,
    pub amount: f64,
    pub merchant: u64,
    pub country: &'static str,
    pub online: bool,
    pub fraud: bool,
    /// The chance that `fraud` was drawn with: the best score there can be.
    pub fraud_chance: f64,
}

#[derive(Clone, Debug)]
pub struct Model {
    seed: u64,
    cards: u64,
    groups: u64,
    start_us: i64,
    spacing_us: f64,
    disorder_us: u64,
}

impl Model {
    pub fn new(seed: u64, cards: u64, start_us: i64, spacing_us: f64, disorder_us: u64) -> Self {
        // Few cards make one group, so that each hot state still has a card.
        let groups = if cards >= 100 * GROUPS { GROUPS } else { 1 };
        Self { seed, cards, groups, start_us, spacing_us, disorder_us }
    }

    pub fn event(&self, id: u64) -> Event {
        let mut draws = Draws::new(self.seed, purpose::EVENT, id);
        let time_us = self.start_us + (id as f64 * self.spacing_us) as i64;
        let ts_us = time_us - draws.below(self.disorder_us.saturating_add(1)) as i64;
        let group = draws.below(self.groups);
        let episode = self.episode(group, ts_us);
        let (card, hot) = self.pick(episode, &mut draws);
        let state = self.state(episode, card);
        let payer = match (hot, state) {
            (true, State::Compromised) => Payer::Thief,
            (_, State::Travelling) => Payer::Traveller,
            (true, State::Spree) => Payer::Shopper,
            (false, State::Compromised) => Payer::Victim,
            _ => Payer::Owner,
        };
        let fraud_chance = payer.fraud_chance();
        Event {
            id,
            card,
            ts_us,
            amount: self.amount(card, payer, &mut draws),
            merchant: self.merchant(card, payer, &mut draws),
            country: self.country(episode, card, payer, &mut draws),
            online: draws.chance(payer.online_chance()),
            fraud: draws.chance(fraud_chance),
            fraud_chance,
        }
    }

    fn episode(&self, group: u64, ts_us: i64) -> Episode {
        let shift_us = group as i64 * (EPISODE_US / GROUPS as i64);
        let number = (ts_us - shift_us).div_euclid(EPISODE_US) as u64;
        let key = mix(self.seed, purpose::EPISODE, number.wrapping_mul(GROUPS).wrapping_add(group));
        let members = (self.cards - group).div_ceil(self.groups);
        Episode { group, key, places: Permutation::new(members, key), members }
    }

    /// A card of the episode's group, and whether it was drawn for being hot.
    fn pick(&self, episode: Episode, draws: &mut Draws) -> (u64, bool) {
        let members = episode.members as f64;
        let mut weights = [0.0; HOT.len()];
        let mut total = members;
        for (weight, (_, share, multiple)) in weights.iter_mut().zip(HOT) {
            *weight = episode.hot_count(share) as f64 * multiple;
            total += *weight;
        }
        let mut at = draws.unit() * total;
        let mut first_place = 0;
        for (weight, (_, share, _)) in weights.into_iter().zip(HOT) {
            let count = episode.hot_count(share);
            if at < weight {
                return (self.card(episode, first_place + draws.below(count)), true);
            }
            at -= weight;
            first_place += count;
        }
        (self.card(episode, draws.below(episode.members)), false)
    }

    fn card(&self, episode: Episode, place: u64) -> u64 {
        episode.places.forward(place) * self.groups + episode.group
    }

    fn state(&self, episode: Episode, card: u64) -> State {
        let mut place = episode.places.backward(card / self.groups);
        for (state, share, _) in HOT {
            let count = episode.hot_count(share);
            if place < count {
                return state;
            }
            place -= count;
        }
        State::Normal
    }

    fn amount(&self, card: u64, payer: Payer, draws: &mut Draws) -> f64 {
        // What is usual differs far more between cards than a thief differs from an owner.
        let scale = Draws::new(self.seed, purpose::SCALE, card).normal() * 1.8
            + Draws::new(self.seed, purpose::SCALE_NOISE, card).unit() * 0.2;
        let (lift, spread) = match payer {
            Payer::Owner | Payer::Victim => (0.0, 0.6),
            Payer::Traveller => (0.15, 0.6),
            Payer::Shopper | Payer::Thief => (0.3, 0.7),
        };
        let amount = (3.4 + scale + lift + spread * draws.normal()).exp();
        (amount * 100.0).round().max(1.0) / 100.0
    }

    fn merchant(&self, card: u64, payer: Payer, draws: &mut Draws) -> u64 {
        let favourite = match payer {
            Payer::Owner | Payer::Victim => 0.85,
            Payer::Shopper => 0.3,
            Payer::Traveller | Payer::Thief => 0.05,
        };
        let (is_favourite, word) = (draws.chance(favourite), draws.word());
        if is_favourite {
            let which = below(word, FAVOURITES);
            return below(mix(self.seed, purpose::FAVOURITE, card * FAVOURITES + which), MERCHANTS);
        }
        // Some merchants are much more frequent than others.
        (unit(word).powi(2) * MERCHANTS as f64) as u64
    }

    fn country(&self, episode: Episode, card: u64, payer: Payer, draws: &mut Draws) -> &'static str {
        let n = COUNTRIES.len() as u64;
        let home = (unit(mix(self.seed, purpose::HOME, card)).powi(2) * n as f64) as u64;
        let abroad = |which: u64| 1 + below(mix(episode.key, purpose::ABROAD, card * 4 + which), n - 1);
        let away = match payer {
            Payer::Owner | Payer::Victim => {
                if draws.chance(0.03) {
                    1 + draws.below(n - 1)
                } else {
                    0
                }
            }
            Payer::Shopper => {
                if draws.chance(0.08) {
                    1 + draws.below(n - 1)
                } else {
                    0
                }
            }
            Payer::Traveller => {
                if draws.chance(0.85) {
                    abroad(0)
                } else {
                    0
                }
            }
            Payer::Thief => {
                if draws.chance(0.6) {
                    abroad(1 + draws.below(3))
                } else {
                    0
                }
            }
        };
        COUNTRIES[((home + away) % n) as usize]
    }
}

/// Ten minutes of one group of cards.
#[derive(Clone, Copy)]
struct Episode {
    group: u64,
    key: u64,
    /// From places to members; the first places are hot.
    places: Permutation,
    members: u64,
}

impl Episode {
    fn hot_count(&self, share: f64) -> u64 {
        ((self.members as f64 * share).round() as u64).max(1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payer {
    Owner,
    /// The owner of a compromised card.
    Victim,
    Traveller,
    Shopper,
    Thief,
}

impl Payer {
    fn fraud_chance(self) -> f64 {
        match self {
            Self::Owner => 0.0002,
            Self::Victim => 0.01,
            Self::Traveller | Self::Shopper => 0.001,
            Self::Thief => 0.85,
        }
    }

    fn online_chance(self) -> f64 {
        match self {
            Self::Owner | Self::Victim => 0.3,
            Self::Traveller => 0.1,
            Self::Shopper => 0.7,
            Self::Thief => 0.85,
        }
    }
}
