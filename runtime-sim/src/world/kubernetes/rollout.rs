//! How a Deployment goes from one revision to the next: which pods to make and to end now. Pure.
//!
//! Law: a rolling update ends no available pod while fewer than `replicas - maxUnavailable` would be
//! left, and makes none while there are `replicas + maxSurge`.

use k8s_openapi::api::apps::v1::DeploymentSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What a Deployment asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) replicas: usize,
    pub(super) strategy: Update,
}

/// How revisions follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// A few at a time.
    Rolling { surge: usize, unavailable: usize },
    /// The old ones end first, all.
    Recreate,
    /// As a StatefulSet: the highest number first, each when the one before is available.
    Ordered,
}

/// A pod that is not being deleted, as far as this decision goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its number; the higher, the younger.
    pub(super) number: u64,
    /// Of the revision that is wanted.
    pub(super) current: bool,
    pub(super) ready: bool,
    /// Ready for long enough.
    pub(super) available: bool,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    /// Pods to make.
    pub(super) make: usize,
    /// Numbers of pods to end.
    pub(super) end: Vec<u64>,
}

impl Wanted {
    pub(super) fn of(spec: &DeploymentSpec) -> Self {
        let replicas = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
        let strategy = spec.strategy.as_ref();
        if strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate") {
            return Self { replicas, strategy: Update::Recreate };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let share = |value: Option<&IntOrString>, round_up: bool| match value {
            Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or(0),
            Some(IntOrString::String(text)) => {
                let percent: usize = text.trim_end_matches('%').parse().unwrap_or(0);
                (replicas * percent + if round_up { 99 } else { 0 }) / 100
            }
            None => (replicas * 25 + if round_up { 99 } else { 0 }) / 100,
        };
        let surge = share(rolling.and_then(|rolling| rolling.max_surge.as_ref()), true);
        let unavailable = share(rolling.and_then(|r| r.max_unavailable.as_ref()), false);
        // Kubernetes refuses both to be zero where they are written, and rounds so where not.
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        Self { replicas, strategy: Update::Rolling { surge, unavailable } }
    }
}

/// What to do now with these members. `ending` are those that are being deleted.
pub(super) fn decide(wanted: Wanted, members: &[Member], ending: usize) -> Steps {
    let (current, old): (Vec<Member>, Vec<Member>) = members.iter().partition(|m| m.current);
    match wanted.strategy {
        Update::Rolling { surge, unavailable } => {
            roll(wanted.replicas, surge, unavailable, &current, &old)
        }
        Update::Recreate if !old.is_empty() => {
            Steps { make: 0, end: old.iter().map(|member| member.number).collect() }
        }
        Update::Recreate => {
            let make = match current.is_empty() && ending > 0 {
                true => 0,
                false => wanted.replicas.saturating_sub(current.len()),
            };
            Steps { make, end: surplus(&current, wanted.replicas) }
        }
        Update::Ordered => order(wanted.replicas, members, &old, ending),
    }
}

fn roll(
    replicas: usize,
    surge: usize,
    unavailable: usize,
    current: &[Member],
    old: &[Member],
) -> Steps {
    let total = current.len() + old.len();
    let room = (replicas + surge).saturating_sub(total);
    let missing = replicas.saturating_sub(current.len());
    let make = if old.is_empty() { missing } else { missing.min(room) };
    let mut end = surplus(current, replicas);
    let floor = replicas.saturating_sub(unavailable);
    let lacking = current.iter().filter(|member| !member.available).count();
    let mut spare = total.saturating_sub(end.len()).saturating_sub(floor + lacking);
    let mut old = old.to_vec();
    // What is of no use goes first, then the oldest.
    old.sort_by_key(|member| (member.available, member.ready, member.number));
    for member in old {
        if spare == 0 {
            break;
        }
        spare -= 1;
        end.push(member.number);
    }
    Steps { make, end }
}

fn order(replicas: usize, members: &[Member], old: &[Member], ending: usize) -> Steps {
    let last = members.iter().max_by_key(|member| member.number);
    let all_available = ending == 0 && members.iter().all(|member| member.available);
    if members.len() < replicas {
        return Steps { make: usize::from(all_available), end: Vec::new() };
    }
    if members.len() > replicas {
        let end = last.filter(|_| ending == 0).map(|member| member.number);
        return Steps { make: 0, end: end.into_iter().collect() };
    }
    let next = old.iter().max_by_key(|member| member.number).filter(|_| all_available);
    Steps { make: 0, end: next.map(|member| member.number).into_iter().collect() }
}

