//! Requests that may be sent again: each attempt to a backend chosen anew, the body from what was
//! kept of it.

use super::http::{Http, Record};
use super::limits::Limits;
use crate::proxy::backend::Terms;
use crate::proxy::backend::flight::Flight;
use crate::proxy::observe::Awaiting;
use crate::proxy::refusal::Refusal;
use crate::proxy::routes::{Plan, Routes};
use crate::time::Timestamp;
use crate::traffic::classify::grpc_status;
use crate::traffic::retry::Attempts;
use crate::wire::http::body::{Body, Replay};
use crate::wire::http::{Request, Reset, Response};

/// What came of the last attempt.
pub(super) type Sent = Result<(Response, Flight), Refusal>;

/// What a request is sent by.
pub(super) struct Sending<'a> {
    pub(super) http: &'a Http,
    pub(super) routes: &'a Routes,
    pub(super) terms: Terms<'a>,
}

impl Sending<'_> {
    /// Sends a request within limits, once or until a response is good enough.
    pub(super) async fn limited(
        &self,
        request: &mut Request,
        plan: Plan,
        attempts: Option<Attempts>,
        limits: Option<&Limits>,
        record: &mut Awaiting<Record>,
    ) -> Sent {
        if let Some(limits) = limits {
            limits.request(request.body_mut());
        }
        let sending = async {
            match attempts {
                Some(attempts) => self.retried(request, plan, attempts, record).await,
                None => plan.backend.send(request, self.terms).await,
            }
        };
        match limits {
            Some(limits) => limits.head(sending).await.unwrap_or_else(Err),
            None => sending.await,
        }
    }

    /// Sends a request until a response is good enough, or there have been enough attempts.
    async fn retried(
        &self,
        request: &mut Request,
        mut plan: Plan,
        mut attempts: Attempts,
        record: &mut Awaiting<Record>,
    ) -> Sent {
        let runtime = self.http.runtime();
        let (head, body) = std::mem::take(request).into_parts();
        let (mut body, mut replay) = body.lend_whole(attempts.bytes_max);
        let mut retried = false;
        loop {
            let began = runtime.now();
            let timeout = attempts.timeout.map(|time| began + time);
            let deadline = earlier(self.terms.deadline, timeout);
            *request = Request::from_parts(head.clone(), body);
            let sent = plan.backend.send(request, Terms { began, deadline, ..self.terms }).await;
            let (sent, wanted) = self.judge(sent, &attempts, deadline).await;
            if !wanted {
                if retried && sent.is_ok() {
                    plan.handles.requests.retry_succeeded();
                }
                return sent;
            }
            let Some((wait, kept)) = self.again(&mut attempts, &plan, replay) else {
                return sent;
            };
            mark!("request-retried");
            record.get_mut().attempt_ended(sent, runtime.now());
            runtime.sleep(wait).await;
            let asked = Request::from_parts(head.clone(), Body::empty());
            plan = self.http.plan(self.routes, &asked)?;
            plan.handles.requests.retried();
            record.get_mut().attempt_began(&plan, runtime.now());
            (body, replay) = kept.lend_whole(attempts.bytes_max);
            retried = true;
        }
    }

    /// What came, and whether the route wants another attempt after it.
    async fn judge(
        &self,
        sent: Sent,
        attempts: &Attempts,
        deadline: Option<Timestamp>,
    ) -> (Sent, bool) {
        match sent {
            Ok((response, flight)) => {
                let mut code = grpc_status(response.headers());
                let mut response = response;
                if code.is_none() && attempts.on.reads_trailers() {
                    (response, code) = self.peek(response, deadline).await;
                }
                let wanted = attempts.on.holds(response.status(), code);
                (Ok((response, flight)), wanted)
            }
            Err(refusal) => {
                let wanted = match refusal {
                    Refusal::FailFast => true,
                    Refusal::RequestTimeout => deadline != self.terms.deadline,
                    Refusal::Reset(code) => code == Reset::REFUSED_STREAM,
                    _ => false,
                };
                (Err(refusal), wanted)
            }
        }
    }

    /// The status of a response that has nothing but trailers; the response as it was.
    async fn peek(
        &self,
        response: Response,
        deadline: Option<Timestamp>,
    ) -> (Response, Option<u16>) {
        let (head, mut body) = response.into_parts();
        let runtime = self.http.runtime();
        let frame = match deadline {
            Some(deadline) => runtime.deadline(deadline, body.next_frame()).await.ok(),
            None => Some(body.next_frame().await),
        };
        let code = match &frame {
            Some(Some(Ok(frame))) => frame.trailers_ref().and_then(grpc_status),
            _ => None,
        };
        let body = match frame.flatten() {
            Some(frame) => body.after(frame),
            None => body,
        };
        (Response::from_parts(head, body), code)
    }

    /// How long to wait, and the body for another attempt, where there may be one.
    fn again(
        &self,
        attempts: &mut Attempts,
        plan: &Plan,
        replay: Replay,
    ) -> Option<(std::time::Duration, Body)> {
        let runtime = self.http.runtime();
        let Some(wait) = attempts.again(runtime.entropy.next_u64()) else {
            plan.handles.requests.retry_limit_exceeded();
            return None;
        };
        // An attempt that could not even begin is none.
        if self.terms.deadline.is_some_and(|deadline| runtime.now() + wait >= deadline) {
            return None;
        }
        Some((wait, replay.call_in()?))
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
