//! What can go wrong when the API server is asked. Each error names what was asked; the cause is its source.

use std::fmt;
use std::time::Duration;

use mail_laser_crds::conditions::Reason;

use crate::problem::Problem;

/// What the API server was asked to do; also the label of a metric.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verb {
    /// Read an object.
    Get,
    /// Make an object.
    Create,
    /// Server-side apply.
    Apply,
    /// Change metadata.
    Patch,
    /// Replace an object.
    Update,
    /// Delete an object.
    Delete,
}

impl Verb {
    /// In lower case, as in a sentence and in a metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Create => "create",
            Self::Apply => "apply",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {kind} {namespace}/{name}")]
pub struct RequestError {
    verb: Verb,
    kind: String,
    namespace: String,
    name: String,
    source: Cause,
}

impl RequestError {
    /// A request that failed.
    pub fn new(verb: Verb, kind: &str, namespace: &str, name: &str, source: kube::Error) -> Self {
        Self {
            verb,
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            source: Cause::from(source),
        }
    }

    /// What a condition says of it.
    pub fn problem(&self) -> Problem {
        let said = chain(self);
        match &self.source {
            Cause::Answer { code: 403, message } => {
                Problem::new(Reason::Forbidden, format!("{said}. {}", way_out(message)))
            }
            _ => Problem::new(Reason::RequestFailed, said),
        }
    }
}

/// What a person can do about a request that was forbidden. RBAC names the right that is missing, and all else that
/// forbids names itself.
fn way_out(message: &str) -> &'static str {
    if message.contains(" cannot ") && message.contains(" resource ") {
        "Grant the operator that right: deploy/rbac.yaml has all that it needs, and deploy/namespaced those for single \
         namespaces"
    } else {
        "Change the policy or quota that is in the way, or this MailLaser so that it is not"
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The API server answered with an error.
    #[error("the API server answered {code}: {message}")]
    Answer {
        /// HTTP status.
        code: u16,
        /// What it said.
        message: String,
    },
    /// There was no answer, or none that could be read.
    #[error("the API server could not be asked")]
    NoAnswer(#[source] Box<kube::Error>),
}

impl From<kube::Error> for Cause {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Answer { code: status.code, message: status.message },
            other => Self::NoAnswer(Box::new(other)),
        }
    }
}

/// Why a reconciliation failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// References could not be read.
    #[error("references could not be read")]
    Dereference(#[source] RequestError),
    /// Owned objects could not be written.
    #[error("owned objects could not be written")]
    Apply(#[source] RequestError),
    /// The status could not be written.
    #[error("the status could not be written")]
    Status(#[source] RequestError),
    /// It panicked, which is a defect of the operator.
    #[error("the reconciliation panicked, which is a defect; the log has more")]
    Panic,
    /// It failed, and something else of it is to be done before it would be tried again.
    #[error("{failure}")]
    MoreToDo {
        /// What failed.
        #[source]
        failure: Box<ReconcileError>,
        /// When the rest is to be done.
        again: Duration,
    },
    /// It took longer than any reconciliation may.
    #[error("the reconciliation was not over after {} s", .0.as_secs())]
    Timeout(Duration),
}

/// Whether a request was refused because the namespace is being deleted: everything in it goes soon, and
/// nothing new is let in.
pub fn is_namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Why the operator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The server of metrics and health failed.
    #[error("the server of metrics and health failed")]
    Admin(#[source] std::io::Error),
    /// The way to the API server cannot be taken.
    #[error("no client for the Kubernetes API could be made")]
    Client(#[source] kube::Error),
    /// The election ended, which it never does by itself.
    #[error("the election of the leader ended unexpectedly")]
    ElectionEnded,
    /// A watch ended, which none ever does by itself.
    #[error("a watch ended unexpectedly")]
    WatchEnded,
}

/// An error and its causes, as one sentence. Errors of libraries often print their causes as well; those are
/// not said twice.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(kube::Error::Api(status)) = error.downcast_ref() {
            // Its own text has a dump of the whole answer.
            parts.push(Cause::Answer { code: status.code, message: status.message.clone() }.to_string());
            break;
        }
        next = error.source();
        let text = error.to_string();
        let cause = next.map(ToString::to_string).unwrap_or_default();
        let own = text.strip_suffix(&cause).unwrap_or(&text).trim_end_matches([':', ' ']);
        if !own.is_empty() {
            parts.push(own.to_owned());
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> kube::Error {
        let status = kube::core::Status::failure("no such thing", "NotFound").with_code(404);
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn a_request_that_failed_says_what_and_why_once() {
        let error = RequestError::new(Verb::Get, "Secret", "ops", "hook", answer());
        let said = "cannot get Secret ops/hook: the API server answered 404: no such thing";
        assert_eq!(error.problem(), Problem::new(Reason::RequestFailed, said));
    }

    #[test]
    fn who_forbids_a_request_decides_what_a_person_does() {
        let problem = |message: &str| {
            let status = kube::core::Status::failure(message, "Forbidden").with_code(403);
            RequestError::new(Verb::Apply, "Deployment", "ops", "a", kube::Error::Api(status.boxed()))
                .problem()
        };
        for (message, way_out) in [
            (
                "deployments.apps \"a\" is forbidden: User \"system:serviceaccount:s:o\" cannot patch resource \
                 \"deployments\" in API group \"apps\" in the namespace \"ops\"",
                "deploy/rbac.yaml",
            ),
            (
                "deployments.apps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: no",
                "policy",
            ),
            ("services \"a\" is forbidden: exceeded quota: q", "quota"),
        ] {
            let problem = problem(message);
            assert_eq!(problem.reason, Reason::Forbidden);
            assert!(problem.message.contains(message), "{}", problem.message);
            let advice = problem.message.split(message).nth(1).unwrap();
            assert!(advice.contains(way_out), "{advice}");
        }
    }

    #[test]
    fn a_namespace_that_is_being_deleted_is_told_from_a_missing_right() {
        let forbidden = |causes: serde_json::Value| {
            let status =
                serde_json::json!({"code": 403, "reason": "Forbidden", "details": {"causes": causes}});
            kube::Error::Api(serde_json::from_value(status).unwrap())
        };
        let terminating =
            serde_json::json!([{"reason": "NamespaceTerminating", "message": "x", "field": "y"}]);
        assert!(is_namespace_terminating(&forbidden(terminating)));
        assert!(!is_namespace_terminating(&forbidden(serde_json::json!([]))));
        assert!(!is_namespace_terminating(&answer()));
    }

    #[test]
    fn an_error_of_a_library_is_not_repeated() {
        let error = kube::runtime::watcher::Error::InitialListFailed(answer());
        let expected = "failed to perform initial object list: the API server answered 404: no such thing";
        assert_eq!(chain(&error), expected);
    }
}
