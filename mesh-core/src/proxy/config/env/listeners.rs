//! Where traffic arrives: redirected, through fixed mappings, or from clients that know of a proxy.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Env, local};
use crate::proxy::config::{Config, InboundListener, OutboundDestination, OutboundListener, parse};
use crate::proxy::own_listeners::OwnListeners;

const OUTBOUND_LISTENERS: &str = "WEFT_OUTBOUND_LISTENERS";
const INBOUND_LISTENERS: &str = "WEFT_INBOUND_LISTENERS";

impl Env<'_> {
    pub(super) fn outbound_listeners(&self) -> Vec<OutboundListener> {
        let redirected = self
            .optional("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS", addresses)
            .or_else(|| self.optional("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", addresses))
            .unwrap_or_else(|| vec![local(4140)]);
        let original = redirected
            .into_iter()
            .map(|at| OutboundListener { at, destination: OutboundDestination::Original });
        let fixed = self.optional(OUTBOUND_LISTENERS, fixed_listeners).unwrap_or_default();
        let proxies = self.optional("WEFT_OUTBOUND_HTTP_PROXY_LISTEN_ADDRS", addresses);
        let proxies = proxies
            .into_iter()
            .flatten()
            .map(|at| OutboundListener { at, destination: OutboundDestination::HttpProxy });
        original.chain(fixed).chain(proxies).collect()
    }

    /// The first is the one that connections are redirected to.
    pub(super) fn inbound_listeners(&self) -> Vec<InboundListener> {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 4143);
        let at = self.or("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", any, parse::socket_addr);
        let fixed = self.optional(INBOUND_LISTENERS, forward_listeners).unwrap_or_default();
        let mut listeners = vec![InboundListener { at, forward: None }];
        listeners.extend(fixed);
        listeners
    }

    /// Faults mappings that lead back to a listener of the same direction. Those through names show
    /// when they are connected to.
    pub(super) fn refuse_loops(&self, config: &Config) {
        let own_ips = config.inbound.as_ref().map_or(&[][..], |inbound| &inbound.own_ips);
        if let Some(outbound) = &config.outbound {
            let listeners = &outbound.listeners;
            let own = OwnListeners::new(listeners.iter().map(|listener| listener.at), own_ips);
            let to = listeners.iter().filter_map(|listener| match &listener.destination {
                OutboundDestination::Fixed(name) => name.as_address(),
                _ => None,
            });
            self.refuse_loop(OUTBOUND_LISTENERS, to, &own);
        }
        if let Some(inbound) = &config.inbound {
            let listeners = &inbound.listeners;
            let own = OwnListeners::new(listeners.iter().map(|listener| listener.at), own_ips);
            let to = listeners.iter().filter_map(|listener| listener.forward);
            self.refuse_loop(INBOUND_LISTENERS, to, &own);
        }
    }

    fn refuse_loop(
        &self,
        variable: &str,
        mut to: impl Iterator<Item = SocketAddr>,
        own: &OwnListeners,
    ) {
        if let Some(to) = to.find(|to| own.are_reached_at(*to)) {
            self.fail(variable, format!("this proxy itself listens at {to}; give another address"));
        }
    }
}

fn addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    parse::list(text, parse::socket_addr)
}

/// `127.0.0.1:9001=web.default.svc.cluster.local:80,…`
fn fixed_listeners(text: &str) -> Result<Vec<OutboundListener>, String> {
    let remedy = "give LISTEN=HOST:PORT, such as 127.0.0.1:9001=web.default.svc.cluster.local:80";
    parse::list(text, |item| {
        let (at, to) = item.split_once('=').ok_or(remedy)?;
        let destination = to.parse().map_err(|_| remedy)?;
        let at = parse::socket_addr(at)?;
        Ok(OutboundListener { at, destination: OutboundDestination::Fixed(destination) })
    })
}

/// `0.0.0.0:8080=127.0.0.1:8081,…`
fn forward_listeners(text: &str) -> Result<Vec<InboundListener>, String> {
    let remedy = "give LISTEN=ADDRESS:PORT, such as 0.0.0.0:8080=127.0.0.1:8081";
    parse::list(text, |item| {
        let (at, to) = item.split_once('=').ok_or(remedy)?;
        let forward = Some(parse::socket_addr(to)?);
        Ok(InboundListener { at: parse::socket_addr(at)?, forward })
    })
}
