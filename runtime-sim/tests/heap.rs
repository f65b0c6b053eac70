//! Whose heap it is, in a program that counts it.

use std::alloc::System;
use std::time::Duration;

use mesh_core::time::Timestamp;
use runtime_sim::cluster::ApiServer;
use runtime_sim::engine::Engine;
use runtime_sim::heap::Attributing;
use runtime_sim::topology::{Crash, HostSpec, Role};
use runtime_sim::trace::Trace;
use runtime_sim::usage::Heap;

#[global_allocator]
static HEAP: Attributing<System> = Attributing(System);

const MEGABYTE: u64 = 1 << 20;

fn heap(engine: &Engine, name: &str) -> Heap {
    engine.usage(0).process(name).expect("it lives").heap.expect("it is counted")
}

#[test]
fn allocations_belong_to_the_process_whose_task_is_polled_until_they_are_freed() {
    let mut engine = Engine::new(1, Trace::new(false), ApiServer::default());
    let host = engine.add_host(HostSpec::new("host", [10, 0, 0, 1].into()));
    let hoarder = engine.start(host, "hoarder", Role::App);
    let modest = engine.start(host, "modest", Role::App);
    let (give, mut take) = tokio::sync::mpsc::channel(1);
    let runtime = hoarder.clone();
    hoarder.spawn("hoard", async move {
        let mut kept = vec![0u8; MEGABYTE as usize];
        runtime.sleep(Duration::from_secs(1)).await;
        kept.resize(3 * MEGABYTE as usize, 1);
        runtime.sleep(Duration::from_secs(1)).await;
        // To be freed by the other process.
        let _ = give.send(kept).await;
        runtime.sleep(Duration::from_secs(10)).await;
    });
    modest.spawn("modest", async move {
        let taken = take.recv().await;
        drop(taken);
        std::future::pending::<()>().await;
    });

    let near = |bytes: u64, wanted: u64| bytes.abs_diff(wanted) < 16 * 1024;
    engine.run_until(Timestamp::from_millis(500));
    let first = heap(&engine, "hoarder");
    assert!(near(first.current_bytes, MEGABYTE), "{first:?}");
    engine.run_until(Timestamp::from_millis(1_500));
    let grown = heap(&engine, "hoarder");
    assert!(near(grown.current_bytes, 3 * MEGABYTE), "{grown:?}");
    engine.run_until(Timestamp::from_millis(2_500));
    let freed = heap(&engine, "hoarder");
    assert!(near(freed.current_bytes, 0), "freed by another process: {freed:?}");
    assert!(near(freed.peak_bytes, 3 * MEGABYTE), "{freed:?}");
    let modest = heap(&engine, "modest");
    assert!(near(modest.peak_bytes, 0), "{modest:?}");

    engine.crash(host, None, Crash::Process);
    engine.start(host, "hoarder", Role::App);
    let again = heap(&engine, "hoarder");
    assert_eq!(
        (again.current_bytes, again.peak_bytes),
        (0, 0),
        "a new process starts with nothing"
    );
}

#[test]
fn aligned_zeroed_and_moved_allocations_are_what_was_asked_for() {
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let pages: Vec<Box<Page>> = (0..64).map(|n| Box::new(Page([n; 4096]))).collect();
    for (number, page) in pages.iter().enumerate() {
        assert_eq!(std::ptr::from_ref(&**page) as usize % 4096, 0);
        assert!(page.0.iter().all(|byte| usize::from(*byte) == number));
    }
    let mut grown: Vec<u32> = Vec::new();
    grown.extend(0..100_000);
    grown.shrink_to(10);
    assert!(grown.iter().copied().eq(0..100_000));
    assert!(vec![0u64; 100_000].iter().all(|zero| *zero == 0));
}
