//! Which resources the operator looks after: all of a cluster, or those of some namespaces, or those with some labels.

use std::collections::BTreeSet;
use std::fmt;

/// Longest name of a namespace (RFC 1123).
const NAMESPACE_LENGTH_MAX: usize = 63;

/// Where one watch looks.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// In all namespaces, which takes rights for the whole cluster.
    Cluster,
    /// In this one, for which rights in it are enough.
    Namespace(String),
}

impl Place {
    /// Whether what is in this namespace is seen from here.
    pub fn covers(&self, namespace: Option<&str>) -> bool {
        match self {
            Self::Cluster => true,
            Self::Namespace(name) => Some(name.as_str()) == namespace,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the cluster"),
            Self::Namespace(name) => write!(f, "namespace {name}"),
        }
    }
}

/// Which resources the operator looks after; by default all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scope {
    namespaces: BTreeSet<String>,
    selector: Option<String>,
}

impl Scope {
    /// The resources of these namespaces, or of all when there are none; of them, those that the selector selects.
    pub fn new(namespaces: impl IntoIterator<Item = String>, selector: Option<String>) -> Self {
        Self { namespaces: namespaces.into_iter().collect(), selector }
    }

    /// Where to watch.
    pub fn places(&self) -> Vec<Place> {
        if self.is_cluster() {
            return vec![Place::Cluster];
        }
        self.namespaces.iter().cloned().map(Place::Namespace).collect()
    }

    /// Whether resources of all namespaces are looked after.
    pub fn is_cluster(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// The labels that resources must have. What they own and refer to is watched whatever its labels are.
    pub fn selector(&self) -> Option<&str> {
        self.selector.as_deref()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<_> = self.places().iter().map(ToString::to_string).collect();
        f.write_str(&places.join(", "))?;
        self.selector.iter().try_for_each(|selector| write!(f, ", with labels {selector}"))
    }
}

/// Reads one name of a list of namespaces. A name that is empty is refused: a variable that somebody forgot to fill in
/// must not open the whole cluster.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn namespace(text: &str) -> Result<String, String> {
    let name = text.trim();
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() {
        return Err("the name of a namespace is empty: leave the list unset for all namespaces".to_owned());
    }
    if name.len() > NAMESPACE_LENGTH_MAX
        || !name.bytes().all(is_inner)
        || name.starts_with('-')
        || name.ends_with('-')
    {
        return Err(format!(
            "{name:?} is no name of a namespace: lower-case letters, digits and '-', at most {NAMESPACE_LENGTH_MAX}"
        ));
    }
    Ok(name.to_owned())
}

/// Reads a label selector. Only the API server knows its grammar in full; here it must not be empty, which would select
/// everything.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn selector(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("the label selector is empty: leave it unset for all resources".to_owned()),
        selector => Ok(selector.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_list_the_cluster_is_one_place() {
        assert_eq!(Scope::default().places(), [Place::Cluster]);
        assert!(Place::Cluster.covers(Some("a")));
    }

    #[test]
    fn each_namespace_is_a_place_once() {
        let scope = Scope::new(["b", "a", "b"].map(str::to_owned), Some("env=prod".to_owned()));
        assert_eq!(scope.places(), ["a", "b"].map(|name| Place::Namespace(name.to_owned())));
        assert!(scope.places()[0].covers(Some("a")));
        assert!(!scope.places()[0].covers(Some("b")) && !scope.places()[0].covers(None));
        assert_eq!(scope.to_string(), "namespace a, namespace b, with labels env=prod");
    }

    #[test]
    fn nothing_empty_opens_the_whole_cluster() {
        assert!(namespace(" ").unwrap_err().contains("unset"));
        assert!(selector("").unwrap_err().contains("unset"));
    }

    #[test]
    fn names_are_those_of_namespaces() {
        assert_eq!(namespace(" team-b").unwrap(), "team-b");
        for wrong in ["Team", "-a", "a-", "a b", "a/b", "*", &"a".repeat(64)] {
            assert!(namespace(wrong).is_err(), "{wrong}");
        }
    }
}
