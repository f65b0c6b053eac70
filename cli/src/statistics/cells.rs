//! Figures as people read them.

use mesh_core::control::public_api::figures::Quantiles;
use mesh_core::control::public_api::routes::PolicyName;

/// For what there is none of.
pub(crate) const NONE: &str = "-";

/// A share as a percentage, never rounded up to a perfection that was not there.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or(NONE.to_string(), |share| {
        // What a hundredth of a hundredth falls short by is the arithmetic's.
        let hundredths = (share * 10_000.0 + 1e-6).floor();
        format!("{:.2}%", hundredths / 100.0)
    })
}

/// Requests a second.
pub(crate) fn rps(rps: f64) -> String {
    format!("{rps:.1}rps")
}

/// Milliseconds: whole ones where there are many.
pub(crate) fn latency(ms: Option<f64>) -> String {
    match ms {
        None => NONE.to_string(),
        Some(ms) if ms < 9.95 => format!("{ms:.1}ms"),
        Some(ms) => format!("{ms:.0}ms"),
    }
}

/// The three quantiles that are shown.
pub(crate) fn latencies(latency_ms: &Quantiles) -> [String; 3] {
    let Quantiles { p50, p95, p99 } = latency_ms;
    [p50, p95, p99].map(|ms| latency(*ms))
}

/// Bytes a second.
pub(crate) fn bytes(per_second: f64) -> String {
    format!("{per_second:.1}B/s")
}

/// Its kind, where it is an object.
pub(crate) fn kind(policy: &PolicyName) -> String {
    if policy.kind == "default" { String::new() } else { policy.kind.clone() }
}

/// An identity's service account and namespace: what tells it apart in a mesh.
pub(crate) fn identity(identity: &str) -> String {
    match identity.split_once(".serviceaccount.identity.") {
        Some((short, _)) => short.to_string(),
        None => identity.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_rounded_up_to_perfection() {
        assert_eq!(percent(Some(1.0)), "100.00%");
        assert_eq!(percent(Some(0.999_99)), "99.99%");
        assert_eq!(percent(Some(0.29)), "29.00%");
        assert_eq!(percent(None), "-");
    }

    #[test]
    fn latencies_have_the_digits_that_matter() {
        assert_eq!(latency(Some(0.512)), "0.5ms");
        assert_eq!(latency(Some(9.94)), "9.9ms");
        assert_eq!(latency(Some(9.96)), "10ms");
        assert_eq!(latency(Some(1234.5)), "1234ms");
    }
}
