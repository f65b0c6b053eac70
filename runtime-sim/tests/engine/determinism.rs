//! A run is its seed: traces, streams of randomness, the tripwire, where two runs part.

use super::*;

#[test]
fn an_idle_hour_costs_no_events() {
    let pair = Pair::new(1);
    pair.engine.run_until(Timestamp::from_millis(3_600_000));
    assert!(pair.engine.effort().events < 10, "{:?}", pair.engine.effort());
    assert_eq!(pair.engine.now(), Timestamp::from_millis(3_600_000));
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
fn the_trace_covers_every_poll_timer_and_byte_and_its_checkpoints_locate_a_difference() {
    let run = |seed, odd| {
        let pair = Pair::new(seed);
        for number in 0..200 {
            pair.do_within(MINUTE, async |client| {
                let mut one = connect(&client).await.unwrap();
                let byte = if odd && number == 150 { 8 } else { 7 };
                one.io.write_u8(byte).await.unwrap();
                one.io.read_u8().await.unwrap();
            });
        }
        pair.trace.clone()
    };
    let (one, same, other) = (run(1, false), run(1, false), run(1, true));
    assert_eq!(one.digest(), same.digest());
    assert_eq!(first_divergence(&one.checkpoints(), &same.checkpoints()), None);
    let window = first_divergence(&one.checkpoints(), &other.checkpoints()).expect("apart");
    let lines = |trace: &Trace| trace.lines()[window.start as usize..window.end as usize].to_vec();
    let (one, other) = (lines(&one), lines(&other));
    let first = one.iter().zip(&other).find(|(one, other)| one != other).expect("a line");
    assert!(first.0.contains("1 bytes"), "{first:?}");
    for kind in [" poll ", " arrive ", "connected"] {
        assert!(one.iter().any(|line| line.contains(kind)), "{kind}");
    }
}

#[test]
fn what_one_host_draws_does_not_shift_anothers_latencies() {
    let round_trips = |noise: bool| {
        let mut pair = Pair::new(1);
        for (name, last) in [("noisy", 3), ("sink", 4)] {
            pair.engine.add_host(HostSpec::new(name, [10, 0, 0, last].into()));
        }
        let sink = SocketAddr::from(([10, 0, 0, 4], 80));
        serve_echo(&pair.engine.start(3, "sink", Role::App), sink);
        let noisy = pair.engine.start(2, "noisy", Role::App);
        let runtime = noisy.clone();
        noisy.spawn("noise", async move {
            let connecting = runtime.net.connect(sink, TcpOptions::default());
            let mut connection = connecting.await.unwrap();
            if noise {
                loop {
                    echo(&mut connection).await.unwrap();
                }
            }
        });
        let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
        let mut round_trip = || {
            let start = pair.engine.now();
            pair.do_within(MINUTE, async |_| echo(&mut connection).await.unwrap());
            pair.engine.now().since(start)
        };
        (0..20).map(|_| round_trip()).collect::<Vec<_>>()
    };
    assert_eq!(round_trips(false), round_trips(true));
}

#[test]
fn a_run_on_the_engine_asks_the_system_for_no_randomness() {
    let run = || {
        let pair = Pair::new(1);
        pair.do_within(MINUTE, async |client| {
            let mut one = connect(&client).await.unwrap();
            echo(&mut one).await.unwrap();
            client.crypto.generate_key().unwrap();
            client.entropy.next_u64();
        });
    };
    let ((), draws) = runtime_sim::system_random::seeded(1, run);
    assert_eq!(draws, 0);
}
