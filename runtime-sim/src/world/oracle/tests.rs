//! Each oracle fails on a planted violation, says where it is, and passes without it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::still::Still;
use super::*;
use crate::world::record::{Answer, Attempt, Execution, Failure, FailureClass, Record};
use crate::world::scenario::{Between, Span};

const OWN: &str = "client.shop.serviceaccount.identity.linkerd.cluster.local";

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn span(millis: u64) -> Span {
    Span(Duration::from_millis(millis))
}

fn w() -> Arc<str> {
    "w".into()
}

fn workload() -> String {
    "w".to_owned()
}

/// A world of a meshed client and two meshed servers, and a server that is not.
fn facts() -> BTreeMap<Arc<str>, PodFacts> {
    let pod = |deployment: &str, identity: Option<&str>| PodFacts {
        deployment: deployment.to_owned(),
        identity: identity.map(str::to_owned),
    };
    let pods = [
        ("client-0", pod("client", Some(OWN))),
        ("web-0", pod("web", Some("web"))),
        ("web-1", pod("web", Some("web"))),
        ("bare-0", pod("bare", None)),
    ];
    pods.into_iter().map(|(name, facts)| (name.into(), facts)).collect()
}

fn spec(expect: &str) -> Spec {
    let text = format!(
        "about: a test\nduration: 10s\nworkloads:\n- name: w\n  from: client\n  to: web:80\n  \
         protocol: http1\n  timeout: 1s\n  arrivals: {{constant: {{rate: 1}}}}\nexpect: {expect}\n"
    );
    let deserializer = serde_yaml_ng::Deserializer::from_str(&text);
    serde_yaml_ng::with::singleton_map_recursive::deserialize(deserializer).expect("a spec")
}

fn observed(spec: &Spec, panics: &[&str]) -> Observed {
    let panics = panics.iter().map(|panic| (*panic).to_owned()).collect();
    Observed { panics, scrapes: BTreeMap::new(), watch: Watch::new(spec) }
}

fn judged(expectation: &Expectation, record: &Record) -> Judgement {
    let (spec, entries, facts) = (spec("[]"), record.entries(), facts());
    let observed = observed(&spec, &[]);
    judge(expectation, &Evidence::new(&spec, &entries, &facts, &observed, at(20_000)))
}

fn assert_good(expectation: &Expectation, record: &Record) {
    let judgement = judged(expectation, record);
    assert!(judgement.holds, "{judgement:?}");
}

/// It fails, and its first offence is then.
fn assert_bad(expectation: &Expectation, record: &Record, millis: u64) {
    let judgement = judged(expectation, record);
    assert!(!judgement.holds, "{judgement:?}");
    assert_eq!(judgement.first.as_ref().map(|first| first.at), Some(at(millis)), "{judgement:?}");
}

fn execute(record: &Record, at: Timestamp, pod: &str, number: u64) {
    record.execute(Execution { at, pod: pod.into(), number: Some(number), client: None });
}

fn failed(class: FailureClass) -> Result<Answer, Failure> {
    Err(Failure { class, what: String::new() })
}

/// A request that takes 5 ms and is executed once.
fn request(record: &Record, millis: u64, pod: &str, result: Result<Answer, Failure>) -> u64 {
    let number = record.begin(&w(), &"client-0".into(), at(millis));
    execute(record, at(millis + 2), pod, number);
    record.end(number, at(millis + 5), result);
    number
}

fn good() -> Record {
    let record = Record::default();
    for index in 0..100 {
        request(
            &record,
            index * 100,
            ["web-0", "web-1"][index as usize % 2],
            Ok(Answer::status(200)),
        );
    }
    record
}

fn conserved() -> Expectation {
    Expectation::Conserved { workload: workload(), executions_at_most: 1 }
}

#[test]
fn a_request_executed_twice_is_not_conserved() {
    let record = good();
    assert_good(&conserved(), &record);
    execute(&record, at(700), "web-1", 8);
    assert_bad(&conserved(), &record, 700);
}

