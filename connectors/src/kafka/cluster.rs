//! Talking about a cluster: which topics and partitions it has, creating them, and saying what went wrong in words.
//!
//! Invariant: an error names the brokers and the topic, and what librdkafka last said about the connection, because its
//! error codes alone ("Local: Broker transport failure") do not tell why.

use super::settings::Settings;
use super::topics::{Listing, Topics};
use crate::api::{Error, Result};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::debug;

/// How long a question about the cluster may take before the runtime is told that it cannot be reached.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// How long a new topic may take until every broker asked knows it.
const CREATE_WITHIN: Duration = Duration::from_secs(30);

/// Where a row says itself where it goes.
pub const NOWHERE: &str = "a record is for a topic or partition that is not there; see what the table's metadata columns \
                           'topic' and 'partition' are given";

/// Listens to one client: keeps what it last complained of, and the first record that it could not deliver.
#[derive(Default)]
pub struct Watch {
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    complaint: Option<String>,
    refused: Option<&'static str>,
    gone: Option<String>,
    undelivered: Option<KafkaError>,
}

/// How librdkafka says, in its log alone, that a partition which is read is there no longer.
const GONE: [&str; 3] = ["Unknown topic or partition", "Unknown partition", "Unknown topic"];

impl Watch {
    fn with<T>(&self, f: impl FnOnce(&mut Heard) -> T) -> T {
        f(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first delivery that failed since the last call.
    pub fn take_undelivered(&self) -> Option<KafkaError> {
        self.with(|heard| heard.undelivered.take())
    }

    /// What was said of a partition that is there no longer, since the last call.
    pub fn take_gone(&self) -> Option<String> {
        self.with(|heard| heard.gone.take())
    }
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(target: "librdkafka", facility, message, "librdkafka");
        if level as i32 <= RDKafkaLogLevel::Warning as i32 {
            // The name of librdkafka's thread comes first and says nothing to a user.
            let text = message.split_once("]: ").map_or(message, |(_, rest)| rest).trim().to_owned();
            self.with(|heard| {
                if facility == "ERROR" && GONE.iter().any(|gone| text.contains(gone)) {
                    heard.gone = Some(text.clone());
                }
                heard.complaint = Some(text);
            });
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(target: "librdkafka", %error, reason, "librdkafka");
        // What the settings alone can mend, with which of them.
        let refused = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
                Some("check properties.security.protocol and properties.sasl.* (mechanism, username, password)")
            }
            Some(RDKafkaErrorCode::SSL) if reason.contains("certificate verify failed") => {
                Some("the broker's certificate is of none that this side trusts: check properties.ssl.ca.location")
            }
            // As the broker says it, when it sees what this side shows.
            _ if ["bad certificate", "certificate required", "unknown ca"]
                .iter()
                .any(|alert| reason.contains(&format!("alert {alert}"))) =>
            {
                Some("check properties.ssl.certificate.location and properties.ssl.key.location")
            }
            _ => None,
        };
        self.with(|heard| {
            if heard.complaint.is_none() || refused.is_some() {
                heard.complaint = Some(reason.to_owned());
            }
            heard.refused = refused.or(heard.refused);
        });
    }
}

impl ConsumerContext for Watch {}

impl ProducerContext for Watch {
    type DeliveryOpaque = ();

    fn delivery(&self, delivery: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = delivery {
            self.with(|heard| {
                heard.undelivered.get_or_insert_with(|| error.clone());
            });
        }
    }
}

/// A consumer of the table's cluster; it has not yet talked to anybody.
pub fn consumer(settings: &Settings, group: &str) -> Result<BaseConsumer<Watch>> {
    settings.consumer(group).create_with_context(Watch::default()).map_err(|error| unmade(settings, &error))
}

/// A client that could not even be made.
pub fn unmade(settings: &Settings, error: &KafkaError) -> Error {
    let why = match error {
        // Holds the value, which may be a secret.
        KafkaError::ClientConfig(_, _, key, _) => format!("librdkafka refuses the value of '{key}'"),
        other => other.to_string(),
    };
    Error::Fatal(format!("Kafka client of table '{}': {why}", settings.table))
}

/// What a failed call comes to: fatal where trying again cannot help.
pub fn failed(settings: &Settings, watch: &Watch, doing: &str, error: &KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    let (complaint, refused) = watch.with(|heard| (heard.complaint.clone(), heard.refused));
    let complaint = complaint.map(|text| format!(" ({text})")).unwrap_or_default();
    let place = format!("Kafka at {}, topic '{}'", settings.brokers, settings.topic);
    let code = error.rdkafka_error_code();
    let text = match code {
        Some(code) => format!("{place}: {doing}: {code}{complaint}"),
        None => format!("{place}: {doing}: {error}{complaint}"),
    };
    match code {
        _ if refused.is_some() => Error::Fatal(format!("{text}; {}", refused.unwrap_or_default())),
        Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
            Error::Fatal(format!("{text}; this user needs the right to do so, see kafka-acls"))
        }
        Some(Code::TransactionalIdAuthorizationFailed) => Error::Fatal(format!(
            "{text}; this user needs the right to write with transactional ids that begin with 'smack.', see kafka-acls"
        )),
        Some(Code::InvalidTopic | Code::UnsupportedSASLMechanism | Code::SaslAuthenticationFailed) => {
            Error::Fatal(text)
        }
        _ => Error::Transient(text),
    }
}

