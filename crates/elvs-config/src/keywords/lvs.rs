//! Keywords of `virtual_server` and `real_server`, the checkers' names and `SSL`.
//!
//! **Invariant:** rows only; what a row means is said in the parent module.
//!
//! Part of the table that [`super::KEYWORDS`] joins.

use super::{Context, Feature, Keyword};

const VIRTUAL: &[Context] = &[Context::VirtualServer];
const REAL: &[Context] = &[Context::RealServer];
const BOTH: &[Context] = &[Context::VirtualServer, Context::RealServer];
const SSL: &[Context] = &[Context::Ssl];

/// The rows.
pub(super) const ROWS: &[Keyword] = &[
    Keyword::new("real_server", VIRTUAL).takes(1, 2, "ADDRESS [PORT]").block(Context::RealServer).applied().note("DR and TUN use the port of the virtual server"),
    Keyword::new("lvs_sched", VIRTUAL).takes(1, 1, "rr|wrr|lc|wlc|lblc|lblcr|sh|mh|dh|sed|nq|fo|ovf|twos").applied().note("wlc if not given"),
    Keyword::new("lb_algo", VIRTUAL).takes(1, 1, "rr|wrr|lc|wlc|lblc|lblcr|sh|mh|dh|sed|nq|fo|ovf|twos").applied().note("older word for `lvs_sched`"),
    Keyword::new("lvs_method", BOTH).from(1, "NAT|DR|FNAT|FULLNAT|TUN [type ipip | type gue port N [nocsum|csum|remcsum] | type gre [nocsum|csum]]").applied().note("NAT if not given; FNAT (or FULLNAT), which keepalived does not have, needs `laddr_group_name`"),
    Keyword::new("lb_kind", VIRTUAL).from(1, "NAT|DR|FNAT|FULLNAT|TUN [type ipip | type gue port N [nocsum|csum|remcsum] | type gre [nocsum|csum]]").applied().note("older word for `lvs_method`"),
    Keyword::new("laddr_group_name", VIRTUAL).takes(1, 1, "NAME").applied().note("keepalived does not have it (DPVS does): the `local_address_group` by whose addresses FNAT reaches the real servers"),
    Keyword::new("protocol", VIRTUAL).takes(1, 1, "TCP|UDP|SCTP").applied().note("UDP if not given, as in keepalived"),
    Keyword::new("weight", VIRTUAL).takes(1, 1, "N").applied().note("weight of real servers that have none of their own: 1 to 2147483647, 1 if not given"),
    Keyword::new("weight", REAL).takes(1, 1, "N").applied().note("0 to 2147483647; 0 takes no new connections"),
    Keyword::new("ip_family", VIRTUAL).takes(1, 1, "inet|inet6").needs(Feature::Fwmark),
    Keyword::new("persistence_timeout", VIRTUAL).takes(0, 1, "[SECONDS]").needs(Feature::Persistence).note("a client keeps its real server for this long after its last connection; 360 seconds if no time is given"),
    Keyword::new("persistence_granularity", VIRTUAL).takes(1, 1, "NETMASK|PREFIX_LENGTH").needs(Feature::Persistence),
    Keyword::new("persistence_engine", VIRTUAL).takes(1, 1, "NAME").needs(Feature::PersistenceEngine),
    Keyword::new("ops", VIRTUAL).takes(0, 0, "").needs(Feature::OnePacket).note("each packet is scheduled by itself, and no connection is kept; UDP only"),
    Keyword::new("on_delete", VIRTUAL).takes(1, 1, "drop|reset").applied().note("keepalived does not have it: `reset` answers the connections of a real server that is removed by a reset, so that their clients connect anew at once; `drop`, as IPVS does, if not given"),
    Keyword::new("hashed", VIRTUAL).takes(0, 0, "").no_effect().note("every service is found by hash"),
    Keyword::new("flag-1", VIRTUAL).takes(0, 0, "").needs(Feature::SchedulerFlags).note("flag of a scheduler"),
    Keyword::new("flag-2", VIRTUAL).takes(0, 0, "").needs(Feature::SchedulerFlags).note("flag of a scheduler"),
    Keyword::new("flag-3", VIRTUAL).takes(0, 0, "").needs(Feature::SchedulerFlags).note("flag of a scheduler"),
    Keyword::new("sh-port", VIRTUAL).takes(0, 0, "").needs(Feature::SchedulerFlags).note("flag of a scheduler"),
    Keyword::new("sh-fallback", VIRTUAL).takes(0, 0, "").needs(Feature::SchedulerFlags).note("flag of a scheduler"),
    Keyword::new("mh-port", VIRTUAL).takes(0, 0, "").needs(Feature::SchedulerFlags).note("flag of a scheduler"),
    Keyword::new("mh-fallback", VIRTUAL).takes(0, 0, "").needs(Feature::SchedulerFlags).note("flag of a scheduler"),
    Keyword::new("nat_mask", VIRTUAL).no_effect().note("keepalived gave it up in version 2"),
    Keyword::new("uthreshold", REAL).takes(1, 1, "CONNECTIONS").needs(Feature::Thresholds).note("connections from which on the real server gets no new ones; 0 = no limit"),
    Keyword::new("lthreshold", REAL).takes(1, 1, "CONNECTIONS").needs(Feature::Thresholds),
    Keyword::new("retry", BOTH).takes(1, 1, "N").applied().note("for checks that have none of their own; at least 1 here"),
    Keyword::new("delay_before_retry", BOTH).takes(1, 1, "SECONDS").applied().note("for checks that have none of their own"),
    Keyword::new("warmup", BOTH).takes(1, 1, "SECONDS").applied().note("for checks that have none of their own"),
    Keyword::new("connect_timeout", BOTH).takes(1, 1, "SECONDS").applied().note("for checks that have none of their own"),
    Keyword::new("delay_loop", BOTH).takes(1, 1, "SECONDS").applied().note("for checks that have none of their own"),
    Keyword::new("inhibit_on_failure", BOTH).takes(0, 1, "[BOOL]").applied().note("weight 0 in place of removal when a check fails"),
    Keyword::new("alpha", BOTH).takes(0, 1, "[BOOL]").applied().note("down until the first success of every check"),
    Keyword::new("omega", VIRTUAL).takes(0, 1, "[BOOL]").applied().note("`quorum_down` and `notify_down` are run when the daemon stops"),
    Keyword::new("ha_suspend", VIRTUAL).takes(0, 1, "[BOOL]").applied().note("no checks while the address is on no interface of this host; not with firewall marks"),
    Keyword::new("smtp_alert", BOTH).takes(0, 1, "[BOOL]").applied().note("needs `smtp_server` and `notification_email`; if not given here or in `global_defs`, yes for real servers and no for virtual ones"),
    Keyword::new("virtualhost", BOTH).takes(1, 1, "NAME").applied().note("for HTTP_GET and SSL_GET without one of their own"),
    Keyword::new("snmp_name", BOTH).takes(1, 1, "NAME").no_effect().note("ELVS has no SNMP agent"),
    Keyword::new("quorum_up", VIRTUAL).from(1, "COMMAND [USER [GROUP]]").applied().note("with arguments in quotes"),
    Keyword::new("quorum_down", VIRTUAL).from(1, "COMMAND [USER [GROUP]]").applied().note("with arguments in quotes"),
    Keyword::new("quorum", VIRTUAL).takes(1, 1, "N").applied().note("1 if not given; at most the total weight of the real servers"),
    Keyword::new("hysteresis", VIRTUAL).takes(1, 1, "N").applied().note("0 if not given; below the quorum"),
    Keyword::new("sorry_server", VIRTUAL).takes(1, 2, "ADDRESS [PORT]").applied().note("takes the traffic while the quorum is lost"),
    Keyword::new("sorry_server_inhibit", VIRTUAL).takes(0, 1, "[BOOL]").applied().note("weight 0 in place of removal while it is not needed"),
    Keyword::new("sorry_server_lvs_method", VIRTUAL).from(1, "NAT|DR|FNAT|FULLNAT|TUN [type ipip | type gue port N [nocsum|csum|remcsum] | type gre [nocsum|csum]]").applied().note("that of the virtual server if not given"),
    Keyword::new("notify_up", REAL).from(1, "COMMAND [USER [GROUP]]").applied().note("with arguments in quotes"),
    Keyword::new("notify_down", REAL).from(1, "COMMAND [USER [GROUP]]").applied().note("with arguments in quotes"),
    Keyword::new("TCP_CHECK", REAL).takes(0, 0, "").block(Context::TcpCheck).applied(),
    Keyword::new("HTTP_GET", REAL).takes(0, 0, "").block(Context::HttpGet).applied(),
    Keyword::new("SSL_GET", REAL).takes(0, 0, "").block(Context::HttpGet).applied(),
    Keyword::new("SMTP_CHECK", REAL).takes(0, 0, "").block(Context::SmtpCheck).applied(),
    Keyword::new("DNS_CHECK", REAL).takes(0, 0, "").block(Context::DnsCheck).applied(),
    Keyword::new("MISC_CHECK", REAL).takes(0, 0, "").block(Context::MiscCheck).applied(),
    Keyword::new("PING_CHECK", REAL).takes(0, 0, "").block(Context::PingCheck).applied(),
    Keyword::new("UDP_CHECK", REAL).takes(0, 0, "").block(Context::UdpCheck).applied(),
    Keyword::new("BFD_CHECK", REAL).takes(0, 0, "").block(Context::BfdCheck).applied().note("the session is looked at every second"),
    Keyword::new("FILE_CHECK", REAL).takes(0, 0, "").block(Context::FileCheck).applied().note("the file is read every second"),
    Keyword::new("PATH_CHECK", REAL).takes(0, 0, "").block(Context::PathCheck).applied().note("keepalived does not have it: a probe that reaches the real server as a client's packet would, to the virtual address, by the forwarding method"),
    Keyword::new("AGENT_CHECK", REAL).takes(0, 0, "").block(Context::AgentCheck).applied().note("keepalived does not have it (HAProxy does): a line from the real server sets its weight, drain, up or down"),
    Keyword::new("slow_start", BOTH).takes(1, 1, "SECONDS|off").applied().note("keepalived does not have it: the weight of a real server that comes back grows to the full one in this time"),
    Keyword::new("flap_damping", BOTH).takes(1, 3, "WINDOW FIRST MOST | off").applied().note("keepalived does not have it: a failure less than WINDOW seconds after a recovery holds the next one down for FIRST seconds, twice as long each time, at most MOST"),
    Keyword::new("passive", BOTH).takes(0, 8, "[least N] [percent N] [window SECONDS] [hold SECONDS] | off").applied().note("keepalived does not have it: a real server of whose new connections in `window` (10), if there are `least` (20), `percent` (50) get no answer or a reset, gets no new ones for `hold` (30)"),
    Keyword::new("drain", VIRTUAL).takes(1, 1, "SECONDS|off").applied().note("keepalived does not have it: how long connections of a removed real server go on before `on_delete` applies; for ever if not given"),
    Keyword::new("password", SSL).takes(1, 1, "TEXT").applied().note("of the key"),
    Keyword::new("ca", SSL).takes(1, 1, "FILE").applied().note("without it certificates of real servers are not verified, as in keepalived"),
    Keyword::new("certificate", SSL).takes(1, 1, "FILE").applied().note("what SSL_GET shows of itself"),
    Keyword::new("key", SSL).takes(1, 1, "FILE").applied().note("of the certificate"),
];
