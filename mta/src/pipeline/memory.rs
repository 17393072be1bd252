//! How much of the mail that is being worked on is in memory at once. What
//! comes in, and what waits to go out, lies in files unless it is small; to be
//! scanned, judged and delivered here it is read, and copied, so that a
//! message takes a few times its size then.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes of messages that are read at once; one larger than this is read alone.
const MAX_BYTES: u64 = 64 << 20;
/// What a permit stands for.
const UNIT: u64 = 1 << 10;

#[derive(Debug)]
pub(super) struct Memory {
    units: Semaphore,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            units: Semaphore::new(usize::try_from(MAX_BYTES / UNIT).unwrap_or(usize::MAX)),
        }
    }

    /// Waits until there is room for so many bytes, which are free again when
    /// the permit is dropped.
    pub(super) async fn for_message(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let units = bytes.min(MAX_BYTES).div_ceil(UNIT);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        // Nobody closes it.
        self.units.acquire_many(units).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn large_messages_wait_for_each_other_and_small_ones_for_none() {
        let memory = Memory::new();
        let large = memory.for_message(MAX_BYTES - 10 * UNIT).await.unwrap();
        let small = memory.for_message(4_000).await.unwrap();
        let huge = || timeout(Duration::from_millis(10), memory.for_message(u64::MAX));
        assert!(huge().await.is_err());
        drop((large, small));
        assert!(huge().await.unwrap().is_some());
    }
}
