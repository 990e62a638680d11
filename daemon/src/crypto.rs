//! The one TLS provider of the process.

use std::sync::Once;

/// Makes `ring` the provider of everything that speaks TLS. Without it rustls panics; calling it
/// again does nothing.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only where a program has installed one already; then that one holds.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
