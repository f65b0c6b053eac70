//! Label sets as types, printed with Linkerd's names in Linkerd's order. Resolved to handles once
//! for each endpoint, route or kind of connection; never on the way of a request.

use std::fmt::{self, Display, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::metadata::Metadata;

mod inbound;
mod outbound;
mod tls;

pub use inbound::{
    AuthorizationLabels, InboundEndpoint, InboundRoute, InboundTransport, ServerLabels,
    TransportHeaderLabels,
};
pub use outbound::{
    BalancerLabels, ConnectionRouteLabels, OutboundEndpoint, OutboundProtocol, OutboundTransport,
    ParentLabels, ProtocolLabels, RouteBackendLabels, RouteLabels,
};
pub use tls::{ClientTlsLabel, NoClientTls, NoServerTls, ServerTlsLabel};

pub(super) use inbound::LocalTransport;
pub(super) use outbound::EndpointTransport;

/// Bytes of a label's value that are kept: as many as a SPIFFE identity may have.
pub const VALUE_BYTES_MAX: usize = 2048;

/// The value that stands for all others once a group of label sets is full.
pub const OTHER: &str = "other";

/// Something that prints as labels.
pub trait Labels {
    /// Prints them, in order.
    fn write(&self, out: &mut LabelWriter);
}

/// Prints labels: `name="value"`, separated by commas, values escaped.
#[derive(Debug, Default)]
pub struct LabelWriter {
    text: String,
    folded: bool,
}

impl LabelWriter {
    pub(crate) fn print(labels: &impl Labels) -> String {
        let mut writer = Self::default();
        labels.write(&mut writer);
        writer.text
    }

    /// With [`OTHER`] instead of every value that has no small range.
    pub(crate) fn print_folded(labels: &impl Labels) -> String {
        let mut writer = Self { folded: true, ..Self::default() };
        labels.write(&mut writer);
        writer.text
    }

    /// A label whose values are few.
    pub fn few(&mut self, name: &str, value: impl Display) {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        let _ = write!(self.text, "{name}=\"");
        let mut escaped = Escaped { text: &mut self.text, left: VALUE_BYTES_MAX };
        let _ = write!(escaped, "{value}");
        self.text.push('"');
    }

    /// A label whose values are many.
    pub fn label(&mut self, name: &str, value: impl Display) {
        if self.folded {
            self.few(name, OTHER);
        } else {
            self.few(name, value);
        }
    }
}

struct Escaped<'a> {
    text: &'a mut String,
    left: usize,
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, value: &str) -> fmt::Result {
        for c in value.chars() {
            let Some(left) = self.left.checked_sub(c.len_utf8()) else {
                return Err(fmt::Error);
            };
            self.left = left;
            match c {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                c => self.text.push(c),
            }
        }
        Ok(())
    }
}

/// Which way traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From clients to this workload.
    Inbound,
    /// From this workload to servers.
    Outbound,
}

impl Direction {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// `target_addr`, `target_ip`, `target_port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetLabels(pub SocketAddr);

impl Labels for TargetLabels {
    fn write(&self, out: &mut LabelWriter) {
        out.label("target_addr", self.0);
        out.label("target_ip", self.0.ip());
        out.label("target_port", self.0.port());
    }
}

/// A control plane's address: `addr`, then TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlLabels {
    /// Authority.
    pub addr: Arc<str>,
    /// TLS; `NoIdentity(Loopback)` on loopback.
    pub tls: ClientTlsLabel,
}

impl Labels for ControlLabels {
    fn write(&self, out: &mut LabelWriter) {
        out.label("addr", &self.addr);
        self.tls.write(out);
    }
}

/// Labels given by name, for families with one or two of few values.
pub(crate) struct Named<'a, const N: usize>(pub(crate) [(&'static str, &'a str); N]);

impl<const N: usize> Labels for Named<'_, N> {
    fn write(&self, out: &mut LabelWriter) {
        for (name, value) in self.0 {
            out.few(name, value);
        }
    }
}

/// A target with an error.
pub(crate) struct TargetError(pub(crate) SocketAddr, pub(crate) &'static str);

impl Labels for TargetError {
    fn write(&self, out: &mut LabelWriter) {
        TargetLabels(self.0).write(out);
        out.few("error", self.1);
    }
}

fn write_object(out: &mut LabelWriter, [group, kind, name]: [&str; 3], object: &Metadata) {
    out.label(group, object.group());
    out.label(kind, object.kind());
    out.label(name, object.name());
}
