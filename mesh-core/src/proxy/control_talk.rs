//! The talk with the control plane, counted: its requests, their ends, and look-ups of its names.

use std::sync::Arc;

use crate::api::client::{ControlAddress, ControlClient, ControlEnd, ControlObserver};
use crate::runtime::Runtime;
use crate::telemetry::Telemetry;
use crate::telemetry::labels::{ClientTlsLabel, ControlLabels, NoClientTls};
use crate::telemetry::metrics::{Classification, HttpMetrics, Response, StreamError};
use crate::wire::tls::Credentials;

/// A client of one service of the control plane (`identity`, `destination`, `policy`).
pub fn client(
    runtime: &Runtime,
    service: &'static str,
    address: ControlAddress,
    credentials: &Credentials,
    telemetry: &Arc<Telemetry>,
) -> ControlClient {
    let observer = observer(service, &address, telemetry);
    ControlClient::observed(runtime, address, credentials.clone(), observer)
}

/// What counts the talk with one service.
pub fn observer(
    service: &'static str,
    address: &ControlAddress,
    telemetry: &Arc<Telemetry>,
) -> Arc<dyn ControlObserver> {
    let labels = ControlLabels {
        addr: address.authority.to_string().into(),
        tls: match &address.tls {
            Some(server) => ClientTlsLabel::True { server_id: server.identity.clone() },
            None => ClientTlsLabel::NoIdentity(NoClientTls::Loopback),
        },
    };
    let requests = telemetry.control.endpoint(&labels);
    Arc::new(Talk { service, telemetry: telemetry.clone(), requests })
}

struct Talk {
    service: &'static str,
    telemetry: Arc<Telemetry>,
    requests: Arc<HttpMetrics>,
}

impl ControlObserver for Talk {
    fn resolved(&self, found: bool) {
        self.telemetry.control.resolved(self.service, found);
    }

    fn requested(&self) {
        self.requests.request();
    }

    fn ended(&self, end: ControlEnd) {
        let ok = end.whole && end.grpc_status.is_none_or(|status| status == 0);
        self.requests.response(&Response {
            status: end.status,
            classification: match ok {
                true => Classification::Success,
                false => Classification::Failure,
            },
            grpc_status: end.grpc_status,
            error: (!end.whole).then_some(StreamError::Cancel),
            latency: end.latency,
        });
    }
}
