//! Server-sent events of the runner's API, as they come.

use super::{Client, Result, strange};
use reqwest::Method;
use std::time::Duration;

/// Whoever watches ends it by dropping it.
const OF_A_WATCH: Duration = Duration::from_secs(365 * 24 * 3600);

/// Events that are still to come.
pub struct Events {
    response: reqwest::Response,
    /// Heard, and not yet a whole event.
    heard: Vec<u8>,
    /// So much of it was looked through.
    seen: usize,
    url: String,
}

/// One event: its name, and its data as one text.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
}

impl Client {
    /// Everything that changes in the cluster, after what there is.
    pub async fn events(&self) -> Result<Events> {
        let call = self.call(Method::GET, &["events"], "").timeout(OF_A_WATCH);
        let response = self.send(call).await?;
        Ok(Events { response, heard: Vec::new(), seen: 0, url: self.url().to_string() })
    }
}

impl Events {
    /// `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = take(&mut self.heard, &mut self.seen) {
                return Ok(Some(event));
            }
            match self.response.chunk().await.map_err(|error| strange(&self.url, &error))? {
                Some(bytes) => self.heard.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}

/// The first whole event of what was heard; those without data are passed over, as a browser does.
fn take(heard: &mut Vec<u8>, seen: &mut usize) -> Option<Event> {
    loop {
        let Some(end) = heard[*seen..].windows(2).position(|pair| pair == b"\n\n").map(|at| *seen + at) else {
            *seen = heard.len().saturating_sub(1);
            return None;
        };
        *seen = 0;
        let text = String::from_utf8_lossy(&heard[..end]).into_owned();
        heard.drain(..end + 2);
        let (mut name, mut data) = (String::from("message"), Vec::new());
        for line in text.lines() {
            match line.split_once(':') {
                Some(("event", value)) => name = value.trim_start().to_string(),
                Some(("data", value)) => data.push(value.strip_prefix(' ').unwrap_or(value)),
                _ => {}
            }
        }
        if !data.is_empty() {
            return Some(Event { name, data: data.join("\n") });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_when_they_are_whole() {
        let mut heard = b": hello\n\nevent: a\ndata: 1\ndata: 2\n\nevent: b\ndata".to_vec();
        let mut seen = 0;
        let event = |name: &str, data: &str| Some(Event { name: name.into(), data: data.into() });
        assert_eq!(take(&mut heard, &mut seen), event("a", "1\n2"));
        assert_eq!(take(&mut heard, &mut seen), None);
        heard.extend_from_slice(b": 3\n\n");
        assert_eq!(take(&mut heard, &mut seen), event("b", "3"));
        assert!(heard.is_empty());
    }
}
