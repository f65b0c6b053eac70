//! A request's way, as packets show it: the connections of the hosts that had to do with it while it
//! was under way.
//!
//! Not exact where a host does several things at once: between proxies all is encrypted, so what is
//! told is every connection of these hosts that moved meanwhile. The one that carried the request in
//! the clear is marked.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mesh_core::time::Timestamp;

use super::{Hosts, add, seconds};
use crate::trace::Packet;
use crate::world::record::Request;
use crate::world::run::Run;

/// Connections told of.
const CONNECTIONS_MAX: usize = 24;
/// The header that carries a request's number, in HTTP/1.1.
const NUMBER: &str = "x-request-number: ";

/// What a connection did meanwhile.
#[derive(Default)]
struct Moves {
    first: Option<Timestamp>,
    opened: Option<Timestamp>,
    accepted: Option<Timestamp>,
    /// Bytes from the side that connected, and to it, and when the first of them.
    bytes: [(u64, Option<Timestamp>); 2],
    ended: Vec<String>,
    lost: u64,
    carries_it: bool,
}

/// The connections as text, and the hosts at their ends.
pub(super) fn of(
    run: &Run,
    number: u64,
    request: &Request,
    end: Timestamp,
    packets: &[Packet],
) -> (String, Hosts) {
    let mut concerned: Hosts = [request.sender.clone()].into();
    let executions = run.entries.executions.iter().filter(|e| e.number == Some(number));
    concerned.extend(executions.map(|execution| execution.pod.clone()));
    // Proxies and the programs beside them talk on loopback: whose it is tells the carried number.
    let is_concerned = |address: SocketAddr| {
        address.ip().is_loopback()
            || run.hosts.get(&address.ip()).is_some_and(|h| concerned.contains(h))
    };
    let marker = format!("{NUMBER}{number}\r\n").into_bytes();
    let mut clients: BTreeMap<(SocketAddr, SocketAddr), ()> = BTreeMap::new();
    let mut moves: BTreeMap<(SocketAddr, SocketAddr), Moves> = BTreeMap::new();
    for packet in packets.iter().take_while(|packet| packet.at <= end) {
        if !is_concerned(packet.from) && !is_concerned(packet.to) {
            continue;
        }
        if packet.flags.syn && !packet.flags.ack {
            clients.insert((packet.from, packet.to), ());
        }
        if packet.at < request.began {
            continue;
        }
        let from_client = clients.contains_key(&(packet.from, packet.to));
        let key = match from_client {
            true => (packet.from, packet.to),
            false => (packet.to, packet.from),
        };
        moves.entry(key).or_default().see(packet, from_client, &marker);
    }
    // On loopback only what carried it: of others it is not known whose they are.
    moves
        .retain(|(a, b), moved| moved.carries_it || !a.ip().is_loopback() && !b.ip().is_loopback());
    let mut all: Vec<_> = moves.into_iter().collect();
    all.sort_by_key(|(_, moved)| (!moved.carries_it, moved.first));
    let mut text = String::new();
    let mut hosts = concerned.clone();
    let name = |address: SocketAddr| match run.hosts.get(&address.ip()) {
        Some(host) => format!("{host}:{}", address.port()),
        None => address.to_string(),
    };
    for ((a, b), moved) in all.iter().take(CONNECTIONS_MAX) {
        hosts.extend([a, b].into_iter().filter_map(|at| run.hosts.get(&at.ip()).cloned()));
        add(&mut text, format_args!("  {} to {}: {}", name(*a), name(*b), moved.words()));
    }
    match all.len() {
        0 => text.push_str("  no packet was sent\n"),
        all if all > CONNECTIONS_MAX => {
            add(&mut text, format_args!("  and {} more", all - CONNECTIONS_MAX));
        }
        _ => {}
    }
    (text, hosts)
}

impl Moves {
    fn see(&mut self, packet: &Packet, from_client: bool, marker: &[u8]) {
        self.first.get_or_insert(packet.at);
        self.lost += u64::from(packet.lost);
        match (packet.flags.syn, packet.flags.ack) {
            (true, false) => {
                self.opened.get_or_insert(packet.at);
            }
            (true, true) => {
                self.accepted.get_or_insert(packet.at);
            }
            _ => {}
        }
        let side = if from_client { "near" } else { "far" };
        let ends = [(packet.flags.fin, "closed"), (packet.flags.rst, "reset")];
        for (_, how) in ends.iter().filter(|(is, _)| *is) {
            self.ended.push(format!("{how} by the {side} end at {}", seconds(packet.at)));
        }
        if !packet.payload.is_empty() {
            let (bytes, first) = &mut self.bytes[usize::from(!from_client)];
            *bytes += packet.payload.len() as u64;
            first.get_or_insert(packet.at);
            let found = packet
                .payload
                .windows(marker.len())
                .any(|window| window.eq_ignore_ascii_case(marker));
            self.carries_it |= found;
        }
    }

    fn words(&self) -> String {
        let mut words = Vec::new();
        if self.carries_it {
            words.push("CARRIES IT".to_owned());
        }
        match (self.opened, self.accepted) {
            (Some(at), Some(_)) => words.push(format!("opened at {}", seconds(at))),
            (Some(at), None) => words.push(format!("SYN at {}, not answered", seconds(at))),
            _ => {}
        }
        for ((bytes, first), way) in self.bytes.iter().zip(["there", "back"]) {
            if let Some(first) = first {
                words.push(format!("{bytes} bytes {way} from {}", seconds(*first)));
            }
        }
        if self.lost > 0 {
            words.push(format!("{} packets lost", self.lost));
        }
        words.extend(self.ended.iter().take(2).cloned());
        if words.is_empty() {
            words.push("only acknowledgements".to_owned());
        }
        words.join("; ")
    }
}
