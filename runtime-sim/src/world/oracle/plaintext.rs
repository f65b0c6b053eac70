//! Looks for the marker that every message carries in what crosses from host to host, also where
//! it is split over segments.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::{Evidence, Finding, Offence};
use crate::lock;
use crate::trace::{Delivery, Tap};
use crate::world::record::Record;
use crate::world::scenario::Between;

/// Names of hosts by their addresses, those that come later too.
pub type Names = Arc<Mutex<BTreeMap<IpAddr, Arc<str>>>>;

/// A tap that records the marker wherever it crosses.
pub fn watch(marker: &'static str, names: Names, record: Record) -> Tap {
    let matchers = Mutex::new(BTreeMap::new());
    let matcher = Matcher::new(marker.as_bytes());
    Arc::new(move |delivery: &Delivery<'_>| {
        if delivery.from == delivery.to {
            return;
        }
        let mut matchers = lock(&matchers);
        let mut matched = matchers.remove(&delivery.stream).unwrap_or(0);
        let found = matcher.feed(&mut matched, delivery.bytes);
        // Streams that are in the middle of nothing are not kept.
        if matched > 0 {
            matchers.insert(delivery.stream, matched);
        }
        drop(matchers);
        if found {
            let names = lock(&names);
            let name =
                |ip: IpAddr| names.get(&ip).cloned().unwrap_or_else(|| ip.to_string().into());
            record.saw_plaintext(&name(delivery.from), &name(delivery.to), delivery.at);
        }
    })
}

/// Finds a text in a stream that comes in pieces (Knuth, Morris and Pratt).
struct Matcher {
    text: &'static [u8],
    /// How much of the text is still matched when the byte after so much of it does not match.
    falls: Vec<usize>,
}

impl Matcher {
    fn new(text: &'static [u8]) -> Self {
        let mut falls = vec![0; text.len() + 1];
        for length in 1..text.len() {
            let mut matched = falls[length];
            while matched > 0 && text[matched] != text[length] {
                matched = falls[matched];
            }
            falls[length + 1] = matched + usize::from(text[matched] == text[length]);
        }
        Self { text, falls }
    }

    /// Goes on from `matched` bytes of the text. Tells whether it was found.
    fn feed(&self, matched: &mut usize, bytes: &[u8]) -> bool {
        let mut found = false;
        for byte in bytes {
            while *matched > 0 && self.text[*matched] != *byte {
                *matched = self.falls[*matched];
            }
            *matched += usize::from(self.text[*matched] == *byte);
            if *matched == self.text.len() {
                found = true;
                *matched = self.falls[*matched];
            }
        }
        found
    }
}

pub(super) fn judge(evidence: &Evidence<'_>, between: Between) -> Finding {
    let meshed = |name: &str| evidence.pods.get(name).is_some_and(|pod| pod.identity.is_some());
    let counts = |(from, to): &(Arc<str>, Arc<str>)| match between {
        Between::Meshed => meshed(from) && meshed(to),
        Between::All => true,
    };
    let seen = evidence.entries.plaintext.iter().filter(|(way, _)| counts(way));
    let deliveries: u64 = seen.clone().map(|(_, sighting)| sighting.count).sum();
    let first = seen.min_by_key(|(_, sighting)| sighting.first).map(|((from, to), sighting)| {
        let what = format!("the marker went from {from} to {to} in the clear");
        Offence::at(sighting.first, what).of_pod(to)
    });
    Finding::of(format!("{deliveries} deliveries with the marker"), first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However a stream is cut, the text is found where it stands, and only there.
        #[test]
        fn a_text_is_found_however_the_stream_is_cut(
            bytes in proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b')], 0..60),
            cuts in proptest::collection::vec(1usize..5, 1..20),
        ) {
            let text = b"aabaa";
            let matcher = Matcher::new(text);
            let (mut matched, mut found, mut rest) = (0, false, &bytes[..]);
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                found |= matcher.feed(&mut matched, piece);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, bytes.windows(5).any(|window| window == text));
        }
    }
}
