//! Facts about the tasks' door.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{Bed, declare_cases};

declare_cases! { "tasks";
    a_spawned_task_runs_by_itself,
    tasks_spawn_tasks,
    a_task_ends_when_its_guard_is_dropped,
    a_panic_ends_its_task_alone,
}

async fn a_spawned_task_runs_by_itself(bed: Bed) {
    let (tell, told) = oneshot::channel();
    bed.near.runtime.spawn("contract", async move {
        let _ = tell.send(7);
    });
    assert_eq!(told.await, Ok(7));
}

async fn tasks_spawn_tasks(bed: Bed) {
    let (tell, mut told) = mpsc::unbounded_channel();
    for outer in 0..10 {
        let (runtime, tell) = (bed.near.runtime.clone(), tell.clone());
        bed.near.runtime.spawn("contract", async move {
            for inner in 0..10 {
                let tell = tell.clone();
                runtime.spawn("contract", async move {
                    let _ = tell.send(outer * 10 + inner);
                });
            }
        });
    }
    drop(tell);
    let mut seen = Vec::new();
    while let Some(number) = told.recv().await {
        seen.push(number);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
}

async fn a_task_ends_when_its_guard_is_dropped(bed: Bed) {
    let runtime = bed.near.runtime.clone();
    let (alive, ended) = oneshot::channel::<()>();
    let ticks = Arc::new(AtomicU32::new(0));
    let guard = bed.near.runtime.spawn_guarded("contract", {
        let (runtime, ticks) = (runtime.clone(), ticks.clone());
        async move {
            let _alive = alive;
            loop {
                runtime.sleep(Duration::from_millis(5)).await;
                ticks.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    runtime.sleep(Duration::from_millis(100)).await;
    assert!(ticks.load(Ordering::Relaxed) > 0, "it never ran");
    drop(guard);
    let ended = runtime.timeout(Duration::from_secs(5), ended).await;
    assert!(matches!(ended, Ok(Err(_))), "its state was not dropped");
}

async fn a_panic_ends_its_task_alone(bed: Bed) {
    let runtime = &bed.near.runtime;
    let (alive, ended) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    let inner = runtime.clone();
    runtime.spawn("contract", async move {
        inner.sleep(Duration::from_millis(20)).await;
        let _ = tell.send("still here");
    });
    runtime.spawn("contract", async move {
        let _alive = alive;
        panic!("on purpose: the contract's panicking task");
    });
    assert!(ended.await.is_err(), "its state was not dropped");
    assert_eq!(told.await, Ok("still here"));
}
