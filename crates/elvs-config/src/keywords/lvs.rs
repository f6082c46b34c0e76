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
    Keyword::new("retry", BOTH).takes(1, 1, "N"),
    Keyword::new("delay_before_retry", BOTH).takes(1, 1, "SECONDS"),
    Keyword::new("warmup", BOTH).takes(1, 1, "SECONDS"),
    Keyword::new("connect_timeout", BOTH).takes(1, 1, "SECONDS"),
    Keyword::new("delay_loop", BOTH).takes(1, 1, "SECONDS"),
    Keyword::new("inhibit_on_failure", BOTH).takes(0, 1, "[BOOL]"),
    Keyword::new("alpha", BOTH).takes(0, 1, "[BOOL]").note("real servers take connections from the start"),
    Keyword::new("omega", VIRTUAL).takes(0, 1, "[BOOL]"),
    Keyword::new("ha_suspend", VIRTUAL).takes(0, 1, "[BOOL]"),
    Keyword::new("smtp_alert", BOTH).takes(0, 1, "[BOOL]").note("no mail is sent"),
    Keyword::new("virtualhost", BOTH).takes(1, 1, "NAME"),
    Keyword::new("snmp_name", BOTH).takes(1, 1, "NAME"),
    Keyword::new("quorum_up", VIRTUAL).from(1, "COMMAND").note("the script is not run"),
    Keyword::new("quorum_down", VIRTUAL).from(1, "COMMAND").note("the script is not run"),
    Keyword::new("quorum", VIRTUAL).takes(1, 1, "N").note("the service is kept however few real servers are left"),
    Keyword::new("hysteresis", VIRTUAL).takes(1, 1, "N"),
    Keyword::new("sorry_server", VIRTUAL).takes(1, 2, "ADDRESS [PORT]").note("it gets no connections"),
    Keyword::new("sorry_server_inhibit", VIRTUAL).takes(0, 1, "[BOOL]"),
    Keyword::new("sorry_server_lvs_method", VIRTUAL).from(1, "NAT|DR|FNAT|FULLNAT|TUN [type ipip | type gue port N [nocsum|csum|remcsum] | type gre [nocsum|csum]]"),
    Keyword::new("notify_up", REAL).from(1, "COMMAND").note("the script is not run"),
    Keyword::new("notify_down", REAL).from(1, "COMMAND").note("the script is not run"),
    Keyword::new("TCP_CHECK", REAL).takes(0, 0, "").block(Context::TcpCheck).note("a real server gets its share whether it answers or not"),
    Keyword::new("HTTP_GET", REAL).takes(0, 0, "").block(Context::HttpGet).note("a real server gets its share whether it answers or not"),
    Keyword::new("SSL_GET", REAL).takes(0, 0, "").block(Context::HttpGet).note("a real server gets its share whether it answers or not"),
    Keyword::new("SMTP_CHECK", REAL).takes(0, 0, "").block(Context::SmtpCheck).note("a real server gets its share whether it answers or not"),
    Keyword::new("DNS_CHECK", REAL).takes(0, 0, "").block(Context::DnsCheck).note("a real server gets its share whether it answers or not"),
    Keyword::new("MISC_CHECK", REAL).takes(0, 0, "").block(Context::MiscCheck).note("a real server gets its share whether it answers or not"),
    Keyword::new("PING_CHECK", REAL).takes(0, 0, "").block(Context::PingCheck).note("a real server gets its share whether it answers or not"),
    Keyword::new("UDP_CHECK", REAL).takes(0, 0, "").block(Context::UdpCheck).note("a real server gets its share whether it answers or not"),
    Keyword::new("BFD_CHECK", REAL).takes(0, 0, "").block(Context::BfdCheck).note("a real server gets its share whether it answers or not"),
    Keyword::new("FILE_CHECK", REAL).takes(0, 0, "").block(Context::FileCheck).note("a real server gets its share whether it answers or not"),
    Keyword::new("password", SSL).takes(1, 1, "TEXT"),
    Keyword::new("ca", SSL).takes(1, 1, "FILE"),
    Keyword::new("certificate", SSL).takes(1, 1, "FILE"),
    Keyword::new("key", SSL).takes(1, 1, "FILE"),
];
