#![allow(clippy::unwrap_used)]

use super::*;

const A: Uuid = [1; 16];
const MONITOR: Wants = Wants { job: true, monitor: true, block: false, file: false };
const BLOCK: Wants = Wants { job: true, monitor: true, block: true, file: false };
const SHORT: Patience = Patience::For(Duration::from_millis(20));

async fn held(troubles: &Troubles) -> Held {
    loop {
        if let Some(held) = troubles.held(&A) {
            return held;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_first_caller_of_a_frozen_guest_hangs_and_the_others_are_turned_away() {
    let troubles = Arc::new(Troubles::default());
    assert!(troubles.set_frozen(A, true));
    assert_eq!(troubles.held(&A), None, "nobody asked yet");
    let stuck = tokio::spawn({
        let troubles = Arc::clone(&troubles);
        async move { troubles.enter(&A, MONITOR, "first", Patience::None, Duration::ZERO).await }
    });
    assert_eq!(held(&troubles).await.by, "first");
    assert_eq!(troubles.enter(&A, MONITOR, "second", Patience::None, Duration::ZERO).await, Err(Busy { by: "first" }));
    assert_eq!(troubles.enter(&A, MONITOR, "third", SHORT, Duration::ZERO).await, Err(Busy { by: "first" }));
    assert_eq!(troubles.enter(&A, Wants::default(), "free", Patience::None, Duration::ZERO).await, Ok(()));
    assert!(troubles.set_frozen(A, false));
    assert_eq!(stuck.await.unwrap(), Ok(()));
    assert!(troubles.all().is_empty());
}

#[tokio::test]
async fn a_caller_that_is_gone_holds_nothing() {
    let troubles = Arc::new(Troubles::default());
    troubles.set_frozen(A, true);
    let stuck = tokio::spawn({
        let troubles = Arc::clone(&troubles);
        async move { troubles.enter(&A, MONITOR, "first", Patience::None, Duration::ZERO).await }
    });
    held(&troubles).await;
    stuck.abort();
    assert!(stuck.await.unwrap_err().is_cancelled());
    assert_eq!(troubles.held(&A), None);
}

#[tokio::test]
async fn storage_that_hangs_holds_up_who_asks_for_disks() {
    let troubles = Arc::new(Troubles::default());
    troubles.set_storage(A, Some(Storage::Figures));
    assert_eq!(troubles.enter(&A, MONITOR, "cpu", Patience::None, Duration::ZERO).await, Ok(()));
    let stuck = tokio::spawn({
        let troubles = Arc::clone(&troubles);
        async move { troubles.enter(&A, BLOCK, "block", Patience::None, Duration::ZERO).await }
    });
    held(&troubles).await;
    assert!(troubles.enter(&A, MONITOR, "cpu", Patience::None, Duration::ZERO).await.is_err(), "the job is held");
    troubles.set_storage(A, None);
    assert_eq!(stuck.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_path_that_hangs_holds_the_lock() {
    let troubles = Arc::new(Troubles::default());
    troubles.set_storage(A, Some(Storage::Paths));
    assert_eq!(troubles.enter(&A, BLOCK, "block", Patience::None, Duration::ZERO).await, Ok(()));
    let stuck = tokio::spawn({
        let troubles = Arc::clone(&troubles);
        async move { troubles.open_file(&A).await }
    });
    while troubles.any_locked().is_empty() {
        tokio::task::yield_now().await;
    }
    let waiting = tokio::spawn({
        let troubles = Arc::clone(&troubles);
        async move { troubles.lock_free(&A).await }
    });
    troubles.set_storage(A, None);
    stuck.await.unwrap();
    waiting.await.unwrap();
    assert!(troubles.all().is_empty());
}

#[tokio::test]
async fn a_slow_monitor_is_occupied_meanwhile() {
    let troubles = Arc::new(Troubles::default());
    let slow = tokio::spawn({
        let troubles = Arc::clone(&troubles);
        async move { troubles.enter(&A, MONITOR, "slow", Patience::None, Duration::from_millis(30)).await }
    });
    held(&troubles).await;
    assert_eq!(slow.await.unwrap(), Ok(()));
    assert_eq!(troubles.held(&A), None);
}