#[test]
fn a_request_without_an_end_is_not_conserved() {
    let record = good();
    record.begin(&w(), &"client-0".into(), at(11_000));
    assert_bad(&conserved(), &record, 11_000);
}

#[test]
fn a_success_that_was_never_executed_is_not_conserved_and_a_refusal_is() {
    let record = good();
    let number = record.begin(&w(), &"client-0".into(), at(11_000));
    record.end(number, at(11_001), Ok(Answer::status(404)));
    assert_good(&conserved(), &record);
    let number = record.begin(&w(), &"client-0".into(), at(11_000));
    record.end(number, at(11_001), Ok(Answer::status(200)));
    assert_bad(&conserved(), &record, 11_001);
}

#[test]
fn an_end_of_nothing_is_not_conserved() {
    let record = good();
    record.end(1, at(11_000), Ok(Answer::status(200)));
    assert!(!judged(&conserved(), &record).holds);
}

#[test]
fn a_stream_that_loses_a_message_is_not_conserved() {
    let record = good();
    record.tear(7, at(605), "message 2 came in place of 1".to_owned());
    assert_bad(&conserved(), &record, 605);
}

#[test]
fn a_stream_that_succeeds_and_lacks_a_message_at_either_end_is_not_conserved() {
    for (delivered, answered) in [(3, 3), (2, 3), (3, 4)] {
        let record = Record::default();
        let number = record.begin(&w(), &"client-0".into(), at(100));
        execute(&record, at(101), "web-0", number);
        record.note(number, |r| (r.messages_sent, r.messages_received) = (3, 3));
        record.conversed(Some(number), delivered, answered);
        record.end(number, at(105), Ok(Answer::status(200)));
        match (delivered, answered) {
            (3, 3) => assert_good(&conserved(), &record),
            _ => assert_bad(&conserved(), &record, 105),
        }
    }
}

#[test]
fn an_answer_that_is_not_what_its_server_sent_is_not_conserved() {
    let record = good();
    request(&record, 11_000, "web-0", failed(FailureClass::BrokenOff));
    assert_good(&conserved(), &record);
    request(&record, 12_000, "web-0", failed(FailureClass::Wrong));
    assert_bad(&conserved(), &record, 12_005);
}

#[test]
fn what_the_client_sent_twice_may_be_executed_twice() {
    let record = good();
    let number = record.begin(&w(), &"client-0".into(), at(11_000));
    for attempt in 1..=2 {
        record.note(number, |request| request.attempts = attempt);
        execute(&record, at(11_001), "web-0", number);
    }
    record.end(number, at(11_009), Ok(Answer::status(200)));
    assert_good(&conserved(), &record);
    execute(&record, at(11_002), "web-0", number);
    assert_bad(&conserved(), &record, 11_000);
}

#[test]
fn nothing_is_shown_by_no_requests() {
    let window = Window::default();
    let workload = workload();
    for expectation in [
        Expectation::Requests { workload: workload.clone(), at_least: 1 },
        Expectation::SuccessRate { workload: workload.clone(), at_least: 0.0, window },
        Expectation::Failures { workload: workload.clone(), at_most: 9, window },
        Expectation::Denied { workload: workload.clone(), window },
        Expectation::NotExecuted { workload: workload.clone(), window },
        Expectation::Live { workload: workload.clone(), last: span(5_000) },
        Expectation::InFlight { workload: workload.clone(), at_most: 9, window },
        Expectation::Identity { workload: workload.clone(), client: None },
    ] {
        let judgement = judged(&expectation, &Record::default());
        assert!(!judgement.holds, "{judgement:?}");
    }
}

#[test]
fn server_errors_are_failures_and_client_errors_are_answers() {
    let record = Record::default();
    for (index, status) in [200, 404, 503].into_iter().enumerate() {
        request(&record, index as u64 * 10, "web-0", Ok(Answer::status(status)));
    }
    let window = Window::default();
    let failures = |at_most| Expectation::Failures { workload: workload(), at_most, window };
    assert_good(&failures(1), &record);
    assert_bad(&failures(0), &record, 20);
    let rate = |at_least| Expectation::SuccessRate { workload: workload(), at_least, window };
    assert_good(&rate(0.6), &record);
    assert_bad(&rate(0.7), &record, 20);
    let late = Window { from: Some(span(21)), to: None };
    let rate = Expectation::SuccessRate { workload: workload(), at_least: 0.0, window: late };
    assert!(!judged(&rate, &record).holds, "an empty window shows nothing");
}

