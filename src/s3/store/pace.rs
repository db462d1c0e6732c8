//! `S3_BANDWIDTH_LIMIT`: bytes are let out at a rate.

use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// One process's rate.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes a second; `None`: as fast as it goes.
    rate: Option<u64>,
    /// When the bytes that were let out so far will have been sent at that rate.
    free: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self {
            rate,
            free: Mutex::new(None),
        }
    }

    /// Waits until this many bytes may go.
    pub(super) async fn let_out(&self, bytes: usize) {
        let Some(rate) = self.rate.filter(|rate| *rate > 0) else {
            return;
        };
        let until = {
            let mut free = self.free.lock().await;
            let from = free.unwrap_or_else(Instant::now).max(Instant::now());
            let nanos =
                u128::try_from(bytes).unwrap_or(u128::MAX) * 1_000_000_000 / u128::from(rate);
            *free = Some(from + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
            from
        };
        tokio::time::sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_go_at_the_rate() {
        let began = Instant::now();
        let pace = Pace::new(Some(1000));
        for _ in 0..4 {
            pace.let_out(500).await;
        }
        // The fourth waits for the three before it.
        assert_eq!(began.elapsed().as_millis(), 1500);
        let free = Pace::new(None);
        free.let_out(usize::MAX).await;
        assert_eq!(began.elapsed().as_millis(), 1500);
    }
}
