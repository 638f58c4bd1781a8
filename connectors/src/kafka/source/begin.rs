//! Where a partition's reading begins and ends: the checkpoint's word first, then the table's.

use super::{Source, Split};
use crate::api::{Error, FROM_THE_BEGINNING, Position, Result};
use crate::kafka::startup::{Bounded, Startup};
use crate::kafka::topics::Partition;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use std::time::Duration;

const ASK_WITHIN: Duration = Duration::from_secs(10);

impl Source {
    /// Where to begin, and sets where the split ends.
    pub(super) fn begin(&self, split: &mut Split, from: Option<Position>) -> Result<Offset> {
        let Partition { topic, number } = split.partition.clone();
        let looks = from.is_none() && !matches!(self.settings.startup, Startup::Earliest | Startup::Specific(_));
        let (mut low, mut high) = (0, 0);
        if looks || self.settings.bounded != Bounded::No {
            // With read_committed the high mark is the last stable offset: what follows belongs to open transactions.
            (low, high) = self
                .fetched
                .consumer()
                .fetch_watermarks(&topic, number, ASK_WITHIN)
                .map_err(|error| self.failed("ask how much is in the topic", &error))?;
        }
        split.end = match &self.settings.bounded {
            Bounded::No => None,
            Bounded::Latest => Some(high as Position),
            Bounded::Timestamp(ms) => Some(self.at_time(&split.partition, *ms)?.unwrap_or(high).min(high) as Position),
            Bounded::Specific(ends) => match ends.get(&split.partition) {
                Some(end) => Some(*end as Position),
                None => {
                    return Err(Error::Fatal(format!(
                        "option 'scan.bounded' of table '{}' names no offset for partition {number} of topic '{topic}'; add \
                         it, with its own end or 0",
                        self.settings.table
                    )));
                }
            },
        };
        if split.end.is_some() {
            split.next = low as Position;
        }
        let offset = match from {
            Some(FROM_THE_BEGINNING) => return Ok(Offset::Beginning),
            Some(from) if split.end.is_some() && from > high as Position => {
                return Err(Error::Fatal(format!(
                    "offset {from} of partition {number} of topic '{topic}' is no longer there: retention removed it or the \
                     topic was made anew; start the job afresh, without its checkpoint"
                )));
            }
            Some(from) => from as i64,
            None => match &self.settings.startup {
                Startup::Earliest => return Ok(Offset::Beginning),
                Startup::Latest => high,
                Startup::Timestamp(ms) => self.at_time(&split.partition, *ms)?.unwrap_or(high),
                Startup::Group { latest } => match self.committed(&split.partition)? {
                    Some(offset) => offset,
                    None if *latest => high,
                    None => return Ok(Offset::Beginning),
                },
                Startup::Specific(offsets) => match offsets.get(&split.partition) {
                    Some(offset) => *offset,
                    None => return Ok(Offset::Beginning),
                },
            },
        };
        split.next = offset as Position;
        Ok(Offset::Offset(offset))
    }

    /// The first record that is not older; none where all are.
    fn at_time(&self, partition: &Partition, ms: i64) -> Result<Option<i64>> {
        let failed = |error: KafkaError| self.failed("ask for the offset of a time", &error);
        let mut question = TopicPartitionList::with_capacity(1);
        question.add_partition_offset(&partition.topic, partition.number, Offset::Offset(ms)).map_err(failed)?;
        let answer = self.fetched.consumer().offsets_for_times(question, ASK_WITHIN).map_err(failed)?;
        Ok(match answer.elements().first().map(|element| element.offset()) {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        })
    }

    /// What the table's group has committed.
    fn committed(&self, partition: &Partition) -> Result<Option<i64>> {
        let failed = |error: KafkaError| self.failed("ask what the consumer group has committed", &error);
        let mut question = TopicPartitionList::with_capacity(1);
        question.add_partition(&partition.topic, partition.number);
        let answer = self.fetched.consumer().committed_offsets(question, ASK_WITHIN).map_err(failed)?;
        let Some(element) = answer.find_partition(&partition.topic, partition.number) else { return Ok(None) };
        element.error().map_err(failed)?;
        Ok(match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }
}