#[test]
fn a_slow_request_moves_the_quantile_that_it_is_in() {
    let record = good();
    let latency = |quantile| Expectation::Latency {
        workload: workload(),
        quantile,
        at_most: span(10),
        window: Window::default(),
    };
    assert_good(&latency(1.0), &record);
    let number = record.begin(&w(), &"client-0".into(), at(11_000));
    record.end(number, at(11_900), Ok(Answer::status(200)));
    assert_bad(&latency(1.0), &record, 11_000);
    assert_good(&latency(0.99), &record);
}

#[test]
fn quantiles_are_of_the_nearest_rank() {
    let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
    assert_eq!(quantile_of(&times, 0.5), Some(Duration::from_millis(50)));
    assert_eq!(quantile_of(&times, 0.99), Some(Duration::from_millis(99)));
    assert_eq!(quantile_of(&times, 1.0), Some(Duration::from_millis(100)));
    assert_eq!(quantile_of(&[], 0.5), None);
}

#[test]
fn a_pod_with_more_than_its_share_is_named() {
    let record = good();
    let window = Window::default();
    let even = Expectation::EvenLoad {
        workload: workload(),
        deployment: "web".to_owned(),
        within: 0.1,
        window,
    };
    let share = Expectation::LoadShare {
        workload: workload(),
        pod: "web-0".to_owned(),
        at_least: Some(0.4),
        at_most: Some(0.55),
        window,
    };
    assert_good(&even, &record);
    assert_good(&share, &record);
    for index in 0..40 {
        request(&record, 11_000 + index, "web-0", Ok(Answer::status(200)));
    }
    let judgement = judged(&even, &record);
    assert!(!judgement.holds && judgement.found.contains("70.0 are fair"), "{judgement:?}");
    assert!(!judged(&share, &record).holds);
}

#[test]
fn a_pod_of_the_deployment_that_gets_nothing_is_uneven() {
    let record = Record::default();
    request(&record, 0, "web-0", Ok(Answer::status(200)));
    let even = Expectation::EvenLoad {
        workload: workload(),
        deployment: "web".to_owned(),
        within: 0.5,
        window: Window::default(),
    };
    assert!(!judged(&even, &record).holds);
}

#[test]
fn a_pod_that_was_gone_or_came_later_has_no_fair_part() {
    let record = Record::default();
    for index in 0..100 {
        request(&record, index * 10, "web-0", Ok(Answer::status(200)));
    }
    let even = Expectation::EvenLoad {
        workload: workload(),
        deployment: "web".to_owned(),
        within: 0.1,
        window: Window { from: Some(span(500)), to: Some(span(1_000)) },
    };
    let present = |pod: &str, changes: &[(u64, bool)]| {
        for (millis, present) in changes {
            record.set_present(&pod.into(), *present, at(*millis));
        }
    };
    present("web-0", &[(0, true)]);
    present("web-1", &[(0, true)]);
    assert!(!judged(&even, &record).holds, "it was there, and got nothing");
    present("web-1", &[(400, false)]);
    assert_good(&even, &record);
    present("web-1", &[(700, true)]);
    assert_good(&even, &record);
}

#[test]
fn plaintext_between_meshed_pods_is_seen_and_that_to_a_bare_one_allowed() {
    let record = good();
    let between = |between| Expectation::NoPlaintext { between };
    record.saw_plaintext(&"client-0".into(), &"bare-0".into(), at(3));
    assert_good(&between(Between::Meshed), &record);
    assert_bad(&between(Between::All), &record, 3);
    record.saw_plaintext(&"client-0".into(), &"web-0".into(), at(4));
    assert_bad(&between(Between::Meshed), &record, 4);
}

