//! Limits requests: of all clients together, of each identity, of named clients. Knows no clock.
//!
//! Each limit is a generic cell rate: as many requests at once as it allows in a second, then one
//! for each share of a second. Laws: in no second is more than twice the limit let through, and
//! whoever keeps below the limit is never refused. What is refused takes nothing of the limit that
//! refused it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::identity::Identity;
use crate::model::server_policy::RateLimit;
use crate::time::Timestamp;

/// Identities that are told apart; those beyond share one limit, as clients without one do.
pub const IDENTITIES_MAX: usize = 10_000;

/// Which limit refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// That of all clients.
    Total,
    /// That of each identity.
    Identity,
    /// That of named clients.
    Override,
}

/// The limits of one port, and how much of each is used.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    limit: RateLimit,
    total: Rate,
    /// None for clients without an identity, and for those that are too many.
    identities: BTreeMap<Option<Identity>, Rate>,
    /// As in the limit's own list.
    overrides: Vec<Rate>,
}

/// When the requests let through so far would have come, had they kept their distance.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    spent: Timestamp,
}

impl RateLimiter {
    /// Nothing used yet.
    pub fn new(limit: &RateLimit) -> Self {
        let overrides = vec![Rate::default(); limit.overrides.len()];
        let (total, identities) = (Rate::default(), BTreeMap::new());
        Self { limit: limit.clone(), total, identities, overrides }
    }

    /// Whether these are those limits.
    pub fn is_of(&self, limit: &RateLimit) -> bool {
        self.limit == *limit
    }

    /// Lets a request through, or tells which limit refuses it.
    ///
    /// # Errors
    /// The [`Scope`] of the limit that is reached.
    pub fn admit(&mut self, now: Timestamp, client: Option<&Identity>) -> Result<(), Scope> {
        let total = self.limit.total.map(|limit| (limit, self.total));
        if total.is_some_and(|(limit, mut total)| !total.admit(now, limit)) {
            return Err(Scope::Total);
        }
        let named = client.and_then(|client| {
            self.limit.overrides.iter().position(|each| each.clients.contains(client))
        });
        match (named, self.limit.identity) {
            (Some(named), _) => {
                let limit = self.limit.overrides[named].requests_per_second;
                if !self.overrides[named].admit(now, limit) {
                    return Err(Scope::Override);
                }
            }
            (None, Some(limit)) => {
                if !self.of(now, client).admit(now, limit) {
                    return Err(Scope::Identity);
                }
            }
            (None, None) => {}
        }
        // Taken from last: what another limit refuses uses nothing of this one.
        if let Some((limit, _)) = total {
            self.total.admit(now, limit);
        }
        Ok(())
    }

    fn of(&mut self, now: Timestamp, client: Option<&Identity>) -> &mut Rate {
        let mut key = client.cloned();
        if self.identities.len() >= IDENTITIES_MAX && !self.identities.contains_key(&key) {
            // Whoever has used nothing of late is as good as unknown.
            self.identities.retain(|_, rate| rate.spent > now);
            if self.identities.len() >= IDENTITIES_MAX {
                mark!("rate-limited-identities-at-bound");
                key = None;
            }
        }
        self.identities.entry(key).or_default()
    }
}

impl Rate {
    fn admit(&mut self, now: Timestamp, per_second: u32) -> bool {
        let apart = Duration::from_secs(1) / per_second.max(1);
        let ahead = self.spent.since(now);
        if ahead + apart > Duration::from_secs(1) {
            return false;
        }
        self.spent = self.spent.max(now) + apart;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::metadata::Metadata;
    use crate::model::server_policy::RateLimitOverride;

    fn limit(total: Option<u32>, identity: Option<u32>) -> RateLimit {
        let metadata = Metadata::new_default("limit");
        RateLimit { metadata, total, identity, overrides: Vec::new() }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn client(name: &str) -> Identity {
        Identity::new(name).unwrap()
    }

    #[test]
    fn a_seconds_worth_at_once_then_one_for_each_share_of_a_second() {
        let mut limiter = RateLimiter::new(&limit(Some(4), None));
        let mut admitted = |millis| limiter.admit(at(millis), None).is_ok();
        assert_eq!([0, 0, 0, 0, 0].map(&mut admitted), [true, true, true, true, false]);
        assert_eq!([249, 250, 251, 500].map(&mut admitted), [false, true, false, true]);
        assert_eq!(
            [5_000, 5_000, 5_000, 5_000, 5_000].map(admitted),
            [true, true, true, true, false]
        );
    }

    #[test]
    fn each_identity_has_its_own_and_those_without_share_one() {
        let mut limiter = RateLimiter::new(&limit(None, Some(1)));
        let (a, b) = (client("a.test"), client("b.test"));
        let mut admit = |who: Option<&Identity>| limiter.admit(at(0), who);
        assert_eq!([admit(Some(&a)), admit(Some(&b)), admit(None)], [Ok(()); 3]);
        assert_eq!([admit(Some(&a)), admit(None)], [Err(Scope::Identity); 2]);
    }

    #[test]
    fn named_clients_have_another_limit_and_all_the_total() {
        let mut policy = limit(Some(5), Some(1));
        let clients = vec![client("a.test"), client("b.test")];
        policy.overrides = vec![RateLimitOverride { requests_per_second: 2, clients }];
        let mut limiter = RateLimiter::new(&policy);
        let mut admit = |name: &str| limiter.admit(at(0), Some(&client(name)));
        assert_eq!([admit("a.test"), admit("b.test")], [Ok(()); 2]);
        assert_eq!(admit("a.test"), Err(Scope::Override));
        assert_eq!([admit("c.test"), admit("d.test"), admit("e.test")], [Ok(()); 3]);
        assert_eq!(admit("f.test"), Err(Scope::Total));
    }

    proptest! {
        /// At most twice the limit in any second, and never a refusal below it.
        #[test]
        fn a_limit_is_kept_and_not_kept_too_well(
            per_second in 1u32..50,
            gaps in prop::collection::vec(0u64..200, 1..200),
        ) {
            let mut limiter = RateLimiter::new(&limit(Some(per_second), None));
            let (mut now, mut admitted) = (0, Vec::new());
            let apart = 1_000u64.div_ceil(u64::from(per_second));
            for gap in gaps {
                now += gap;
                if limiter.admit(at(now), None).is_ok() {
                    admitted.push(now);
                }
                let recent = admitted.iter().filter(|t| now - **t < 1_000).count();
                prop_assert!(recent <= 2 * per_second as usize, "{recent}");
            }
            // Slower than the limit: all pass.
            let mut limiter = RateLimiter::new(&limit(Some(per_second), None));
            for nth in 0..100 {
                prop_assert!(limiter.admit(at(nth * apart), None).is_ok());
            }
        }
    }
}
