use super::*;

fn protocol() -> Protocol<&'static str> {
    Protocol::new(Settings {
        hostname: "mx.example.com".into(),
        message_bytes_max: 1_000,
        unknown_recipients_max: NonZeroU32::new(3),
        tls: TlsPolicy::Off,
    })
}

/// Plays lines against the machine; recipients at `known.example` exist, and every mail is
/// taken. Returns the codes of the replies, `!` behind the one that closes.
fn play(protocol: &mut Protocol<&'static str>, lines: &[&str]) -> String {
    let mut codes = Vec::new();
    for line in lines {
        let mut action = protocol.on_line(line.as_bytes());
        let mut is_taken = true;
        loop {
            action = match action {
                Action::LookUp(address) => {
                    let known = address.key().ends_with("@known.example").then_some("here");
                    protocol.on_recipient(address, known)
                }
                Action::Receive(reply) => {
                    codes.push(reply.code().to_string());
                    protocol.on_content_end()
                }
                Action::ReceiveChunk(octets) => {
                    is_taken = octets <= 1_000;
                    protocol.on_chunk_end(is_taken)
                }
                Action::Discard(octets, reply) => {
                    codes.push(format!("{}-{octets}", reply.code()));
                    break;
                }
                Action::Deliver(transaction) => {
                    assert!(!transaction.recipients.is_empty());
                    let taken = Reply::new(250, "2.0.0", "Ok");
                    protocol.on_message(if is_taken { taken } else { protocol.too_large() })
                }
                Action::StartTls(reply) => {
                    codes.push(format!("{}tls", reply.code()));
                    break;
                }
                Action::Reply(reply) => {
                    codes.push(reply.code().to_string());
                    break;
                }
                Action::Close(reply) => {
                    codes.push(format!("{}!", reply.code()));
                    return codes.join(" ");
                }
            }
        }
    }
    codes.join(" ")
}

#[test]
fn a_mail_and_another_one() {
    let lines = ["EHLO c", "MAIL FROM:<a@b.example>", "RCPT TO:<x@known.example>", "DATA"];
    let again = ["MAIL FROM:<>", "RCPT TO:<x@KNOWN.example>", "DATA", "QUIT"];
    assert_eq!(
        play(&mut protocol(), &[&lines[..], &again[..]].concat()),
        "250 250 250 354 250 250 250 354 250 221!"
    );
}

#[test]
fn the_order_of_commands_is_kept() {
    for (lines, codes) in [
        (&["MAIL FROM:<>"][..], "503"),
        (&["EHLO c", "RCPT TO:<x@known.example>"], "250 503"),
        (&["EHLO c", "DATA"], "250 503"),
        (&["EHLO c", "MAIL FROM:<>", "DATA"], "250 250 554"),
        (&["EHLO c", "MAIL FROM:<>", "MAIL FROM:<>"], "250 250 503"),
        (&["EHLO c", "MAIL FROM:<>", "RSET", "RCPT TO:<x@known.example>"], "250 250 250 503"),
        (&["EHLO c", "MAIL FROM:<>", "EHLO c", "RCPT TO:<x@known.example>"], "250 250 250 503"),
        (&["MAIL FROM:<> SIZE=1", "HELO c", "MAIL FROM:<> SIZE=1"], "503 250 555"),
        (&["HELO c", "MAIL FROM:<>", "MAIL FROM:<> SIZE=1"], "250 250 503"),
        (&["HELO c", "MAIL FROM:<>"], "250 250"),
        (&["RSET", "MAIL FROM:<>"], "250 503"),
        (&["EHLO c", "MAIL FROM:<> SIZE=1000"], "250 250"),
        (&["EHLO c", "MAIL FROM:<> SIZE=1001"], "250 552"),
        (&["NOOP", "HELP", "VRFY x", "EXPN x", "NONSENSE"], "250 214 252 502 500"),
    ] {
        assert_eq!(play(&mut protocol(), lines), codes, "{lines:?}");
    }
}

#[test]
fn chunks_make_a_mail() {
    let envelope = ["EHLO c", "MAIL FROM:<> BODY=BINARYMIME", "RCPT TO:<x@known.example>"];
    for (lines, codes) in [
        (&["BDAT 10", "BDAT 20 LAST", "MAIL FROM:<>"][..], "250 250 250"),
        (&["BDAT 0 LAST"], "250"),
        (&["DATA", "BDAT 1 LAST"], "503 250"),
        (
            &["BDAT 10", "RCPT TO:<y@known.example>", "DATA", "MAIL FROM:<>", "BDAT 0 LAST"],
            "250 503 503 503 250",
        ),
        (&["BDAT 10", "RSET", "BDAT 10 LAST", "MAIL FROM:<>"], "250 250 503-10 250"),
        (&["BDAT 2000", "BDAT 10 LAST", "MAIL FROM:<>"], "552 503-10 250"),
        (&["BDAT x", "NOOP"], "501!"),
    ] {
        let mut session = protocol();
        assert_eq!(play(&mut session, &envelope), "250 250 250");
        assert_eq!(play(&mut session, lines), codes, "{lines:?}");
    }
    let no_mail = ["BDAT 7", "EHLO c", "BDAT 8", "MAIL FROM:<>", "BDAT 9 LAST", "RCPT TO:<x@known.example>"];
    assert_eq!(play(&mut protocol(), &no_mail), "503-7 250 503-8 250 554-9 250");
}

