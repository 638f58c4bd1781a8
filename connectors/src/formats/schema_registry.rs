//! Speaks HTTP with a schema registry: Confluent's, or what has its API, such as Apicurio's `/apis/ccompat/v7`.
//!
//! Invariant: a registry that does not answer, or not for now, is transient and named; so the runtime tries again with
//! back-off and tells why. What it refuses is fatal, in its own words. Neither says a password.
//! Invariant: what an id stands for never changes, so it is asked for once in a process.
//! Blocks; must not be used on a thread that drives async tasks. No client is made before the first question.

use super::framing::SchemaId;
use crate::{Error, Result};
use reqwest::blocking::{Client, ClientBuilder, RequestBuilder};
use reqwest::{Certificate, Identity, StatusCode, Url};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tracing::info;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// Schemas that one names, and these in turn, at most.
const MOST_REFERENCES: usize = 100;

/// A schema as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// `AVRO`, `PROTOBUF` or another.
    pub kind: String,
    pub text: String,
    /// Names and texts of those that it names, each after those that it names itself.
    pub references: Vec<(String, String)>,
}

/// A schema with the ids under which the registry keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub id: u32,
    pub guid: Option<[u8; 16]>,
    pub schema: Registered,
}

/// Where a registry is, and as whom it is asked.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Access {
    /// Tried one after another.
    pub urls: Vec<Url>,
    pub user: Option<String>,
    pub password: Option<String>,
    /// A file of certificates that vouch for it; the system's without one.
    pub authorities: Option<PathBuf>,
    /// Files of the certificate that is shown to it, and of its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

pub struct SchemaRegistry {
    access: Access,
    http: OnceLock<Client>,
    schemas: Mutex<HashMap<SchemaId, Arc<Registered>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaAnswer {
    #[serde(default)]
    schema: String,
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
    id: Option<u32>,
    guid: Option<String>,
}

#[derive(Clone, Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i64,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    error_code: u32,
    #[serde(default)]
    message: String,
}

/// What the registry said.
enum Answer {
    Found(SchemaAnswer),
    /// It knows that there is no such thing.
    Absent,
}

impl SchemaRegistry {
    /// The one of this process for an address and user.
    pub fn of(access: Access) -> Arc<Self> {
        static ALL: OnceLock<Mutex<HashMap<Access, Arc<SchemaRegistry>>>> = OnceLock::new();
        let mut all = ALL.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        let made = || Arc::new(Self { access: access.clone(), http: OnceLock::new(), schemas: Mutex::default() });
        Arc::clone(all.entry(access.clone()).or_insert_with(made))
    }

    /// For messages.
    pub fn name(&self) -> String {
        let urls: Vec<&str> = self.access.urls.iter().map(Url::as_str).collect();
        format!("the schema registry at {}", urls.join(", "))
    }

    /// The schema of an id; none if there is no such one.
    pub fn schema(&self, id: SchemaId) -> Result<Option<Arc<Registered>>> {
        let known = || self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = known().get(&id) {
            return Ok(Some(Arc::clone(schema)));
        }
        // Ids are whole numbers of Java; what is beyond them is rubbish, which a registry may answer with an error.
        if matches!(id, SchemaId::Number(number) if i32::try_from(number).is_err()) {
            return Ok(None);
        }
        let number = id.to_string();
        let path = ["schemas", if let SchemaId::Number(_) = id { "ids" } else { "guids" }, &number];
        let Answer::Found(answer) = self.ask(&path, None)? else { return Ok(None) };
        let schema = Arc::new(self.whole(answer)?);
        info!(schema = %id, registry = %self.name(), "a schema was fetched");
        known().insert(id, Arc::clone(&schema));
        Ok(Some(schema))
    }

    /// The last version of a subject; none if there is no such subject.
    pub fn latest(&self, subject: &str) -> Result<Option<Kept>> {
        match self.ask(&["subjects", subject, "versions", "latest"], None)? {
            Answer::Absent => Ok(None),
            Answer::Found(answer) => self.kept(subject, answer).map(Some),
        }
    }

