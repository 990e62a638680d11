//! Threads of the runtimes that serve sessions and deliveries.

/// Threads of each runtime.
///
/// One for two processors: a message passes through several tasks, and threads that hand them to each other spend half as
/// much again as the message itself takes. One thread serves some 20,000 messages a second.
#[must_use]
pub fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2))
}
