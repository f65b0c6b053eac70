//! A connection's beginning and end: backlogs, resets, half-close, windows.

use super::*;

#[test]
fn a_full_backlog_makes_the_peer_try_again() {
    let pair = Pair::new(1);
    let server = pair.engine.start(1, "slow", Role::App);
    let runtime = server.clone();
    let at = SocketAddr::new(SERVER, 81);
    server.spawn("slow listener", async move {
        let options = ListenOptions { backlog: Some(1), ..ListenOptions::default() };
        let listener = runtime.net.listen(at, options).await.expect("to listen");
        runtime.sleep(Duration::from_millis(500)).await;
        let mut held = Vec::new();
        while let Ok(accepted) = listener.accept().await {
            held.push(accepted);
        }
    });
    let start = pair.engine.now();
    let _three = pair.do_within(MINUTE, async |client| {
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(client.net.connect(at, TcpOptions::default()).await.unwrap());
        }
        held
    });
    let took = pair.engine.now().since(start);
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn connections_are_forgotten_when_both_ends_are_done() {
    let pair = Pair::new(1);
    for _ in 0..50 {
        pair.do_within(MINUTE, async |client| {
            echo(&mut connect(&client).await.unwrap()).await.unwrap()
        });
    }
    pair.engine.run_until(pair.after(MINUTE));
    assert_eq!(pair.engine.connections(), 0);
    assert_eq!(pair.engine.census(), [("listener", 1)].into());
}

#[test]
fn a_connection_that_nobody_waits_for_is_forgotten() {
    let pair = Pair::new(1);
    let nowhere = "10.9.9.9:80".parse().unwrap();
    pair.do_within(MINUTE, async |client| {
        let connecting = client.net.connect(nowhere, TcpOptions::default());
        let second = Duration::from_secs(1);
        assert!(client.timeout(second, connecting).await.is_err());
    });
    pair.engine.run_until(pair.after(MINUTE));
    assert_eq!(pair.engine.connections(), 0);
}

#[test]
fn a_full_backlog_delays_by_the_kernels_doubling_steps_and_ends_in_its_timeout() {
    let pair = Pair::new(1);
    let server = pair.engine.start(1, "deaf", Role::App);
    let at = SocketAddr::new(SERVER, 81);
    let runtime = server.clone();
    server.spawn("deaf listener", async move {
        let options = ListenOptions { backlog: Some(1), ..ListenOptions::default() };
        let _listener = runtime.net.listen(at, options).await.expect("to listen");
        std::future::pending::<()>().await;
    });
    let start = pair.engine.now();
    let error = pair.do_within(4 * MINUTE, async |client| {
        // A backlog of one holds two.
        let _one = client.net.connect(at, TcpOptions::default()).await.unwrap();
        let _two = client.net.connect(at, TcpOptions::default()).await.unwrap();
        client.net.connect(at, TcpOptions::default()).await.unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(pair.engine.now().since(start).as_secs(), 127);
    let dropped = pair.trace.lines().iter().filter(|line| line.contains("full backlog")).count();
    assert_eq!(dropped, 7, "a SYN and six retransmissions");
}

#[test]
fn a_reset_ends_live_connections_at_both_ends_and_no_others() {
    let pair = Pair::new(1);
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    assert_eq!(pair.engine.reset(0, 0), 0);
    assert_eq!(pair.engine.reset(Place::Anywhere, 1), 1);
    let error = pair.do_within(MINUTE, async |_| echo(&mut connection).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    pair.engine.run_until(pair.after(MINUTE));
    assert_eq!(pair.engine.census(), [("listener", 1)].into(), "the server's end is over, too");
    pair.do_within(MINUTE, async |client| echo(&mut connect(&client).await.unwrap()).await)
        .expect("new connections live");
}

#[test]
fn data_to_a_restarted_peer_is_answered_with_a_reset() {
    let pair = Pair::new(1);
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    pair.engine.crash(1, None, Crash::Power);
    pair.engine.power_on(1);
    let error = pair.do_within(MINUTE, async |_| echo(&mut connection).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_peer_that_stops_reading_holds_the_writer_at_the_window() {
    let pair = Pair::new(1);
    pair.engine.set_hung(1, None, true);
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    let written = pair.do_within(MINUTE, async |client| {
        let chunk = [7; 10_000];
        let mut written = 0;
        let second = Duration::from_secs(1);
        while let Ok(count) = client.timeout(second, connection.io.write(&chunk)).await {
            written += count.unwrap();
        }
        written
    });
    assert_eq!(written, 256 * 1024);
    pair.engine.set_hung(1, None, false);
    pair.do_within(MINUTE, async |_| connection.io.write_all(&[7; 10_000]).await.unwrap());
}

#[test]
fn a_capture_sees_the_handshake_the_bytes_and_the_end_in_order() {
    let pair = Pair::new(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let packets = seen.clone();
    pair.engine.set_capture(Arc::new(move |packet| packets.lock().unwrap().push(packet.clone())));
    pair.do_within(MINUTE, async |client| {
        let mut connection = connect(&client).await.unwrap();
        echo(&mut connection).await.unwrap();
        connection.io.shutdown().await.unwrap();
        let mut rest = Vec::new();
        connection.io.read_to_end(&mut rest).await.unwrap();
    });
    let seen = seen.lock().unwrap();
    let client = seen[0].from;
    let lines: Vec<_> = seen.iter().map(|packet| show(packet, client)).collect();
    assert_eq!(
        lines,
        [
            "> S 0:0",
            "< SA 0:1",
            "> PA 1:1 +1",
            "< A 1:2",
            "< PA 1:2 +1",
            "> A 2:2",
            "> FA 2:2",
            "< FA 2:3",
        ]
    );
    assert!(seen.windows(2).all(|pair| pair[0].at <= pair[1].at));
    assert_eq!(seen[0].to, AT);
}

/// Direction, flags, sequence and acknowledged number, payload bytes.
fn show(packet: &Packet, client: SocketAddr) -> String {
    let way = if packet.from == client { '>' } else { '<' };
    let flags = packet.flags;
    let names =
        [(flags.syn, 'S'), (flags.fin, 'F'), (flags.rst, 'R'), (flags.psh, 'P'), (flags.ack, 'A')];
    let names: String = names.iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
    let mut line = format!("{way} {names} {}:{}", packet.sequence, packet.acknowledges);
    if !packet.payload.is_empty() {
        line += &format!(" +{}", packet.payload.len());
    }
    line
}

#[test]
fn a_capture_tells_what_a_partition_swallowed_and_its_retransmission() {
    let pair = Pair::new(1);
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let packets = seen.clone();
    pair.engine.set_capture(Arc::new(move |packet| packets.lock().unwrap().push(packet.clone())));
    let cut = pair.engine.impair(0, 1, Impairment::cut());
    pair.do_within(MINUTE, async |_| connection.io.write_u8(7).await.unwrap());
    pair.engine.mend(cut);
    pair.do_within(MINUTE, async |_| connection.io.read_u8().await.unwrap());
    let seen = seen.lock().unwrap();
    let [first, again] = [&seen[0], &seen[1]];
    assert!(first.lost && !again.lost);
    assert_eq!((first.sequence, &first.payload), (again.sequence, &again.payload));
    assert_eq!(again.at.since(first.at), Duration::from_millis(200));
}
