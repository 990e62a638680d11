//! Versions of objects.

/// Whether a version of an object came before another one. Versions are decimal numbers that grow, which the API
/// conventions guarantee since Kubernetes 1.35 and etcd always did; of any others it is not known.
pub(crate) fn is_older(version: &str, than: &str) -> bool {
    matches!((version.parse::<u64>(), than.parse::<u64>()), (Ok(version), Ok(than)) if version < than)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert!(is_older("9", "10") && !is_older("10", "9") && !is_older("10", "10"));
        assert!(!is_older("a", "b") && !is_older("", "1"));
    }
}
