//! The `.env` file: `NAME=value` lines that fill in what the environment leaves unset. Pure.

use super::problem::Problem;

/// Reads the lines of a `.env` file.
///
/// Empty lines and lines that begin with `#` are passed over, and so is an `export` before the
/// name. A value may stand in single quotes, which keep everything, or in double quotes, in which
/// `\n`, `\"` and `\\` are escapes. Without quotes it ends before ` #`.
///
/// # Errors
/// The lines that are none of this; their values are not shown.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, Vec<Problem>> {
    let (mut variables, mut problems) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match assignment(line) {
            Some(variable) => variables.push(variable),
            None => problems.push(Problem::other(format!(
                ".env line {} is not of the form NAME=value, NAME='value' or NAME=\"value\"",
                index + 1
            ))),
        }
    }
    if problems.is_empty() { Ok(variables) } else { Err(problems) }
}

fn assignment(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim(), without_comment(value));
    let is_name = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    is_name.then_some(())?;
    let value = if let Some(quoted) = value.strip_prefix('\'') {
        let (inner, rest) = quoted.split_once('\'')?;
        is_comment(rest).then(|| inner.to_owned())?
    } else if let Some(quoted) = value.strip_prefix('"') {
        double_quoted(quoted)?
    } else {
        value.to_owned()
    };
    Some((name.to_owned(), value))
}

/// A value up to its comment, which begins with a `#` behind a blank. One in quotes has its own end.
fn without_comment(value: &str) -> &str {
    let is_quoted = value.trim_start().starts_with(['\'', '"']);
    let comment = value.find(" #").into_iter().chain(value.find("\t#")).min().filter(|_| !is_quoted);
    value[..comment.unwrap_or(value.len())].trim()
}

fn double_quoted(quoted: &str) -> Option<String> {
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return is_comment(characters.as_str()).then_some(value),
            '\\' => match characters.next()? {
                'n' => value.push('\n'),
                c @ ('"' | '\\' | '$') => value.push(c),
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
}

fn is_comment(rest: &str) -> bool {
    let rest = rest.trim_start();
    rest.is_empty() || rest.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read() {
        let text = "# a comment\n\nA=1\nexport B = two words # and a comment\nC='a # \"b\"'\nD=\"a\\n\\\"b\\\" \" # c\nE=\nF=a#b\nG= # nothing\nH=x\t# tab\nI=#1\n";
        let variables = parse(text).unwrap();
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "a # \"b\""),
            ("D", "a\n\"b\" "),
            ("E", ""),
            ("F", "a#b"),
            ("G", ""),
            ("H", "x"),
            ("I", "#1"),
        ];
        assert_eq!(variables, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_line_that_is_none_is_named_without_its_value() {
        let problems = parse("A=1\nsecret\nB='open\n-=x\nC=\"a\"b").unwrap_err();
        assert_eq!(problems.len(), 4);
        assert!(problems[0].to_string().starts_with(".env line 2 is not"));
        assert!(!problems[0].to_string().contains("secret"));
    }
}
