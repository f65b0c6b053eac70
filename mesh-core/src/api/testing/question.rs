//! Arbitrary questions of proxies.

use std::num::NonZeroU16;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{address, name_addr};
use crate::api::identity::CertificateQuestion;
use crate::api::request::{DestinationQuestion, PortQuestion, TrafficQuestion};
use crate::api::workload::{ContextToken, Workload, WorkloadKind};
use crate::model::target::Target;

fn workload() -> impl Strategy<Value = Workload> {
    (".{1,20}", ".{1,20}", any::<bool>()).prop_map(|(namespace, name, external)| {
        let kind = if external { WorkloadKind::External } else { WorkloadKind::Pod };
        Workload { namespace, kind: kind(name) }
    })
}

pub(in crate::api) fn traffic_question() -> impl Strategy<Value = TrafficQuestion> {
    let target = prop_oneof![
        address().prop_filter("a port", |a| a.port() != 0).prop_map(Target::Address),
        name_addr().prop_map(Target::Name),
    ];
    (workload(), target).prop_map(|(workload, target)| TrafficQuestion { workload, target })
}

pub(in crate::api) fn port_question() -> impl Strategy<Value = PortQuestion> {
    (workload(), any::<NonZeroU16>()).prop_map(|(workload, port)| PortQuestion { workload, port })
}

pub(in crate::api) fn destination_question() -> impl Strategy<Value = DestinationQuestion> {
    let context = (".{0,20}", ".{0,20}", ".{0,20}")
        .prop_map(|(namespace, node, pod)| ContextToken { namespace, node, pod });
    (name_addr(), context).prop_map(|(path, context)| DestinationQuestion { path, context })
}

pub(in crate::api) fn certificate_question() -> impl Strategy<Value = CertificateQuestion> {
    let bytes = || vec(any::<u8>(), 0..20);
    (".{0,20}", bytes(), bytes()).prop_map(|(identity, token, csr_der)| CertificateQuestion {
        identity,
        token,
        csr_der,
    })
}
