//! A tap server that nobody asks costs a request no allocation.

use benches::allocations::Counting;
use benches::mesh::in_memory::Taps;
use benches::untapped::allocations_per_request;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_request_allocates_as_much_whether_or_not_its_proxies_may_be_tapped() {
    let per_request = |taps| allocations_per_request(taps).expect("a path in memory");
    let [absent, possible] = [Taps::Absent, Taps::Possible].map(per_request);
    // What timers do now and then is a hundredth of one; an allocation of each request is one or more.
    assert!((possible - absent).abs() < 0.05, "{absent} without, {possible} with");
    let unread = per_request(Taps::Unread);
    assert!(unread > possible + 1.0, "a tap that is open is counted: {possible}, {unread}");
}
