//! What the receiver remembers, and how it answers. No I/O.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// More than any test sends.
const MAILS_MAX: usize = 20_000;

/// Leaves room for a few mails of the largest size in a small container.
const BYTES_MAX: usize = 256 * 1024 * 1024;

/// How the next mails are answered.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    /// The HTTP status.
    #[serde(default = "ok")]
    pub status: u16,
    /// For how many mails; afterwards `200`. Absent: until it is changed.
    #[serde(default)]
    pub times: Option<u64>,
    /// How long each answer takes.
    #[serde(default)]
    pub delay_ms: u64,
    /// Where a redirect leads: the header `Location`.
    #[serde(default)]
    pub location: Option<String>,
}

fn ok() -> u16 {
    200
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { status: ok(), times: None, delay_ms: 0, location: None }
    }
}

/// One request that came in.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Received {
    /// Counts from 1 and never goes back.
    pub number: u64,
    /// The path of the request.
    pub path: String,
    /// Its headers, names in lower case; of several the last.
    pub headers: BTreeMap<String, String>,
    /// Its JSON; a string when it was none.
    pub body: Value,
    /// What it was answered.
    pub status: u16,
}

/// How many requests there were since the start.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Counts {
    /// All.
    pub received: u64,
    /// Those answered 2xx.
    pub accepted: u64,
    /// Those dropped from memory to keep it bounded.
    pub forgotten: u64,
}

pub(super) struct Request {
    pub(super) body: Value,
    path: String,
    headers: BTreeMap<String, String>,
    bytes: usize,
    is_json: bool,
}

impl Request {
    pub(super) fn new(path: &str, headers: &HeaderMap, body: &[u8]) -> Self {
        let json = serde_json::from_slice(body);
        Self {
            path: path.to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| {
                    (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                })
                .collect(),
            bytes: body.len(),
            is_json: json.is_ok(),
            body: json.unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned())),
        }
    }
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) delay: Duration,
    pub(super) location: Option<String>,
}

#[derive(Default)]
pub(super) struct Store {
    behaviour: Behaviour,
    mails: VecDeque<(usize, Received)>,
    bytes: usize,
    counts: Counts,
}

impl Store {
    pub(super) fn behave(&mut self, behaviour: Behaviour) {
        self.behaviour = behaviour;
    }

    pub(super) fn receive(&mut self, request: Request) -> Answer {
        let behaviour = self.next_behaviour();
        // A webhook that takes anything would hide a daemon that sends anything.
        let status = if request.is_json { behaviour.status } else { 400 };
        self.counts.received += 1;
        self.counts.accepted += u64::from((200..300).contains(&status));
        self.bytes += request.bytes;
        let received = Received {
            number: self.counts.received,
            path: request.path,
            headers: request.headers,
            body: request.body,
            status,
        };
        self.mails.push_back((request.bytes, received));
        while self.mails.len() > MAILS_MAX || self.bytes > BYTES_MAX {
            let Some((bytes, _)) = self.mails.pop_front() else { break };
            self.bytes -= bytes;
            self.counts.forgotten += 1;
        }
        Answer { status, delay: Duration::from_millis(behaviour.delay_ms), location: behaviour.location }
    }

    fn next_behaviour(&mut self) -> Behaviour {
        match &mut self.behaviour.times {
            Some(0) => self.behaviour = Behaviour::default(),
            Some(times) => *times -= 1,
            None => {}
        }
        self.behaviour.clone()
    }

    pub(super) fn received(&self, since: u64) -> Vec<Received> {
        self.mails
            .iter()
            .map(|(_, received)| received)
            .filter(|received| received.number > since)
            .cloned()
            .collect()
    }

    pub(super) fn forget(&mut self) {
        self.mails.clear();
        self.bytes = 0;
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &[u8]) -> Request {
        Request::new("/mail", &HeaderMap::new(), body)
    }

    #[test]
    fn fails_as_often_as_told_then_answers_200() {
        let mut store = Store::default();
        store.behave(Behaviour { status: 503, times: Some(2), ..Behaviour::default() });
        let answers: Vec<u16> = (0..4).map(|_| store.receive(request(b"{}")).status).collect();
        assert_eq!(answers, [503, 503, 200, 200]);
        assert_eq!(store.counts().received, 4);
        assert_eq!(store.counts().accepted, 2);
    }

    #[test]
    fn without_times_a_behaviour_stays() {
        let mut store = Store::default();
        store.behave(Behaviour { status: 404, ..Behaviour::default() });
        assert!((0..10).all(|_| store.receive(request(b"{}")).status == 404));
    }

    #[test]
    fn what_is_not_json_is_kept_and_refused() {
        let mut store = Store::default();
        assert_eq!(store.receive(request(b"\xff hello")).status, 400);
        assert_eq!(store.received(0)[0].body, Value::String("\u{fffd} hello".into()));
    }

    #[test]
    fn numbers_go_on_after_forgetting() {
        let mut store = Store::default();
        store.receive(request(b"1"));
        store.forget();
        store.receive(request(b"2"));
        let received = store.received(0);
        assert_eq!((received.len(), received[0].number), (1, 2));
        assert!(store.received(2).is_empty());
    }

    #[test]
    fn memory_is_bounded_by_dropping_the_oldest() {
        let mut store = Store::default();
        for _ in 0..MAILS_MAX + 5 {
            store.receive(request(b"{}"));
        }
        assert_eq!(store.counts().forgotten, 5);
        assert_eq!(store.received(0)[0].number, 6);
    }
}
