//! The protocol machine: command lines in, [`Action`]s out. Pure: it never sees a socket, a clock
//! or a route table.

use std::borrow::Cow;
use std::num::NonZeroU32;

use crate::address::{Address, AddressError, ReversePath};
use crate::message::id::MailId;

use super::command::{self, Body, Command, CommandError, MailParameters};
use super::limits::{COMMANDS_MAX, ERRORS_MAX, IDLE_COMMANDS_MAX, RECIPIENTS_MAX};
use super::reply::Reply;

/// The reply to a recipient that nobody takes mail for.
const UNKNOWN_RECIPIENT: u16 = 550;

/// What a session is told about itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name in the greeting and in the reply to EHLO.
    pub hostname: String,
    /// Octets of a mail: RFC 1870.
    pub message_bytes_max: usize,
    /// The unknown recipient that ends the session; `None` never does.
    pub unknown_recipients_max: Option<NonZeroU32>,
    /// What is said about TLS.
    pub tls: TlsPolicy,
}

/// Whether a session may, or must, be secured by TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsPolicy {
    /// STARTTLS is not offered.
    Off,
    /// STARTTLS is offered.
    Opportunistic,
    /// Mail is taken over TLS alone.
    Require,
}

/// What the shell around the machine has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<D> {
    /// Send the reply, then read the next line.
    Reply(Reply),
    /// Look the recipient up, then call [`Protocol::on_recipient`].
    LookUp(Address),
    /// Send the reply, read content up to CRLF `.` CRLF, then call [`Protocol::on_content_end`].
    Receive(Reply),
    /// Read so many octets of content, then call [`Protocol::on_chunk_end`].
    ReceiveChunk(u64),
    /// Read so many octets, throw them away, then send the reply.
    Discard(u64, Reply),
    /// Deliver what was received, then call [`Protocol::on_message`].
    Deliver(Transaction<D>),
    /// Forget what the client sent behind the command (RFC 3207 section 4.2, CVE-2011-0411), send
    /// the reply, do the handshake, and go on with [`Protocol::secured`].
    StartTls(Reply),
    /// Send the reply, then close the connection.
    Close(Reply),
}

/// A mail between `MAIL` and the end of its content; `D` is where a recipient's mail goes.
#[derive(Debug, PartialEq, Eq)]
pub struct Transaction<D> {
    /// Who is told when the mail cannot be delivered.
    pub reverse_path: ReversePath,
    /// The recipients in the order of `RCPT`, each once.
    pub recipients: Vec<(Address, D)>,
    /// What `MAIL` said besides.
    pub parameters: MailParameters,
}

impl<D> Transaction<D> {
    /// The id of the mail whose content has this SHA-256, the same whenever it is sent again.
    #[must_use]
    pub fn derived_id(&self, content: &[u8; 32]) -> MailId {
        let recipients: Vec<&str> = self.recipients.iter().map(|(recipient, _)| recipient.key()).collect();
        MailId::derived(self.reverse_path.as_str(), &recipients, content)
    }
}

/// Where a session stands (RFC 5321 section 4.1.4).
#[derive(Debug, PartialEq, Eq)]
enum State<D> {
    /// Before HELO or EHLO.
    Greeting,
    /// Between mails.
    Ready,
    /// After MAIL.
    Transaction(Transaction<D>),
    /// After DATA, up to the end of the content.
    Receiving(Transaction<D>),
    /// Within or between chunks; whether the present one is the last.
    Chunking { transaction: Transaction<D>, octets: u64, last: bool },
    /// The mail is being delivered; the machine waits for [`Protocol::on_message`].
    Delivering,
}

/// One session of RFC 5321.
#[derive(Debug)]
pub struct Protocol<D> {
    settings: Settings,
    state: State<D>,
    /// What the client called itself.
    client: String,
    extended: bool,
    secured: bool,
    commands: u32,
    idle_commands: u32,
    errors: u32,
    unknown_recipients: u32,
}

