//! A sample of the garbage that `.ci/run` sends a million of.

#[test]
fn garbage_neither_breaks_nor_hangs_the_proxies() {
    let runtime = runtime_real::current_thread().expect("an epoll instance");
    let outcome = runtime.block_on(fuzz::garbage::run(3_000, 7)).expect("the mesh starts");
    assert_eq!(outcome.panics, 0, "{outcome}");
    assert!(outcome.hung.is_empty(), "{outcome}");
    assert_eq!(outcome.fault, None, "{outcome}");
}
