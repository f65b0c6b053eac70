//! Partitions: what stalls, what is sent again, and when the kernel gives up.

use super::*;

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
fn overlapping_partitions_end_one_by_one() {
    let pair = Pair::new(1);
    let one = pair.engine.impair(0, 1, Impairment::cut());
    let other = pair.engine.impair(Place::Anywhere, 1, Impairment::cut());
    pair.engine.mend(one);
    let second = Duration::from_secs(1);
    let connected =
        pair.do_within(MINUTE, async |client| client.timeout(second, connect(&client)).await);
    assert!(connected.is_err(), "through the second partition");
    pair.engine.mend(other);
    pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
}

#[test]
fn a_one_way_partition_lets_the_other_way_through() {
    let pair = Pair::new(1);
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    let cut = pair.engine.impair(1, 0, Impairment::cut());
    let start = pair.engine.now();
    pair.do_within(MINUTE, async |_| connection.io.write_u8(7).await.unwrap());
    pair.engine.run_until(start + Duration::from_secs(1));
    let heard = pair.trace.lines();
    assert!(heard.iter().any(|line| line.contains("server c1 from 0: 1 bytes")), "{heard:#?}");
    pair.engine.mend(cut);
    let byte = pair.do_within(MINUTE, async |_| connection.io.read_u8().await.unwrap());
    assert_eq!(byte, 7);
}

#[test]
fn without_a_user_timeout_the_kernel_waits_a_quarter_of_an_hour() {
    let pair = Pair::new(1);
    let mut connection = pair.do_within(MINUTE, async |client| connect(&client).await.unwrap());
    pair.engine.impair(0, 1, Impairment::cut());
    let start = pair.engine.now();
    let error = pair.do_within(20 * MINUTE, async |_| echo(&mut connection).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(pair.engine.now().since(start).as_millis(), 924_600);
}