#[test]
fn addresses_outside_ascii_need_smtputf8() {
    let utf8 = ["EHLO c", "MAIL FROM:<\u{fc}@b.example> SMTPUTF8", "RCPT TO:<\u{fc}@known.example>"];
    assert_eq!(play(&mut protocol(), &utf8), "250 250 250");
    let ascii = ["EHLO c", "MAIL FROM:<\u{fc}@b.example>", "MAIL FROM:<>", "RCPT TO:<\u{fc}@known.example>"];
    assert_eq!(play(&mut protocol(), &ascii), "250 553 250 553");
}

#[test]
fn tls_is_offered_once_and_mail_waits_for_it_where_it_is_required() {
    let mut session = protocol();
    assert_eq!(play(&mut session, &["EHLO c", "STARTTLS"]), "250 502");
    session.settings.tls = TlsPolicy::Require;
    assert_eq!(play(&mut session, &["MAIL FROM:<>", "STARTTLS"]), "530 220tls");
    let mut session = session.secured();
    assert_eq!(
        play(&mut session, &["MAIL FROM:<>", "EHLO c", "STARTTLS", "MAIL FROM:<>"]),
        "503 250 503 250"
    );
    session.settings.tls = TlsPolicy::Opportunistic;
    let mut plain = protocol();
    plain.settings.tls = TlsPolicy::Opportunistic;
    assert_eq!(
        play(&mut plain, &["STARTTLS", "EHLO c", "MAIL FROM:<>", "STARTTLS", "EHLO c"]),
        "503 250 250 220tls 250"
    );
}

#[test]
fn a_recipient_counts_once() {
    let mut protocol = protocol();
    play(
        &mut protocol,
        &["EHLO c", "MAIL FROM:<>", "RCPT TO:<x@known.example>", "RCPT TO:<X@known.example>"],
    );
    assert!(matches!(protocol.on_line(b"DATA"), Action::Receive(_)));
    let Action::Deliver(transaction) = protocol.on_content_end() else { panic!("no mail") };
    assert_eq!(transaction.recipients.len(), 1);
}

#[test]
fn the_third_unknown_recipient_ends_the_session() {
    let lines = ["EHLO c", "MAIL FROM:<>", "RCPT TO:<a@b.example>", "RCPT TO:<c@b.example>"];
    let mut session = protocol();
    assert_eq!(play(&mut session, &lines), "250 250 550 550");
    assert_eq!(play(&mut session, &["RSET", "MAIL FROM:<>", "RCPT TO:<d@b.example>"]), "250 250 421!");

    let mut patient = protocol();
    patient.settings.unknown_recipients_max = None;
    let unknown = ["RCPT TO:<a@b.example>"; 100];
    assert!(!play(&mut patient, &[&lines[..2], &unknown[..]].concat()).contains('!'));
}

#[test]
fn too_many_recipients_errors_and_idle_commands_are_refused() {
    let mut many = protocol();
    play(&mut many, &["EHLO c", "MAIL FROM:<>"]);
    for number in 0..RECIPIENTS_MAX {
        assert_eq!(play(&mut many, &[&format!("RCPT TO:<u{number}@known.example>")]), "250");
    }
    let more = play(&mut many, &["RCPT TO:<more@known.example>"; 100]);
    assert!(
        more.split(' ').all(|code| code == "452"),
        "the client sends it later, and what it has now: {more}"
    );
    assert_eq!(play(&mut many, &["RCPT TO:<u1@known.example>"]), "250", "a known one costs nothing");

    let errors = play(&mut protocol(), &["NONSENSE"; 30]);
    assert_eq!(errors.split(' ').count(), ERRORS_MAX as usize);
    assert!(errors.ends_with("421!"));

    let mut repeats = protocol();
    play(&mut repeats, &["EHLO c", "MAIL FROM:<>"]);
    let repeated = play(&mut repeats, &["RCPT TO:<x@known.example>"; 3_000]);
    assert!(repeated.split(' ').count() <= COMMANDS_MAX as usize && repeated.ends_with("421!"));

    let mut nothing = protocol();
    play(&mut nothing, &["EHLO c", "MAIL FROM:<>", "RCPT TO:<x@known.example>"]);
    assert!(play(&mut nothing, &["BDAT 0"; 200]).ends_with("421!"), "empty chunks carry no mail on");
    let mut small = protocol();
    play(&mut small, &["EHLO c", "MAIL FROM:<>", "RCPT TO:<x@known.example>"]);
    assert!(!play(&mut small, &["BDAT 1"; 10_000]).contains('!'), "the size limit ends these");

    let idle = play(&mut protocol(), &["NOOP"; 200]);
    assert_eq!(idle.split(' ').count(), IDLE_COMMANDS_MAX as usize + 1);
    assert!(idle.ends_with("421!"));
}

