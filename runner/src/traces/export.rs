//! Spans to whoever collects them, by the OpenTelemetry protocol, as its variables say: OTEL_EXPORTER_OTLP_ENDPOINT and
//! its kin. Without an endpoint nothing is watched and nothing is sent.
//!
//! Invariant: the runner never waits for a collector. What one that is slow or away has no room for is left out, and said.

use super::{Span, Value};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as WireSpan, Status};
use prost::Message;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};

/// Spans that wait for the collector.
const WAITING_MAX: usize = 4_096;
/// In one message.
const BATCH_MAX: usize = 512;
const SEND_EVERY: Duration = Duration::from_secs(1);
/// For one message.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the variables say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub endpoint: String,
    pub grpc: bool,
    pub headers: Vec<(String, String)>,
    /// Attributes of everything that is sent.
    pub resource: Vec<(String, String)>,
}

impl Config {
    /// Nothing without an endpoint; an error names the variable.
    pub fn from(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let of = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let of_traces = |name: &str| {
            of(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}")).or_else(|| of(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        let is_off = of("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || of("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        let whole = of("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let Some(endpoint) = whole.clone().or_else(|| of("OTEL_EXPORTER_OTLP_ENDPOINT")).filter(|_| !is_off) else {
            return Ok(None);
        };
        let grpc = match of_traces("PROTOCOL").as_deref() {
            None | Some("http/protobuf") => false,
            Some("grpc") => true,
            Some(other) => {
                return Err(format!("OTEL_EXPORTER_OTLP_PROTOCOL is '{other}'; it is http/protobuf or grpc here"));
            }
        };
        if !endpoint.starts_with("http://") && (grpc || !endpoint.starts_with("https://")) {
            let over = if grpc { "over grpc http://HOST:PORT alone" } else { "http://HOST:PORT or https://HOST:PORT" };
            return Err(format!("OTEL_EXPORTER_OTLP_ENDPOINT is '{endpoint}'; it is {over}"));
        }
        // The general endpoint is the beginning of an address, that of traces is all of it.
        let endpoint = match (&whole, grpc) {
            (None, false) => format!("{}/v1/traces", endpoint.trim_end_matches('/')),
            _ => endpoint,
        };
        let headers = pairs("OTEL_EXPORTER_OTLP_HEADERS", &of_traces("HEADERS").unwrap_or_default())?;
        let mut resource = pairs("OTEL_RESOURCE_ATTRIBUTES", &of("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default())?;
        let name = of("OTEL_SERVICE_NAME");
        if let Some(name) =
            name.or_else(|| (!resource.iter().any(|(key, _)| key == "service.name")).then(|| "smack".into()))
        {
            resource.retain(|(key, _)| key != "service.name");
            resource.push(("service.name".to_string(), name));
        }
        resource.push(("service.version".to_string(), env!("CARGO_PKG_VERSION").to_string()));
        Ok(Some(Self { endpoint, grpc, headers, resource }))
    }
}

/// `key=value,key=value`, with escapes as in addresses.
fn pairs(variable: &str, text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("{variable} has no '=' in one of its parts"))?;
        Ok((key.trim().to_lowercase(), unescaped(value.trim())))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// The sending end.
#[derive(Clone, Debug)]
pub struct Exporter {
    waiting: mpsc::Sender<Span>,
}

impl Exporter {
    /// Sends on the runtime that this is called in.
    pub fn start(config: Config, http: reqwest::Client) -> Self {
        let (waiting, spans) = mpsc::channel(WAITING_MAX);
        tokio::spawn(send(config, http, spans));
        Self { waiting }
    }

    pub fn send(&self, spans: Vec<Span>) {
        for span in spans {
            // The collector is slow or away: its loss.
            let _ = self.waiting.try_send(span);
        }
    }
}

async fn send(config: Config, http: reqwest::Client, mut spans: mpsc::Receiver<Span>) {
    let mut batch = Vec::new();
    let mut is_away = false;
    loop {
        if spans.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return;
        }
        // More of the same moment go in the same message.
        tokio::time::sleep(SEND_EVERY).await;
        while batch.len() < BATCH_MAX {
            match spans.try_recv() {
                Ok(span) => batch.push(span),
                Err(_) => break,
            }
        }
        let n_spans = batch.len();
        let sent = tokio::time::timeout(PATIENCE, post(&config, &http, std::mem::take(&mut batch))).await;
        match sent.unwrap_or_else(|_| Err("it does not answer".to_string())) {
            Ok(()) => is_away = false,
            // Once, and not for every message.
            Err(_) if is_away => {}
            Err(why) => {
                is_away = true;
                tracing::warn!(endpoint = config.endpoint, n_spans, why, "spans could not be sent and are left out");
            }
        }
    }
}

async fn post(config: &Config, http: &reqwest::Client, spans: Vec<Span>) -> Result<(), String> {
    let request = request(&config.resource, spans);
    if config.grpc {
        let mut client = TraceServiceClient::connect(config.endpoint.clone()).await.map_err(|error| chain(&error))?;
        let mut request = tonic::Request::new(request);
        for (key, value) in &config.headers {
            let key = AsciiMetadataKey::from_bytes(key.as_bytes()).map_err(|error| error.to_string())?;
            let value = AsciiMetadataValue::try_from(value.as_str()).map_err(|error| error.to_string())?;
            request.metadata_mut().insert(key, value);
        }
        return client.export(request).await.map(|_| ()).map_err(|status| status.to_string());
    }
    let mut call = http.post(&config.endpoint).header("content-type", "application/x-protobuf");
    for (key, value) in &config.headers {
        call = call.header(key, value);
    }
    let answer = call.body(request.encode_to_vec()).send().await.map_err(|error| chain(&error))?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answered {status}")),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    daemon::client::chain(error)
}

fn request(resource: &[(String, String)], spans: Vec<Span>) -> ExportTraceServiceRequest {
    let attributes = resource.iter().map(|(key, value)| attribute(key, Any::StringValue(value.clone()))).collect();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "smack".to_string(),
                    version: env!("CARGO_PKG_VERSION").to_string(),
                    ..InstrumentationScope::default()
                }),
                spans: spans.into_iter().map(wire).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_string(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn wire(span: Span) -> WireSpan {
    let value = |value| match value {
        Value::Text(text) => Any::StringValue(text),
        Value::Number(number) => Any::IntValue(i64::try_from(number).unwrap_or(i64::MAX)),
    };
    let status = match span.error {
        Some(message) => Status { message, code: StatusCode::Error.into() },
        None => Status { message: String::new(), code: StatusCode::Ok.into() },
    };
    WireSpan {
        trace_id: span.trace.to_vec(),
        span_id: span.id.to_vec(),
        parent_span_id: span.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
        name: span.name.to_string(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: span.start_ms * 1_000_000,
        end_time_unix_nano: span.end_ms * 1_000_000,
        attributes: span.attributes.into_iter().map(|(key, of)| attribute(key, value(of))).collect(),
        status: Some(status),
        ..WireSpan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Config>, String> {
        Config::from(|name| variables.iter().find(|(of, _)| *of == name).map(|(_, value)| value.to_string()))
    }

    #[test]
    fn the_variables_say_where_spans_go() {
        assert_eq!(read(&[]), Ok(None));
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/");
        let config = read(&[general, ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x=1")]).unwrap().unwrap();
        assert_eq!(config.endpoint, "http://127.0.0.1:4318/v1/traces");
        assert_eq!(config.headers, [("api-key".to_string(), "a b".to_string()), ("x".to_string(), "1".to_string())]);
        assert!(config.resource.contains(&("service.name".to_string(), "smack".to_string())));
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c/traces");
        assert_eq!(read(&[general, own]).unwrap().unwrap().endpoint, "https://c/traces");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let config = read(&[general, grpc, ("OTEL_SERVICE_NAME", "prod")]).unwrap().unwrap();
        assert!(config.grpc && config.endpoint == general.1);
        assert!(config.resource.contains(&("service.name".to_string(), "prod".to_string())));
        assert_eq!(read(&[general, ("OTEL_SDK_DISABLED", "true")]), Ok(None));
        assert!(read(&[general, ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier/pigeon")]).unwrap_err().contains("pigeon"));
        assert!(read(&[own, grpc]).unwrap_err().contains("https://c/traces"));
        assert!(read(&[general, ("OTEL_EXPORTER_OTLP_HEADERS", "secret")]).unwrap_err().contains("HEADERS"));
    }
}
