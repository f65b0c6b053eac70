//! Facts about the clock's door.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Bed, declare_cases};
use crate::time::{Timestamp, WallTime};

declare_cases! { "clock";
    time_never_goes_back,
    a_sleep_ends_at_its_deadline_and_not_before,
    a_sleep_whose_deadline_passed_ends_at_once,
    sleeps_end_in_the_order_of_their_deadlines,
    wall_time_moves_with_monotonic_time,
    a_timeout_drops_what_takes_too_long,
    what_is_ready_at_the_deadline_wins,
}

async fn time_never_goes_back(bed: Bed) {
    let mut last = bed.near.runtime.now();
    for _ in 0..100 {
        let now = bed.near.runtime.now();
        assert!(now >= last, "{now} after {last}");
        last = now;
    }
}

async fn a_sleep_ends_at_its_deadline_and_not_before(bed: Bed) {
    let runtime = &bed.near.runtime;
    for millis in [1, 5, 20] {
        let deadline = runtime.now() + Duration::from_millis(millis);
        runtime.clock.sleep_until(deadline).await;
        let late = runtime.now().since(deadline);
        assert!(runtime.now() >= deadline, "woke before its deadline");
        assert!(late < Duration::from_secs(5), "woke {late:?} late");
    }
}

async fn a_sleep_whose_deadline_passed_ends_at_once(bed: Bed) {
    let runtime = &bed.near.runtime;
    runtime.sleep(Duration::from_millis(5)).await;
    let before = runtime.now();
    runtime.clock.sleep_until(Timestamp::ZERO).await;
    runtime.clock.sleep_until(before).await;
    assert!(runtime.now().since(before) < Duration::from_secs(1));
}

async fn sleeps_end_in_the_order_of_their_deadlines(bed: Bed) {
    let runtime = bed.near.runtime.clone();
    let woke = Arc::new(Mutex::new(Vec::new()));
    let start = runtime.now();
    for millis in [90, 10, 50] {
        let (woke, inner) = (woke.clone(), runtime.clone());
        runtime.spawn("contract", async move {
            let deadline = start + Duration::from_millis(millis);
            inner.clock.sleep_until(deadline).await;
            woke.lock().expect("no panic while locked").push(millis);
        });
    }
    runtime.sleep(Duration::from_millis(300)).await;
    assert_eq!(*woke.lock().expect("no panic while locked"), [10, 50, 90]);
}

async fn wall_time_moves_with_monotonic_time(bed: Bed) {
    let clock = &bed.near.runtime.clock;
    let before = clock.wall();
    assert!(before > WallTime::from_unix_secs(1_600_000_000), "{before}");
    bed.near.runtime.sleep(Duration::from_millis(50)).await;
    let passed = clock.wall().since(before);
    assert!(passed >= Duration::from_millis(20), "only {passed:?}");
}

async fn a_timeout_drops_what_takes_too_long(bed: Bed) {
    let runtime = &bed.near.runtime;
    let dropped = Arc::new(());
    let held = dropped.clone();
    let result = runtime
        .timeout(Duration::from_millis(10), async move {
            std::future::pending::<()>().await;
            drop(held);
        })
        .await;
    assert!(result.is_err());
    assert_eq!(Arc::strong_count(&dropped), 1, "still held");
}

async fn what_is_ready_at_the_deadline_wins(bed: Bed) {
    let runtime = &bed.near.runtime;
    assert_eq!(runtime.deadline(Timestamp::ZERO, async { 7 }).await, Ok(7));
    assert_eq!(runtime.timeout(Duration::MAX, async { 8 }).await, Ok(8));
}