    /// The ids of a schema under a subject, which is made known to the registry if that is wanted.
    pub fn ids(&self, subject: &str, kind: &str, text: &str, register: bool) -> Result<Option<Kept>> {
        // Avro is not said, for registries that know no other.
        let body = match kind {
            "AVRO" => serde_json::json!({"schema": text}),
            _ => serde_json::json!({"schema": text, "schemaType": kind}),
        };
        let path = ["subjects", subject, "versions"];
        let path = if register { &path[..] } else { &path[..2] };
        match self.ask(path, Some(&body))? {
            Answer::Absent => Ok(None),
            Answer::Found(mut answer) => {
                (answer.schema, answer.schema_type) = (text.to_owned(), Some(kind.to_owned()));
                answer.references.clear();
                self.kept(subject, answer).map(Some)
            }
        }
    }

    fn kept(&self, subject: &str, answer: SchemaAnswer) -> Result<Kept> {
        let id = answer.id.ok_or_else(|| {
            Error::Fatal(format!("{} answers without an id to what it was asked of subject '{subject}'", self.name()))
        })?;
        let guid = answer.guid.as_deref().and_then(|guid| uuid::Uuid::try_parse(guid).ok()).map(uuid::Uuid::into_bytes);
        Ok(Kept { id, guid, schema: self.whole(answer)? })
    }

    /// With all that the schema names.
    fn whole(&self, answer: SchemaAnswer) -> Result<Registered> {
        let mut references: Vec<(String, String)> = Vec::new();
        self.follow(&answer.references, &mut references, &mut 0)?;
        let kind = answer.schema_type.unwrap_or_else(|| "AVRO".to_owned());
        Ok(Registered { kind, text: answer.schema, references })
    }

    fn follow(&self, named: &[Reference], found: &mut Vec<(String, String)>, asked: &mut usize) -> Result<()> {
        for Reference { name, subject, version } in named {
            if found.iter().any(|(known, _)| known == name) {
                continue;
            }
            *asked += 1;
            if *asked > MOST_REFERENCES {
                let text = format!("{} has a schema that refers to more than {MOST_REFERENCES} others", self.name());
                return Err(Error::Fatal(text));
            }
            let version = version.to_string();
            let Answer::Found(answer) = self.ask(&["subjects", subject, "versions", &version], None)? else {
                let text = format!("{} lacks version {version} of '{subject}', which a schema refers to", self.name());
                return Err(Error::Fatal(text));
            };
            self.follow(&answer.references, found, asked)?;
            found.push((name.clone(), answer.schema));
        }
        Ok(())
    }

    fn http(&self) -> Result<&Client> {
        if let Some(client) = self.http.get() {
            return Ok(client);
        }
        // Every registry speaks HTTP/1.1, and one question at a time needs no more.
        let mut client = Client::builder().http1_only().connect_timeout(CONNECT_WITHIN).timeout(ANSWER_WITHIN);
        if let Some(path) = &self.access.authorities {
            let vouching = Certificate::from_pem_bundle(&self.file(path)?).map_err(|why| self.unsound(path, &why))?;
            if vouching.is_empty() {
                return Err(self.unsound(path, &"it holds no certificate"));
            }
            client =
                vouching.into_iter().fold(client.tls_built_in_root_certs(false), ClientBuilder::add_root_certificate);
        }
        if let Some((certificate, key)) = &self.access.certificate {
            let both = [self.file(certificate)?, self.file(key)?].concat();
            client = client.identity(Identity::from_pem(&both).map_err(|why| self.unsound(certificate, &why))?);
        }
        let client = client
            .build()
            .map_err(|why| Error::Fatal(format!("no HTTP client for a schema registry can be made: {why}")))?;
        Ok(self.http.get_or_init(|| client))
    }

