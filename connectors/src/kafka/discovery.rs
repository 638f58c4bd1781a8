//! Looks for new partitions and topics while a table is read, in a thread of its own, because a broker that is slow to
//! answer must not hold up rows.
//!
//! Invariant: ends with its reader; what it could not ask it asks again the next time.

use super::cluster::{self, Watch};
use super::settings::Settings;
use super::topics::Listing;
use rdkafka::consumer::BaseConsumer;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::time::Duration;
use tracing::debug;

pub struct Discovery {
    listings: Receiver<Listing>,
    /// Its end lets the thread go.
    _end: Sender<()>,
}

impl Discovery {
    pub fn start(settings: &Settings, consumer: &Arc<BaseConsumer<Watch>>, every: Duration) -> std::io::Result<Self> {
        let (settings, consumer) = (settings.clone(), Arc::clone(consumer));
        let (end, ended) = channel::<()>();
        // What nobody looked at yet is replaced by asking again.
        let (found, listings) = sync_channel(1);
        std::thread::Builder::new().name(format!("find-{}", settings.table)).spawn(move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                match cluster::listing(&settings, &consumer) {
                    Ok(listing) => drop(found.try_send(listing)),
                    Err(error) => debug!(table = %settings.table, %error, "new partitions cannot be looked for now"),
                }
            }
        })?;
        Ok(Self { listings, _end: end })
    }

    pub fn latest(&self) -> Option<Listing> {
        self.listings.try_iter().last()
    }
}
