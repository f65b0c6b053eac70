//! Links: latency, bandwidth and loss, by place, changed and restored.

use super::*;

#[test]
fn bandwidth_takes_time_and_loss_only_delays() {
    let pair = Pair::new(1);
    let link = LinkSpec { bandwidth_bps: Some(8_000_000), ..LinkSpec::default() };
    pair.engine.set_link(0, 1, link);
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    let start = pair.engine.now();
    let megabyte = vec![7; 1_000_000];
    // The peer echoes, so that both directions carry it.
    pair.do_within(10 * MINUTE, async |client| {
        let (mut read, mut write) = tokio::io::split(connection.io);
        client.spawn("reader", async move {
            let mut buffer = vec![0; 65_536];
            while let Ok(1..) = read.read(&mut buffer).await {}
        });
        write.write_all(&megabyte).await.unwrap();
    });
    let took = pair.engine.now().since(start);
    assert!(took > Duration::from_millis(600) && took < Duration::from_secs(2), "{took:?}");

    let lossy = LinkSpec { loss: 0.05, ..LinkSpec::default() };
    pair.engine.set_link(0, 1, lossy);
    pair.engine.set_link(1, 0, lossy);
    connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    for _ in 0..100 {
        pair.do_within(MINUTE, async |_| echo(&mut connection).await.unwrap());
    }
}

#[test]
fn links_between_zones_and_nodes_are_changed_and_restored() {
    let trace = Trace::new(false);
    let mut engine = Engine::new(1, trace.clone(), ApiServer::default());
    let mut client = HostSpec::new("client", [10, 0, 0, 1].into());
    (client.node, client.zone) = (Some("n1".to_owned()), Some("z1".to_owned()));
    let mut server = HostSpec::new("server", SERVER);
    (server.node, server.zone) = (Some("n2".to_owned()), Some("z2".to_owned()));
    engine.add_host(client);
    engine.add_host(server);
    let client = engine.start(0, "client", Role::App);
    let pair = Pair { engine, trace, client };
    pair.start_server();
    let fixed = |millis| LinkSpec {
        latency_median: Duration::from_millis(millis),
        latency_p99: Duration::from_millis(millis),
        ..LinkSpec::default()
    };
    let zone = |name: &str| Place::Zone(name.to_owned());
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    let mut round_trip = || {
        let start = pair.engine.now();
        pair.do_within(MINUTE, async |_| echo(&mut connection).await.unwrap());
        pair.engine.now().since(start).as_millis()
    };
    assert!(round_trip() < 10);
    pair.engine.set_link(zone("z1"), zone("z2"), fixed(20));
    pair.engine.set_link(zone("z2"), zone("z1"), fixed(30));
    assert_eq!(round_trip(), 50);
    pair.engine.set_link(Place::Node("n1".to_owned()), zone("z2"), fixed(5));
    assert_eq!(round_trip(), 35);
    let slow = Impairment { extra_latency: Duration::from_millis(100), ..Impairment::default() };
    let slow = pair.engine.impair(0, 1, slow);
    assert_eq!(round_trip(), 135);
    pair.engine.mend(slow);
    pair.engine.unset_link(Place::Node("n1".to_owned()), zone("z2"));
    assert_eq!(round_trip(), 50);
}

#[test]
fn a_lost_segment_holds_up_what_is_sent_after_it() {
    let pair = Pair::new(3);
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    pair.engine.set_link(0, 1, LinkSpec { loss: 0.3, ..LinkSpec::default() });
    let mut slowest = Duration::ZERO;
    for number in 0..50u8 {
        let start = pair.engine.now();
        pair.do_within(MINUTE, async |_| {
            connection.io.write_all(&[number, number]).await.unwrap();
            for _ in 0..2 {
                assert_eq!(connection.io.read_u8().await.unwrap(), number);
            }
        });
        slowest = slowest.max(pair.engine.now().since(start));
    }
    // A loss costs 200 ms, two in a row 600 ms.
    assert!(slowest >= Duration::from_millis(600), "{slowest:?}");
}

#[test]
fn a_link_that_loses_everything_ends_in_the_user_timeout() {
    let pair = Pair::new(1);
    let options =
        TcpOptions { user_timeout: Some(Duration::from_secs(30)), ..TcpOptions::default() };
    let mut connection =
        pair.do_within(MINUTE, async |client| client.net.connect(AT, options).await.unwrap());
    pair.engine.set_link(0, 1, LinkSpec { loss: 1.0, ..LinkSpec::default() });
    let start = pair.engine.now();
    let error = pair.do_within(MINUTE, async |_| echo(&mut connection).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(pair.engine.now().since(start).as_secs(), 30);
}

#[test]
fn jitter_reorders_packets_and_never_bytes() {
    let pair = Pair::new(1);
    let jitter = Duration::from_millis(50);
    pair.engine.set_default_link(LinkSpec { jitter, ..LinkSpec::default() });
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    let sent: Vec<u8> = (0..200).collect();
    let mut got = vec![0; sent.len()];
    pair.do_within(MINUTE, async |_| {
        for byte in &sent {
            connection.io.write_u8(*byte).await.unwrap();
        }
        connection.io.read_exact(&mut got).await.unwrap();
    });
    assert_eq!(got, sent);
}
