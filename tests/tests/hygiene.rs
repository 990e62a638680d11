//! What must not be in any file of the repository.

use std::fs;
use std::process::Command;

use anyhow::ensure;
use mail_laser_e2e::repository;

/// In two halves, so that this file does not hold them itself.
const NEVER: &[(&str, &str, &str)] = &[
    ("/wor", "k/main", "a path of one machine"),
    ("/wor", "k/shared", "a path of one machine"),
    ("/root", "/.c", "a path of one machine"),
    ("/ho", "me/", "a path of one machine"),
    ("-----BEGIN ", "PRIVATE KEY", "a private key"),
    ("<<<<", "<<<", "a conflict that was not resolved"),
];

#[test]
fn no_file_holds_what_belongs_to_one_machine() -> anyhow::Result<()> {
    let mut violations = Vec::new();
    for path in files()? {
        let Ok(text) = fs::read_to_string(repository().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            for (first, second, what) in NEVER {
                if line.contains(&format!("{first}{second}")) {
                    violations.push(format!("{path}:{}: {what}", number + 1));
                }
            }
        }
    }
    ensure!(violations.is_empty(), "{}", violations.join("\n"));
    Ok(())
}

#[test]
fn every_script_stops_at_its_first_error() -> anyhow::Result<()> {
    for path in files()? {
        let Ok(text) = fs::read_to_string(repository().join(&path)) else { continue };
        if text.starts_with("#!/usr/bin/env bash") {
            ensure!(text.contains("\nset -euo pipefail\n"), "{path} lacks set -euo pipefail");
        }
    }
    Ok(())
}

/// What is in version control, or would be with the next commit.
fn files() -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(repository())
        .output()?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}
