//! Checks: what is tried to learn whether a real server works, and when.
//!
//! **Invariant:** limits are those of keepalived 2.4; numbers outside of them are refused where text becomes a type.
//!
//! Part of [`crate::health`].

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::notify::Script;
use crate::{ForwardingMethod, Protocol};

/// A check with the times at which it runs. Equal checks are run once, whoever asks for them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Check {
    /// What is tried.
    pub kind: CheckKind,
    /// When.
    pub schedule: Schedule,
}

impl Check {
    /// Failures of a check that is up which are tried again before one counts; `None` where a failure says nothing of
    /// the real server.
    pub const fn retries(&self) -> Option<u32> {
        match &self.kind {
            // As HAProxy has it (src/check.c): an agent that cannot be heard says nothing of its server.
            CheckKind::Agent(_) => None,
            // A file is as it is read, and a session of BFD has counted already.
            CheckKind::File(_) | CheckKind::Bfd(_) => Some(0),
            CheckKind::Tcp(_)
            | CheckKind::Http(_)
            | CheckKind::Smtp(_)
            | CheckKind::Dns(_)
            | CheckKind::Misc(_)
            | CheckKind::Ping(_)
            | CheckKind::Udp(_)
            | CheckKind::Path(_) => Some(self.schedule.retry),
        }
    }
}

/// When a check runs, and how many failures count (keepalived: `check_api.c`, `check_parser.c`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Schedule {
    /// `delay_loop`: from one run to the next; above zero.
    pub delay_loop: Duration,
    /// `retry`: further tries after the first failure of a check that is up.
    pub retry: u32,
    /// `delay_before_retry`: from a failure to the next try; above zero.
    pub delay_before_retry: Duration,
    /// `warmup`: the first run is up to this much late, by chance; `None` = up to `delay_loop`.
    pub warmup: Option<Duration>,
    /// `alpha`: down until the first success.
    pub alpha: bool,
    /// `log_all_failures`: every failed try is logged, not only the one that counts.
    pub log_all_failures: bool,
}

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// `TCP_CHECK`.
    Tcp(TcpCheck),
    /// `HTTP_GET` and `SSL_GET`.
    Http(HttpCheck),
    /// `SMTP_CHECK`.
    Smtp(SmtpCheck),
    /// `DNS_CHECK`.
    Dns(DnsCheck),
    /// `MISC_CHECK`.
    Misc(MiscCheck),
    /// `PING_CHECK`.
    Ping(PingCheck),
    /// `UDP_CHECK`.
    Udp(UdpCheck),
    /// `FILE_CHECK`.
    File(FileCheck),
    /// `BFD_CHECK`.
    Bfd(BfdCheck),
    /// `PATH_CHECK`, which keepalived does not have.
    Path(PathCheck),
    /// `AGENT_CHECK`, which keepalived does not have.
    Agent(AgentCheck),
}

impl CheckKind {
    /// The keyword.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "TCP_CHECK",
            Self::Http(HttpCheck { tls: None, .. }) => "HTTP_GET",
            Self::Http(_) => "SSL_GET",
            Self::Smtp(_) => "SMTP_CHECK",
            Self::Dns(_) => "DNS_CHECK",
            Self::Misc(_) => "MISC_CHECK",
            Self::Ping(_) => "PING_CHECK",
            Self::Udp(_) => "UDP_CHECK",
            Self::File(_) => "FILE_CHECK",
            Self::Bfd(_) => "BFD_CHECK",
            Self::Path(_) => "PATH_CHECK",
            Self::Agent(_) => "AGENT_CHECK",
        }
    }
}

/// Where a check connects to, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// `connect_ip` and `connect_port`, by default those of the real server; port 0 where the check has none.
    pub address: SocketAddr,
    /// `bindto`: address to connect from.
    #[serde(default)]
    pub source: Option<IpAddr>,
    /// `bind_port`: port to connect from.
    #[serde(default)]
    pub source_port: Option<u16>,
    /// `bind_if`: interface to connect by.
    #[serde(default)]
    pub interface: Option<String>,
    /// `fwmark` of the packets; 0 = none.
    #[serde(default)]
    pub mark: u32,
    /// `connect_timeout`: longest that one try may take (of HTTP and SMTP: each step of it).
    pub timeout: Duration,
}

