//! What all codecs share: the error that names a field, and the shapes of protobuf fields.

use std::fmt;
use std::time::Duration;

use prost::Message as _;

use crate::model::ratio::Ratio;

/// A message that the model cannot hold or that lacks what Linkerd's API requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    path: String,
    fault: String,
}

/// Longest list accepted in a message; no cluster sends more at once.
pub const LIST_MAX: usize = 65_536;

/// Longest time that protobuf allows: 10,000 years.
const DURATION_SECS_MAX: u64 = 315_576_000_000;

impl DecodeError {
    /// A fault of the message itself; callers add the path with [`DecodeError::at`].
    pub(super) fn new(fault: impl fmt::Display) -> Self {
        Self { path: String::new(), fault: fault.to_string() }
    }

    /// The same fault, seen from the message that holds it in `field`.
    pub(super) fn at(mut self, field: &str) -> Self {
        self.path = match self.path.as_str() {
            "" => field.to_string(),
            rest if rest.starts_with('[') => format!("{field}{rest}"),
            rest => format!("{field}.{rest}"),
        };
        self
    }

    /// Where the fault is: `http1.routes[2].rules[0].backends`. Empty for the message itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong there.
    pub fn fault(&self) -> &str {
        &self.fault
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.fault),
            path => write!(f, "{path}: {}", self.fault),
        }
    }
}

impl std::error::Error for DecodeError {}

/// What decoding returns.
pub(super) type Decoded<T> = Result<T, DecodeError>;

/// A model type with its protobuf message.
pub(super) trait Codec: Sized {
    /// The message.
    type Proto: prost::Message + Default + 'static;

    /// As a message that Linkerd's own proxy and controller accept.
    fn encode(&self) -> Self::Proto;

    /// Out of a message from anybody.
    fn decode(proto: Self::Proto) -> Decoded<Self>;
}

/// A message of the API as bytes: for recordings and tools, and for tests that feed it anything.
pub trait Message: Sized {
    /// The message that travels.
    fn to_bytes(&self) -> Vec<u8>;

    /// Reads a message that travelled.
    ///
    /// # Errors
    /// [`DecodeError`] where it is not such a message, or does not make sense.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError>;
}

macro_rules! messages {
    ($($message:ty),*) => {$(
        impl Message for $message {
            fn to_bytes(&self) -> Vec<u8> {
                prost::Message::encode_to_vec(&self.encode())
            }

            fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
                fault(<Self as Codec>::Proto::decode(bytes)).and_then(Codec::decode)
            }
        }
    )*};
}

messages!(
    crate::model::client_policy::ClientPolicy,
    crate::model::server_policy::ServerPolicy,
    crate::model::profile::Profile,
    crate::model::endpoint::EndpointUpdate,
    crate::model::tap::Observe,
    crate::model::tap::Event,
    super::identity::Certificate,
    super::identity::CertificateQuestion,
    super::request::DestinationQuestion,
    super::request::PortQuestion,
    super::request::TrafficQuestion
);

/// A field that is always there.
pub(super) fn field<P, T>(
    name: &str,
    value: P,
    decode: impl FnOnce(P) -> Decoded<T>,
) -> Decoded<T> {
    decode(value).map_err(|error| error.at(name))
}

/// A field that must be there.
pub(super) fn required<P, T>(
    field: &str,
    value: Option<P>,
    decode: impl FnOnce(P) -> Decoded<T>,
) -> Decoded<T> {
    value
        .ok_or_else(|| DecodeError::new("required"))
        .and_then(decode)
        .map_err(|error| error.at(field))
}

/// A field that may be absent.
pub(super) fn optional<P, T>(
    field: &str,
    value: Option<P>,
    decode: impl FnOnce(P) -> Decoded<T>,
) -> Decoded<Option<T>> {
    value.map(decode).transpose().map_err(|error| error.at(field))
}

/// A repeated field. The first fault ends it.
pub(super) fn each<P, T>(
    field: &str,
    values: Vec<P>,
    decode: impl Fn(P) -> Decoded<T>,
) -> Decoded<Vec<T>> {
    bounded(field, values.len())?;
    let decode =
        |(index, value)| decode(value).map_err(|error| error.at(&format!("[{index}]")).at(field));
    values.into_iter().enumerate().map(decode).collect()
}

