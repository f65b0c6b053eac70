//! Who this workload is, and the control plane's services that it asks.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use http::HeaderName;

use super::{Env, SECOND};
use crate::api::client::ControlAddress;
use crate::model::identity::{DnsName, Identity as Name, ServerTls};
use crate::model::target::NameAddr;
use crate::proxy::config::{Discovery, Identity, Tap, Tracing, TrustAnchors, parse};

/// Most bytes of a body that a tap may be shown.
const TAP_BODY_BYTES_MAX: usize = 64 * 1024;

/// Headers that no tap is shown.
const REDACTED_HEADERS: &str = "authorization,cookie,proxy-authorization,set-cookie,x-api-key";

/// Fields of bodies that no tap is shown.
const REDACTED_FIELDS: &str = "password,passwd,passphrase,pwd,secret,client_secret,token,\
    access_token,refresh_token,id_token,api_key,authorization,credential,credentials,private_key,\
    session,cookie,pin,cvv,ssn";

impl Env<'_> {
    pub(super) fn identity(&self) -> Identity {
        let nobody = ServerTls {
            identity: Name::Dns(DnsName::new("unset").expect("a name")),
            server_name: DnsName::new("unset").expect("a name"),
        };
        Identity {
            local: self.local_identity().unwrap_or(nobody),
            trust_anchors: self.trust_anchors(),
            directory: self.optional("LINKERD2_PROXY_IDENTITY_DIR", path),
            token_file: self
                .required(
                    "LINKERD2_PROXY_IDENTITY_TOKEN_FILE",
                    "give the file that holds this workload's token",
                    path,
                )
                .unwrap_or_default(),
            service: self.control_address("IDENTITY"),
            min_refresh: self.time("LINKERD2_PROXY_IDENTITY_MIN_REFRESH", 10 * SECOND),
            max_refresh: self.time("LINKERD2_PROXY_IDENTITY_MAX_REFRESH", 86_400 * SECOND),
        }
    }

    pub(super) fn tap(&self) -> Option<Tap> {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 4190);
        let listen = self.or("LINKERD2_PROXY_CONTROL_LISTEN_ADDR", any, parse::socket_addr);
        let body_bytes = |text: &str| match parse::number(text)? {
            bytes @ 0..=TAP_BODY_BYTES_MAX => Ok(bytes),
            _ => Err(format!("give {TAP_BODY_BYTES_MAX} at most")),
        };
        let body_bytes_max = self.or("WEFT_TAP_BODY_BYTES", 0, body_bytes);
        let header = |text: &str| {
            text.parse::<HeaderName>().map_err(|_| "give names of headers".to_string())
        };
        let headers = |text: &str| parse::list(text, header);
        let default = headers(REDACTED_HEADERS).expect("these are names");
        let redacted_headers = self.or("WEFT_TAP_REDACT_HEADERS", default, headers);
        let fields = |text: &str| parse::list(text, |field| Ok(field.to_string()));
        let default = fields(REDACTED_FIELDS).expect("any text is a name");
        let redacted_fields = self.or("WEFT_TAP_REDACT_FIELDS", default, fields);
        let client = self.optional("LINKERD2_PROXY_TAP_SVC_NAME", identity)?;
        Some(Tap { listen, client, body_bytes_max, redacted_headers, redacted_fields })
    }

    pub(super) fn tracing(&self) -> Option<Tracing> {
        let ratio = "WEFT_TRACE_ROOT_RATIO";
        let root_ratio = self.or(ratio, 0.0, parse::share);
        let collector = "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR";
        if (self.variable)(collector).is_none_or(|address| address.trim().is_empty()) {
            if root_ratio > 0.0 {
                self.fail(ratio, format!("traces need a collector: set {collector} too"));
            }
            return None;
        }
        let text = |name: &str| (self.variable)(name).unwrap_or_default();
        let mut attributes = parse::attribute_lines(&text("LINKERD2_PROXY_TRACE_EXTRA_ATTRIBUTES"));
        attributes.extend(parse::resource_attributes(&text("OTEL_RESOURCE_ATTRIBUTES")));
        Some(Tracing {
            collector: self.control_address("TRACE_COLLECTOR"),
            service_name: self.or(
                "LINKERD2_PROXY_TRACE_SERVICE_NAME",
                "linkerd-proxy".to_string(),
                |name| Ok(name.to_string()),
            ),
            attributes_path: self.optional("LINKERD2_PROXY_TRACE_ATTRIBUTES_PATH", path),
            attributes,
            root_ratio,
        })
    }

    fn local_identity(&self) -> Option<ServerTls> {
        let spiffe = self.optional("LINKERD2_PROXY_IDENTITY_SERVER_ID", identity);
        let server_name = self.optional("LINKERD2_PROXY_IDENTITY_SERVER_NAME", dns_name);
        if let (Some(identity), Some(server_name)) = (spiffe, server_name) {
            return Some(ServerTls { identity, server_name });
        }
        let remedy = "give this workload's identity, such as \
                      web.emojivoto.serviceaccount.identity.linkerd.cluster.local";
        let name = self.required("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", remedy, dns_name)?;
        Some(ServerTls { identity: Name::Dns(name.clone()), server_name: name })
    }

    fn trust_anchors(&self) -> TrustAnchors {
        if let Some(file) = self.optional("WEFT_IDENTITY_TRUST_ANCHORS_FILE", path) {
            return TrustAnchors::File(file);
        }
        let remedy = "give the anchors of trust in PEM, or their file in \
                      WEFT_IDENTITY_TRUST_ANCHORS_FILE";
        let pem = |text: &str| match text.contains("-----BEGIN CERTIFICATE-----") {
            true => Ok(text.to_string()),
            false => Err("give PEM: -----BEGIN CERTIFICATE-----".to_string()),
        };
        let pem = self.required("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", remedy, pem);
        TrustAnchors::Pem(pem.unwrap_or_default())
    }

    pub(super) fn discovery(&self) -> Discovery {
        let private =
            ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"];
        let time = |name| self.optional(name, parse::duration);
        Discovery {
            destination: self.control_address("DESTINATION"),
            policy: self.control_address("POLICY"),
            context: (self.variable)("LINKERD2_PROXY_DESTINATION_CONTEXT").unwrap_or_default(),
            workload: self
                .required(
                    "LINKERD2_PROXY_POLICY_WORKLOAD",
                    "give this workload's name, such as {\"ns\":\"default\",\"pod\":\"web-1\"}",
                    |text| Ok(text.to_string()),
                )
                .unwrap_or_default(),
            profile_networks: self
                .networks("LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS", &private),
            initial_timeout: self.time("LINKERD2_PROXY_CONTROL_STREAM_INITIAL_TIMEOUT", 3 * SECOND),
            idle_timeout: time("LINKERD2_PROXY_CONTROL_STREAM_IDLE_TIMEOUT"),
            lifetime: time("LINKERD2_PROXY_CONTROL_STREAM_LIFETIME"),
        }
    }

    /// A control-plane service. TLS is left out iff it is on this host, as in
    /// linkerd2-proxy: otherwise its name must be known.
    fn control_address(&self, service: &str) -> ControlAddress {
        let address = format!("LINKERD2_PROXY_{service}_SVC_ADDR");
        let name = format!("LINKERD2_PROXY_{service}_SVC_NAME");
        let unset = NameAddr::new("localhost", 1).expect("a name");
        let remedy = "give the service's host and port, such as linkerd-dst-headless:8086";
        let authority = self
            .required(&address, remedy, |text| {
                text.parse::<NameAddr>().map_err(|_| "give a host and a port".to_string())
            })
            .unwrap_or(unset);
        let loopback = match authority.as_address() {
            Some(address) => address.ip().is_loopback(),
            None => authority.host() == "localhost",
        };
        let tls = (!loopback)
            .then(|| self.required(&name, "give the service's identity", identity))
            .flatten()
            .and_then(|identity| match &identity {
                Name::Dns(server_name) => {
                    Some(ServerTls { server_name: server_name.clone(), identity })
                }
                Name::Uri(_) => {
                    self.fail(&name, "give a DNS identity");
                    None
                }
            });
        ControlAddress { authority, tls }
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

fn identity(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|_| "give a DNS name or a spiffe:// URI".into())
}

fn dns_name(text: &str) -> Result<DnsName, String> {
    DnsName::new(text).map_err(|_| "give a DNS name".into())
}