impl<D> Protocol<D> {
    /// A session that has just been accepted.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: State::Greeting,
            client: String::new(),
            extended: false,
            secured: false,
            commands: 0,
            idle_commands: 0,
            errors: 0,
            unknown_recipients: 0,
        }
    }

    /// The first thing to send.
    #[must_use]
    pub fn greeting(&self) -> Reply {
        Reply::plain(220, vec![format!("{} ESMTP MailLaser", self.settings.hostname).into()])
    }

    /// The session after a TLS handshake: it begins anew, with EHLO (RFC 3207 section 4.2). What it
    /// has used up of its limits stays used up.
    #[must_use]
    pub fn secured(self) -> Self {
        Self { state: State::Greeting, extended: false, secured: true, ..self }
    }

    /// What the client called itself, last.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }

    /// The protocol as a `Received` header names it: RFC 3848, RFC 6531.
    #[must_use]
    pub fn with(&self, smtputf8: bool) -> &'static str {
        match (smtputf8, self.extended, self.secured) {
            (true, _, false) => "UTF8SMTP",
            (true, _, true) => "UTF8SMTPS",
            (false, true, false) => "ESMTP",
            (false, true, true) => "ESMTPS",
            (false, false, _) => "SMTP",
        }
    }

    /// Whether a mail has been begun: a session that is asked to end finishes it first.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        !matches!(self.state, State::Greeting | State::Ready)
    }

    /// The mail whose recipients are being named.
    #[must_use]
    pub fn transaction(&self) -> Option<&Transaction<D>> {
        match &self.state {
            State::Transaction(transaction) => Some(transaction),
            _ => None,
        }
    }

    /// Takes a command line, given without its CRLF.
    pub fn on_line(&mut self, line: &[u8]) -> Action<D> {
        let action = match command::parse(line) {
            Ok(command) => {
                self.idle_commands += u32::from(command.is_idle());
                self.on_command(command)
            }
            // Where no mail can begin, its parameters do not matter.
            Err(CommandError::UnknownParameter | CommandError::MalformedParameter(_))
                if matches!(self.state, State::Greeting) =>
            {
                Action::Reply(bad_sequence("send EHLO first"))
            }
            // What follows would be taken for commands.
            Err(error @ (CommandError::UnreadableChunk | CommandError::OtherProtocol)) => {
                Action::Close(error.reply())
            }
            Err(error) => Action::Reply(error.reply()),
        };
        self.within_limits(action)
    }

    /// Takes notice of a line that was too long to keep.
    pub fn on_long_line(&mut self) -> Action<D> {
        self.within_limits(Action::Reply(Reply::new(500, "5.5.6", "Line too long")))
    }

    /// Takes the answer to [`Action::LookUp`]: where the recipient's mail goes, or `None` when
    /// nobody knows it.
    pub fn on_recipient(&mut self, address: Address, destination: Option<D>) -> Action<D> {
        let State::Transaction(transaction) = &mut self.state else {
            return Action::Reply(bad_sequence("send MAIL first"));
        };
        if !address.is_ascii() && !transaction.parameters.smtputf8 {
            return self
                .within_limits(Action::Reply(CommandError::ForwardPath(AddressError::NotAscii).reply()));
        }
        let Some(destination) = destination else {
            return self.on_unknown_recipient();
        };
        if !transaction.recipients.iter().any(|(known, _)| known.key() == address.key()) {
            if transaction.recipients.len() >= RECIPIENTS_MAX {
                return self.on_too_many("Too many recipients");
            }
            transaction.recipients.push((address, destination));
        }
        self.within_limits(Action::Reply(Reply::new(250, "2.1.5", "Recipient ok")))
    }

    /// Takes the answer to [`Action::LookUp`] when the mail would have more destinations with this recipient than it
    /// may have at once.
    pub fn on_too_many_destinations(&mut self) -> Action<D> {
        self.on_too_many("Too many destinations for one mail of this size")
    }

    /// Takes the answer to [`Action::LookUp`] when this recipient's destination, or the one that the mail has, does not take
    /// mail now: the others get theirs in a transaction without it.
    pub fn on_destination_for_itself(&mut self) -> Action<D> {
        self.on_too_many("Not in one mail with the recipients before, send it to this one alone")
    }

    /// Takes the answer to [`Action::LookUp`] while it is not known yet whether somebody knows the recipient.
    pub fn on_recipient_not_yet_known(&mut self) -> Action<D> {
        self.within_limits(Action::Reply(Reply::new(
            451,
            "4.3.0",
            "Recipients are not known yet, try again later",
        )))
    }

    /// Ends the content that [`Action::Receive`] asked for.
    pub fn on_content_end(&mut self) -> Action<D> {
        match std::mem::replace(&mut self.state, State::Delivering) {
            State::Receiving(transaction) => Action::Deliver(transaction),
            state => {
                self.state = state;
                Action::Reply(bad_sequence("send DATA first"))
            }
        }
    }

    /// Ends the chunk that [`Action::ReceiveChunk`] asked for. Content that is not taken ends the mail
    /// like its last chunk: what is still to come of it has no transaction any more.
    pub fn on_chunk_end(&mut self, is_taken: bool) -> Action<D> {
        match std::mem::replace(&mut self.state, State::Delivering) {
            State::Chunking { transaction, last, .. } if last || !is_taken => Action::Deliver(transaction),
            State::Chunking { transaction, octets, last } => {
                self.state = State::Chunking { transaction, octets, last };
                let reply = Reply::new(250, "2.0.0", format!("{octets} octets received"));
                // The size limit bounds how many chunks bring something, and nothing else those
                // that bring nothing.
                if octets == 0 { self.within_limits(Action::Reply(reply)) } else { Action::Reply(reply) }
            }
            state => {
                self.state = state;
                Action::Reply(bad_sequence("send BDAT first"))
            }
        }
    }

    /// Ends the mail that [`Action::Deliver`] asked for with the reply that it gets.
    pub fn on_message(&mut self, reply: Reply) -> Action<D> {
        self.state = State::Ready;
        if !reply.is_error() {
            (self.commands, self.idle_commands, self.errors) = (0, 0, 0);
        }
        self.within_limits(Action::Reply(reply))
    }

    /// The reply to a client that is idle while the server shuts down.
    #[must_use]
    pub fn shutting_down() -> Reply {
        Reply::new(421, "4.3.2", "Shutting down, try again later")
    }

    /// The reply to a client that has been silent for too long: RFC 5321 section 4.5.3.2.
    #[must_use]
    pub fn timed_out() -> Reply {
        Reply::new(421, "4.4.2", "Idle for too long")
    }

    /// The reply to content below the minimum rate.
    #[must_use]
    pub fn too_slow() -> Reply {
        Reply::new(421, "4.4.2", "The mail comes too slowly, try again")
    }

    /// The reply to the slowest transfer when `resource` is short.
    #[must_use]
    pub fn slowest(resource: &str) -> Reply {
        Reply::new(
            421,
            "4.3.2",
            format!("Too little {resource}, and your mail comes slowest: try again later"),
        )
    }

    /// The reply to a line that does not end.
    #[must_use]
    pub fn endless_line() -> Reply {
        Reply::new(421, "4.7.0", "Line does not end, good-bye")
    }

    fn on_command(&mut self, command: Command) -> Action<D> {
        if command.is_extended() && !self.extended {
            return match command {
                Command::Bdat { size, .. } => Action::Discard(size, bad_sequence("send EHLO first")),
                Command::StartTls => Action::Reply(bad_sequence("send EHLO first")),
                // Where no mail can begin, its parameters do not matter.
                _ => Action::Reply(
                    self.no_mail_now().unwrap_or_else(|| CommandError::UnknownParameter.reply()),
                ),
            };
        }
        match command {
            Command::Helo(name) => self.on_hello(name, false),
            Command::Ehlo(name) => self.on_hello(name, true),
            Command::Mail { reverse_path, parameters } => self.on_mail(reverse_path, parameters),
            Command::Rcpt(address) => match self.state {
                State::Transaction(_) => Action::LookUp(address),
                _ => Action::Reply(bad_sequence("send MAIL first")),
            },
            Command::Data => self.on_data(),
            Command::Bdat { size, last } => self.on_bdat(size, last),
            Command::StartTls => self.on_start_tls(),
            Command::Rset => {
                self.abandon();
                Action::Reply(Reply::new(250, "2.0.0", "Ok"))
            }
            Command::Noop => Action::Reply(Reply::new(250, "2.0.0", "Ok")),
            Command::Vrfy => {
                Action::Reply(Reply::new(252, "2.5.0", "Cannot verify; send the mail and it will be tried"))
            }
            Command::Help => Action::Reply(Reply::new(
                214,
                "2.0.0",
                "HELO EHLO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT; see RFC 5321",
            )),
            Command::Quit => {
                self.abandon();
                Action::Close(Reply::new(221, "2.0.0", "Bye"))
            }
        }
    }

    fn on_hello(&mut self, name: String, extended: bool) -> Action<D> {
        self.state = State::Ready;
        self.client = name;
        self.extended = extended;
        let mut lines: Vec<Cow<'static, str>> = vec![self.settings.hostname.clone().into()];
        if extended {
            let offered =
                ["PIPELINING", "8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8", "ENHANCEDSTATUSCODES"];
            lines.extend(offered.map(Cow::from));
            lines.push(format!("SIZE {}", self.settings.message_bytes_max).into());
            if self.offers_tls() {
                lines.push("STARTTLS".into());
            }
        }
        Action::Reply(Reply::plain(250, lines))
    }

    fn on_mail(&mut self, reverse_path: ReversePath, parameters: MailParameters) -> Action<D> {
        if let Some(reply) = self.no_mail_now() {
            return Action::Reply(reply);
        }
        if self.settings.tls == TlsPolicy::Require && !self.secured {
            return Action::Reply(Reply::new(530, "5.7.0", "Must issue a STARTTLS command first"));
        }
        let declared = parameters.size.unwrap_or(0);
        if usize::try_from(declared).map_or(true, |bytes| bytes > self.settings.message_bytes_max) {
            return Action::Reply(self.too_large());
        }
        self.state = State::Transaction(Transaction { reverse_path, recipients: Vec::new(), parameters });
        Action::Reply(Reply::new(250, "2.1.0", "Sender ok"))
    }

    /// Why no mail can begin here, if none can.
    fn no_mail_now(&self) -> Option<Reply> {
        match self.state {
            State::Ready => None,
            State::Greeting => Some(bad_sequence("send EHLO first")),
            _ => Some(bad_sequence("a mail has been begun")),
        }
    }

    /// The reply to a mail that is larger than the server takes: RFC 1870 section 6.
    #[must_use]
    pub fn too_large(&self) -> Reply {
        let limit = self.settings.message_bytes_max;
        Reply::new(552, "5.3.4", format!("Mail is larger than the limit of {limit} bytes"))
    }

    fn on_data(&mut self) -> Action<D> {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Transaction(transaction) if transaction.parameters.body == Some(Body::BinaryMime) => {
                self.state = State::Transaction(transaction);
                Action::Reply(bad_sequence("a mail with BODY=BINARYMIME needs BDAT"))
            }
            State::Transaction(transaction) if !transaction.recipients.is_empty() => {
                self.state = State::Receiving(transaction);
                Action::Receive(Reply::plain(354, vec!["End data with <CRLF>.<CRLF>".into()]))
            }
            state => {
                let reply = no_transaction(&state);
                self.state = state;
                Action::Reply(reply)
            }
        }
    }

    /// RFC 3030 section 2: the octets follow whatever the command is answered.
    fn on_bdat(&mut self, octets: u64, last: bool) -> Action<D> {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Chunking { transaction, .. } => {
                self.state = State::Chunking { transaction, octets, last };
                Action::ReceiveChunk(octets)
            }
            State::Transaction(transaction) if !transaction.recipients.is_empty() => {
                self.state = State::Chunking { transaction, octets, last };
                Action::ReceiveChunk(octets)
            }
            state => {
                let reply = no_transaction(&state);
                self.state = state;
                Action::Discard(octets, reply)
            }
        }
    }

    fn offers_tls(&self) -> bool {
        self.settings.tls != TlsPolicy::Off && !self.secured
    }

    fn on_start_tls(&mut self) -> Action<D> {
        if self.offers_tls() {
            self.abandon();
            Action::StartTls(Reply::new(220, "2.0.0", "Ready to start TLS"))
        } else if self.secured {
            Action::Reply(bad_sequence("TLS is active already"))
        } else {
            Action::Reply(CommandError::NotImplemented.reply())
        }
    }

    fn on_unknown_recipient(&mut self) -> Action<D> {
        self.unknown_recipients = self.unknown_recipients.saturating_add(1);
        if self.settings.unknown_recipients_max.is_some_and(|max| self.unknown_recipients >= max.get()) {
            return Action::Close(Reply::new(421, "4.7.0", "Too many unknown recipients"));
        }
        self.within_limits(Action::Reply(Reply::new(UNKNOWN_RECIPIENT, "5.1.1", "No such recipient here")))
    }

    /// RFC 5321 section 4.5.3.1.10: the client sends the mail to those that were accepted, and to the others later. That
    /// is no error of it, however many they are.
    fn on_too_many(&mut self, what: &'static str) -> Action<D> {
        self.count(Action::Reply(Reply::new(452, "4.5.3", what)), false)
    }

    fn abandon(&mut self) {
        if self.in_transaction() {
            self.state = State::Ready;
        }
    }

    /// Counts the command behind `action` and closes the session where a limit is reached.
    fn within_limits(&mut self, action: Action<D>) -> Action<D> {
        let (Action::Reply(reply) | Action::Discard(_, reply)) = &action else {
            return action;
        };
        // Unknown recipients have a limit of their own.
        let is_error = reply.is_error() && reply.code() != UNKNOWN_RECIPIENT;
        self.count(action, is_error)
    }

    fn count(&mut self, action: Action<D>, is_error: bool) -> Action<D> {
        self.commands += 1;
        self.errors += u32::from(is_error);
        if self.errors >= ERRORS_MAX {
            return Action::Close(Reply::new(421, "4.7.0", "Too many errors"));
        }
        if self.idle_commands > IDLE_COMMANDS_MAX || self.commands >= COMMANDS_MAX {
            return Action::Close(Reply::new(421, "4.7.0", "Too many commands"));
        }
        action
    }
}

/// Why content is not taken now.
fn no_transaction<D>(state: &State<D>) -> Reply {
    match state {
        // RFC 5321 section 3.3: 554 when no recipient was accepted.
        State::Transaction(_) => Reply::new(554, "5.5.1", "No valid recipients"),
        _ => bad_sequence("send MAIL and RCPT first"),
    }
}

fn bad_sequence(hint: &'static str) -> Reply {
    Reply::new(503, "5.5.1", format!("Bad sequence of commands: {hint}"))
}

#[cfg(test)]
mod tests;
