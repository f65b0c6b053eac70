//! The laws of the registry and of the text.

use std::collections::BTreeSet;
use std::io::Read;

use proptest::prelude::*;

use super::super::samples::{self, Sample};
use super::*;

#[test]
fn no_family_and_no_series_is_printed_twice() {
    let text = with_everything().scrape(Timestamp::ZERO).into_text();
    let heads: Vec<_> = text.lines().filter(|l| l.starts_with("# TYPE ")).collect();
    assert!(heads.len() > 100, "{}", heads.len());
    assert_eq!(heads.iter().collect::<BTreeSet<_>>().len(), heads.len());
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let series: Vec<_> = series.filter_map(|l| l.rsplit_once(' ')).collect();
    let distinct: BTreeSet<_> = series.iter().map(|(series, _)| series).collect();
    assert_eq!(distinct.len(), series.len());
    for sample in samples::parse(&text).unwrap() {
        let names: BTreeSet<_> = sample.labels.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), sample.labels.len(), "{sample:?}");
    }
}

#[test]
fn gzip_carries_the_same_text_in_pieces_of_bounded_size() {
    let telemetry = with_everything();
    for octet in 0..200 {
        let mut labels = outbound_endpoint();
        labels.target_addr = std::net::SocketAddr::from(([10, 0, 1, octet], 80));
        let endpoint = telemetry.outbound.endpoint(&labels);
        endpoint.response(&success(200, 1));
    }
    let plain = telemetry.scrape(Timestamp::ZERO).into_text();
    let pieces: Vec<_> = telemetry.scrape(Timestamp::ZERO).collect();
    assert!(pieces.len() > 10, "{}", pieces.len());
    assert!(pieces.iter().all(|piece| piece.len() < 2 * exposition::PIECE_BYTES));
    assert_eq!(pieces.concat(), plain.as_bytes());

    let gzipped: Vec<_> = telemetry.scrape(Timestamp::ZERO).gzip().collect();
    let mut unpacked = String::new();
    let gzipped = gzipped.concat();
    let mut decoder = flate2::read::GzDecoder::new(&gzipped[..]);
    decoder.read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
    assert!(gzipped.len() * 10 < plain.len());
}

#[test]
fn pieces_can_be_sent_from_any_task() {
    fn sendable<T: Send + Unpin + 'static>() {}
    sendable::<exposition::Exposition>();
    sendable::<exposition::GzipExposition>();
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Telemetry>();
    shared::<OpenConnection>();
}

#[test]
fn handles_stay_small() {
    // 2,000 endpoints (`label_sets_max`) must stay within 2 MiB with their labels.
    assert!(size_of::<HttpMetrics>() <= 32);
    assert!(size_of::<TransportMetrics>() <= 64);
    assert!(size_of::<RouteMetrics>() <= 128);
    assert!(size_of::<InboundRouteMetrics>() <= 256);
    assert!(size_of::<BalancerMetrics>() <= 192);
}

#[test]
fn equal_labels_give_the_same_handle() {
    let telemetry = telemetry();
    let first = telemetry.outbound.endpoint(&outbound_endpoint());
    let second = telemetry.outbound.endpoint(&outbound_endpoint());
    assert!(Arc::ptr_eq(&first, &second));
    let transport = telemetry.outbound.endpoint_transport(&outbound_endpoint());
    let other = telemetry
        .outbound
        .endpoint_transport(&OutboundEndpoint { authority: None, ..outbound_endpoint() });
    assert!(!Arc::ptr_eq(&transport, &other));
}

