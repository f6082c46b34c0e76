//! What a datagram from a name server is worth.
//!
//! **Invariant:** total: any bytes are an answer, an error or no answer to the question.
//!
//! Called by the driver of `DNS_CHECK`.

use hickory_proto::op::{Header, MessageType, ResponseCode};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsReply {
    /// No answer to this question: too short, of another one, or a question itself. keepalived waits on, too.
    Other,
    /// An answer without error, with so many records.
    Answer(u16),
    /// An answer that says that something is wrong.
    Error(ResponseCode),
}

impl DnsReply {
    /// Judges a datagram by its header, as keepalived does: what is in the records is not looked at.
    pub fn parse(bytes: &[u8], id: u16) -> Self {
        let Ok(header) = Header::read(&mut BinDecoder::new(bytes)) else { return Self::Other };
        let metadata = header.metadata;
        if metadata.id != id || metadata.message_type != MessageType::Response {
            return Self::Other;
        }
        if metadata.response_code == ResponseCode::NoError {
            Self::Answer(header.counts.answers)
        } else {
            Self::Error(metadata.response_code)
        }
    }
}

#[cfg(test)]
mod tests;