/// `TCP_CHECK`: a connection opens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TcpCheck {
    /// Where to.
    pub target: Target,
}

/// `HTTP_GET` and `SSL_GET`: every URL is answered as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HttpCheck {
    /// Where to.
    pub target: Target,
    /// TLS, of `SSL_GET`.
    #[serde(default)]
    pub tls: Option<TlsClient>,
    /// `http_protocol`.
    pub version: HttpVersion,
    /// `virtualhost` where a URL has none of its own.
    #[serde(default)]
    pub virtual_host: Option<String>,
    /// `fast_recovery`: the first success of one URL counts for all, when the check was down.
    #[serde(default)]
    pub fast_recovery: bool,
    /// The URLs, tried in order; never empty.
    pub urls: Vec<UrlCheck>,
}

/// Version of the request (`http_protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HttpVersion {
    /// HTTP/1.0 as keepalived's default sends it.
    #[default]
    #[serde(rename = "1.0")]
    V1_0,
    /// HTTP/1.0 with `Connection: close`.
    #[serde(rename = "1.0C")]
    V1_0Close,
    /// HTTP/1.1.
    #[serde(rename = "1.1")]
    V1_1,
    /// HTTP/1.1 with `Connection: close`.
    #[serde(rename = "1.1C")]
    V1_1Close,
}

/// TLS of `SSL_GET`. As in keepalived the server's certificate is not verified unless the `SSL` block names a `ca`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsClient {
    /// Name of the server name indication; `None` = none is sent.
    pub server_name: Option<String>,
    /// `tls_compliant`: a connection that ends without `close_notify` is a failure.
    pub compliant: bool,
    /// `ca` of the `SSL` block.
    pub ca: Option<PathBuf>,
    /// `certificate` of the `SSL` block.
    pub certificate: Option<PathBuf>,
    /// `key` of the `SSL` block.
    pub key: Option<PathBuf>,
    /// `password` of the key.
    pub password: Option<String>,
}

/// One `url`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UrlCheck {
    /// `path`, beginning with `/`.
    pub path: String,
    /// `virtualhost` of this URL.
    #[serde(default)]
    pub virtual_host: Option<String>,
    /// `status_code`; 200-299 if it is not given.
    #[serde(default)]
    pub status: Vec<StatusRange>,
    /// `digest`: MD5 of the body.
    #[serde(default)]
    pub digest: Option<[u8; 16]>,
    /// `regex`.
    #[serde(default)]
    pub regex: Option<RegexRule>,
    /// `tls_compliant` of this URL.
    #[serde(default)]
    pub tls_compliant: bool,
}

/// Status codes from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StatusRange {
    /// First, from 100 to 999.
    pub first: u16,
    /// Last, not below the first.
    pub last: u16,
}

/// `regex` with its options; a Perl-compatible expression (pcre2pattern(3)).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RegexRule {
    /// The expression.
    pub pattern: String,
    /// `regex_no_match`: a match is a failure.
    #[serde(default)]
    pub must_not_match: bool,
    /// `regex_options`, as typed (`caseless`, `multiline`, ...), sorted, each once.
    #[serde(default)]
    pub options: Vec<String>,
    /// `regex_min_offset`: a match must begin at this byte of the body or later.
    #[serde(default)]
    pub min_offset: usize,
    /// `regex_max_offset`: a match must begin before this byte; 0 = anywhere.
    #[serde(default)]
    pub max_offset: usize,
}

/// `SMTP_CHECK`: the mail server greets and takes a HELO.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SmtpCheck {
    /// Where to; several by `host` blocks, tried in order; never empty.
    pub targets: Vec<Target>,
    /// `helo_name`.
    pub helo_name: String,
}

/// `DNS_CHECK`: the name server answers a question without error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DnsCheck {
    /// Where to.
    pub target: Target,
    /// `type`.
    pub record: DnsType,
    /// `name`.
    pub name: String,
}