/// Those beyond what is wanted: first those that are not ready, then the youngest.
fn surplus(members: &[Member], replicas: usize) -> Vec<u64> {
    let mut members = members.to_vec();
    members.sort_by_key(|m| (m.ready, m.available, u64::MAX - m.number));
    let beyond = members.len().saturating_sub(replicas);
    members[..beyond].iter().map(|member| member.number).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(number: u64, current: bool) -> Member {
        Member { number, current, ready: true, available: true }
    }

    #[test]
    fn shares_round_as_kubernetes_rounds_them() {
        let spec = |replicas| DeploymentSpec { replicas: Some(replicas), ..Default::default() };
        let strategy = |replicas| Wanted::of(&spec(replicas)).strategy;
        assert_eq!(strategy(10), Update::Rolling { surge: 3, unavailable: 2 });
        assert_eq!(strategy(3), Update::Rolling { surge: 1, unavailable: 0 });
        assert_eq!(strategy(1), Update::Rolling { surge: 1, unavailable: 0 });
    }

    #[test]
    fn a_recreated_deployment_waits_until_the_old_pods_are_gone() {
        let wanted = Wanted { replicas: 2, strategy: Update::Recreate };
        let old = [member(0, false), member(1, false)];
        assert_eq!(decide(wanted, &old, 0), Steps { make: 0, end: vec![0, 1] });
        assert_eq!(decide(wanted, &[], 1), Steps::default());
        assert_eq!(decide(wanted, &[], 0), Steps { make: 2, end: Vec::new() });
    }

    #[test]
    fn a_stateful_set_changes_one_pod_at_a_time_from_the_last() {
        let wanted = Wanted { replicas: 2, strategy: Update::Ordered };
        assert_eq!(decide(wanted, &[], 0).make, 1);
        let mut young = member(0, true);
        young.available = false;
        assert_eq!(decide(wanted, &[young], 0).make, 0);
        let old = [member(0, false), member(1, false)];
        assert_eq!(decide(wanted, &old, 0).end, [1]);
        assert_eq!(decide(wanted, &[member(0, false)], 1), Steps::default());
    }

    #[test]
    fn scaling_down_ends_what_is_not_ready_and_then_the_youngest() {
        let rolling = Update::Rolling { surge: 1, unavailable: 0 };
        let wanted = Wanted { replicas: 1, strategy: rolling };
        let mut members = [member(0, true), member(1, true), member(2, true)];
        members[0].ready = false;
        members[0].available = false;
        assert_eq!(decide(wanted, &members, 0).end, [0, 2]);
    }

    proptest! {
        /// Steps of a rollout in which pods become available at any time and in any order, and none
        /// fails.
        #[test]
        fn a_rollout_keeps_its_bounds_and_ends(
            replicas in 1..12_usize,
            surge in 0..4_usize,
            unavailable in 0..4_usize,
            picks in proptest::collection::vec(any::<u8>(), 200),
        ) {
            prop_assume!(surge + unavailable > 0);
            let strategy = Update::Rolling { surge, unavailable };
            let wanted = Wanted { replicas, strategy };
            let mut members: Vec<_> = (0..replicas as u64).map(|n| member(n, false)).collect();
            let mut next = replicas as u64;
            for pick in picks {
                let steps = decide(wanted, &members, 0);
                members.retain(|member| !steps.end.contains(&member.number));
                for _ in 0..steps.make {
                    let new = Member { number: next, current: true, ready: false, available: false };
                    members.push(new);
                    next += 1;
                }
                let available = members.iter().filter(|member| member.available).count();
                prop_assert!(available + unavailable >= replicas, "{available} available");
                prop_assert!(members.len() <= replicas + surge);
                let mut waiting: Vec<_> = members.iter_mut().filter(|m| !m.available).collect();
                if let Some(count) = waiting.len().checked_sub(1) {
                    let chosen = &mut waiting[usize::from(pick) % (count + 1)];
                    chosen.ready = true;
                    chosen.available = true;
                }
            }
            prop_assert!(members.iter().all(|m| m.current && m.available));
            prop_assert_eq!(members.len(), replicas);
            prop_assert_eq!(decide(wanted, &members, 0), Steps::default());
        }
    }
}