#[test]
fn label_sets_expire_once_nobody_has_held_them_for_long() {
    let telemetry = telemetry();
    let at = |secs| Timestamp::ZERO + Duration::from_secs(secs);
    let printed = |now| {
        let text = telemetry.scrape(now).into_text();
        text.contains("request_total{direction=\"outbound\"")
    };
    let endpoint = telemetry.outbound.endpoint(&outbound_endpoint());
    assert!(printed(at(0)));
    assert!(printed(at(10_000)), "held, however long");
    drop(endpoint);
    telemetry.outbound.http_error(OutboundError::Io);
    assert!(printed(at(10_001)), "idle from here on");
    assert!(printed(at(10_600)));
    let again = telemetry.outbound.endpoint(&outbound_endpoint());
    again.request();
    drop(again);
    assert!(printed(at(10_602)), "idle anew");
    assert!(printed(at(11_201)));
    assert!(!printed(at(11_202)));
    let errors = telemetry.scrape(at(99_999)).into_text();
    assert!(errors.contains("outbound_http_errors_total"), "few values: they stay");
}

#[test]
fn a_full_group_counts_the_rest_together() {
    let telemetry =
        Telemetry::new(&TelemetryConfig { label_sets_max: 2, ..TelemetryConfig::default() });
    for port in 1..=5 {
        let mut labels = outbound_endpoint();
        labels.authority = None;
        labels.target_addr.set_port(port);
        telemetry.outbound.endpoint(&labels).request();
    }
    let families = ["request", "weft_metrics_label_sets_folded"];
    insta::assert_snapshot!(text(&telemetry, &families), @r#"
    # HELP request_total Total count of HTTP requests.
    # TYPE request_total counter
    request_total{direction="outbound",target_addr="10.0.0.1:1",target_ip="10.0.0.1",target_port="1",tls="true",server_id="web.ns.serviceaccount.identity.linkerd.cluster.local",dst_namespace="ns",dst_pod="web-1"} 1
    request_total{direction="outbound",target_addr="10.0.0.1:2",target_ip="10.0.0.1",target_port="2",tls="true",server_id="web.ns.serviceaccount.identity.linkerd.cluster.local",dst_namespace="ns",dst_pod="web-1"} 1
    request_total{direction="outbound",target_addr="other",target_ip="other",target_port="other",tls="true",server_id="other"} 3
    # HELP weft_metrics_label_sets_folded_total How often labels were counted under `other` because their group was full.
    # TYPE weft_metrics_label_sets_folded_total counter
    weft_metrics_label_sets_folded_total{group="request"} 3
    "#);
}

#[test]
fn open_metrics_says_the_same_and_ends() {
    let telemetry = with_everything();
    let text = telemetry.scrape(Timestamp::ZERO).into_text();
    let open = telemetry.scrape_as(Timestamp::ZERO, Format::OpenMetrics).into_text();
    assert!(open.ends_with("\n# EOF\n"));
    assert_eq!(open.matches("# EOF").count(), 1);
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    let canonical = |mut samples: Vec<Sample>| {
        for (name, value) in samples.iter_mut().flat_map(|sample| &mut sample.labels) {
            if name == "le" && value.bytes().all(|b| b.is_ascii_digit()) {
                value.push_str(".0");
            }
        }
        samples
    };
    let of_open = samples::parse(&open).unwrap();
    assert_eq!(of_open, canonical(samples::parse(&text).unwrap()));
    assert!(
        of_open.iter().all(|s| s.label("le").is_none_or(|le| le == "+Inf" || le.contains('.')))
    );
    for line in open.lines().filter(|line| line.starts_with("# ")) {
        let words: Vec<_> = line.split(' ').collect();
        match words[1] {
            "TYPE" => assert!(!words[2].ends_with("_total"), "{line}"),
            "UNIT" => assert!(words[2].ends_with(&format!("_{}", words[3])), "{line}"),
            _ => {}
        }
    }
}

#[test]
fn in_text_every_sample_has_a_head_of_its_name() {
    let text = with_everything().scrape(Timestamp::ZERO).into_text();
    let mut head = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            head = rest;
        } else if !line.starts_with('#') {
            let (name, kind) = head.split_once(' ').unwrap();
            let sample = &line[..line.find(['{', ' ']).unwrap()];
            let suffix = sample.strip_prefix(name).unwrap_or_else(|| panic!("{line} under {head}"));
            match kind {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
                kind => {
                    assert!(suffix.is_empty() && (kind == "counter") == name.ends_with("_total"))
                }
            }
        }
    }
}

