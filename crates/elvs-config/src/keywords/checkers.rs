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
    Context::AgentCheck,
];
const TIMEOUT: &[Context] = &[
    Context::TcpCheck,
    Context::HttpGet,
    Context::SmtpCheck,
    Context::SmtpHost,
    Context::DnsCheck,
    Context::PingCheck,
    Context::UdpCheck,
    Context::AgentCheck,
    Context::PathCheck,
];
const ALL_BUT_HOST: &[Context] = &[
    Context::TcpCheck,
    Context::HttpGet,
    Context::SmtpCheck,
    Context::DnsCheck,
    Context::PingCheck,
    Context::UdpCheck,
    Context::MiscCheck,
    Context::PathCheck,
    Context::AgentCheck,
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
    Context::PathCheck,
    Context::AgentCheck,
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
const PATH: &[Context] = &[Context::PathCheck];
const AGENT: &[Context] = &[Context::AgentCheck];

/// The rows.
pub(super) const ROWS: &[Keyword] = &[
    Keyword::new("connect_ip", CONNECTING).takes(1, 1, "ADDRESS").applied().note("that of the real server if not given"),
    Keyword::new("connect_port", CONNECTING).takes(1, 1, "PORT").applied().note("that of the real server if not given; AGENT_CHECK needs it"),
    Keyword::new("bindto", CONNECTING).takes(1, 1, "ADDRESS").applied().note("address to connect from"),
    Keyword::new("bind_port", CONNECTING).takes(1, 1, "PORT").applied().note("port to connect from"),
    Keyword::new("bind_if", CONNECTING).takes(1, 1, "INTERFACE").applied().note("interface to connect by; a link-local address needs it"),
    Keyword::new("connect_timeout", TIMEOUT).takes(1, 1, "SECONDS").applied().note("5 if not given here, in the real or in the virtual server; at most 4294.967295"),
    Keyword::new("fwmark", CONNECTING).takes(1, 1, "MARK").applied().note("mark of the packets that are sent"),
    Keyword::new("retry", ALL_BUT_HOST).takes(1, 1, "N").applied().note("further tries after the first failure of a check that is up: 1 if not given, 3 of DNS_CHECK, 0 of MISC_CHECK"),
    Keyword::new("delay_before_retry", ALL_BUT_HOST).takes(1, 1, "SECONDS").applied().note("1 if not given, 3 of HTTP_GET and SSL_GET, `delay_loop` of DNS_CHECK"),
    Keyword::new("warmup", ALL_BUT_HOST).takes(1, 1, "SECONDS").applied().note("the first run is up to this much late, by chance; `delay_loop` if not given"),
    Keyword::new("delay_loop", ALL_BUT_HOST).takes(1, 1, "SECONDS").applied().note("60 if not given here, in the real or in the virtual server"),
    Keyword::new("log_all_failures", ALL_BUT_HOST).takes(0, 1, "[BOOL]").applied().note("every failed try is logged"),
    Keyword::new("alpha", ALPHA).takes(0, 1, "[BOOL]").applied().note("down until the first success"),
    Keyword::new("nb_get_retry", HTTP).takes(1, 1, "N").applied().note("older word for `retry`"),
    Keyword::new("http_protocol", HTTP).takes(1, 1, "1.0|1.0C|1.1|1.1C").applied().note("C: with `Connection: close`; 1.0 if not given"),
    Keyword::new("enable_sni", HTTP).takes(0, 1, "[BOOL]").applied().note("`virtualhost` is sent as the server name of TLS; SSL_GET only"),
    Keyword::new("sni_name", HTTP).takes(1, 1, "NAME").applied().note("name that is sent as the server name of TLS; SSL_GET only"),
    Keyword::new("fast_recovery", HTTP).takes(0, 1, "[BOOL]").applied().note("the URLs of a check that was down are tried without pause"),
    Keyword::new("virtualhost", HTTP_AND_URL).takes(1, 1, "NAME").applied(),
    Keyword::new("tls_compliant", HTTP_AND_URL).takes(0, 1, "[BOOL]").applied().note("an end without close_notify is a failure; SSL_GET only"),
    Keyword::new("url", HTTP).takes(0, 0, "").block(Context::Url).applied(),
    Keyword::new("path", URL).takes(1, 1, "PATH").applied().note("begins with /"),
    Keyword::new("digest", URL).takes(1, 1, "MD5").applied().note("32 hexadecimal digits"),
    Keyword::new("status_code", URL).from(1, "CODE|RANGE...").applied().note("100 to 599; 200-299 if not given"),
    Keyword::new("regex", URL).takes(1, 1, "PATTERN").applied().note("Perl-compatible; in quotes if it has blanks or braces"),
    Keyword::new("regex_no_match", URL).takes(0, 1, "[BOOL]").applied().note("a match is a failure"),
    Keyword::new("regex_options", URL).from(1, "OPTION...").applied().note("those of pcre2api(3); unknown ones are left out with a warning"),
    Keyword::new("regex_min_offset", URL).takes(1, 1, "N").applied().note("first byte at which a match may begin"),
    Keyword::new("regex_max_offset", URL).takes(1, 1, "N").applied().note("last byte at which a match may begin"),
    Keyword::new("regex_stack", URL).takes(1, 2, "START MAX").no_effect().note("the stack for an expression needs no sizes"),
    Keyword::new("helo_name", SMTP).takes(1, 1, "NAME").applied().note("smtpchecker.keepalived.org if not given"),
    Keyword::new("host", SMTP).takes(0, 0, "").block(Context::SmtpHost).applied().note("a further server to check; older than several checks"),
    Keyword::new("type", DNS).takes(1, 1, "A|NS|CNAME|SOA|MX|TXT|AAAA|RRSIG|DNSKEY").applied().note("SOA if not given"),
    Keyword::new("name", DNS).takes(1, 1, "NAME").applied().note(". if not given"),
    Keyword::new("misc_path", MISC).from(1, "COMMAND").applied().note("with arguments in quotes"),
    Keyword::new("misc_timeout", MISC).takes(1, 1, "SECONDS").applied().note("whole seconds; until the next run if not given, or 0"),
    Keyword::new("misc_dynamic", MISC).takes(0, 1, "[BOOL]").applied().note("an exit code of 2 to 255 is a weight of 0 to 253"),
    Keyword::new("user", MISC).takes(1, 2, "USER [GROUP]").applied().note("`script_user` if not given"),
    Keyword::new("payload", UDP).from(1, "HEX...").applied(),
    Keyword::new("require_reply", UDP).from(0, "[HEX...]").applied().note("a datagram must come back; X is any half of a byte"),
    Keyword::new("min_reply_length", UDP).takes(1, 1, "BYTES").applied().note("0 if not given"),
    Keyword::new("max_reply_length", UDP).takes(1, 1, "BYTES").applied().note("255 if not given"),
    Keyword::new("name", BFD).takes(1, 1, "NAME").applied().note("of a `bfd_instance` block"),
    Keyword::new("track_file", FILE).takes(1, 1, "NAME").applied().note("of a `track_file` block"),
    Keyword::new("weight", FILE).takes(1, 2, "N [reverse|noreverse]").applied().note("that of the `track_file` block if not given; 0: another number than 0 in the file is a failure"),
    Keyword::new("dynamic", FILE).takes(0, 1, "[BOOL]").no_effect().note("a weight other than 0 is always added, as in keepalived 2.4"),
    Keyword::new("virtual_ip", PATH).takes(1, 1, "ADDRESS").applied().note("of services by firewall mark: the address that clients connect to"),
    Keyword::new("virtual_port", PATH).takes(1, 1, "PORT").applied().note("of services by firewall mark or on every port: the port that is tried"),
    Keyword::new("protocol", PATH).takes(1, 1, "TCP|UDP").applied().note("of services by firewall mark"),
    Keyword::new("send", AGENT).takes(1, 1, "TEXT").applied().note("sent before the line is read; `\\n` is the end of a line"),
];
