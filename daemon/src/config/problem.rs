//! What is wrong with a configuration, all of it at once.

use std::fmt;

use super::variables::Variable;

/// One thing that is wrong, as a sentence that says what would be valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(String);

impl Problem {
    /// `variable` has a value that is not valid. The value is shown.
    #[must_use]
    pub fn invalid(variable: &Variable, value: &str) -> Self {
        Self(format!("{}={value:?} is not valid; valid is {}", variable.name, variable.valid))
    }

    /// `variable` has a value that is not valid and must not be shown.
    #[must_use]
    pub fn invalid_secret(variable: &Variable, why: impl fmt::Display) -> Self {
        Self(format!("{} (not shown) {why}; valid is {}", variable.name, variable.valid))
    }

    /// `variable` names a file that cannot be used. A path is shown; the content of a file in its place is not.
    #[must_use]
    pub fn file(variable: &Variable, path: &str, why: impl fmt::Display) -> Self {
        if path.contains("-----BEGIN") || path.contains('\n') {
            return Self::invalid_secret(variable, "has the content of a file in place of its path");
        }
        Self(format!("{}={path:?} {why}; valid is {}", variable.name, variable.valid))
    }

    /// `variable` has to be set.
    #[must_use]
    pub fn missing(variable: &Variable) -> Self {
        Self(format!("{} is not set; it takes {}", variable.name, variable.valid))
    }

    /// Anything else.
    #[must_use]
    pub fn other(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} problem{}", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for Problems {}
