//! The word that it is time to stop, from one place to every connection and back: the signal starts
//! a drain and learns when the last watch is gone. Sets no deadline: the caller does.

use tokio::sync::watch;

/// A drain not yet begun: the signal, and the first of the watches.
pub fn channel() -> (DrainSignal, DrainWatch) {
    let (sender, receiver) = watch::channel(false);
    (DrainSignal(sender), DrainWatch(receiver))
}

/// Starts a drain. All clones dropped without one having started it, none ever starts.
#[derive(Clone, Debug)]
pub struct DrainSignal(watch::Sender<bool>);

impl DrainSignal {
    /// Tells every watch to finish. Again has no effect.
    pub fn start(&self) {
        self.0.send_replace(true);
    }

    /// Another watch.
    pub fn watch(&self) -> DrainWatch {
        DrainWatch(self.0.subscribe())
    }

    /// Completes when every watch has been dropped, so when all work is done.
    pub async fn drained(&self) {
        self.0.closed().await;
    }
}

/// Learns of a drain. What holds one is waited for by [`DrainSignal::drained`].
#[derive(Clone, Debug)]
pub struct DrainWatch(watch::Receiver<bool>);

impl DrainWatch {
    /// A watch for which no drain ever comes.
    pub fn never() -> Self {
        channel().1
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow()
    }

    /// Completes once the drain has begun; never where the signal was dropped before.
    pub async fn draining(&self) {
        if self.0.clone().wait_for(|draining| *draining).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_watch_learns_and_the_last_one_dropped_ends_the_drain() {
        let (signal, watch) = channel();
        let other = watch.clone();
        assert!(!watch.is_draining());
        signal.start();
        watch.draining().await;
        other.draining().await;
        assert!(other.is_draining() && signal.watch().is_draining());
        drop(watch);
        tokio::select! {
            biased;
            () = signal.drained() => panic!("a watch is left"),
            () = tokio::task::yield_now() => {}
        }
        drop(other);
        signal.drained().await;
    }

    #[tokio::test]
    async fn a_dropped_signal_drains_nothing() {
        let watch = DrainWatch::never();
        assert!(!watch.is_draining());
        tokio::select! {
            biased;
            () = watch.draining() => panic!("nobody started it"),
            () = tokio::task::yield_now() => {}
        }
    }
}
