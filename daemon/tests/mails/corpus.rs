//! Mails and their payloads side by side: `corpus/*.eml` as received, `corpus/*.json` as posted.
//!
//! `UPDATE_EXPECT=1` writes the payloads anew; each is then to be reviewed against the RFCs.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::schema::violations;
use crate::{beside, payload};

#[test]
fn every_mail_gives_its_payload() {
    let update = env::var_os("UPDATE_EXPECT").is_some();
    let mails = files("eml");
    assert!(mails.len() >= 45, "{} mails", mails.len());
    let wrong: Vec<_> = mails.iter().filter_map(|mail| check(mail, update).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_payload_has_its_mail() {
    let stems = |extension| -> BTreeSet<_> {
        files(extension).into_iter().map(|path| path.with_extension("")).collect()
    };
    assert_eq!(stems("json"), stems("eml"));
}

fn check(mail: &Path, update: bool) -> Result<(), String> {
    let json: serde_json::Value = serde_json::from_slice(&payload(&fs::read(mail).unwrap())).unwrap();
    violations(&json).map_err(|violations| format!("{}: {violations}", mail.display()))?;
    let actual = format!("{}\n", serde_json::to_string_pretty(&json).unwrap());
    let path = mail.with_extension("json");
    if update {
        fs::write(&path, &actual).unwrap();
    }
    let expected = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if expected == actual {
        return Ok(());
    }
    Err(format!("{}\nexpected {expected}\ngot {actual}", mail.display()))
}

fn files(extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(beside("corpus")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    paths.sort();
    paths
}
