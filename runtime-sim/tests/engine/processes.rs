//! Crashes, losses of power, hangs and pauses, and what is left of a process.

use super::*;

#[test]
fn a_crashed_process_closes_its_connections() {
    let pair = Pair::new(1);
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    pair.engine.crash(1, None, Crash::Process);
    let mut rest = Vec::new();
    let read = pair.do_within(MINUTE, async |_| connection.io.read_to_end(&mut rest).await);
    assert_eq!(read.unwrap(), 0);
    assert!(pair.engine.now() < Timestamp::from_millis(100));
    let error = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    pair.start_server();
    pair.do_within(MINUTE, async |client| echo(&mut connect(&client).await.unwrap()).await)
        .expect("the restarted server echoes");
}

#[test]
fn a_host_without_power_is_silent_and_forgets_its_connections() {
    let pair = Pair::new(1);
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    pair.engine.crash(1, None, Crash::Power);
    let waited = pair.do_within(4 * MINUTE, async |client| {
        let echo = echo(&mut connection);
        client.timeout(MINUTE, echo).await
    });
    assert!(waited.is_err(), "silence, but {waited:?}");
    pair.engine.power_on(1);
    pair.start_server();
    let error = pair.do_within(4 * MINUTE, async |_| connection.io.read_u8().await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn keepalive_finds_a_peer_that_lost_its_power() {
    let pair = Pair::new(1);
    let options = TcpOptions {
        keepalive: Some(Duration::from_secs(10)),
        user_timeout: Some(Duration::from_secs(30)),
    };
    let mut connection =
        pair.do_within(MINUTE, async |client| client.net.connect(AT, options).await.unwrap());
    let start = pair.engine.now();
    pair.engine.crash(1, None, Crash::Power);
    let error = pair.do_within(MINUTE, async |_| connection.io.read_u8().await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(pair.engine.now().since(start).as_secs(), 30);
}

#[test]
fn a_hung_process_takes_connections_and_answers_when_it_continues() {
    let pair = Pair::new(1);
    pair.engine.set_hung(1, Some("server"), true);
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    pair.do_within(MINUTE, async |_| connection.io.write_u8(7).await.unwrap());
    pair.engine.run_until(pair.after(MINUTE));
    pair.engine.set_hung(1, Some("server"), false);
    let byte =
        pair.do_within(Duration::from_millis(50), async |_| connection.io.read_u8().await.unwrap());
    assert_eq!(byte, 7);
}

#[test]
fn a_paused_host_takes_nothing_and_gets_it_again_when_it_continues() {
    let pair = Pair::new(1);
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    pair.engine.set_paused(1, true);
    pair.do_within(MINUTE, async |client| {
        let second = Duration::from_secs(1);
        assert!(client.timeout(second, connect(&client)).await.is_err(), "a dead kernel answers");
        connection.io.write_u8(7).await.unwrap();
    });
    let start = pair.engine.now();
    pair.engine.run_until(start + Duration::from_secs(5));
    pair.engine.set_paused(1, false);
    let byte = pair.do_within(MINUTE, async |_| connection.io.read_u8().await.unwrap());
    let took = pair.engine.now().since(start);
    assert_eq!(byte, 7);
    // As after a partition: 0.2 + 0.4 + 0.8 + 1.6 + 3.2 s.
    assert!(took > Duration::from_secs(6) && took < Duration::from_secs(7), "{took:?}");
}

#[test]
fn only_the_process_of_a_name_crashes_or_hangs() {
    let pair = Pair::new(1);
    let other = pair.engine.start(1, "other", Role::App);
    serve_echo(&other, SocketAddr::new(SERVER, 81));
    let at_other = SocketAddr::new(SERVER, 81);
    pair.engine.set_hung(1, Some("server"), true);
    let second = Duration::from_secs(1);
    pair.do_within(MINUTE, async |client| {
        let mut hung = connect(&client).await.unwrap();
        assert!(client.timeout(second, echo(&mut hung)).await.is_err());
        let mut lives = client.net.connect(at_other, TcpOptions::default()).await.unwrap();
        assert_eq!(echo(&mut lives).await.unwrap(), 7);
    });
    pair.engine.crash(1, Some("other"), Crash::Process);
    let error = pair.do_within(MINUTE, async |client| {
        client.net.connect(at_other, TcpOptions::default()).await.unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let living: Vec<_> = pair.engine.usage(1).processes.into_iter().map(|p| p.name).collect();
    assert_eq!(living, ["server"]);
}

#[test]
fn a_restart_is_a_new_generation_and_a_loss_of_power_a_new_boot() {
    let pair = Pair::new(1);
    let seen = || {
        let usage = pair.engine.usage(1);
        (usage.boots, usage.process("server").map(|process| process.generation))
    };
    assert_eq!(seen(), (1, Some(1)));
    pair.engine.crash(1, None, Crash::Process);
    assert_eq!(seen(), (1, None));
    pair.start_server();
    assert_eq!(seen(), (1, Some(2)));
    pair.engine.crash(1, None, Crash::Power);
    pair.engine.power_on(1);
    pair.start_server();
    assert_eq!(seen(), (2, Some(3)));
}

#[test]
fn usage_counts_tasks_sockets_listeners_and_timers() {
    let pair = Pair::new(1);
    let connection = pair.do_within(MINUTE, async |client| {
        let mut connection = connect(&client).await.unwrap();
        echo(&mut connection).await.unwrap();
        let sleeper = client.clone();
        client.spawn("sleeper", async move { sleeper.sleep(MINUTE).await });
        connection
    });
    pair.engine.run_until(pair.after(Duration::from_millis(1)));
    let (client, server) = (pair.engine.usage(0), pair.engine.usage(1));
    let (client, server) = (client.process("client").unwrap(), server.process("server").unwrap());
    assert_eq!((client.tasks(), client.sockets, client.listeners, client.timers), (1, 1, 0, 1));
    assert_eq!(server.tasks, [("echo", 1), ("listener", 1)].into());
    assert_eq!((server.sockets, server.listeners, server.timers), (1, 1, 0));
    drop(connection);
    pair.engine.run_until(pair.after(2 * MINUTE));
    let (client, server) = (pair.engine.usage(0), pair.engine.usage(1));
    assert_eq!(client.orphan_sockets + server.orphan_sockets, 0);
    let (client, server) = (client.process("client").unwrap(), server.process("server").unwrap());
    assert_eq!((client.tasks(), client.sockets, client.timers), (0, 0, 0));
    assert_eq!((server.tasks(), server.sockets), (1, 0));
}
