//! Messages of the API: decoding never panics, and a message that is understood is understood the
//! same when sent on.

use std::fmt::Debug;

use mesh_core::api::Message;
use mesh_core::api::identity::{Certificate, CertificateQuestion};
use mesh_core::api::request::{DestinationQuestion, PortQuestion, TrafficQuestion};
use mesh_core::model::client_policy::ClientPolicy;
use mesh_core::model::endpoint::EndpointUpdate;
use mesh_core::model::profile::Profile;
use mesh_core::model::server_policy::ServerPolicy;

/// `outbound.OutboundPolicies/Watch`, as a control plane reads it.
pub fn traffic_question(input: &[u8]) {
    decode::<TrafficQuestion>(input);
}

/// `inbound.InboundServerPolicies/WatchPort`, as a control plane reads it.
pub fn port_question(input: &[u8]) {
    decode::<PortQuestion>(input);
}

/// `destination.Destination/Get` and `GetProfile`, as a control plane reads them.
pub fn destination_question(input: &[u8]) {
    decode::<DestinationQuestion>(input);
}

/// `identity.Identity/Certify`, as a control plane reads it.
pub fn certificate_question(input: &[u8]) {
    decode::<CertificateQuestion>(input);
}

/// `outbound.OutboundPolicies/Watch`.
pub fn client_policy(input: &[u8]) {
    decode::<ClientPolicy>(input);
}

/// `inbound.InboundServerPolicies/WatchPort`.
pub fn server_policy(input: &[u8]) {
    decode::<ServerPolicy>(input);
}

/// `destination.Destination/GetProfile`.
pub fn profile(input: &[u8]) {
    decode::<Profile>(input);
}

/// `destination.Destination/Get`.
pub fn endpoint_update(input: &[u8]) {
    decode::<EndpointUpdate>(input);
}

/// `identity.Identity/Certify`.
pub fn certificate(input: &[u8]) {
    decode::<Certificate>(input);
}

/// The message of an input, where it is one.
pub(crate) fn decode<T: Message + PartialEq + Debug>(input: &[u8]) -> Option<T> {
    match T::from_bytes(input) {
        Ok(message) => {
            let again = T::from_bytes(&message.to_bytes());
            assert_eq!(again.as_ref(), Ok(&message), "sent on");
            Some(message)
        }
        Err(error) => {
            assert!(!error.fault().is_empty());
            None
        }
    }
}
