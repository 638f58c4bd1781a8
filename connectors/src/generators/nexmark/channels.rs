//! Where bids come from: four channels that half of them have, and ten thousand others.

use super::random::Random;
use std::sync::OnceLock;

pub struct Channel {
    pub name: String,
    pub url: String,
}

const HOT: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const OTHERS: u32 = 10_000;

pub fn hot() -> &'static [Channel] {
    static CHANNELS: OnceLock<Vec<Channel>> = OnceLock::new();
    CHANNELS.get_or_init(|| {
        let named = HOT.iter().zip(0..);
        named.map(|(name, number)| Channel { name: (*name).to_owned(), url: address(number) }).collect()
    })
}

pub fn all() -> &'static [Channel] {
    static CHANNELS: OnceLock<Vec<Channel>> = OnceLock::new();
    CHANNELS.get_or_init(|| (0..OTHERS).map(other).collect())
}

fn other(number: u32) -> Channel {
    let mut url = address(u64::from(number));
    if Random::new(u64::from(number)).below_small(10) > 0 {
        url += &format!("&channel_id={}", i64::from((number as i32).reverse_bits()).abs());
    }
    Channel { name: format!("channel-{number}"), url }
}

fn address(seed: u64) -> String {
    let random = &mut Random::new(seed);
    let mut part = || {
        let length = 3 + random.below(2);
        let letter = |_| match random.below_small(13) {
            0 => '_',
            _ => char::from(random.letter()),
        };
        (0..length).map(letter).collect::<String>()
    };
    let (first, second, third) = (part(), part(), part());
    format!("https://www.nexmark.com/{first}/{second}/{third}/item.htm?query=1")
}
