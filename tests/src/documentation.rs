//! What the documentation says in a form that a machine can check: its examples, headings and links.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{documents, repository};

/// A page in Markdown.
pub struct Page {
    /// Its path in the repository.
    pub path: PathBuf,
    text: String,
}

/// An example in YAML.
pub struct Example {
    /// The page and the line that it begins at.
    pub place: String,
    /// What is to become of it.
    pub expectation: Expectation,
    /// Its documents, whole.
    pub documents: Vec<Value>,
}

/// What is to become of an example.
#[derive(Clone, Debug, PartialEq)]
pub enum Expectation {
    /// It is a manifest, and taken.
    Taken,
    /// It is a manifest, and refused with a sentence that holds this.
    Refused(String),
    /// It is the values of this chart.
    Values(String),
    /// It is a file of another program.
    Foreign,
}

/// All pages that are in version control, or would be with the next commit.
///
/// # Errors
/// When they cannot be read.
pub fn pages() -> anyhow::Result<Vec<Page>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])
        .current_dir(repository())
        .output()?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout)?;
    // One that was deleted is listed until that is staged.
    paths.lines().filter(|path| repository().join(path).exists()).map(Page::read).collect()
}

impl Page {
    /// Reads a page.
    ///
    /// # Errors
    /// When it is not there.
    pub fn read(path: impl AsRef<Path>) -> anyhow::Result<Self> {
        let path = path.as_ref().to_owned();
        let text = fs::read_to_string(repository().join(&path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { path, text })
    }

    /// The page as it is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The lines outside of blocks of code.
    pub fn prose(&self) -> impl Iterator<Item = &str> {
        let mut is_code = false;
        self.text.lines().filter(move |line| {
            let is_fence = line.starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        })
    }

    /// The headings, without their signs.
    pub fn headings(&self) -> impl Iterator<Item = &str> {
        self.prose().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim())
    }

    /// The cells of the rows of all tables whose first column has this title.
    pub fn rows<'a>(&'a self, title: &'a str) -> impl Iterator<Item = Vec<&'a str>> {
        let mut is_in = false;
        self.prose().filter_map(move |line| {
            let cells: Option<Vec<_>> = line
                .strip_prefix('|')
                .map(|row| row.trim_end_matches('|').split('|').map(str::trim).collect());
            let Some(cells) = cells else {
                is_in = false;
                return None;
            };
            let was_in = is_in;
            is_in = is_in || cells[0] == title;
            (was_in && !cells[0].starts_with("---")).then_some(cells)
        })
    }

    /// Where the links lead that do not leave the repository: a path, and a heading in it.
    pub fn links(&self) -> impl Iterator<Item = (PathBuf, Option<&str>)> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let targets = self.prose().flat_map(|line| {
            line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        });
        targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).map(|target| {
            let (path, heading) =
                target.split_once('#').map_or((target, None), |(path, it)| (path, Some(it)));
            let path = if path.is_empty() { self.path.clone() } else { folder.join(path) };
            (path, heading)
        })
    }

    /// The examples in YAML.
    ///
    /// # Errors
    /// When one is no YAML, or it cannot be known what it is.
    pub fn examples(&self) -> anyhow::Result<Vec<Example>> {
        let mut examples = Vec::new();
        let mut lines = self.text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            if line != "```yaml" {
                continue;
            }
            let block: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            let place = format!("{}:{}", self.path.display(), number + 1);
            examples.push(example(place.clone(), &block.join("\n")).context(place)?);
        }
        Ok(examples)
    }
}

fn example(place: String, text: &str) -> anyhow::Result<Example> {
    let first = text.lines().next().unwrap_or_default();
    let expectation = match first.strip_prefix("# ") {
        Some(comment) if comment.starts_with("refused: ") => {
            Expectation::Refused(comment["refused: ".len()..].to_owned())
        }
        Some(comment) if comment.starts_with("values of ") => {
            Expectation::Values(comment["values of ".len()..].to_owned())
        }
        Some(comment) if comment.starts_with("configuration of ") => Expectation::Foreign,
        _ => Expectation::Taken,
    };
    let mut documents = documents(text)?;
    ensure!(!documents.is_empty(), "there is nothing in it");
    if matches!(expectation, Expectation::Taken | Expectation::Refused(_)) {
        for document in &mut documents {
            complete(document)?;
        }
    }
    Ok(Example { place, expectation, documents })
}

/// What begins with `spec:` shows some fields of a resource that has recipients and a webhook besides.
fn complete(document: &mut Value) -> anyhow::Result<()> {
    let fields = document.as_object().context("it is no object")?;
    if fields.keys().eq(["spec"]) {
        let mut spec =
            json!({"targetEmails": ["a@example.com"], "webhook": {"url": "https://api.example.com/"}});
        for (name, value) in document["spec"].as_object().into_iter().flatten() {
            spec[name] = value.clone();
        }
        *document = json!({
            "apiVersion": "mail-laser.dev/v1alpha1",
            "kind": "MailLaser",
            "metadata": {"name": "example"},
            "spec": spec,
        });
    }
    ensure!(
        document["apiVersion"].is_string() && document["kind"].is_string(),
        "it is no manifest: begin it with apiVersion, with spec: for some fields of a MailLaser, or with a comment \
         `# refused: …`, `# values of …` or `# configuration of …`"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page { path: "docs/page.md".into(), text: text.to_owned() }
    }

    #[test]
    fn some_fields_become_a_whole_resource() {
        let page = page("a\n```yaml\n# refused: because\nspec:\n  replicas: -1\n```\n");
        let [example] = &page.examples().expect("examples")[..] else { panic!("not one example") };
        assert_eq!(example.expectation, Expectation::Refused("because".to_owned()));
        assert_eq!(example.place, "docs/page.md:2");
        assert_eq!(example.documents[0]["spec"]["replicas"], -1);
        assert_eq!(example.documents[0]["spec"]["targetEmails"][0], "a@example.com");
    }

    #[test]
    fn what_cannot_be_known_is_an_error() {
        assert!(page("```yaml\na: 1\n```\n").examples().is_err());
    }

    #[test]
    fn prose_has_no_code() {
        let page = page(
            "# One `two`\n[a](../b.md#c) [d](https://e)\n```sh\n# three\n[x](y)\n```\n| t |\n| --- |\n| `r` |\n",
        );
        assert_eq!(page.headings().collect::<Vec<_>>(), ["One `two`"]);
        assert_eq!(page.links().collect::<Vec<_>>(), [("docs/../b.md".into(), Some("c"))]);
        assert_eq!(page.rows("t").collect::<Vec<_>>(), [["`r`"]]);
    }
}