/// Record types that `DNS_CHECK` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DnsType {
    /// IPv4 address.
    A,
    /// Name server.
    Ns,
    /// Other name.
    Cname,
    /// Start of authority.
    #[default]
    Soa,
    /// Mail exchanger.
    Mx,
    /// Text.
    Txt,
    /// IPv6 address.
    Aaaa,
    /// Signature (RFC 4034).
    Rrsig,
    /// Key (RFC 4034).
    Dnskey,
}

/// `MISC_CHECK`: a program ends with 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MiscCheck {
    /// The program.
    pub script: Script,
    /// `misc_timeout`: after this the program is ended and the try has failed; `None` = the next run's time.
    #[serde(default)]
    pub timeout: Option<Duration>,
    /// `misc_dynamic`: an exit code of 2 to 255 is a weight of 0 to 253.
    #[serde(default)]
    pub dynamic: bool,
}

/// `PING_CHECK`: an echo request is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PingCheck {
    /// Where to.
    pub target: Target,
}

/// `UDP_CHECK`: no ICMP error comes back, or a datagram does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UdpCheck {
    /// Where to.
    pub target: Target,
    /// `payload`; keepalived's own if not given.
    #[serde(default)]
    pub payload: Option<Vec<u8>>,
    /// `require_reply`: a datagram must come back.
    #[serde(default)]
    pub require_reply: bool,
    /// What it begins with, if that matters.
    #[serde(default)]
    pub reply: Option<ReplyPattern>,
    /// `min_reply_length`.
    pub min_length: u16,
    /// `max_reply_length`.
    pub max_length: u16,
}

/// Bytes that a reply begins with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReplyPattern {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Which bits of them count; as long as `bytes`.
    pub mask: Vec<u8>,
}

/// `FILE_CHECK`: a number in a file, times a weight.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileCheck {
    /// The file.
    pub file: TrackFile,
    /// `weight`: 0 = a number other than 0 is a failure, else the number times this is added to the weight.
    pub weight: i32,
    /// `reverse`: a weight of 0 fails on 0; another one is subtracted.
    #[serde(default)]
    pub reverse: bool,
}

/// `track_file`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TrackFile {
    /// Its name in the configuration.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// `init_file`: value written when the daemon starts, and whether an existing file is overwritten.
    #[serde(default)]
    pub initial: Option<(i32, bool)>,
}

/// `BFD_CHECK`: a BFD session is up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BfdCheck {
    /// Name of the `bfd_instance`.
    pub instance: String,
}

/// `bfd_instance` (RFC 5880, 5881, 5883).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BfdInstance {
    /// Its name.
    pub name: String,
    /// `neighbor_ip`.
    pub neighbor: IpAddr,
    /// `source_ip`.
    #[serde(default)]
    pub source: Option<IpAddr>,
    /// `min_rx`.
    pub min_rx: Duration,
    /// `min_tx`.
    pub min_tx: Duration,
    /// `idle_tx`: while the session is down.
    pub idle_tx: Duration,
    /// `multiplier`, 1 to 255.
    pub multiplier: u8,
    /// `passive`: waits for the neighbour to begin.
    #[serde(default)]
    pub passive: bool,
    /// `ttl`, `hoplimit`: of packets sent.
    pub ttl: u8,
    /// `max_hops`: hops that packets received may have taken.
    #[serde(default)]
    pub max_hops: u8,
    /// `multihop`: port 4784 (RFC 5883) in place of 3784 (RFC 5881).
    #[serde(default)]
    pub multihop: bool,
}

/// `PATH_CHECK`: a probe that reaches the real server as a client's packet would.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PathCheck {
    /// The VIP that the probe is addressed to.
    pub vip: IpAddr,
    /// The virtual port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The real server.
    pub real_server: IpAddr,
    /// Its port, which differs from the virtual one only with NAT.
    pub real_port: u16,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

/// `AGENT_CHECK`: a line from the real server says what it can take, by HAProxy's agent protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AgentCheck {
    /// Where to.
    pub target: Target,
    /// Sent before the line is read (`agent-send`).
    #[serde(default)]
    pub send: Option<String>,
}