/// A repeated field of which faulty items are left out: one line of the log tells how many, and
/// what is wrong with the first.
pub(super) fn each_valid<P, T>(
    field: &str,
    values: Vec<P>,
    decode: impl Fn(P) -> Decoded<T>,
) -> Decoded<Vec<T>> {
    bounded(field, values.len())?;
    let mut valid = Vec::with_capacity(values.len());
    let (mut invalid, mut first) = (0_usize, None);
    for (index, value) in values.into_iter().enumerate() {
        match decode(value) {
            Ok(value) => valid.push(value),
            Err(error) => {
                invalid += 1;
                first.get_or_insert_with(|| error.at(&format!("[{index}]")).at(field));
            }
        }
    }
    if let Some(first) = first {
        tracing::warn!(invalid, %first, "the control plane sent items that make no sense, ignored");
    }
    Ok(valid)
}

fn bounded(field: &str, len: usize) -> Decoded<()> {
    if len > LIST_MAX {
        return Err(DecodeError::new(format!("has {len} items, more than {LIST_MAX}")).at(field));
    }
    Ok(())
}

/// Protobuf has no 16-bit numbers.
pub(super) fn decode_u16(value: u32) -> Decoded<u16> {
    u16::try_from(value).map_err(|_| DecodeError::new(format!("{value} is above {}", u16::MAX)))
}

/// Any fault with a text as a decoding error.
pub(super) fn fault<T, E: fmt::Display>(result: Result<T, E>) -> Decoded<T> {
    result.map_err(DecodeError::new)
}

/// `None` for the empty text, which is how protobuf says "absent".
pub(super) fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Times are never negative.
pub(super) fn decode_duration(value: prost_types::Duration) -> Decoded<Duration> {
    let (seconds, nanos) = (u64::try_from(value.seconds), u32::try_from(value.nanos));
    match (seconds, nanos) {
        (Ok(seconds), Ok(nanos)) if seconds <= DURATION_SECS_MAX && nanos < 1_000_000_000 => {
            Ok(Duration::new(seconds, nanos))
        }
        _ => Err(DecodeError::new(format!(
            "{} s and {} ns is not a time from 0 to 10,000 years",
            value.seconds, value.nanos
        ))),
    }
}

/// Longer times than protobuf allows become the longest that it does.
pub(super) fn encode_duration(value: Duration) -> prost_types::Duration {
    let value = value.min(Duration::from_secs(DURATION_SECS_MAX));
    prost_types::Duration { seconds: value.as_secs() as i64, nanos: value.subsec_nanos() as i32 }
}

/// A fraction, rounded to millionths.
pub(super) fn decode_ratio(value: f64) -> Decoded<Ratio> {
    Ratio::from_f64(value)
        .ok_or_else(|| DecodeError::new(format!("{value} is not a ratio from 0 to 4000")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_its_field_from_the_outside_in() {
        let decode = |rule: u8| match rule {
            0 => required("backends", None::<u8>, Ok),
            other => Ok(other),
        };
        let error = each("rules", vec![1, 0], decode).unwrap_err().at("http1");
        assert_eq!(error.to_string(), "http1.rules[1].backends: required");
        assert_eq!((error.path(), error.fault()), ("http1.rules[1].backends", "required"));
    }

    #[test]
    fn lists_have_an_end() {
        assert!(each("x", vec![(); LIST_MAX], Ok).is_ok());
        assert!(each("x", vec![(); LIST_MAX + 1], Ok).is_err());
        assert!(each_valid("x", vec![(); LIST_MAX + 1], Ok).is_err());
    }

    #[test]
    fn invalid_items_are_left_out_where_the_rest_is_still_good() {
        let valid = each_valid("ports", vec![80, 70_000, 443], decode_u16);
        assert_eq!(valid, Ok(vec![80, 443]));
    }

    #[test]
    fn negative_and_endless_times_are_refused() {
        let decode = |seconds, nanos| decode_duration(prost_types::Duration { seconds, nanos });
        assert_eq!(decode(1, 5), Ok(Duration::new(1, 5)));
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0)] {
            assert!(decode(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
        assert!(decode_duration(encode_duration(Duration::MAX)).is_ok());
    }
}
