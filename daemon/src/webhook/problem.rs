//! Problem details to a line of text: RFC 9457. Pure.

use serde::Deserialize;

/// Characters that are kept: with status and identifiers, a reply line of SMTP has room for them.
const TEXT_CHARS_MAX: usize = 200;

/// The media type of problem details: RFC 9457 section 6.1.
const MEDIA_TYPE: &str = "application/problem+json";

/// Members that are meant for people; the others are for programs.
#[derive(Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

/// Whether an answer of this `Content-Type` holds problem details.
#[must_use]
pub fn is_problem(content_type: &str) -> bool {
    content_type
        .split(';')
        .next()
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(MEDIA_TYPE))
}

/// What the problem details in `body` say to a person, in one line without control characters;
/// `None` when they say nothing.
#[must_use]
pub fn text(body: &[u8]) -> Option<String> {
    let problem: Problem = serde_json::from_slice(body).ok()?;
    let sentences: Vec<String> =
        [problem.title, problem.detail].iter().flatten().map(|text| one_line(text)).collect();
    let text = sentences.iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join(": ");
    Some(text.chars().take(TEXT_CHARS_MAX).collect::<String>()).filter(|text| !text.is_empty())
}

fn one_line(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    printable.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_and_detail_are_one_line() {
        for (body, expected) in [
            (
                r#"{"title": "No such ticket", "detail": "Ticket 7\r\n250 ok\u0000\u001b[2J", "status": 422}"#,
                Some("No such ticket: Ticket 7 250 ok [2J"),
            ),
            (r#"{"detail": " only  this "}"#, Some("only this")),
            (r#"{"title": "\n", "detail": ""}"#, None),
            (r#"{"type": "about:blank"}"#, None),
            (r#"{"title": 7}"#, None),
            ("no json", None),
        ] {
            assert_eq!(text(body.as_bytes()).as_deref(), expected, "{body}");
        }
        let long = format!(r#"{{"title": "{}"}}"#, "x".repeat(10_000));
        assert_eq!(text(long.as_bytes()).map(|text| text.len()), Some(TEXT_CHARS_MAX));
    }

    #[test]
    fn the_media_type_is_compared_without_its_parameters() {
        assert!(is_problem("Application/Problem+JSON; charset=utf-8"));
        assert!(!is_problem("application/json"));
    }
}
