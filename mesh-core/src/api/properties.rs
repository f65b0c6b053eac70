//! Laws of all codecs: decoding undoes encoding, and nothing that a peer sends makes decoding
//! panic.

use super::codec::Message;
use super::identity::{Certificate, CertificateQuestion};
use super::request::{DestinationQuestion, PortQuestion, TrafficQuestion};
use super::testing;
use crate::model::client_policy::ClientPolicy;
use crate::model::endpoint::EndpointUpdate;
use crate::model::profile::Profile;
use crate::model::server_policy::ServerPolicy;
use crate::model::tap::{Event, Observe};
use proptest::prelude::*;

/// Over the bytes, as it travels.
fn travel<T: Message>(value: &T) -> Result<T, TestCaseError> {
    T::from_bytes(&value.to_bytes()).map_err(|error| TestCaseError::fail(error.to_string()))
}

/// Decodes whatever it is; a message that is understood is understood the same when sent on.
fn decode_any<T: Message + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(value) = T::from_bytes(bytes) {
        prop_assert_eq!(travel(&value)?, value);
    }
    Ok(())
}

/// A valid message with some of its bytes changed, cut off or repeated: most of it still parses.
fn mutated<T: Message + std::fmt::Debug + 'static>(
    values: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4), 0..6);
    (values, edits).prop_map(|(value, edits)| {
        let mut bytes = value.to_bytes();
        for (index, byte, kind) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.truncate(at),
                _ => bytes.extend_from_within(at..),
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn client_policies_survive_the_wire(policy in testing::client_policy()) {
        prop_assert_eq!(travel(&policy)?, policy);
    }

    #[test]
    fn server_policies_survive_the_wire(policy in testing::server_policy()) {
        prop_assert_eq!(travel(&policy)?, policy);
    }

    #[test]
    fn profiles_survive_the_wire(profile in testing::profile()) {
        prop_assert_eq!(travel(&profile)?, profile);
    }

    #[test]
    fn endpoint_updates_survive_the_wire(update in testing::endpoint_update()) {
        prop_assert_eq!(travel(&update)?, update);
    }

    #[test]
    fn certificates_survive_the_wire(certificate in testing::certificate()) {
        prop_assert_eq!(travel(&certificate)?, certificate);
    }

    #[test]
    fn questions_about_traffic_survive_the_wire(question in testing::traffic_question()) {
        prop_assert_eq!(travel(&question)?, question);
    }

    #[test]
    fn questions_about_ports_survive_the_wire(question in testing::port_question()) {
        prop_assert_eq!(travel(&question)?, question);
    }

    #[test]
    fn questions_about_destinations_survive_the_wire(
        question in testing::destination_question()
    ) {
        prop_assert_eq!(travel(&question)?, question);
    }

    #[test]
    fn questions_for_certificates_survive_the_wire(question in testing::certificate_question()) {
        prop_assert_eq!(travel(&question)?, question);
    }

    #[test]
    fn questions_of_taps_survive_the_wire(question in testing::observe()) {
        prop_assert_eq!(travel(&question)?, question);
    }

    #[test]
    fn events_of_taps_survive_the_wire(event in testing::tap_event()) {
        prop_assert_eq!(travel(&event)?, event);
    }

    #[test]
    fn damaged_taps_are_decoded_or_refused(
        question in mutated(testing::observe()),
        event in mutated(testing::tap_event()),
    ) {
        decode_any::<Observe>(&question)?;
        decode_any::<Event>(&event)?;
    }

    #[test]
    fn every_name_can_be_asked(name in testing::name_addr()) {
        let origin = super::client::origin(&name);
        prop_assert_eq!(origin.authority().map(|a| a.as_str().to_string()), Some(name.to_string()));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
        decode_any::<ClientPolicy>(&bytes)?;
        decode_any::<ServerPolicy>(&bytes)?;
        decode_any::<Profile>(&bytes)?;
        decode_any::<EndpointUpdate>(&bytes)?;
        decode_any::<Observe>(&bytes)?;
        decode_any::<Event>(&bytes)?;
        decode_any::<Certificate>(&bytes)?;
        decode_any::<TrafficQuestion>(&bytes)?;
        decode_any::<PortQuestion>(&bytes)?;
        decode_any::<DestinationQuestion>(&bytes)?;
        decode_any::<CertificateQuestion>(&bytes)?;
    }

    #[test]
    fn damaged_questions_are_decoded_or_refused(
        traffic in mutated(testing::traffic_question()),
        port in mutated(testing::port_question()),
        destination in mutated(testing::destination_question()),
        certificate in mutated(testing::certificate_question()),
    ) {
        decode_any::<TrafficQuestion>(&traffic)?;
        decode_any::<PortQuestion>(&port)?;
        decode_any::<DestinationQuestion>(&destination)?;
        decode_any::<CertificateQuestion>(&certificate)?;
    }

    #[test]
    fn damaged_certificates_are_decoded_or_refused(bytes in mutated(testing::certificate())) {
        decode_any::<Certificate>(&bytes)?;
    }

    #[test]
    fn damaged_client_policies_are_decoded_or_refused(
        bytes in mutated(testing::client_policy())
    ) {
        decode_any::<ClientPolicy>(&bytes)?;
    }

    #[test]
    fn damaged_server_policies_are_decoded_or_refused(
        bytes in mutated(testing::server_policy())
    ) {
        decode_any::<ServerPolicy>(&bytes)?;
    }

    #[test]
    fn damaged_profiles_are_decoded_or_refused(bytes in mutated(testing::profile())) {
        decode_any::<Profile>(&bytes)?;
    }

    #[test]
    fn damaged_endpoint_updates_are_decoded_or_refused(
        bytes in mutated(testing::endpoint_update())
    ) {
        decode_any::<EndpointUpdate>(&bytes)?;
    }
}