#[test]
fn a_request_to_a_pod_after_its_end_is_seen() {
    let record = good();
    let no_traffic = |after| Expectation::NoTraffic { pod: "web-0".to_owned(), after };
    assert_good(&no_traffic(span(10_000)), &record);
    assert_bad(&no_traffic(span(9_000)), &record, 9_002);
}

#[test]
fn a_request_to_a_pod_that_is_gone_is_seen_until_the_pod_is_back() {
    let record = good();
    let dead = |within| Expectation::NoTrafficToDead { within: span(within) };
    let pod = "web-0".into();
    record.set_present(&pod, true, at(0));
    record.set_present(&pod, false, at(5_000));
    record.set_present(&pod, true, at(6_000));
    assert_good(&dead(1_000), &record);
    assert_bad(&dead(500), &record, 5_602);
}

#[test]
fn a_pod_that_never_was_an_endpoint_is_not_dead() {
    let record = good();
    record.set_present(&"web-0".into(), false, at(0));
    assert_good(&Expectation::NoTrafficToDead { within: span(10) }, &record);
}

#[test]
fn a_burst_of_retries_breaks_the_budget_and_the_same_over_time_does_not() {
    let budget = |per, at_most| Expectation::RetryBudget {
        workload: workload(),
        at_most,
        per: span(per),
        free: 1,
    };
    let burst = good();
    // Executions are in the order of time, as in a run.
    let ordered = Record::default();
    for index in 0..100u64 {
        let number = request(&ordered, index * 100, "web-0", Ok(Answer::status(200)));
        if index % 5 == 0 {
            execute(&ordered, at(index * 100 + 4), "web-1", number);
        }
    }
    assert_good(&budget(2_000, 0.2), &ordered);
    assert!(!judged(&budget(2_000, 0.0), &ordered).holds);
    for _ in 0..20 {
        execute(&burst, at(9_950), "web-0", 100);
    }
    assert_good(&budget(20_000, 0.2), &burst);
    assert_bad(&budget(1_000, 0.2), &burst, 9_950);
}

#[test]
fn one_request_that_gets_through_is_not_denied() {
    let denied = Expectation::Denied { workload: workload(), window: Window::default() };
    let record = Record::default();
    for (index, result) in
        [Ok(Answer::status(403)), failed(FailureClass::Reset)].into_iter().enumerate()
    {
        let number = record.begin(&w(), &"client-0".into(), at(index as u64));
        record.end(number, at(index as u64 + 1), result);
    }
    assert_good(&denied, &record);
    // Refused, but only after it had been executed.
    request(&record, 100, "web-0", Ok(Answer::status(403)));
    assert_bad(&denied, &record, 100);
}

#[test]
fn a_request_that_is_executed_although_nobody_hears_of_it_is_seen() {
    let not_executed = Expectation::NotExecuted { workload: workload(), window: Window::default() };
    let record = Record::default();
    let number = record.begin(&w(), &"client-0".into(), at(7));
    record.end(number, at(1_007), failed(FailureClass::TimedOut));
    assert_good(&not_executed, &record);
    request(&record, 2_000, "web-0", failed(FailureClass::Reset));
    assert_bad(&not_executed, &record, 2_000);
}

#[test]
fn a_request_that_times_out_was_not_refused() {
    let denied = Expectation::Denied { workload: workload(), window: Window::default() };
    let record = Record::default();
    let number = record.begin(&w(), &"client-0".into(), at(7));
    record.end(number, at(1_007), failed(FailureClass::TimedOut));
    assert_bad(&denied, &record, 7);
}

#[test]
fn a_wrong_or_a_missing_client_identity_is_seen() {
    let own = Expectation::Identity { workload: workload(), client: None };
    let told = |client: Option<&str>| {
        let record = Record::default();
        for (millis, client) in [(0, Some(OWN)), (10, client)] {
            let number = record.begin(&w(), &"client-0".into(), at(millis));
            let (pod, client) = ("web-0".into(), client.map(Into::into));
            record.execute(Execution { at: at(millis), pod, number: Some(number), client });
        }
        record
    };
    assert_good(&own, &told(Some(OWN)));
    assert_bad(&own, &told(Some("web.shop.serviceaccount.identity.linkerd.cluster.local")), 10);
    assert_bad(&own, &told(None), 10);
}