/// The topics that the table names, or that fit its pattern, with their partitions in rising order; topics that are
/// missing are created where the table says so.
pub fn topics(settings: &Settings) -> Result<Listing> {
    let consumer = consumer(settings, "smack.metadata")?;
    let mut listing = listing(settings, &consumer)?;
    for topic in settings.topics.named() {
        if listing.contains_key(topic) {
            continue;
        }
        if settings.create_topic.is_none() {
            return Err(missing(&consumer, settings, topic));
        }
        listing.insert(topic.clone(), create(&consumer, settings, topic)?);
    }
    Ok(listing)
}

/// The same as it is now: what is missing is left out.
pub fn listing(settings: &Settings, consumer: &BaseConsumer<Watch>) -> Result<Listing> {
    let mut listing = Listing::new();
    if matches!(settings.topics, Topics::Pattern(_)) {
        let metadata =
            consumer.fetch_metadata(None, ASK_WITHIN).map_err(|error| unanswered(consumer, settings, &error))?;
        for topic in metadata.topics().iter().filter(|topic| settings.topics.holds(topic.name())) {
            let mut numbers: Vec<i32> = topic.partitions().iter().map(|partition| partition.id()).collect();
            numbers.sort_unstable();
            listing.insert(topic.name().to_owned(), numbers);
        }
    }
    for topic in settings.topics.named() {
        if let Some(numbers) = ask(consumer, settings, topic)? {
            listing.insert(topic.clone(), numbers);
        }
    }
    Ok(listing)
}

/// What was there and is not any more.
pub fn lost<'a>(before: impl Iterator<Item = (&'a str, i32)>, now: &Listing) -> BTreeSet<String> {
    let there = |topic: &str, number: i32| now.get(topic).is_some_and(|numbers| numbers.contains(&number));
    before.filter(|(topic, number)| !there(topic, *number)).map(|(topic, _)| topic.to_owned()).collect()
}

fn unanswered(consumer: &BaseConsumer<Watch>, settings: &Settings, error: &KafkaError) -> Error {
    // Complaints reach the context only while the client is polled.
    let until = Instant::now() + Duration::from_millis(100);
    while Instant::now() < until {
        let _ = consumer.poll(Duration::from_millis(10));
    }
    failed(settings, consumer.context(), "ask for the topic", error)
}

/// Partitions of the topic, or `None` where there is no such topic.
fn ask(consumer: &BaseConsumer<Watch>, settings: &Settings, name: &str) -> Result<Option<Vec<i32>>> {
    let metadata =
        consumer.fetch_metadata(Some(name), ASK_WITHIN).map_err(|error| unanswered(consumer, settings, &error))?;
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else { return Ok(None) };
    if let Some(error) = topic.error() {
        let code = RDKafkaErrorCode::from(error);
        if matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) {
            return Ok(None);
        }
        let error = KafkaError::MetadataFetch(code);
        return Err(failed(settings, consumer.context(), "ask for the topic", &error));
    }
    let mut partitions: Vec<i32> = topic.partitions().iter().map(|partition| partition.id()).collect();
    partitions.sort_unstable();
    Ok(Some(partitions))
}

fn create(consumer: &BaseConsumer<Watch>, settings: &Settings, name: &str) -> Result<Vec<i32>> {
    let Some(wanted) = settings.create_topic else { return Err(missing(consumer, settings, name)) };
    let admin: AdminClient<Watch> =
        settings.client().create_with_context(Watch::default()).map_err(|error| unmade(settings, &error))?;
    let replication = TopicReplication::Fixed(wanted.replication.unwrap_or(-1));
    let topic = NewTopic::new(name, wanted.partitions.unwrap_or(-1), replication);
    let options = AdminOptions::new().request_timeout(Some(CREATE_WITHIN)).operation_timeout(Some(CREATE_WITHIN));
    let answers = futures::executor::block_on(admin.create_topics([&topic], &options))
        .map_err(|error| failed(settings, consumer.context(), "create the topic", &error))?;
    for answer in answers {
        match answer {
            // Another slice was first: just as good.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code @ (RDKafkaErrorCode::InvalidReplicationFactor | RDKafkaErrorCode::PolicyViolation))) => {
                return Err(Error::Fatal(format!(
                    "Kafka at {}: create topic '{name}': {code}; check option 'replication' against the number of brokers",
                    settings.brokers
                )));
            }
            Err((_, code)) => {
                let error = KafkaError::Global(code);
                return Err(failed(settings, consumer.context(), "create the topic", &error));
            }
        }
    }
    let until = Instant::now() + CREATE_WITHIN;
    loop {
        match ask(consumer, settings, name) {
            Ok(Some(partitions)) if !partitions.is_empty() => return Ok(partitions),
            Err(fatal @ Error::Fatal(_)) => return Err(fatal),
            _ if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            Err(transient) => return Err(transient),
            Ok(_) => {
                return Err(Error::Transient(format!(
                    "Kafka at {}: topic '{name}' was created but is not seen yet",
                    settings.brokers
                )));
            }
        }
    }
}

fn missing(consumer: &BaseConsumer<Watch>, settings: &Settings, name: &str) -> Error {
    let mut names: Vec<String> = match consumer.fetch_metadata(None, ASK_WITHIN) {
        Ok(all) => all.topics().iter().map(|topic| topic.name().to_owned()).collect(),
        Err(_) => Vec::new(),
    };
    names.retain(|name| !name.starts_with("__"));
    names.sort();
    let way_out = match jobs::text::nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean '{near}'? Else create it, or add create_topic = 'true'"),
        None => "create it, or add create_topic = 'true'".to_owned(),
    };
    Error::Fatal(format!(
        "topic '{name}' of table '{}' does not exist on Kafka at {}; {way_out}",
        settings.table, settings.brokers
    ))
}
