//! The memory that is a proxy's, in every scenario: a bound for the heap of each, wherever it runs and
//! whatever is done to it, unless the scenario sets that pod a bound of its own (`bounded`).
//!
//! Law: it is the most at any moment that counts, and not what was held when somebody looked.

use mesh_core::time::Timestamp;

use super::watch::Watch;
use super::{Finding, Judgement, Offence, judgement};
use crate::world::scenario::{Expectation, Spec};

/// What a proxy may have on its heap. The promise is 10 MB of resident memory under load, of which
/// more than half is the program's text.
pub const HEAP_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Judges what every proxy had on its heap.
pub(super) fn judge(spec: &Spec, watch: &Watch, end: Timestamp) -> Judgement {
    let has_own_bound = |name: &str| {
        spec.expect.iter().any(|expectation| match expectation {
            Expectation::Bounded { pod, heap_at_most: Some(_), .. } => {
                pod.as_deref().is_none_or(|pod| pod == name)
            }
            _ => false,
        })
    };
    let mut peaks: Vec<_> =
        watch.heap_peaks().iter().filter(|(name, _)| !has_own_bound(name)).collect();
    peaks.sort_by_key(|(name, bytes)| (u64::MAX - **bytes, (*name).clone()));
    let found = match peaks.first() {
        Some((name, bytes)) => {
            format!("{} proxies, most of all {name} with {bytes} B", peaks.len())
        }
        None => "no proxy that is to be judged by it".to_owned(),
    };
    let over = peaks.first().filter(|(_, bytes)| **bytes > HEAP_BYTES_MAX);
    let first = over
        .map(|(name, bytes)| Offence::at(end, format!("it had {bytes} B of heap")).of_pod(name));
    let expected = format!("no proxy has more than {} MiB of heap", HEAP_BYTES_MAX >> 20);
    judgement("memory", expected, Finding::of(found, first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::oracle::still::Still;

    fn judged(expect: &str, peaks: &'static [(&'static str, u64)]) -> Judgement {
        let text = format!("about: a test\nduration: 10s\nexpect: [{expect}]\n");
        let deserializer = serde_yaml_ng::Deserializer::from_str(&text);
        let spec: Spec = serde_yaml_ng::with::singleton_map_recursive::deserialize(deserializer)
            .expect("a spec");
        let mut watch = Watch::new(&spec);
        let heap_peaks = peaks.iter().map(|(name, bytes)| ((*name).into(), *bytes)).collect();
        watch.look_at_heap_peaks(&Still { heap_peaks, ..Still::default() });
        judge(&spec, &watch, Timestamp::ZERO)
    }

    #[test]
    fn a_proxy_over_its_memory_is_named_and_one_with_a_bound_of_its_own_is_not_judged_here() {
        const OVER: &[(&str, u64)] = &[("web-0", 10), ("web-1", HEAP_BYTES_MAX + 1)];
        let over = judged("", OVER);
        assert!(!over.holds);
        assert_eq!(over.found, "2 proxies, most of all web-1 with 4194305 B");
        assert!(judged("", &[("web-0", HEAP_BYTES_MAX)]).holds);
        assert!(judged("{bounded: {pod: web-1, heap_at_most: 9MiB}}", OVER).holds);
        assert!(!judged("{bounded: {pod: web-1, tasks_at_most: 9}}", OVER).holds);
        assert!(judged("", &[]).holds, "not every engine counts");
    }
}
