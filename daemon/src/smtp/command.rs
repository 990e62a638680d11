//! One command line to a [`Command`]. Pure.

use crate::address::{self, Address, AddressError, ReversePath};

use super::reply::Reply;

/// Octets of a path, punctuation included: RFC 5321 section 4.5.3.1.3.
pub const PATH_BYTES_MAX: usize = 256;

/// A command that this server carries out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `HELO domain`
    Helo(String),
    /// `EHLO domain`
    Ehlo(String),
    /// `MAIL FROM:<reverse-path> [parameters]`
    Mail {
        /// Who is told when the mail cannot be delivered.
        reverse_path: ReversePath,
        /// What the extensions add.
        parameters: MailParameters,
    },
    /// `RCPT TO:<forward-path>`
    Rcpt(Address),
    /// `DATA`
    Data,
    /// `BDAT size [LAST]`: RFC 3030
    Bdat {
        /// Octets that follow the command.
        size: u64,
        /// Whether they end the mail.
        last: bool,
    },
    /// `STARTTLS`: RFC 3207
    StartTls,
    /// `RSET`
    Rset,
    /// `NOOP`
    Noop,
    /// `VRFY`
    Vrfy,
    /// `HELP`
    Help,
    /// `QUIT`
    Quit,
}

/// Parameters of `MAIL`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// Octets that the client says the mail has: RFC 1870.
    pub size: Option<u64>,
    /// What the content is declared to be: RFC 6152, RFC 3030.
    pub body: Option<Body>,
    /// Whether addresses and headers may be outside ASCII: RFC 6531.
    pub smtputf8: bool,
}

/// Values of the parameter `BODY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Lines of ASCII.
    SevenBit,
    /// Lines of any octets.
    EightBitMime,
    /// Any octets, which only BDAT can carry.
    BinaryMime,
}

