//! `DNS_CHECK`: the name server answers a question without error.
//!
//! **Invariant:** the whole check ends within `connect_timeout`; datagrams that answer another question are skipped.
//!
//! Called by [`crate::Prober`].

mod reply;

use std::io;
use std::time::Duration;

use elvs_model::health::{DnsCheck, DnsType, Finding};
use hickory_proto::ProtoError;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use thiserror::Error;
use tokio::net::UdpSocket;
use tokio::time::timeout;

pub use self::reply::DnsReply;
use crate::connect::{self, ConnectError};
use crate::words;

/// Runs the check once.
pub(crate) async fn run(check: &DnsCheck) -> Finding {
    match ask(check).await {
        Ok(records) => {
            let noun = if records == 1 { "record" } else { "records" };
            Finding::passed(format!("DNS answer without error, {records} {noun}"))
        }
        Err(error) => Finding::failed(error.to_string()),
    }
}

/// Why a name server has failed.
#[derive(Debug, Error)]
enum AskError {
    #[error("{0} is no name to ask for")]
    Name(String),
    #[error("no question can be made: {0}")]
    Question(#[source] ProtoError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{}", words::error(.0))]
    Lost(#[source] io::Error),
    #[error("no DNS answer within {}", words::time(*.0))]
    Timeout(Duration),
    #[error("DNS error: {0}")]
    Answer(hickory_proto::op::ResponseCode),
}

async fn ask(check: &DnsCheck) -> Result<u16, AskError> {
    let name = Name::from_ascii(&check.name);
    let mut name = name.map_err(|_invalid| AskError::Name(check.name.clone()))?;
    name.set_fqdn(true);
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, record(check.record)));
    let question = message.to_vec().map_err(AskError::Question)?;
    let socket = connect::udp(&check.target)?;
    let after = check.target.timeout;
    let exchange = exchange(&socket, &question, message.metadata.id);
    timeout(after, exchange).await.map_err(|_elapsed| AskError::Timeout(after))?
}

async fn exchange(socket: &UdpSocket, question: &[u8], id: u16) -> Result<u16, AskError> {
    socket.send(question).await.map_err(AskError::Lost)?;
    let mut buffer = [0; DATAGRAM];
    loop {
        let length = connect::datagram(socket, &mut buffer).await.map_err(AskError::Lost)?;
        match DnsReply::parse(buffer.get(..length).unwrap_or_default(), id) {
            DnsReply::Other => {}
            DnsReply::Answer(records) => return Ok(records),
            DnsReply::Error(code) => return Err(AskError::Answer(code)),
        }
    }
}

const fn record(kind: DnsType) -> RecordType {
    match kind {
        DnsType::A => RecordType::A,
        DnsType::Ns => RecordType::NS,
        DnsType::Cname => RecordType::CNAME,
        DnsType::Soa => RecordType::SOA,
        DnsType::Mx => RecordType::MX,
        DnsType::Txt => RecordType::TXT,
        DnsType::Aaaa => RecordType::AAAA,
        DnsType::Rrsig => RecordType::RRSIG,
        DnsType::Dnskey => RecordType::DNSKEY,
    }
}

/// Bytes of an answer that are read: no EDNS is sent, so no more than 512 come (RFC 1035, 4.2.1); of what comes
/// beyond nothing is needed.
const DATAGRAM: usize = 512;