#[test]
fn a_server_that_is_not_of_the_service_asked_for_is_seen() {
    let (spec, facts) = (spec("[{identity: {workload: w}}]"), facts());
    let judged = |pod: &str| {
        let record = Record::default();
        let number = record.begin(&w(), &"client-0".into(), at(10));
        let (pod, client) = (pod.into(), Some(OWN.into()));
        record.execute(Execution { at: at(12), pod, number: Some(number), client });
        let mut observed = observed(&spec, &[]);
        let servers = Some(["web-0".into()].into());
        observed.watch.look(at(0), &Still { servers, ..Still::default() });
        let entries = record.entries();
        judge(&spec.expect[0], &Evidence::new(&spec, &entries, &facts, &observed, at(20_000)))
    };
    assert!(judged("web-0").holds);
    let wrong = judged("bare-0");
    assert_eq!(wrong.first.and_then(|first| first.pod).as_deref(), Some("bare-0"));
}

#[test]
fn a_hang_is_not_live_and_neither_is_an_end_without_success() {
    let live = Expectation::Live { workload: workload(), last: span(1_000) };
    let record = good();
    assert_good(&live, &record);
    // The timeout is a second.
    let number = record.begin(&w(), &"client-0".into(), at(3_000));
    record.end(number, at(4_500), Ok(Answer::status(200)));
    assert_bad(&live, &record, 3_000);
    let record = good();
    for millis in [12_000, 12_500] {
        request(&record, millis, "web-0", Ok(Answer::status(503)));
    }
    assert_bad(&live, &record, 12_000);
}

#[test]
fn a_storm_of_attempts_to_connect_is_seen_and_the_same_spread_over_time_is_not() {
    let at_most = |from: Option<&str>, to: Option<&str>| Expectation::ConnectAttempts {
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
        at_most: 3,
        per: span(1_000),
        window: Window::default(),
    };
    let tried = |every: u64| {
        let record = Record::default();
        for index in 0..10 {
            let from = ["client-0", "client-1"][index as usize % 2].into();
            let to = "controller".into();
            record.attempt(Attempt { at: at(index * every), from, to });
        }
        record
    };
    assert_good(&at_most(None, Some("controller")), &tried(400));
    assert_bad(&at_most(None, Some("controller")), &tried(300), 900);
    assert_good(&at_most(Some("client-0"), None), &tried(300));
    assert_bad(&at_most(Some("client-1"), None), &tried(100), 700);
    assert!(!judged(&at_most(None, Some("web-0")), &tried(100)).holds, "nothing is shown by none");
}

#[test]
fn requests_at_once_are_counted_where_they_overlap() {
    let in_flight = |at_most| Expectation::InFlight {
        workload: workload(),
        at_most,
        window: Window::default(),
    };
    let record = good();
    assert_good(&in_flight(1), &record);
    record.begin(&w(), &"client-0".into(), at(9_903));
    assert_bad(&in_flight(1), &record, 9_903);
    assert_good(&in_flight(2), &record);
}

#[test]
fn what_every_scenario_owes_is_judged_unless_it_is_relaxed() {
    let record = good();
    record.saw_plaintext(&"client-0".into(), &"web-0".into(), at(4));
    let (entries, facts) = (record.entries(), facts());
    let judge = |expect: &str| {
        let spec = spec(expect);
        let observed = observed(&spec, &["task `x` panicked: y"]);
        judge_all(&spec, &Evidence::new(&spec, &entries, &facts, &observed, at(20_000)))
    };
    let failing = |judgements: &[Judgement]| {
        let failing = judgements.iter().filter(|judgement| !judgement.passes());
        failing.map(|judgement| judgement.oracle).collect::<Vec<_>>()
    };
    assert_eq!(failing(&judge("[]")), ["no_panics", "no_plaintext"]);
    let relaxed = judge("[{relaxed: {oracle: no_plaintext, because: it shows it}}]");
    assert_eq!(failing(&relaxed), ["no_panics"]);
    let because = relaxed.iter().find_map(|judgement| judgement.relaxed.as_deref());
    assert_eq!(because, Some("it shows it"));
}

