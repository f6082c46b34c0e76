//! Mail, by SMTP.
//!
//! **Invariant:** a delivery takes no longer than the configuration allows.
//!
//! Called by the notifier.

pub(super) mod queue;

use std::time::SystemTime;

use elvs_model::health::{Mail, MailServer};
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp;
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::time::timeout;

/// A line of a mail has 998 characters at most (RFC 5322 section 2.1.1), of which `Subject: ` takes some.
const LONGEST_SUBJECT: usize = 980;

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum MailError {
    /// An address is none.
    #[error("`{address}` is no mail address: {source}")]
    Address {
        /// As it stands in the configuration.
        address: String,
        /// What is wrong.
        source: lettre::address::AddressError,
    },
    /// The mail cannot be put together.
    #[error("it cannot be put together: {0}")]
    Message(#[from] lettre::error::Error),
    /// The server was not reached or refused.
    #[error("{server} did not take it: {source}")]
    Server {
        /// The server.
        server: String,
        /// What went wrong, with its causes.
        source: Box<smtp::Error>,
    },
    /// It took too long.
    #[error("{server} did not take it within {seconds} s (smtp_connect_timeout)")]
    Timeout {
        /// The server.
        server: String,
        /// The limit.
        seconds: u64,
    },
}

impl MailError {
    /// Whether another try would end like this one: the mail itself is at fault, or the server does not want it
    /// (RFC 5321 section 4.2.1, 5yz: "should not repeat the exact request").
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Address { .. } | Self::Message(_) => true,
            Self::Server { source, .. } => source.is_permanent(),
            Self::Timeout { .. } => false,
        }
    }
}

/// Sends one mail, about what happened at `date`, to all receivers.
pub(super) async fn send(
    settings: &Mail,
    subject: &str,
    body: String,
    date: SystemTime,
) -> Result<(), MailError> {
    let message = compose(settings, subject, body, date)?;
    let (host, port) = match &settings.server {
        MailServer::Address(address) => (address.ip().to_string(), address.port()),
        MailServer::Name { host, port } => (host.clone(), *port),
    };
    let server = format!("mail server {host} port {port}");
    // As keepalived: plain SMTP, to a server that trusts this host.
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(port)
        .timeout(Some(settings.timeout))
        .hello_name(ClientId::Domain(settings.helo_name.clone().unwrap_or_else(host_name)))
        .build();
    match timeout(settings.timeout, transport.send(message)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(source)) => Err(MailError::Server { server, source: Box::new(source) }),
        Err(_) => Err(MailError::Timeout { server, seconds: settings.timeout.as_secs() }),
    }
}

fn compose(
    settings: &Mail,
    subject: &str,
    body: String,
    date: SystemTime,
) -> Result<Message, MailError> {
    let mut message: MessageBuilder = Message::builder().from(mailbox(&settings.from)?).date(date);
    message = if subject.is_ascii() && subject.len() <= LONGEST_SUBJECT {
        // As keepalived: on one line, on which filters match.
        let (name, text) = (HeaderName::new_from_ascii_str("Subject"), subject.to_owned());
        message.raw_header(HeaderValue::dangerous_new_pre_encoded(name, text.clone(), text))
    } else {
        message.subject(subject)
    };
    for receiver in &settings.to {
        message = message.to(mailbox(receiver)?);
    }
    Ok(message.header(ContentType::TEXT_PLAIN).body(body)?)
}

fn mailbox(address: &str) -> Result<Mailbox, MailError> {
    let failed = |source| MailError::Address { address: address.to_owned(), source };
    address.parse().map_err(failed)
}

/// What this host calls itself.
pub(super) fn host_name() -> String {
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use elvs_model::health::{Mail, MailServer};

    use super::{MailError, compose};

    fn settings() -> Mail {
        Mail {
            server: MailServer::Address(([192, 0, 2, 1], 25).into()),
            helo_name: None,
            timeout: Duration::from_secs(1),
            from: "lvs@example.org".to_owned(),
            to: vec!["Ops <ops@example.org>".to_owned(), "noc@example.org".to_owned()],
        }
    }

    #[test]
    fn a_mail_names_all_receivers_and_its_subject() {
        let subject =
            "[lb1] Realserver [192.0.2.11]:tcp:80 of virtual server [192.0.2.1]:tcp:80 - DOWN";
        let message = compose(&settings(), subject, "=> LOST <=".to_owned(), UNIX_EPOCH).unwrap();
        let text = String::from_utf8(message.formatted()).unwrap();
        assert!(text.contains("From: lvs@example.org\r\n"), "{text}");
        assert!(text.contains("ops@example.org") && text.contains("noc@example.org"), "{text}");
        assert!(text.contains(&format!("Subject: {subject}\r\n")), "{text}");
        assert!(text.ends_with("=> LOST <="), "{text}");
        assert!(text.contains("Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"), "when it was: {text}");
    }

    #[test]
    fn what_is_no_address_is_named() {
        let wrong = Mail { to: vec!["nobody".to_owned()], ..settings() };
        let error = compose(&wrong, "s", String::new(), UNIX_EPOCH).unwrap_err();
        assert!(error.is_final(), "no use to try it again");
        assert!(matches!(&error, MailError::Address { address, .. } if address == "nobody"));
    }
}
