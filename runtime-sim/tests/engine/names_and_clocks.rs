//! Names and clocks: resolvers that fail, answers that change, clocks that are wrong.

use super::*;

fn resolve(pair: &Pair, name: &str) -> (std::io::Result<Vec<IpAddr>>, Duration) {
    let start = pair.engine.now();
    let found = pair.do_within(MINUTE, async |client| client.net.resolve(name).await);
    (found, pair.engine.now().since(start))
}

fn address(last: u8) -> DnsAnswer {
    DnsAnswer::Addresses(vec![[10, 1, 0, last].into()])
}

#[test]
fn answers_change_and_may_be_one_hosts_own() {
    let pair = Pair::new(1);
    pair.engine.set_name("db", address(1));
    assert_eq!(resolve(&pair, "db").0.unwrap(), [IpAddr::from([10, 1, 0, 1])]);
    pair.engine.set_name("db", address(2));
    assert_eq!(resolve(&pair, "db").0.unwrap(), [IpAddr::from([10, 1, 0, 2])]);
    pair.engine.set_name_for(0, "db", Some(address(3)));
    assert_eq!(resolve(&pair, "db").0.unwrap(), [IpAddr::from([10, 1, 0, 3])]);
    pair.engine.set_name_for(0, "db", None);
    assert_eq!(resolve(&pair, "db.").0.unwrap(), [IpAddr::from([10, 1, 0, 2])]);
}

#[test]
fn a_name_fails_as_its_answer_says() {
    let pair = Pair::new(1);
    pair.engine.set_name("gone", DnsAnswer::NotFound);
    pair.engine.set_name("broken", DnsAnswer::Failure);
    pair.engine.set_name("silent", DnsAnswer::Silence);
    let kind = |name| resolve(&pair, name).0.unwrap_err().kind();
    assert_eq!(kind("gone"), ErrorKind::NotFound);
    assert_eq!(kind("never-named"), ErrorKind::NotFound);
    assert_eq!(kind("broken"), ErrorKind::Other);
    let (error, took) = resolve(&pair, "silent");
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(took, Duration::from_secs(10), "two questions of five seconds");
}

#[test]
fn a_resolver_behind_a_partition_is_silent_and_one_lost_question_costs_its_timeout() {
    let pair = Pair::new(1);
    let resolver = Resolver { host: Some(1), ..Resolver::default() };
    pair.engine.set_resolver(None, resolver);
    let (found, took) = resolve(&pair, "server");
    assert_eq!(found.unwrap(), [SERVER]);
    assert!(took < Duration::from_millis(20), "{took:?}");
    let cut = pair.engine.impair(1, 0, Impairment::cut());
    let asking = pair.client.clone();
    let (tell, told) = tokio::sync::oneshot::channel();
    pair.client.spawn("asking", async move {
        let found = asking.net.resolve("server").await;
        let _ = tell.send(found);
    });
    pair.engine.run_until(pair.after(Duration::from_secs(1)));
    pair.engine.mend(cut);
    let found = pair.do_within(Duration::from_secs(5), async |_| told.await.unwrap());
    assert_eq!(found.unwrap(), [SERVER], "the second question is answered");
    pair.engine.impair(0, 1, Impairment::cut());
    assert_eq!(resolve(&pair, "server").0.unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn one_hosts_resolver_may_be_broken() {
    let pair = Pair::new(1);
    let broken = |how| Resolver { broken: Some(how), ..Resolver::default() };
    pair.engine.set_resolver(Some(0), broken(BrokenResolver::NotFound));
    assert_eq!(resolve(&pair, "server").0.unwrap_err().kind(), ErrorKind::NotFound);
    pair.engine.set_resolver(Some(0), broken(BrokenResolver::Failure));
    assert_eq!(resolve(&pair, "server").0.unwrap_err().kind(), ErrorKind::Other);
    pair.engine.set_resolver(Some(0), Resolver::default());
    pair.engine.set_resolver(Some(1), broken(BrokenResolver::Silence));
    assert_eq!(resolve(&pair, "server").0.unwrap(), [SERVER]);
}

#[test]
fn wall_clocks_are_skewed_and_drift_at_run_time() {
    let pair = Pair::new(1);
    let truth = pair.client.clock.wall();
    let ahead = ClockSpec { ahead: Duration::from_secs(60), ..ClockSpec::default() };
    pair.engine.set_clock(0, ahead);
    assert_eq!(pair.client.clock.wall(), truth + Duration::from_secs(60));
    let drifting = ClockSpec { wall_drift_ppm: -1_000, ..ClockSpec::default() };
    pair.engine.set_clock(0, drifting);
    pair.engine.run_until(pair.after(Duration::from_secs(1_000)));
    assert_eq!(pair.client.clock.wall(), truth + Duration::from_secs(999));
    assert_eq!(pair.client.now(), pair.engine.now(), "the monotonic clock is right");
}

#[test]
fn a_slow_monotonic_clock_makes_sleeps_long() {
    let pair = Pair::new(1);
    let slow = ClockSpec { monotonic_drift_ppm: -100_000, ..ClockSpec::default() };
    pair.engine.set_clock(0, slow);
    let start = pair.engine.now();
    pair.do_within(MINUTE, async |client| client.sleep(Duration::from_secs(9)).await);
    let took = pair.engine.now().since(start);
    assert!(took >= Duration::from_secs(10), "{took:?}");
    assert!(took < Duration::from_secs(10) + Duration::from_micros(1), "{took:?}");
}