impl MailParameters {
    fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Why a line is not a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// A CR, LF or another control character stands in the line.
    ControlCharacter,
    /// No such command.
    Unknown,
    /// A request of HTTP: somebody made a browser or a server talk to this port, and what is in its body
    /// are commands of his (Postfix: `smtpd_forbidden_commands`).
    OtherProtocol,
    /// A command of the RFC, or of an extension, that this server does not offer.
    NotImplemented,
    /// The argument is missing or malformed; what it should look like.
    Syntax(&'static str),
    /// The reverse-path is not one.
    ReversePath(AddressError),
    /// The forward-path is not one.
    ForwardPath(AddressError),
    /// A parameter of an extension that was not offered.
    UnknownParameter,
    /// A parameter whose value is malformed, or that is given twice.
    MalformedParameter(&'static str),
    /// A `BDAT` whose size cannot be read: nobody knows where the next command begins.
    UnreadableChunk,
}

impl CommandError {
    /// What the client is told.
    #[must_use]
    pub fn reply(&self) -> Reply {
        match self {
            Self::ControlCharacter => {
                Reply::new(500, "5.5.2", "Control characters in a command; lines end with CRLF only")
            }
            Self::Unknown => Reply::new(500, "5.5.1", "Command not recognized"),
            Self::OtherProtocol => Reply::new(554, "5.5.1", "This is SMTP, good-bye"),
            Self::NotImplemented => Reply::new(502, "5.5.1", "Command not implemented"),
            Self::Syntax(syntax) => Reply::new(501, "5.5.4", format!("Syntax: {syntax}")),
            Self::ReversePath(AddressError::NotAscii) | Self::ForwardPath(AddressError::NotAscii) => {
                Reply::new(553, "5.6.7", "An address outside ASCII needs SMTPUTF8")
            }
            Self::ReversePath(error) => Reply::new(501, "5.1.7", format!("Reverse-path {error}")),
            Self::ForwardPath(error) => Reply::new(501, "5.1.3", format!("Recipient {error}")),
            Self::UnknownParameter => Reply::new(555, "5.5.4", "Parameter not recognized"),
            Self::UnreadableChunk => Reply::new(501, "5.5.4", "Syntax: BDAT size [LAST]"),
            Self::MalformedParameter(name) => {
                Reply::new(501, "5.5.4", format!("Parameter {name} is malformed or given twice"))
            }
        }
    }
}

/// Parses one line, given without its CRLF.
///
/// # Errors
/// [`CommandError`], which knows the reply.
pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
    if line.iter().any(|&c| c.is_ascii_control() && c != b'\t') {
        return Err(CommandError::ControlCharacter);
    }
    let Ok(line) = std::str::from_utf8(line) else {
        return Err(not_ascii(line));
    };
    let line = line.trim_end();
    let (verb, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let argument = argument.trim_start();
    match verb.to_ascii_uppercase().as_str() {
        "HELO" => hello(argument, "HELO domain").map(Command::Helo),
        "EHLO" => hello(argument, "EHLO domain").map(Command::Ehlo),
        "MAIL" => mail(argument),
        "RCPT" => rcpt(argument),
        "BDAT" => bdat(argument),
        "STARTTLS" => without_argument(argument, Command::StartTls, "STARTTLS"),
        "DATA" => without_argument(argument, Command::Data, "DATA"),
        "RSET" => without_argument(argument, Command::Rset, "RSET"),
        "QUIT" => without_argument(argument, Command::Quit, "QUIT"),
        "NOOP" => Ok(Command::Noop),
        "HELP" => Ok(Command::Help),
        "VRFY" if argument.is_empty() => Err(CommandError::Syntax("VRFY address")),
        "VRFY" => Ok(Command::Vrfy),
        "EXPN" | "TURN" | "ETRN" | "SEND" | "SOML" | "SAML" | "AUTH" => Err(CommandError::NotImplemented),
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" | "TRACE" | "CONNECT" | "PRI" => {
            Err(CommandError::OtherProtocol)
        }
        _ => Err(CommandError::Unknown),
    }
}

fn bdat(argument: &str) -> Result<Command, CommandError> {
    let mut words = argument.split_ascii_whitespace();
    let size = words.next().filter(|size| size.bytes().all(|c| c.is_ascii_digit()));
    let size = size.and_then(|size| size.parse().ok()).ok_or(CommandError::UnreadableChunk)?;
    match (words.next(), words.next()) {
        (None, _) => Ok(Command::Bdat { size, last: false }),
        (Some(word), None) if word.eq_ignore_ascii_case("LAST") => Ok(Command::Bdat { size, last: true }),
        _ => Err(CommandError::UnreadableChunk),
    }
}

/// A line that is not UTF-8 is an address in another charset, or no command at all.
fn not_ascii(line: &[u8]) -> CommandError {
    match line.get(..5).map(<[u8]>::to_ascii_uppercase).as_deref() {
        Some(b"MAIL ") => CommandError::ReversePath(AddressError::NotAscii),
        Some(b"RCPT ") => CommandError::ForwardPath(AddressError::NotAscii),
        _ => CommandError::Unknown,
    }
}

fn without_argument(argument: &str, command: Command, syntax: &'static str) -> Result<Command, CommandError> {
    if argument.is_empty() { Ok(command) } else { Err(CommandError::Syntax(syntax)) }
}

/// The argument is not used for anything: RFC 5321 section 4.1.4 forbids to refuse mail for it.
/// So anything that could be a name is taken.
fn hello(argument: &str, syntax: &'static str) -> Result<String, CommandError> {
    let is_name = !argument.is_empty()
        && argument.len() <= address::DOMAIN_BYTES_MAX
        && argument.bytes().all(|c| c.is_ascii_graphic());
    if is_name { Ok(argument.to_owned()) } else { Err(CommandError::Syntax(syntax)) }
}

fn mail(argument: &str) -> Result<Command, CommandError> {
    const SYNTAX: CommandError = CommandError::Syntax("MAIL FROM:<address>");
    let (path, parameters) = path_and_parameters(argument, "FROM:").ok_or(SYNTAX)?;
    let reverse_path = match path {
        "" => ReversePath::Null,
        path => match without_route(path)? {
            // A source route leads to a mailbox.
            "" => return Err(CommandError::ReversePath(AddressError::NotAMailbox)),
            mailbox => ReversePath::parse(mailbox).map_err(CommandError::ReversePath)?,
        },
    };
    let mut known = MailParameters::default();
    for parameter in parameters.split_ascii_whitespace() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name.to_ascii_uppercase().as_str() {
            "SIZE" if known.size.is_none() => known.size = Some(size(value)?),
            "SIZE" => return Err(CommandError::MalformedParameter("SIZE")),
            "BODY" if known.body.is_none() => known.body = Some(body(value)?),
            "BODY" => return Err(CommandError::MalformedParameter("BODY")),
            "SMTPUTF8" if !known.smtputf8 && !parameter.contains('=') => known.smtputf8 = true,
            "SMTPUTF8" => return Err(CommandError::MalformedParameter("SMTPUTF8")),
            _ => return Err(CommandError::UnknownParameter),
        }
    }
    if let ReversePath::Mailbox(address) = &reverse_path
        && !address.is_ascii()
        && !known.smtputf8
    {
        return Err(CommandError::ReversePath(AddressError::NotAscii));
    }
    Ok(Command::Mail { reverse_path, parameters: known })
}

