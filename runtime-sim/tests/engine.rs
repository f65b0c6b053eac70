//! What the engine's network does that the contract cannot ask of every runtime: time, partitions,
//! crashes, power, pauses, patience.

use std::future::Future;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mesh_core::runtime::net::{ListenOptions, TcpOptions};
use mesh_core::runtime::{Connection, Runtime};
use mesh_core::time::Timestamp;
use runtime_sim::cluster::ApiServer;
use runtime_sim::engine::Engine;
use runtime_sim::link::LinkSpec;
use runtime_sim::topology::{Crash, HostSpec, Role};
use runtime_sim::trace::Trace;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const AT: SocketAddr = SocketAddr::new(SERVER, 80);

struct Pair {
    engine: Engine,
    trace: Trace,
    client: Runtime,
}

impl Pair {
    /// A client, host 0, and a server, host 1, which echoes on port 80.
    fn new(seed: u64) -> Self {
        let trace = Trace::new(true);
        let mut engine = Engine::new(seed, trace.clone(), ApiServer::default());
        let client = engine.add_host(HostSpec::new("client", [10, 0, 0, 1].into()));
        engine.add_host(HostSpec::new("server", SERVER));
        let client = engine.start(client, "client", Role::App);
        let pair = Self { engine, trace, client };
        pair.start_server();
        pair
    }

    fn start_server(&self) {
        let server = self.engine.start(1, "server", Role::App);
        let runtime = server.clone();
        server.spawn("listener", async move {
            let listening = runtime.net.listen(AT, ListenOptions::default());
            let listener = listening.await.expect("to listen");
            while let Ok(mut accepted) = listener.accept().await {
                runtime.spawn("echo", async move {
                    let mut buffer = [0; 1024];
                    while let Ok(count @ 1..) = accepted.io.read(&mut buffer).await {
                        let _ = accepted.io.write_all(&buffer[..count]).await;
                    }
                });
            }
        });
    }

    fn set_up(&self, from: usize, to: usize, up: bool) {
        let link = self.engine.link(from, to);
        self.engine.set_link(from, to, LinkSpec { up, ..link });
    }

    fn after(&self, duration: Duration) -> Timestamp {
        self.engine.now() + duration
    }

    fn do_within<T>(&self, limit: Duration, work: impl AsyncFnOnce(Runtime) -> T) -> T {
        // Polled here and not on a task: `work` may borrow the test's state.
        let mut output = None;
        let mut future = Box::pin(work(self.client.clone()));
        let until = self.after(limit);
        self.engine.run_while(until, || {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            match future.as_mut().poll(&mut context) {
                std::task::Poll::Ready(value) => {
                    output = Some(value);
                    false
                }
                std::task::Poll::Pending => true,
            }
        });
        output.expect("done in time")
    }
}

async fn connect(client: &Runtime) -> std::io::Result<Connection> {
    client.net.connect(AT, TcpOptions::default()).await
}

async fn echo(connection: &mut Connection) -> std::io::Result<u8> {
    connection.io.write_u8(7).await?;
    connection.io.read_u8().await
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn an_idle_hour_costs_no_events() {
    let pair = Pair::new(1);
    pair.engine.run_until(Timestamp::from_millis(3_600_000));
    assert!(pair.engine.effort().events < 10, "{:?}", pair.engine.effort());
    assert_eq!(pair.engine.now(), Timestamp::from_millis(3_600_000));
}

#[test]
fn a_partition_stalls_a_stream_and_its_repair_mends_it() {
    let pair = Pair::new(1);
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    pair.set_up(0, 1, false);
    let start = pair.engine.now();
    pair.do_within(MINUTE, async |_| connection.io.write_u8(7).await.unwrap());
    pair.engine.run_until(start + Duration::from_secs(5));
    pair.set_up(0, 1, true);
    let byte = pair.do_within(MINUTE, async |_| connection.io.read_u8().await.unwrap());
    let took = pair.engine.now().since(start);
    assert_eq!(byte, 7);
    // Sent again on TCP's own schedule: 0.2 + 0.4 + 0.8 + 1.6 + 3.2 s.
    assert!(took > Duration::from_secs(6) && took < Duration::from_secs(7), "{took:?}");
}

#[test]
fn a_one_way_partition_stalls_acknowledgements_and_ends_in_the_user_timeout() {
    let pair = Pair::new(1);
    let options =
        TcpOptions { user_timeout: Some(Duration::from_secs(30)), ..TcpOptions::default() };
    let mut connection =
        pair.do_within(MINUTE, async |client| client.net.connect(AT, options).await.unwrap());
    pair.set_up(1, 0, false);
    let start = pair.engine.now();
    let error = pair.do_within(MINUTE, async |_| echo(&mut connection).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(pair.engine.now().since(start).as_secs(), 30);
}

#[test]
fn connecting_into_a_partition_takes_the_kernels_patience() {
    let pair = Pair::new(1);
    pair.set_up(0, 1, false);
    let error = pair.do_within(4 * MINUTE, async |client| connect(&client).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(pair.engine.now().since(Timestamp::ZERO).as_secs(), 127);
}

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
    let _two = pair.do_within(MINUTE, async |client| {
        let one = client.net.connect(at, TcpOptions::default()).await.unwrap();
        let two = client.net.connect(at, TcpOptions::default()).await.unwrap();
        (one, two)
    });
    let took = pair.engine.now().since(start);
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(2), "{took:?}");
}

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
fn equal_seeds_give_equal_traces_and_others_do_not() {
    let hash = |seed| {
        let pair = Pair::new(seed);
        pair.engine.set_default_link(LinkSpec { loss: 0.1, ..LinkSpec::default() });
        for _ in 0..10 {
            let mut one = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
            pair.do_within(MINUTE, async |_| echo(&mut one).await.unwrap());
        }
        pair.trace.digest().hash
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
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
