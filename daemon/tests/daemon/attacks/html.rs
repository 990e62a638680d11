//! HTML bombs: pages that are cheap to write and meant to be costly to lay out as text.

use crate::harness::{Daemon, Webhook};

use super::{MEBIBYTE, settle, survive};

/// What the layout of one page may take besides what the process needs anyway.
const GROWTH_MAX: u64 = 100 * MEBIBYTE;

#[test]
fn pages_that_are_costly_to_lay_out_are_bounded_in_time_stack_and_memory() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let before = daemon.peak_bytes();
    let nested =
        |open: &str, close: &str, depth: usize| format!("{}deep{}", open.repeat(depth), close.repeat(depth));
    let attributes: String = (0..80_000).map(|number| format!(" a{number:x}")).collect();
    let formatting: String = (0..90).map(|number| format!("<b a={number}>")).collect();
    let mails = [
        ("nested divs", nested("<div>", "</div>", 100_000)),
        ("nested tables", nested("<table><tr><td>", "</td></tr></table>", 20_000)),
        ("nested tables within the depth", nested("<table><tr><td>a</td><td>", "</td></tr></table>", 30)),
        ("unclosed quotes", nested("<blockquote>", "", 100_000)),
        ("quotes within the depth", nested("<blockquote>", "", 90) + &"x ".repeat(200_000)),
        ("lists", nested("<ul><li>", "", 45) + &"x ".repeat(200_000)),
        ("formatting that is begun anew", format!("<p>{formatting}</p>{}", "<p>x</p>".repeat(60_000))),
        ("a tag of 80,000 attributes", format!("<p{attributes}>deep")),
        ("columns", format!("<table><tr>{}", "<td>x</td>".repeat(40_000))),
        (
            "columns of many rows",
            format!("<table><tr>{}{}", "<td>x</td>".repeat(7_000), "<tr></tr>".repeat(7_000)),
        ),
        (
            "cells of countless rows",
            format!("<table><tr>{}{}", "<td rowspan=9999></td>".repeat(1_200), "<tr></tr>".repeat(1_200)),
        ),
        ("a cell of countless columns", "<table><tr><td colspan=4294967295>x</td></tr></table>".to_owned()),
        ("a list that counts beyond the numbers", "<ol start=9223372036854775807><li>x<li>y</ol>".to_owned()),
        ("line breaks", "<br>".repeat(130_000)),
        ("entities", "&amp".repeat(130_000)),
        ("a word of 10 MB", "x".repeat(10_000_000)),
        ("tags that do not end", "<a ".repeat(170_000)),
        ("comments that do not end", "<!--".repeat(130_000)),
        ("selects", "<select><option>".repeat(30_000)),
        ("templates and drawings", "<template><svg><math>".repeat(20_000)),
    ];
    let count = mails.len();
    for (name, page) in mails {
        let mail = format!("Subject: bomb\r\nContent-Type: text/html\r\n\r\n{page}");
        let (code, text) = survive(&daemon, name, mail.as_bytes());
        assert_eq!(code, 250, "{name}: {text}");
    }
    settle(&daemon, count);
    let bombs: Vec<_> =
        webhook.received().into_iter().filter(|request| request.json["subject"] == "bomb").collect();
    assert_eq!(bombs.len(), count);
    for bomb in bombs {
        let text = bomb.json["body"].as_str().expect("a text");
        assert!(text.len() < 11_000_000, "text of {} bytes", text.len());
    }
    let grown = daemon.peak_bytes() - before;
    assert!(grown < GROWTH_MAX, "{grown} bytes");
}