#[test]
fn an_accepted_mail_forgives_errors() {
    let mut session = protocol();
    for _ in 0..5 {
        let errors = play(&mut session, &["NONSENSE"; 10]);
        assert!(!errors.contains('!'));
        let mail = play(&mut session, &["EHLO c", "MAIL FROM:<>", "RCPT TO:<x@known.example>", "DATA"]);
        assert_eq!(mail, "250 250 250 354 250");
    }
}

/// Every state: its name, the policy of TLS, and the lines that lead there.
const STATES: [(&str, TlsPolicy, &[&str]); 13] = {
    use TlsPolicy::{Off, Opportunistic as Offered, Require};
    [
        ("connected", Offered, &[]),
        ("after HELO", Offered, &["HELO c"]),
        ("HELO MAIL", Offered, &["HELO c", "MAIL FROM:<>"]),
        ("after EHLO", Offered, &["EHLO c"]),
        ("after MAIL", Offered, &["EHLO c", "MAIL FROM:<>"]),
        ("BINARYMIME", Offered, &["EHLO c", "MAIL FROM:<> BODY=BINARYMIME", "RCPT TO:<x@known.example>"]),
        ("after RCPT", Offered, &["EHLO c", "MAIL FROM:<>", "RCPT TO:<x@known.example>"]),
        ("after BDAT", Offered, &["EHLO c", "MAIL FROM:<>", "RCPT TO:<x@known.example>", "BDAT 1"]),
        ("after a mail", Offered, &["EHLO c", "MAIL FROM:<>", "RCPT TO:<x@known.example>", "DATA"]),
        ("secured", Offered, &["EHLO c", "STARTTLS"]),
        ("secured EHLO", Require, &["EHLO c", "STARTTLS", "EHLO c"]),
        ("TLS required", Require, &["EHLO c"]),
        ("TLS off", Off, &["EHLO c"]),
    ]
};

const EVENTS: [&str; 27] = [
    "HELO c",
    "EHLO c",
    "EHLO",
    "MAIL FROM:<>",
    "MAIL FROM:<> SIZE=1",
    "MAIL FROM:<> SIZE=1001",
    "MAIL FROM:<> X=1",
    "RCPT TO:<x@known.example>",
    "RCPT TO:<x@b.example>",
    "RCPT TO:<\u{fc}@known.example>",
    "DATA",
    "BDAT 1",
    "BDAT 0 LAST",
    "BDAT 1001",
    "BDAT x",
    "STARTTLS",
    "RSET",
    "NOOP",
    "VRFY x",
    "HELP",
    "QUIT",
    "EXPN x",
    "AUTH PLAIN x",
    "NONSENSE",
    "POST / HTTP/1.1",
    "NOOP\n",
    "",
];

/// What every event is answered in every state; `*` where a mail has been begun then. A change of the
/// protocol shows here; the failing test prints the table as it has become.
const TABLE: &str = include_str!("table.txt");

/// The machine in a state; `STARTTLS` is followed by its handshake.
fn reached(policy: TlsPolicy, lines: &[&str]) -> Protocol<&'static str> {
    let mut session = protocol();
    session.settings.tls = policy;
    for line in lines {
        let codes = play(&mut session, &[line]);
        assert!(codes.starts_with(['2', '3']), "{lines:?}: {codes}");
        if *line == "STARTTLS" {
            session = session.secured();
        }
    }
    session
}

#[test]
fn every_event_has_its_answer_in_every_state() {
    let row = |cells: &mut dyn Iterator<Item = String>| {
        let cells: String = cells.map(|cell| format!("{cell:<13}")).collect();
        format!("{}\n", cells.trim_end())
    };
    let mut table = format!("{:<30}{}", "", row(&mut STATES.iter().map(|(state, ..)| (*state).to_owned())));
    let events = EVENTS.map(Some).into_iter().chain([None]);
    for event in events {
        let mut cells = STATES.iter().map(|(_, policy, lines)| {
            let mut session = reached(*policy, lines);
            let codes = match event {
                Some(line) => play(&mut session, &[line]),
                None => match session.on_long_line() {
                    Action::Reply(reply) => reply.code().to_string(),
                    other => panic!("{other:?}"),
                },
            };
            format!("{codes}{}", if session.in_transaction() { " *" } else { "" })
        });
        let name = event.map_or("a line that is too long".to_owned(), |line| format!("{line:?}"));
        table.push_str(&format!("{name:<30}{}", row(&mut cells)));
    }
    assert!(table == TABLE, "protocol/table.txt would have to be:\n{table}");
}
