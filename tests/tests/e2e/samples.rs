//! The samples, as the real API server takes and refuses them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use mail_laser_e2e::{documents, in_namespace, repository};

#[tokio::test]
async fn valid_samples_are_taken() -> anyhow::Result<()> {
    in_namespace("valid-samples", |env| async move {
        for path in samples("valid")? {
            let yaml = fs::read_to_string(&path)?;
            for document in documents(&yaml)? {
                env.dry_run(document).await.with_context(|| format!("{}", path.display()))?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn invalid_samples_are_refused_with_the_sentence_that_they_name() -> anyhow::Result<()> {
    in_namespace("invalid-samples", |env| async move {
        let mut wrong = Vec::new();
        for path in samples("invalid")? {
            let yaml = fs::read_to_string(&path)?;
            let first = yaml.lines().next().unwrap_or_default();
            let expected = first
                .strip_prefix("# refused: ")
                .with_context(|| format!("{path:?} starts with {first:?}"))?;
            let [document] = &documents(&yaml)?[..] else { bail!("{path:?} is not one document") };
            match env.dry_run(document.clone()).await {
                Ok(()) => wrong.push(format!("{}: it was taken", path.display())),
                Err(error) => {
                    let message = format!("{error:#}");
                    if !message.contains(expected) {
                        wrong.push(format!("{}: refused, but with: {message}", path.display()));
                    }
                }
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
    .await
}

fn samples(folder: &str) -> anyhow::Result<Vec<PathBuf>> {
    let folder = repository().join("deploy/samples").join(folder);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    paths.sort();
    ensure!(!paths.is_empty(), "no samples in {}", folder.display());
    Ok(paths)
}
