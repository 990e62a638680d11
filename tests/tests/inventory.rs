//! `images/inventory`: what is in the images, and under which licences.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use mail_laser_e2e::repository;
use serde_json::Value;

const PACKAGES: [&str; 2] = ["mail-laser", "mail-laser-operator"];

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    let output = Command::new(program).args(arguments).current_dir(repository()).output();
    output.with_context(|| format!("{program} does not start"))
}

/// Runs some lines of Python that know all that the script knows.
fn within(lines: &str) -> anyhow::Result<Output> {
    run("python3", &["-c", &format!("import runpy\nit = runpy.run_path('images/inventory')\n{lines}")])
}

#[test]
fn every_licence_is_allowed() -> anyhow::Result<()> {
    let output = run("images/inventory", &PACKAGES)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn a_licence_that_is_not_allowed_is_named() -> anyhow::Result<()> {
    let output = within("it['ALLOWED'].remove('ISC')\nit['refuse']('x', it['tree']('mail-laser')[0])")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains("is licensed as ISC"), "{said}");
    Ok(())
}

#[test]
fn of_several_licences_one_that_is_allowed_is_taken() -> anyhow::Result<()> {
    for (expression, chosen) in [
        ("MIT OR Apache-2.0", "['Apache-2.0']"),
        ("GPL-2.0 OR MIT", "['MIT']"),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", "['Apache-2.0', 'Unicode-3.0']"),
        ("Apache-2.0 WITH LLVM-exception", "['Apache-2.0 WITH LLVM-exception']"),
        ("MIT AND GPL-2.0", "None"),
        ("GPL-3.0", "None"),
        ("", "None"),
    ] {
        let output = within(&format!("print(it['choose']('{expression}'))"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.trim() == chosen, "{expression}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[test]
fn the_texts_of_what_a_crate_brings_along_are_there_once() -> anyhow::Result<()> {
    let output = run("images/inventory", &["mail-laser", "--licences", "/dev/stdout"])?;
    let said = String::from_utf8(output.stdout)?;
    let texts = said.matches("Microsoft Corporation, Daan Leijen").count();
    ensure!(texts == 1, "mimalloc, which libmimalloc-sys holds in two versions, is named {texts} times");
    Ok(())
}

#[test]
fn a_bill_of_materials_is_that_of_the_lock_file() -> anyhow::Result<()> {
    let lock = fs::read_to_string(repository().join("Cargo.lock"))?;
    for package in PACKAGES {
        let output = run("images/inventory", &[package, "--sbom", "/dev/stdout"])?;
        let sbom: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(
            sbom["metadata"]["component"]["name"] == package,
            "it is of {}",
            sbom["metadata"]["component"]
        );
        let components = sbom["components"].as_array().context("no components")?;
        for component in components {
            let (name, version) = (&component["name"], &component["version"]);
            let locked = format!("name = {name}\nversion = {version}\n");
            let Some((_, entry)) = lock.split_once(&locked) else {
                ensure!(component["purl"].is_null(), "{name} {version} is not in Cargo.lock");
                continue;
            };
            let entry = entry.split("[[package]]").next().unwrap_or_default();
            let checksum = component["hashes"][0]["content"].as_str();
            ensure!(checksum.is_none_or(|it| entry.contains(it)), "{name} {version} has another checksum");
            ensure!(checksum.is_some() || !entry.contains("checksum = "), "{name} {version} has no checksum");
        }
        let names: BTreeSet<&str> = components.iter().filter_map(|it| it["name"].as_str()).collect();
        ensure!(names.contains("ring") && names.contains("ca-certificates"), "{names:?}");
        ensure!(
            !names.contains("proptest") && !names.contains("serde_derive"),
            "tests and macros are not in a binary"
        );
        let known: BTreeSet<&str> = components
            .iter()
            .chain([&sbom["metadata"]["component"]])
            .filter_map(|it| it["bom-ref"].as_str())
            .collect();
        for dependency in sbom["dependencies"].as_array().context("no dependencies")? {
            let needs = dependency["dependsOn"].as_array().into_iter().flatten().chain([&dependency["ref"]]);
            for reference in needs {
                ensure!(
                    reference.as_str().is_some_and(|it| known.contains(it)),
                    "{reference} is no component"
                );
            }
        }
    }
    Ok(())
}
