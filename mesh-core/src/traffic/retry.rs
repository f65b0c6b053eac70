//! Decides whether a request is sent again. Sends nothing, keeps no body and waits for nothing.
//!
//! Law: a request is sent again at most as often as its route says, and only after a response that
//! the route names, or where no response came in the time that an attempt has.

use std::time::Duration;

use http::StatusCode;

use crate::model::client_policy::{GrpcRetryConditions, HttpRetryConditions, Retry};
use crate::traffic::backoff::Backoff;

/// After which responses a request is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// By HTTP status.
    Http(HttpRetryConditions),
    /// By gRPC status.
    Grpc(GrpcRetryConditions),
}

/// Conditions of either sort.
pub trait Conditions {
    /// As one type.
    fn on(&self) -> RetryOn;
}

impl Conditions for HttpRetryConditions {
    fn on(&self) -> RetryOn {
        RetryOn::Http(self.clone())
    }
}

impl Conditions for GrpcRetryConditions {
    fn on(&self) -> RetryOn {
        RetryOn::Grpc(*self)
    }
}

impl RetryOn {
    /// After a response of this HTTP status, and of this gRPC status where it has one.
    pub fn holds(&self, status: StatusCode, grpc_status: Option<u16>) -> bool {
        match self {
            Self::Http(conditions) => {
                let code = status.as_u16();
                conditions.statuses.iter().any(|(low, high)| (*low..=*high).contains(&code))
            }
            Self::Grpc(conditions) => match grpc_status {
                Some(1) => conditions.cancelled,
                Some(4) => conditions.deadline_exceeded,
                Some(8) => conditions.resource_exhausted,
                Some(13) => conditions.internal,
                Some(14) => conditions.unavailable,
                _ => false,
            },
        }
    }

    /// Whether trailers are to be waited for where the head says nothing.
    pub fn reads_trailers(&self) -> bool {
        matches!(self, Self::Grpc(_))
    }
}

/// The attempts of one request.
#[derive(Clone, Debug)]
pub struct Attempts {
    /// After which responses there is another.
    pub on: RetryOn,
    /// Most of a request's body that is kept.
    pub bytes_max: usize,
    /// Time for an attempt's response to begin.
    pub timeout: Option<Duration>,
    left: u16,
    backoff: Option<Backoff>,
}

impl Attempts {
    /// As a route says.
    pub fn new<C: Conditions>(retry: &Retry<C>) -> Self {
        Self {
            on: retry.conditions.on(),
            bytes_max: retry.max_request_bytes as usize,
            timeout: retry.timeout,
            left: retry.max_retries,
            backoff: retry.backoff.map(Backoff::new),
        }
    }

    /// How long to wait for another attempt; none where there have been as many as there may be.
    /// `random` is uniform over all of `u64`.
    pub fn again(&mut self, random: u64) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        Some(self.backoff.as_mut().map_or(Duration::ZERO, |backoff| backoff.failed(random)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client_policy;
    use crate::model::ratio::Ratio;

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).unwrap()
    }

    #[test]
    fn http_is_retried_by_ranges_of_statuses() {
        let on = HttpRetryConditions { statuses: vec![(500, 503), (429, 429)] }.on();
        let codes = [200, 428, 429, 499, 500, 503, 504].map(|code| on.holds(status(code), None));
        assert_eq!(codes, [false, false, true, false, true, true, false]);
        assert!(!on.reads_trailers() && !on.holds(status(200), Some(14)));
    }

    #[test]
    fn grpc_is_retried_by_its_own_status() {
        let conditions =
            GrpcRetryConditions { unavailable: true, internal: true, ..Default::default() };
        let on = conditions.on();
        let codes = [0, 1, 4, 8, 13, 14].map(|code| on.holds(status(200), Some(code)));
        assert_eq!(codes, [false, false, false, false, true, true]);
        assert!(!on.holds(status(503), None));
    }

    #[test]
    fn attempts_end_and_wait_longer_each_time() {
        let backoff = client_policy::Backoff {
            min: Duration::from_millis(25),
            max: Duration::from_millis(60),
            jitter: Ratio::from_millionths(0),
            respect_retry_after: false,
        };
        let mut attempts = Attempts::new(&Retry {
            max_retries: 3,
            max_request_bytes: 10,
            conditions: HttpRetryConditions::default(),
            timeout: None,
            backoff: Some(backoff),
        });
        let mut again = || attempts.again(0).map(|wait| wait.as_millis());
        assert_eq!([again(), again(), again(), again()], [Some(25), Some(50), Some(60), None]);
        assert_eq!(attempts.again(0), None);
    }
}