#[test]
fn what_a_scenario_writes_takes_the_place_of_the_default() {
    let record = good();
    execute(&record, at(10_000), "web-1", 100);
    let (entries, facts) = (record.entries(), facts());
    let spec = spec("[{conserved: {workload: w, executions_at_most: 2}}]");
    let observed = observed(&spec, &[]);
    let evidence = Evidence::new(&spec, &entries, &facts, &observed, at(20_000));
    let judgements = judge_all(&spec, &evidence);
    let conserved: Vec<_> = judgements.iter().filter(|j| j.oracle == "conserved").collect();
    assert_eq!(conserved.len(), 1);
    assert!(conserved[0].holds && !conserved[0].automatic);
}

/// What the workloads counted, as the client's and a server's proxy would tell it.
fn scrapes(ok: u64, inbound: u64) -> BTreeMap<Arc<str>, Vec<Metrics>> {
    let read = |text: String| vec![Metrics::read(&text)];
    let statuses = "outbound_http_route_request_statuses_total";
    let client = format!("{statuses}{{http_status=\"200\",error=\"\"}} {ok}\n");
    let server = format!("request_total{{direction=\"inbound\"}} {inbound}\n");
    [("client-0".into(), read(client)), ("web-0".into(), read(server))].into()
}

#[test]
fn metrics_that_miss_a_request_do_not_agree() {
    let agree = |scrapes, tolerance| {
        let record = Record::default();
        for index in 0..10 {
            request(&record, index * 100, "web-0", Ok(Answer::status(200)));
        }
        let (spec, entries, facts) = (spec("[]"), record.entries(), facts());
        let observed = Observed { scrapes, ..observed(&spec, &[]) };
        let evidence = Evidence::new(&spec, &entries, &facts, &observed, at(20_000));
        judge(&Expectation::MetricsAgree { tolerance }, &evidence)
    };
    assert!(agree(scrapes(10, 10), 0).holds);
    assert!(agree(scrapes(9, 10), 1).holds);
    let client = agree(scrapes(9, 10), 0);
    assert_eq!(client.first.and_then(|first| first.pod).as_deref(), Some("client-0"));
    let server = agree(scrapes(10, 11), 0);
    assert_eq!(server.first.and_then(|first| first.pod).as_deref(), Some("web-0"));
    assert!(!agree(BTreeMap::new(), 0).holds, "nothing is shown by no scrape");
}

#[test]
fn metrics_that_miss_a_connection_or_a_byte_of_a_program_do_not_agree() {
    let agree = |connections: u64, read: u64, written: u64, tolerance| {
        let record = Record::default();
        let opened = record.traffic(&"client-0".into()).opened;
        opened.connections.fetch_add(3, Ordering::Relaxed);
        opened.written_bytes.fetch_add(1_000, Ordering::Relaxed);
        opened.read_bytes.fetch_add(5_000, Ordering::Relaxed);
        let labels = "{direction=\"outbound\",peer=\"src\",target_addr=\"10.1.0.1:80\"}";
        let text = format!(
            "tcp_open_total{labels} {connections}\ntcp_read_bytes_total{labels} {read}\n\
             tcp_write_bytes_total{labels} {written}\n"
        );
        let scrapes = [("client-0".into(), vec![Metrics::read(&text)])].into();
        let (spec, entries, facts) = (spec("[]"), record.entries(), facts());
        let observed = Observed { scrapes, ..observed(&spec, &[]) };
        let evidence = Evidence::new(&spec, &entries, &facts, &observed, at(20_000));
        judge(&Expectation::MetricsAgree { tolerance }, &evidence).holds
    };
    assert!(agree(3, 1_000, 5_000, 0));
    assert!(!agree(2, 1_000, 5_000, 0));
    assert!(!agree(3, 999, 5_000, 0));
    assert!(!agree(3, 1_000, 5_001, 0));
    assert!(agree(2, 900, 5_001, 1));
    assert!(!agree(1, 1_000, 5_000, 1));
}
