//! Keywords of the checkers.
//!
//! **Invariant:** rows only; what a row means is said in the parent module.
//!
//! Part of the table that [`super::KEYWORDS`] joins.

use super::{Context, Keyword};

const CONNECTING: &[Context] = &[
    Context::TcpCheck,
    Context::HttpGet,
    Context::SmtpCheck,
    Context::SmtpHost,
    Context::DnsCheck,
    Context::PingCheck,
    Context::UdpCheck,
];
const ALL_BUT_HOST: &[Context] = &[
    Context::TcpCheck,
    Context::HttpGet,
    Context::SmtpCheck,
    Context::DnsCheck,
    Context::PingCheck,
    Context::UdpCheck,
    Context::MiscCheck,
];
const ALPHA: &[Context] = &[
    Context::TcpCheck,
    Context::HttpGet,
    Context::SmtpCheck,
    Context::DnsCheck,
    Context::PingCheck,
    Context::UdpCheck,
    Context::MiscCheck,
    Context::BfdCheck,
];
const HTTP: &[Context] = &[Context::HttpGet];
const HTTP_AND_URL: &[Context] = &[Context::HttpGet, Context::Url];
const URL: &[Context] = &[Context::Url];
const SMTP: &[Context] = &[Context::SmtpCheck];
const DNS: &[Context] = &[Context::DnsCheck];
const MISC: &[Context] = &[Context::MiscCheck];
const UDP: &[Context] = &[Context::UdpCheck];
const BFD: &[Context] = &[Context::BfdCheck];
const FILE: &[Context] = &[Context::FileCheck];

/// The rows.
pub(super) const ROWS: &[Keyword] = &[
    Keyword::new("connect_ip", CONNECTING).takes(1, 1, "ADDRESS"),
    Keyword::new("connect_port", CONNECTING).takes(1, 1, "PORT"),
    Keyword::new("bindto", CONNECTING).takes(1, 1, "ADDRESS"),
    Keyword::new("bind_port", CONNECTING).takes(1, 1, "PORT"),
    Keyword::new("bind_if", CONNECTING).takes(1, 1, "INTERFACE"),
    Keyword::new("connect_timeout", CONNECTING).takes(1, 1, "SECONDS"),
    Keyword::new("fwmark", CONNECTING).takes(1, 1, "MARK"),
    Keyword::new("retry", ALL_BUT_HOST).takes(1, 1, "N"),
    Keyword::new("delay_before_retry", ALL_BUT_HOST).takes(1, 1, "SECONDS"),
    Keyword::new("warmup", ALL_BUT_HOST).takes(1, 1, "SECONDS"),
    Keyword::new("delay_loop", ALL_BUT_HOST).takes(1, 1, "SECONDS"),
    Keyword::new("log_all_failures", ALL_BUT_HOST).takes(0, 1, "[BOOL]"),
    Keyword::new("alpha", ALPHA).takes(0, 1, "[BOOL]"),
    Keyword::new("nb_get_retry", HTTP).takes(1, 1, "N"),
    Keyword::new("http_protocol", HTTP).takes(1, 1, "1.0|1.0C|1.1|1.1C"),
    Keyword::new("enable_sni", HTTP).takes(0, 1, "[BOOL]"),
    Keyword::new("sni_name", HTTP).takes(1, 1, "NAME"),
    Keyword::new("fast_recovery", HTTP).takes(0, 1, "[BOOL]"),
    Keyword::new("virtualhost", HTTP_AND_URL).takes(1, 1, "NAME"),
    Keyword::new("tls_compliant", HTTP_AND_URL).takes(0, 1, "[BOOL]"),
    Keyword::new("url", HTTP).takes(0, 0, "").block(Context::Url),
    Keyword::new("path", URL).takes(1, 1, "PATH"),
    Keyword::new("digest", URL).takes(1, 1, "MD5"),
    Keyword::new("status_code", URL).from(1, "CODE|RANGE..."),
    Keyword::new("regex", URL).from(1, "PATTERN"),
    Keyword::new("regex_no_match", URL).takes(0, 1, "[BOOL]"),
    Keyword::new("regex_options", URL).from(1, "OPTION..."),
    Keyword::new("regex_min_offset", URL).takes(1, 1, "N"),
    Keyword::new("regex_max_offset", URL).takes(1, 1, "N"),
    Keyword::new("regex_stack", URL).takes(1, 2, "START MAX"),
    Keyword::new("helo_name", SMTP).takes(1, 1, "NAME"),
    Keyword::new("host", SMTP).takes(0, 0, "").block(Context::SmtpHost),
    Keyword::new("type", DNS).takes(1, 1, "A|NS|CNAME|SOA|MX|TXT|AAAA"),
    Keyword::new("name", DNS).takes(1, 1, "NAME"),
    Keyword::new("misc_path", MISC).from(1, "COMMAND"),
    Keyword::new("misc_timeout", MISC).takes(1, 1, "SECONDS"),
    Keyword::new("misc_dynamic", MISC).takes(0, 1, "[BOOL]"),
    Keyword::new("user", MISC).takes(1, 2, "USER [GROUP]"),
    Keyword::new("payload", UDP).from(1, "HEX"),
    Keyword::new("require_reply", UDP).from(0, "[HEX]"),
    Keyword::new("min_reply_length", UDP).takes(1, 1, "BYTES"),
    Keyword::new("max_reply_length", UDP).takes(1, 1, "BYTES"),
    Keyword::new("name", BFD).takes(1, 1, "NAME"),
    Keyword::new("track_file", FILE).takes(1, 1, "NAME"),
    Keyword::new("weight", FILE).takes(1, 2, "N [reverse]"),
    Keyword::new("dynamic", FILE).takes(0, 1, "[BOOL]"),
];
