//! What the ways between hosts are like, and what is wrong with them: the vocabulary of links.
//! Knows no engine and no time; `engine::ways` computes with it.
//!
//! Law: of the specifications that fit a directed pair of hosts, the most specific holds (pod before
//! node before zone before anywhere), of equals the one set last. Impairments add up on top of it.

use std::time::Duration;

/// One side of a link: how specifically it is meant is how it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Every host.
    Anywhere,
    /// Every host of a zone.
    Zone(String),
    /// Every host of a node.
    Node(String),
    /// One host, by number.
    Host(usize),
}

impl From<usize> for Place {
    fn from(host: usize) -> Self {
        Self::Host(host)
    }
}

/// What one direction between two hosts is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSpec {
    /// The median time a packet takes.
    pub latency_median: Duration,
    /// The 99th percentile of it: between them, and beyond, it is log-normal.
    pub latency_p99: Duration,
    /// Every packet takes longer by up to this, each by its own draw (uniform).
    pub jitter: Duration,
    /// The part of packets that are lost and sent again, 0 to 1; all of them is a cut.
    pub loss: f64,
    /// Bits per second; none for no limit.
    pub bandwidth_bps: Option<u64>,
    /// Whether anything gets through.
    pub up: bool,
}

impl Default for LinkSpec {
    /// Two machines in one data centre.
    fn default() -> Self {
        Self {
            latency_median: Duration::from_micros(300),
            latency_p99: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0.0,
            bandwidth_bps: None,
            up: true,
        }
    }
}

/// What a fault does to a direction, on top of what it is like.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// Every packet takes longer by this.
    pub extra_latency: Duration,
    /// And by up to this.
    pub extra_jitter: Duration,
    /// So many more packets are lost, 0 to 1.
    pub loss: f64,
    /// No more bits per second than this.
    pub bandwidth_bps: Option<u64>,
    /// Nothing gets through.
    pub cut: bool,
}

impl Impairment {
    /// Nothing gets through.
    pub fn cut() -> Self {
        Self { cut: true, ..Self::default() }
    }

    /// What becomes of a link under it.
    pub fn on(&self, link: LinkSpec) -> LinkSpec {
        LinkSpec {
            latency_median: link.latency_median + self.extra_latency,
            latency_p99: link.latency_p99 + self.extra_latency,
            jitter: link.jitter + self.extra_jitter,
            loss: 1.0 - (1.0 - link.loss) * (1.0 - self.loss),
            bandwidth_bps: match (link.bandwidth_bps, self.bandwidth_bps) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            up: link.up && !self.cut,
        }
    }
}

/// Names an impairment, for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImpairmentId(pub u64);

/// An engine cannot do what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Which engine.
    pub engine: &'static str,
    /// What it cannot do.
    pub what: &'static str,
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the engine {} has no {}: use the engine des", self.engine, self.what)
    }
}

impl std::error::Error for Unsupported {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impairments_add_up() {
        let slow = Impairment { extra_latency: Duration::from_millis(5), ..Impairment::default() };
        let lossy = Impairment { loss: 0.5, bandwidth_bps: Some(1_000), ..Impairment::default() };
        let link = LinkSpec { loss: 0.5, bandwidth_bps: Some(9_000), ..LinkSpec::default() };
        let both = lossy.on(slow.on(link));
        assert_eq!(both, slow.on(lossy.on(link)));
        assert_eq!(both.latency_median, link.latency_median + Duration::from_millis(5));
        assert_eq!((both.loss, both.bandwidth_bps, both.up), (0.75, Some(1_000), true));
        assert!(!Impairment::cut().on(both).up);
    }
}