fn rcpt(argument: &str) -> Result<Command, CommandError> {
    const SYNTAX: CommandError = CommandError::Syntax("RCPT TO:<address>");
    let (path, parameters) = path_and_parameters(argument, "TO:").ok_or(SYNTAX)?;
    let address = Address::parse_recipient(without_route(path)?).map_err(CommandError::ForwardPath)?;
    if parameters.trim().is_empty() {
        Ok(Command::Rcpt(address))
    } else {
        Err(CommandError::UnknownParameter)
    }
}

/// Splits `FROM:<path> parameters`. Spaces after the colon are tolerated; the brackets are not
/// optional.
fn path_and_parameters<'a>(argument: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let head = argument.get(..keyword.len()).filter(|head| head.eq_ignore_ascii_case(keyword))?;
    let path = argument[head.len()..].trim_start().strip_prefix('<')?;
    let end = closing_bracket(path)?;
    let parameters = &path[end + 1..];
    let is_separate = parameters.is_empty() || parameters.starts_with([' ', '\t']);
    (end + 2 <= PATH_BYTES_MAX && is_separate).then(|| (&path[..end], parameters))
}

/// The first `>` that does not stand in a quoted string.
fn closing_bracket(path: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (index, c) in path.bytes().enumerate() {
        match c {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(index),
            _ => {}
        }
    }
    None
}

/// A path without the source route before it (`@a,@b:`), which is ignored: RFC 5321 appendix C.
fn without_route(path: &str) -> Result<&str, CommandError> {
    match path.strip_prefix('@') {
        Some(route) => match route.split_once(':') {
            Some((_, mailbox)) => Ok(mailbox),
            None => Err(CommandError::Syntax("<address>, with or without a source route")),
        },
        None => Ok(path),
    }
}

/// RFC 1870 section 4: up to 20 digits.
fn size(value: &str) -> Result<u64, CommandError> {
    let is_number = !value.is_empty() && value.len() <= 20 && value.bytes().all(|c| c.is_ascii_digit());
    // 20 digits may exceed 64 bits; such a mail is too large either way.
    is_number.then(|| value.parse().unwrap_or(u64::MAX)).ok_or(CommandError::MalformedParameter("SIZE"))
}

fn body(value: &str) -> Result<Body, CommandError> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" => Ok(Body::SevenBit),
        "8BITMIME" => Ok(Body::EightBitMime),
        "BINARYMIME" => Ok(Body::BinaryMime),
        _ => Err(CommandError::MalformedParameter("BODY")),
    }
}

