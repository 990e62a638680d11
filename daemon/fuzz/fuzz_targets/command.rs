//! One command line.
//!
//! - What is refused gets one reply with a permanent code.
//! - A command's arguments are within the limits of RFC 5321 section 4.5.3.1 and cannot begin a line.
//! - White space at the end and the case of the verb do not matter.
//! - A command written out anew is the same command.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mail_laser::address::{Address, DOMAIN_BYTES_MAX, LOCAL_PART_BYTES_MAX, ReversePath};
use mail_laser::smtp::command::{Body, Command, CommandError, MailParameters, PATH_BYTES_MAX, parse};
use mail_laser_fuzz::replies;

fuzz_target!(|line: &[u8]| {
    let parsed = parse(line);
    match &parsed {
        Ok(command) => check_command(command, line),
        Err(error) => check_error(error, line),
    }
    assert_eq!(parse(&[line, b" \t"].concat()), parsed, "white space at the end matters");
    let verb = line.iter().position(|c| matches!(c, b' ' | b'\t')).unwrap_or(line.len());
    let swapped: Vec<u8> =
        line.iter().enumerate().map(|(at, c)| if at < verb { swap_case(*c) } else { *c }).collect();
    assert_eq!(parse(&swapped), parsed, "the verb's case matters");
});

fn swap_case(c: u8) -> u8 {
    if c.is_ascii_alphabetic() { c ^ 0x20 } else { c }
}

fn check_error(error: &CommandError, line: &[u8]) {
    let mut output = Vec::new();
    error.reply().write_to(&mut output);
    let codes = replies(&output);
    assert!(matches!(codes[..], [500..=599]), "{codes:?}");
    let has_control = line.iter().any(|c| c.is_ascii_control() && *c != b'\t');
    assert_eq!(*error == CommandError::ControlCharacter, has_control);
}

fn check_command(command: &Command, line: &[u8]) {
    assert!(!line.contains(&b'\r') && !line.contains(&b'\n'), "a command holds a line end");
    match command {
        Command::Helo(name) | Command::Ehlo(name) => {
            assert!(
                !name.is_empty()
                    && name.len() <= DOMAIN_BYTES_MAX
                    && name.bytes().all(|c| c.is_ascii_graphic())
            );
        }
        Command::Mail { reverse_path: ReversePath::Mailbox(address), parameters } => {
            check_address(address, PATH_BYTES_MAX);
            assert!(address.is_ascii() || parameters.smtputf8, "an address outside ASCII without SMTPUTF8");
        }
        Command::Rcpt(address) => check_address(address, LOCAL_PART_BYTES_MAX),
        _ => {}
    }
    assert_eq!(parse(written(command).as_bytes()).as_ref(), Ok(command), "{:?}", written(command));
}

fn check_address(address: &Address, local_part_bytes_max: usize) {
    let text = address.as_str();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    if let Some((local_part, domain)) = text.rsplit_once('@') {
        assert!((1..=local_part_bytes_max).contains(&local_part.len()), "{text:?}");
        assert!((1..=DOMAIN_BYTES_MAX).contains(&domain.len()), "{text:?}");
        assert_eq!(address.key().rsplit_once('@').map(|(_, domain)| domain), Some(address.domain()));
        let again = Address::parse(address.key()).map(|again| again.key().to_owned());
        // A key may quote nothing where the address had to.
        if let Ok(again) = again {
            assert_eq!(again, address.key(), "a key has another key");
        }
    } else {
        assert!(text.eq_ignore_ascii_case("postmaster"), "{text:?}");
    }
}

/// The command as a client would write it.
fn written(command: &Command) -> String {
    match command {
        Command::Helo(name) => format!("HELO {name}"),
        Command::Ehlo(name) => format!("EHLO {name}"),
        Command::Mail { reverse_path, parameters } => {
            format!("MAIL FROM:<{}>{}", reverse_path.as_str(), written_parameters(*parameters))
        }
        Command::Rcpt(address) => format!("RCPT TO:<{address}>"),
        Command::Data => "DATA".into(),
        Command::Bdat { size, last } => format!("BDAT {size}{}", if *last { " LAST" } else { "" }),
        Command::StartTls => "STARTTLS".into(),
        Command::Rset => "RSET".into(),
        Command::Noop => "NOOP".into(),
        Command::Vrfy => "VRFY x".into(),
        Command::Help => "HELP".into(),
        Command::Quit => "QUIT".into(),
    }
}

fn written_parameters(parameters: MailParameters) -> String {
    let size = parameters.size.map(|size| format!(" SIZE={size}"));
    let body = parameters.body.map(|body| match body {
        Body::SevenBit => " BODY=7BIT",
        Body::EightBitMime => " BODY=8BITMIME",
        Body::BinaryMime => " BODY=BINARYMIME",
    });
    let smtputf8 = if parameters.smtputf8 { " SMTPUTF8" } else { "" };
    format!("{}{}{smtputf8}", size.unwrap_or_default(), body.unwrap_or_default())
}
