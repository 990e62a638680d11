//! Against the `email` package of Python, over mails that `differential/generate.py` makes.
//!
//! `differential/differences.txt` lists the mails that are to differ, each with the clause of an
//! RFC that makes ours right.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_laser::message::parse::Parsed;
use serde_json::{Value, json};

use crate::beside;

#[test]
fn mails_read_as_they_do_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let generated = Command::new("python3")
        .args([beside("differential/generate.py").as_path(), folder.path()])
        .output()
        .expect("python3 can be run");
    assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));
    let names = names(folder.path());
    assert!(names.len() >= 200, "{} mails", names.len());

    let mut listed = listed();
    assert!(listed.len() * 20 <= names.len(), "{} of {} mails may differ", listed.len(), names.len());
    let mut wrong = Vec::new();
    for name in &names {
        let mail = folder.path().join(name);
        match (compare(&mail.with_extension("eml"), &mail.with_extension("json")), listed.remove(name)) {
            (Err(difference), None) => wrong.push(format!("{name}: {difference}")),
            (Ok(()), Some(clause)) => wrong.push(format!("{name} no longer differs: {clause}")),
            _ => {}
        }
    }
    wrong.extend(listed.keys().map(|name| format!("{name} is listed but no mail")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mails = entries.filter(|path| path.extension().is_some_and(|extension| extension == "eml"));
    let mut names: Vec<_> =
        mails.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Names of mails with the clause that makes ours right.
fn listed() -> BTreeMap<String, String> {
    let table = fs::read_to_string(beside("differential/differences.txt")).unwrap();
    let rows = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|row| row.split_once(' ').map(|(name, clause)| (name.to_owned(), clause.to_owned())).unwrap())
        .collect()
}

fn compare(mail: &Path, theirs: &Path) -> Result<(), String> {
    let parsed = Parsed::read(&fs::read(mail).unwrap(), &[]);
    let attachment = |a: &mail_laser::message::parse::Attachment| {
        let bytes = STANDARD.encode(&a.bytes);
        json!({"filename": a.filename, "content_type": a.content_type, "base64": bytes, "sha256": a.sha256()})
    };
    let ours = json!({
        "subject": parsed.subject,
        "text": parsed.text,
        "html": parsed.html,
        "attachments": parsed.attachments.iter().map(attachment).collect::<Vec<_>>(),
    });
    let theirs: Value = serde_json::from_slice(&fs::read(theirs).unwrap()).unwrap();
    let differs = |field: &&str| ours[*field] != theirs[*field];
    match ["subject", "text", "html", "attachments"].iter().find(|field| differs(field)) {
        Some(field) => Err(format!("{field}\n  ours   {}\n  theirs {}", ours[*field], theirs[*field])),
        None => Ok(()),
    }
}