impl Command {
    /// Whether the command neither names a recipient nor carries a mail on.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Helo(_) | Self::Ehlo(_) | Self::Rset | Self::Noop | Self::Vrfy | Self::Help => true,
            Self::Bdat { size, last } => *size == 0 && !last,
            _ => false,
        }
    }

    /// Whether it uses an extension, which only EHLO offers.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        match self {
            Self::Mail { parameters, .. } => !parameters.is_empty(),
            Self::Bdat { .. } | Self::StartTls => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(line: &str) -> String {
        match parse(line.as_bytes()) {
            Ok(command) => format!("{command:?}").split([' ', '(']).next().unwrap().to_owned(),
            Err(error) => {
                let mut wire = Vec::new();
                error.reply().write_to(&mut wire);
                String::from_utf8(wire).unwrap()[..9].to_owned()
            }
        }
    }

    #[test]
    fn commands_and_their_errors() {
        for (line, expected) in [
            ("HELO client.example.com", "Helo"),
            ("ehlo [192.0.2.1]", "Ehlo"),
            ("EHLO", "501 5.5.4"),
            ("EHLO two names", "501 5.5.4"),
            ("MAIL FROM:<a@example.com>", "Mail"),
            ("mail from:<>", "Mail"),
            ("MAIL FROM: <a@example.com>", "Mail"),
            ("MAIL FROM:<@relay.example,@b.example:a@example.com>", "Mail"),
            ("MAIL FROM:<a@example.com> SIZE=100 BODY=8BITMIME", "Mail"),
            ("MAIL FROM:<\"a>b\"@example.com>", "Mail"),
            ("MAIL FROM:<a@example.com> SIZE=99999999999999999999", "Mail"),
            ("MAIL FROM:<a@example.com> SIZE=-1", "501 5.5.4"),
            ("MAIL FROM:<a@example.com> SIZE=1 SIZE=1", "501 5.5.4"),
            ("MAIL FROM:<a@example.com> BODY=BINARYMIME", "Mail"),
            ("MAIL FROM:<a@example.com> BODY=9BIT", "501 5.5.4"),
            ("MAIL FROM:<\u{fc}@example.com> SMTPUTF8", "Mail"),
            ("MAIL FROM:<a@example.com> SMTPUTF8=1", "501 5.5.4"),
            ("MAIL FROM:<a@example.com> RET=FULL", "555 5.5.4"),
            ("MAIL FROM:<a@example.com>SIZE=1", "501 5.5.4"),
            ("MAIL FROM:a@example.com", "501 5.5.4"),
            ("MAIL FROM:<a@example.com", "501 5.5.4"),
            ("MAIL", "501 5.5.4"),
            ("MAIL FROM:<a>", "501 5.1.7"),
            ("MAIL FROM:<\u{fc}@example.com>", "553 5.6.7"),
            ("RCPT TO:<a@example.com>", "Rcpt"),
            ("RCPT TO:<Postmaster>", "Rcpt"),
            ("RCPT TO:<@a.example>", "501 5.5.4"),
            ("RCPT TO:<>", "501 5.1.3"),
            ("RCPT TO:<a@example.com> NOTIFY=NEVER", "555 5.5.4"),
            ("RCPT TO:<a..b@example.com>", "501 5.1.3"),
            ("DATA", "Data"),
            ("DATA  ", "Data"),
            ("DATA now", "501 5.5.4"),
            ("NOOP anything", "Noop"),
            ("VRFY", "501 5.5.4"),
            ("VRFY a", "Vrfy"),
            ("BDAT 10", "Bdat"),
            ("BDAT 0 last", "Bdat"),
            ("BDAT", "501 5.5.4"),
            ("BDAT -1", "501 5.5.4"),
            ("BDAT 99999999999999999999", "501 5.5.4"),
            ("BDAT 1 LAST now", "501 5.5.4"),
            ("STARTTLS", "StartTls"),
            ("STARTTLS now", "501 5.5.4"),
            ("GET / HTTP/1.1", "554 5.5.1"),
            ("POST http://x/ HTTP/1.1", "554 5.5.1"),
            ("", "500 5.5.1"),
            ("NOOP\nQUIT", "500 5.5.2"),
            ("NOOP\rQUIT", "500 5.5.2"),
            ("NOOP\0", "500 5.5.2"),
        ] {
            assert_eq!(code(line), expected, "{line:?}");
        }
        assert_eq!(
            parse(b"RCPT TO:<\xfc@example.com>"),
            Err(CommandError::ForwardPath(AddressError::NotAscii))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_command_or_an_error(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&line);
        }

        #[test]
        fn any_argument_is_parsed_or_refused(line in "(MAIL FROM:|RCPT TO:)[ <>@a.\"\\\\=:SIZE\\[\\]]{0,40}") {
            let _ = parse(line.as_bytes());
        }
    }
}
