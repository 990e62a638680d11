//! A mail after SMTP: its identity, its envelope and what stands in it.

pub mod body;
pub mod header;
pub mod html;
pub mod id;
pub mod mailbox;
pub mod multipart;
pub mod parameters;
pub mod parse;
pub mod quoted;
pub mod quoted_string;
pub mod words;

use std::time::SystemTime;

use crate::address::ReversePath;
use id::MailId;

/// A mail as SMTP received it, recipients aside: those belong to destinations.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Names the mail in the payload, in every log line and in the reply.
    pub id: MailId,
    /// When its content had been received.
    pub received_at: SystemTime,
    /// Who is told when it cannot be delivered.
    pub reverse_path: ReversePath,
    /// The value of the `Received` header that this server adds, if it may be shown.
    pub trace: Option<String>,
    /// Header and body with CRLF line ends, as they were sent.
    pub content: Vec<u8>,
}
