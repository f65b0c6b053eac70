//! One proxy's part of a tap: it is asked, what it tells is passed on, and where it breaks off it is
//! asked again.
//!
//! Linkerd's proxies end an answer after so many requests; they are asked again a second after they
//! were asked last, which makes a limit a rate. Ours keep the rate themselves.

use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use super::render;
use super::targets::{self, Target};
use crate::api::{Message as _, tap as api};
use crate::control::dial::Dialer;
use crate::control::publish::Publisher;
use crate::control::viz::events::Event;
use crate::model::labels::Labels;
use crate::model::tap::{Direction, Event as TapEvent, Observe, StreamId};
use crate::runtime::Runtime;
use crate::wire::grpc::{self, Messages};
use crate::wire::http::Response;

/// What [`Observe::limit`] is over, where a proxy knows no rate.
const WINDOW: Duration = Duration::from_secs(1);

/// How long a proxy may take to begin its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest event taken.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Times in a row that a proxy is asked in vain before it is given up.
const FAILURES_MAX: u32 = 5;

/// One proxy that is followed.
pub(super) struct Following {
    pub(super) runtime: Runtime,
    pub(super) publisher: Publisher,
    pub(super) dialer: Dialer,
    pub(super) target: Target,
    /// This proxy's number in this tap, from 1.
    pub(super) base: u32,
    pub(super) observe: Observe,
    pub(super) teller: mpsc::Sender<Event>,
}

/// Why a proxy tells nothing (more).
enum Broken {
    /// It may, if it is asked again.
    Again(String),
    /// It never will.
    ForGood(String),
}

impl Following {
    /// Passes on what the proxy tells until nobody listens, or there is nothing to be had.
    pub(super) async fn run(self) {
        let mut failures = 0;
        loop {
            let began = self.runtime.now();
            let mut has_told = false;
            let (reason, is_final) = match self.ask(&mut has_told).await {
                Ok(()) => {
                    failures = 0;
                    self.runtime.clock.sleep_until(began + WINDOW).await;
                    continue;
                }
                Err(Broken::Again(reason)) => (reason, false),
                Err(Broken::ForGood(reason)) => (reason, true),
            };
            failures = if has_told { 1 } else { failures + 1 };
            let is_final = is_final || failures >= FAILURES_MAX;
            // Once each time that it is gone.
            if (failures == 1 || is_final) && !self.tell_missing(&reason, is_final).await {
                return;
            }
            if is_final || self.teller.is_closed() {
                return;
            }
            self.runtime.sleep(WINDOW * failures).await;
        }
    }

    /// Asks once, and passes on the answer.
    async fn ask(&self, has_told: &mut bool) -> Result<(), Broken> {
        let again = |error: &dyn std::fmt::Display| Broken::Again(error.to_string());
        let proxy = &self.target.proxy;
        let dialed = self.dialer.open(proxy).await.map_err(|error| again(&error))?;
        let call = api::call(&proxy.at.to_string(), &self.observe).map_err(|e| again(&e))?;
        let answered = self.runtime.timeout(ANSWER_TIMEOUT, dialed.send(call)).await;
        let response = answered.map_err(|_| again(&"no answer in time"))?;
        let response = response.map_err(|error| again(&error))?;
        judge(&response)?;
        if !response.headers().contains_key("weft-tap") && !self.observe.headers.is_empty() {
            return Err(Broken::ForGood("its proxy cannot match headers".to_string()));
        }
        let mut messages = Messages::new(response.into_body(), EVENT_BYTES_MAX);
        let mut lost = 0;
        let broken = |error| Broken::Again(format!("its answer broke off: {error}"));
        while let Some(message) = messages.next().await.map_err(broken)? {
            let event = TapEvent::from_bytes(&message);
            let event = event.map_err(|error| Broken::Again(format!("an event: {error}")))?;
            *has_told = true;
            let is_loss = event.lost > lost && !planted!("tap-loss-untold");
            if is_loss && !self.tell_lost(event.lost - lost).await {
                return Ok(());
            }
            lost = lost.max(event.lost);
            if !self.tell(event).await {
                return Ok(());
            }
        }
        match messages.trailers().and_then(grpc::status) {
            Some((grpc::OK, _)) | None => Ok(()),
            Some((code, message)) => Err(Broken::Again(status(code, &message))),
        }
    }

    /// Passes an event on, with what the index knows of its ends. False: nobody listens.
    async fn tell(&self, mut event: TapEvent) -> bool {
        let Some(what) = &mut event.what else { return true };
        what.set_id(StreamId { base: self.base, stream: what.id().stream });
        self.publisher.read(|view| {
            let known = |address: Option<std::net::SocketAddr>| {
                let (instance, _) = view.instance_at(address?)?;
                Some(targets::labels(view, instance))
            };
            let own = &self.target.labels;
            let (source, destination) = match event.direction {
                Direction::Outbound => (Some(own.clone()), known(event.destination)),
                Direction::Inbound => (known(event.source), Some(own.clone())),
                Direction::Unknown => (known(event.source), known(event.destination)),
            };
            // What the proxy says wins.
            let join = |known: Option<Labels>, said: &Labels| match known {
                Some(known) => known.extended(said),
                None => of_identity(said).extended(said),
            };
            event.source_labels = join(source, &event.source_labels);
            event.destination_labels = join(destination, &event.destination_labels);
        });
        self.teller.send(Event::message(render::event(&event).to_string())).await.is_ok()
    }

    async fn tell_lost(&self, lost: u64) -> bool {
        let lost = json!({"pod": self.target.name.to_string(), "lost": lost});
        self.teller.send(Event::named("lost", lost.to_string())).await.is_ok()
    }

    async fn tell_missing(&self, reason: &str, is_final: bool) -> bool {
        let pod = self.target.name.to_string();
        let missing = json!({"pod": pod, "reason": reason, "is_final": is_final});
        self.teller.send(Event::named("missing", missing.to_string())).await.is_ok()
    }
}

/// Whether an answer is one.
fn judge(response: &Response) -> Result<(), Broken> {
    let headers = response.headers();
    if let Some((code, message)) = grpc::status(headers).filter(|(code, _)| *code != grpc::OK) {
        let said = status(code, &message);
        return Err(match code {
            grpc::PERMISSION_DENIED | grpc::INVALID_ARGUMENT | grpc::UNIMPLEMENTED => {
                Broken::ForGood(said)
            }
            _ => Broken::Again(said),
        });
    }
    if response.status() == ::http::StatusCode::OK {
        return Ok(());
    }
    let error = headers.get("l5d-proxy-error").and_then(|error| error.to_str().ok());
    let error = error.map(|error| format!(": {error}")).unwrap_or_default();
    Err(Broken::Again(format!("it answers {}{error}", response.status())))
}

fn status(code: u32, message: &str) -> String {
    match code {
        grpc::PERMISSION_DENIED => format!("it does not let the control plane tap: {message}"),
        grpc::INVALID_ARGUMENT => format!("it does not take the question: {message}"),
        grpc::UNIMPLEMENTED => format!("its proxy serves no taps: {message}"),
        _ => format!("it answers with status {code} of gRPC: {message}"),
    }
}

/// What an identity tells, where the index knows nothing of an address: account and namespace.
fn of_identity(said: &Labels) -> Labels {
    let identity = said.value("client_id").or(said.value("server_id")).unwrap_or_default();
    let mut parts = identity.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(account), Some(namespace), Some("serviceaccount")) => {
            [("serviceaccount", account), ("namespace", namespace)].into_iter().collect()
        }
        _ => Labels::default(),
    }
}