#[test]
fn what_is_not_enforced_is_counted_by_feature() {
    let telemetry = telemetry();
    for feature in ["http retry", "failure accrual", "http retry"] {
        telemetry.record_unenforced(feature);
    }
    let samples = samples::parse(&telemetry.scrape(Timestamp::ZERO).into_text()).unwrap();
    let counted = |feature| {
        let keep = |s: &Sample| s.has(&[("feature", feature)]);
        samples::sum(&samples, "weft_policy_unenforced_total", keep)
    };
    assert_eq!(counted("http retry"), 2.0);
    assert_eq!(counted("failure accrual"), 1.0);
}

#[test]
fn histograms_read_back_give_quantiles() {
    let telemetry = telemetry();
    let endpoint = telemetry.outbound.endpoint(&outbound_endpoint());
    for millis in 0..100 {
        endpoint.response(&success(200, millis));
    }
    let samples = samples::parse(&telemetry.scrape(Timestamp::ZERO).into_text()).unwrap();
    let keep = |s: &Sample| s.has(&[("direction", "outbound"), ("status_code", "200")]);
    let latency = rates::HistogramSnapshot::from_samples(&samples, "response_latency_ms", keep);
    assert_eq!(latency.count(), 100.0);
    assert_eq!(latency.sum(), (0..100).sum::<u64>() as f64);
    let quantiles = latency.quantiles().unwrap();
    assert!((48.0..=50.0).contains(&quantiles.p50), "{quantiles:?}");
    assert!((90.0..=100.0).contains(&quantiles.p95), "{quantiles:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn label_sets_are_bounded_and_nothing_goes_uncounted(
        bound in 0..8_usize,
        requests in proptest::collection::vec((any::<bool>(), 1..40_u16, any::<bool>()), 0..200),
    ) {
        let config = TelemetryConfig { label_sets_max: bound, ..TelemetryConfig::default() };
        let telemetry = Telemetry::new(&config);
        let (mut held, mut kept, mut folded) = (Vec::new(), BTreeSet::new(), 0);
        for (is_inbound, port, is_plain) in &requests {
            let handle = if *is_inbound {
                let mut labels = inbound_endpoint();
                labels.target_addr.set_port(*port);
                if *is_plain {
                    labels.tls = ServerTlsLabel::NoIdentity(NoServerTls::PortSkipped);
                }
                telemetry.inbound.endpoint(&labels)
            } else {
                let mut labels = outbound_endpoint();
                labels.target_addr.set_port(*port);
                if *is_plain {
                    labels.tls = ClientTlsLabel::NoIdentity(NoClientTls::Loopback);
                }
                telemetry.outbound.endpoint(&labels)
            };
            handle.request();
            held.push(handle);
            if !kept.contains(&(is_inbound, port, is_plain)) {
                match kept.len() < bound {
                    true => drop(kept.insert((is_inbound, port, is_plain))),
                    false => folded += 1,
                }
            }
        }
        let samples = samples::parse(&telemetry.scrape(Timestamp::ZERO).into_text()).unwrap();
        let of_requests: Vec<_> = samples.iter().filter(|s| s.name == "request_total").collect();
        // Two directions, each with and without TLS: four shapes.
        prop_assert!(of_requests.len() <= bound + 4);
        let others = of_requests.iter().filter(|s| s.label("target_ip") == Some("other"));
        let others: f64 = others.map(|sample| sample.value).sum();
        prop_assert_eq!(others, f64::from(folded));
        let counted = samples::sum(&samples, "request_total", |_| true);
        prop_assert_eq!(counted, requests.len() as f64);
        let of_group = |s: &Sample| s.has(&[("group", "request")]);
        let told = samples::sum(&samples, "weft_metrics_label_sets_folded_total", of_group);
        prop_assert_eq!(told, f64::from(folded));
    }

    #[test]
    fn every_line_parses_whatever_the_labels_say(
        authority in ".*",
        name in ".{0,8}",
        value in "[\\\\\"\n{},= \r\t]*",
        count in 1..5_u64,
    ) {
        let telemetry = telemetry();
        let labels = OutboundEndpoint {
            authority: Some(authority.as_str().into()),
            labels: ModelLabels::from_iter([("pod", value.clone()), (name.as_str(), "x".into())]),
            ..outbound_endpoint()
        };
        let endpoint = telemetry.outbound.endpoint(&labels);
        for _ in 0..count {
            endpoint.request();
        }
        let text = telemetry.scrape(Timestamp::ZERO).into_text();
        let samples = samples::parse(&text).unwrap();
        let found: Vec<_> = samples.iter().filter(|s| s.name == "request_total").collect();
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(found[0].label("authority"), Some(authority.as_str()));
        prop_assert_eq!(found[0].label("dst_pod"), Some(value.as_str()));
        prop_assert_eq!(found[0].value, count as f64);
    }

    #[test]
    fn long_values_are_cut(value in "[a\"é]{2000,3000}") {
        let telemetry = telemetry();
        let labels = OutboundEndpoint {
            authority: Some(value.as_str().into()),
            ..outbound_endpoint()
        };
        let _endpoint = telemetry.outbound.endpoint(&labels);
        let text = telemetry.scrape(Timestamp::ZERO).into_text();
        let samples = samples::parse(&text).unwrap();
        let sample = samples.iter().find(|s| s.name == "request_total").unwrap();
        let kept = sample.label("authority").unwrap();
        prop_assert!(value.starts_with(kept));
        prop_assert!(kept.len() <= VALUE_BYTES_MAX);
        prop_assert!(kept.len() + 4 > VALUE_BYTES_MAX.min(value.len()));
    }

    #[test]
    fn no_series_is_printed_twice_whatever_peers_answer(
        ends in proptest::collection::vec(any_end(), 0..200),
    ) {
        let telemetry = telemetry();
        let endpoint = telemetry.outbound.endpoint(&outbound_endpoint());
        let labels = route_labels();
        let routes = [RouteProtocol::Http, RouteProtocol::Grpc]
            .map(|protocol| telemetry.outbound.route(protocol, &labels));
        for (end, response) in &ends {
            endpoint.response(response);
            for route in &routes {
                route.ended(*end, Duration::ZERO);
            }
        }
        let text = telemetry.scrape(Timestamp::ZERO).into_text();
        let samples = samples::parse(&text).unwrap();
        let series = |s: &Sample| (s.name.clone(), s.labels.clone());
        let distinct: BTreeSet<_> = samples.iter().map(series).collect();
        prop_assert_eq!(distinct.len(), samples.len());
        let all = |name| samples::sum(&samples, name, |_| true);
        let count = ends.len() as f64;
        prop_assert_eq!(all("response_total"), count);
        prop_assert_eq!(all("outbound_http_route_request_statuses_total"), count);
        prop_assert_eq!(all("outbound_grpc_route_request_statuses_total"), count);
    }
}

fn any_end() -> impl Strategy<Value = (StreamEnd, Response)> {
    let status = proptest::option::of(0..1_000_u16);
    let grpc_status = proptest::option::of(0..100_u16);
    let error =
        prop_oneof![Just(None), Just(Some(StreamError::Reset)), Just(Some(StreamError::Cancel))];
    (status, grpc_status, error).prop_map(|(status, grpc_status, error)| {
        let end = StreamEnd { status, error };
        let response = Response {
            status: status.and_then(|status| http::StatusCode::from_u16(status).ok()),
            classification: Classification::Failure,
            grpc_status,
            error,
            latency: Duration::ZERO,
        };
        (end, response)
    })
}