    fn file(&self, path: &Path) -> Result<Vec<u8>> {
        let failed =
            |why| Error::Fatal(format!("'{}', which is for {}, cannot be read: {why}", path.display(), self.name()));
        std::fs::read(path).map_err(failed)
    }

    fn unsound(&self, path: &Path, why: &dyn std::fmt::Display) -> Error {
        Error::Fatal(format!("'{}', which is for {}, is no PEM of that kind: {why}", path.display(), self.name()))
    }

    /// Asks one address after another until one answers.
    fn ask(&self, path: &[&str], body: Option<&serde_json::Value>) -> Result<Answer> {
        let http = self.http()?;
        let mut last = None;
        for url in &self.access.urls {
            let mut url = url.clone();
            match url.path_segments_mut() {
                Ok(mut segments) => drop(segments.pop_if_empty().extend(path)),
                Err(()) => return Err(Error::Fatal("an address of a schema registry has no path".to_owned())),
            }
            let mut request = match body {
                None => http.get(url.clone()),
                Some(body) => http.post(url.clone()).body(body.to_string()).header("content-type", MEDIA_TYPE),
            };
            if let Some(user) = &self.access.user {
                request = request.basic_auth(user, self.access.password.as_ref());
            }
            // A registry without GUIDs has no answer of its own for them.
            let no_guids = path.contains(&"guids");
            match answer(request.header("accept", MEDIA_TYPE), &url, no_guids) {
                Err(Error::Transient(why)) => last = Some(Error::Transient(why)),
                settled => return settled,
            }
        }
        Err(last.unwrap_or_else(|| Error::Fatal("no address of a schema registry is given".to_owned())))
    }
}

fn answer(request: RequestBuilder, url: &Url, may_be_unknown: bool) -> Result<Answer> {
    let silent = |why: &reqwest::Error| {
        let untrusted = tls::explain(why).is_some();
        let mut why: &dyn std::error::Error = why;
        while let Some(source) = why.source() {
            why = source;
        }
        match untrusted {
            false => Error::Transient(format!("the schema registry at {url} does not answer: {why}")),
            true => Error::Fatal(format!(
                "the schema registry at {url} and this end do not trust one another: {why}; see \
                 schema.registry.ssl.ca.location and schema.registry.ssl.certificate.location"
            )),
        }
    };
    let response = request.send().map_err(|why| silent(&why))?;
    let status = response.status();
    let text = response.text().map_err(|why| silent(&why))?;
    if status.is_success() {
        return match serde_json::from_str(&text) {
            Ok(answer) => Ok(Answer::Found(answer)),
            Err(why) => Err(Error::Fatal(format!("{url} does not answer as a schema registry does: {why}"))),
        };
    }
    let refusal: Option<Refusal> = serde_json::from_str(&text).ok();
    let words = refusal.as_ref().map_or_else(String::new, |refusal| format!(": {}", refusal.message));
    match (status, refusal) {
        // Subject, version and schema not found.
        (StatusCode::NOT_FOUND, Some(Refusal { error_code: 40_401..=40_499, .. })) => Ok(Answer::Absent),
        (StatusCode::NOT_FOUND, _) if may_be_unknown => Ok(Answer::Absent),
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => {
            Err(Error::Transient(format!("the schema registry at {url} answers {status}{words}")))
        }
        (status, _) if status.is_server_error() => {
            Err(Error::Transient(format!("the schema registry at {url} answers {status}{words}")))
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Err(Error::Fatal(format!(
            "the schema registry at {url} answers {status}{words}; see schema.registry.user and schema.registry.password"
        ))),
        (StatusCode::NOT_FOUND, _) => Err(Error::Fatal(format!(
            "there is no schema registry at {url}: it answers {status}; schema.registry.url is the address before /subjects \
             and /schemas"
        ))),
        _ => Err(Error::Fatal(format!("the schema registry refuses {url}: {status}{words}"))),
    }
}

#[cfg(test)]
pub(super) mod tests;
