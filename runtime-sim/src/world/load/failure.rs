//! What an error is a case of.

use std::io::{self, ErrorKind};

use mesh_core::wire::http::Error;

use crate::world::record::{Failure, FailureClass};

/// A connection that was not made.
pub(super) fn of_connect(error: &io::Error) -> Failure {
    let class = match error.kind() {
        ErrorKind::ConnectionRefused => FailureClass::Refused,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => FailureClass::Reset,
        ErrorKind::TimedOut => FailureClass::TimedOut,
        _ => FailureClass::Unreachable,
    };
    Failure { class, what: format!("connect: {error}") }
}

/// A stream that broke. `begun`: the answer had begun.
pub(super) fn of_io(error: &io::Error, begun: bool) -> Failure {
    let class = match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            FailureClass::Reset
        }
        ErrorKind::TimedOut => FailureClass::TimedOut,
        ErrorKind::UnexpectedEof | ErrorKind::NotConnected => closed(begun),
        ErrorKind::InvalidData => FailureClass::Wrong,
        _ => FailureClass::Unreachable,
    };
    Failure { class, what: error.to_string() }
}

/// A message that failed.
pub(super) fn of_http(error: &Error, begun: bool) -> Failure {
    let class = match error {
        Error::Io(error) => of_io(error, begun).class,
        Error::Closed | Error::GoAway { .. } | Error::Canceled | Error::Unreachable => {
            closed(begun)
        }
        Error::Reset(_) => FailureClass::Reset,
        Error::Timeout(_) => FailureClass::TimedOut,
        Error::Invalid(_) | Error::TooLarge(_) => FailureClass::Wrong,
    };
    Failure { class, what: error.to_string() }
}

/// A connection that was closed too early.
pub(super) fn of_end(begun: bool) -> Failure {
    Failure { class: closed(begun), what: "end of stream".to_owned() }
}

/// Something that does not belong there.
pub(super) fn wrong(what: String) -> Failure {
    Failure { class: FailureClass::Wrong, what }
}

const fn closed(begun: bool) -> FailureClass {
    if begun { FailureClass::BrokenOff } else { FailureClass::Closed }
}
