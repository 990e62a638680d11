//! What holds for the payload of any bytes whatever.

use proptest::prelude::*;

use crate::payload;
use crate::schema::violations;

/// JSON escapes a byte with at most six, base64 writes three as four, and a byte of windows-1252
/// is up to three of UTF-8. Headers appear once more, as labels and under their names.
const GROWTH_MAX: usize = 40;
/// Names of fields, the envelope, and the label of one part.
const FIXED_BYTES_MAX: usize = 2_000;

fn line() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "Content-Type: multipart/mixed; boundary=b",
        "Content-Type: multipart/digest; boundary=\"b \"",
        "Content-Type: text/html; charset=utf-16",
        "Content-Type: text/plain; charset=iso-2022-jp; name*0*=utf-8''%E2%82; name*1*=%AC",
        "Content-Type: message/rfc822",
        "Content-Disposition: attachment; filename=\"=?utf-8?q?=C3=BC?=",
        "Content-Transfer-Encoding: base64",
        "Content-Transfer-Encoding: quoted-printable",
        "Subject: =?utf-8?b?4oI=?=",
        " =?utf-8?b?rA==?= =?x?q?",
        "From: \"a (b <c:d;",
        "X-A: =?utf-16?b?/v8AYQ==?=",
        "--b",
        "--b--",
        "",
        "<table><tr><td>a",
        "YWJj=",
        "a=C3=BC=",
    ]);
    prop_oneof![
        4 => known.prop_map(|line| line.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ]
}

proptest! {
    #[test]
    fn any_payload_is_json_of_bounded_size_and_as_documented(
        lines in prop::collection::vec((line(), prop::sample::select(vec!["\r\n", "\n", "\r"])), 0..40)
    ) {
        let mail: Vec<u8> =
            lines.into_iter().flat_map(|(line, end)| [line, end.as_bytes().to_vec()].concat()).collect();
        let payload = payload(&mail);
        let text = std::str::from_utf8(&payload);
        prop_assert!(text.is_ok(), "not UTF-8");
        let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        prop_assert_eq!(violations(&json), Ok(()));
        prop_assert_eq!(json["size_bytes"].as_u64(), Some(mail.len() as u64));
        prop_assert!(!text.unwrap().contains(['\n', '\r', '\0']), "a control character as it is");
        let parts = json["attachments"].as_array().map_or(0, Vec::len) + 1;
        prop_assert!(payload.len() <= GROWTH_MAX * mail.len() + FIXED_BYTES_MAX * parts);
    }
}
