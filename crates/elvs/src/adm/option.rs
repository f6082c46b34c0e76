//! Options of ipvsadm 1.31: how they are spelt, what they take, and which command allows which.
//!
//! **Invariant:** one row per spelling; everything about an option's legality is in [`rule`].
//!
//! Called by the scanner (spelling) and the argument reader (legality).

use elvs_model::Protocol;

/// A command: the first option on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Flush,
    AddServer,
    EditServer,
    DeleteServer,
    List,
    Zero,
    Restore,
    Save,
    Set,
    StartDaemon,
    StopDaemon,
    AddLocal,
    DeleteLocal,
    ListLocal,
    Help,
    Version,
}

impl Verb {
    /// Its name in messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AddService => "add-service",
            Self::EditService => "edit-service",
            Self::DeleteService => "delete-service",
            Self::Flush => "flush",
            Self::AddServer => "add-server",
            Self::EditServer => "edit-server",
            Self::DeleteServer => "delete-server",
            Self::List => "list",
            Self::Zero => "zero",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::Set => "set",
            Self::StartDaemon => "start-daemon",
            Self::StopDaemon => "stop-daemon",
            Self::AddLocal => "add-laddr",
            Self::DeleteLocal => "del-laddr",
            Self::ListLocal => "list-laddr",
            Self::Help => "help",
            Self::Version => "version",
        }
    }
}

/// A kind of option: at most one of each kind on a line. The order is that in which they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Kind {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    Server,
    Forward,
    Weight,
    UpperThreshold,
    LowerThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    OnePacket,
    Engine,
    SchedFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    TunInfo,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
    Client,
    State,
    Json,
    LocalAddress,
    Ifname,
    OnDelete,
}

impl Kind {
    /// Every kind, in the order of the checks.
    pub(super) const ALL: [Self; 40] = [
        Self::Numeric,
        Self::Connection,
        Self::Service,
        Self::Scheduler,
        Self::Persistent,
        Self::Netmask,
        Self::Server,
        Self::Forward,
        Self::Weight,
        Self::UpperThreshold,
        Self::LowerThreshold,
        Self::McastInterface,
        Self::Timeout,
        Self::Daemon,
        Self::Stats,
        Self::Rate,
        Self::Thresholds,
        Self::PersistentConn,
        Self::NoSort,
        Self::SyncId,
        Self::Exact,
        Self::OnePacket,
        Self::Engine,
        Self::SchedFlags,
        Self::McastGroup,
        Self::McastPort,
        Self::McastTtl,
        Self::SyncMaxlen,
        Self::TunInfo,
        Self::TunType,
        Self::TunPort,
        Self::TunNocsum,
        Self::TunCsum,
        Self::TunRemcsum,
        Self::Client,
        Self::State,
        Self::Json,
        Self::LocalAddress,
        Self::Ifname,
        Self::OnDelete,
    ];

    /// Its name in messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Numeric => "numeric",
            Self::Connection => "connection",
            Self::Service => "service-address",
            Self::Scheduler => "scheduler",
            Self::Persistent => "persistent",
            Self::Netmask => "netmask",
            Self::Server => "real-server",
            Self::Forward => "forwarding-method",
            Self::Weight => "weight",
            Self::UpperThreshold => "u-threshold",
            Self::LowerThreshold => "l-threshold",
            Self::McastInterface => "mcast-interface",
            Self::Timeout => "timeout",
            Self::Daemon => "daemon",
            Self::Stats => "stats",
            Self::Rate => "rate",
            Self::Thresholds => "thresholds",
            Self::PersistentConn => "persistent-conn",
            Self::NoSort => "nosort",
            Self::SyncId => "syncid",
            Self::Exact => "exact",
            Self::OnePacket => "ops",
            Self::Engine => "pe",
            Self::SchedFlags => "sched-flags",
            Self::McastGroup => "mcast-group",
            Self::McastPort => "mcast-port",
            Self::McastTtl => "mcast-ttl",
            Self::SyncMaxlen => "sync-maxlen",
            Self::TunInfo => "tun-info",
            Self::TunType => "tun-type",
            Self::TunPort => "tun-port",
            Self::TunNocsum => "tun-nocsum",
            Self::TunCsum => "tun-csum",
            Self::TunRemcsum => "tun-remcsum",
            Self::Client => "client",
            Self::State => "state",
            Self::Json => "json",
            Self::LocalAddress => "local-address",
            Self::Ifname => "ifname",
            Self::OnDelete => "on-delete",
        }
    }
}

/// What a command says about a kind of option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Required,
    Optional,
    /// At most one of those so marked.
    Exclusive,
    Illegal,
}

/// Which option goes with which command (the table in ipvsadm(8), "COMMANDS" and "PARAMETERS").
pub(super) const fn rule(verb: Verb, kind: Kind) -> Rule {
    use Kind as K;
    match (verb, kind) {
        (
            Verb::AddService
            | Verb::EditService
            | Verb::DeleteService
            | Verb::AddServer
            | Verb::EditServer
            | Verb::DeleteServer
            | Verb::AddLocal
            | Verb::DeleteLocal,
            K::Service,
        )
        | (Verb::AddLocal | Verb::DeleteLocal, K::LocalAddress)
        | (Verb::AddServer | Verb::EditServer | Verb::DeleteServer, K::Server) => Rule::Required,
        (
            Verb::AddService | Verb::EditService,
            K::Scheduler
            | K::Persistent
            | K::Netmask
            | K::OnePacket
            | K::Engine
            | K::SchedFlags
            | K::OnDelete,
        )
        | (
            Verb::AddServer | Verb::EditServer,
            K::Forward
            | K::Weight
            | K::UpperThreshold
            | K::LowerThreshold
            | K::TunType
            | K::TunPort
            | K::TunNocsum
            | K::TunCsum
            | K::TunRemcsum,
        )
        | (
            Verb::List,
            K::Numeric
            | K::Stats
            | K::Rate
            | K::Thresholds
            | K::PersistentConn
            | K::NoSort
            | K::Exact
            | K::TunInfo
            // ELVS's own. `-r` is legal with `-c` alone, which the argument reader sees to.
            | K::Client
            | K::State
            | K::Json
            // Legal and without effect, as in ipvsadm.
            | K::SyncId,
        )
        | (Verb::Save, K::Numeric)
        | (Verb::ListLocal, K::Service | K::Numeric | K::Json)
        | (Verb::Zero, K::Service)
        | (
            Verb::StartDaemon,
            K::McastInterface
            | K::SyncId
            | K::McastGroup
            | K::McastPort
            | K::McastTtl
            | K::SyncMaxlen,
        )
        | (Verb::StopDaemon, K::SyncId) => Rule::Optional,
        (Verb::List, K::Service | K::Connection | K::Timeout | K::Daemon) => Rule::Exclusive,
        _ => Rule::Illegal,
    }
}

/// What an option on the line means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A command.
    Verb(Verb),
    /// `-t`, `-u`, `--sctp-service`.
    Address(Protocol),
    /// `-f`.
    Fwmark,
    /// `-6`.
    Ipv6,
    /// `-g`.
    Gatewaying,
    /// `-i`.
    Ipip,
    /// `-m`.
    Masquerading,
    /// `--fullnat`: ELVS's own.
    FullNat,
    /// `--sort`, which does nothing.
    Sort,
    /// Every other option, one spelling per kind.
    Kind(Kind),
}

/// Whether an option is followed by a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Value,
    /// The next word, unless it starts with a dash.
    PerhapsValue,
}

/// One spelling.
#[derive(Debug)]
pub(super) struct Spelling {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) takes: Takes,
    pub(super) meaning: Meaning,
}

const fn verb(long: &'static str, short: char, verb: Verb) -> Spelling {
    Spelling { long, short: Some(short), takes: Takes::Nothing, meaning: Meaning::Verb(verb) }
}

const fn long_verb(long: &'static str, takes: Takes, verb: Verb) -> Spelling {
    Spelling { long, short: None, takes, meaning: Meaning::Verb(verb) }
}

const fn short(long: &'static str, short: char, takes: Takes, meaning: Meaning) -> Spelling {
    Spelling { long, short: Some(short), takes, meaning }
}

const fn long(long: &'static str, takes: Takes, meaning: Meaning) -> Spelling {
    Spelling { long, short: None, takes, meaning }
}

/// Every spelling that ipvsadm 1.31 knows, then ELVS's own.
pub(super) const SPELLINGS: &[Spelling] = &[
    verb("add-service", 'A', Verb::AddService),
    verb("edit-service", 'E', Verb::EditService),
    verb("delete-service", 'D', Verb::DeleteService),
    verb("clear", 'C', Verb::Flush),
    verb("list", 'L', Verb::List),
    verb("list", 'l', Verb::List),
    verb("zero", 'Z', Verb::Zero),
    verb("add-server", 'a', Verb::AddServer),
    verb("edit-server", 'e', Verb::EditServer),
    verb("delete-server", 'd', Verb::DeleteServer),
    verb("restore", 'R', Verb::Restore),
    verb("save", 'S', Verb::Save),
    verb("help", 'h', Verb::Help),
    verb("version", 'v', Verb::Version),
    long_verb("set", Takes::Nothing, Verb::Set),
    long_verb("start-daemon", Takes::Value, Verb::StartDaemon),
    long_verb("stop-daemon", Takes::Value, Verb::StopDaemon),
    short("tcp-service", 't', Takes::Value, Meaning::Address(Protocol::Tcp)),
    short("udp-service", 'u', Takes::Value, Meaning::Address(Protocol::Udp)),
    long("sctp-service", Takes::Value, Meaning::Address(Protocol::Sctp)),
    short("fwmark-service", 'f', Takes::Value, Meaning::Fwmark),
    short("ipv6", '6', Takes::Nothing, Meaning::Ipv6),
    short("gatewaying", 'g', Takes::Nothing, Meaning::Gatewaying),
    short("ipip", 'i', Takes::Nothing, Meaning::Ipip),
    short("masquerading", 'm', Takes::Nothing, Meaning::Masquerading),
    long("sort", Takes::Nothing, Meaning::Sort),
    short("scheduler", 's', Takes::Value, Meaning::Kind(Kind::Scheduler)),
    short("persistent", 'p', Takes::PerhapsValue, Meaning::Kind(Kind::Persistent)),
    short("netmask", 'M', Takes::Value, Meaning::Kind(Kind::Netmask)),
    long("pe", Takes::Value, Meaning::Kind(Kind::Engine)),
    short("sched-flags", 'b', Takes::Value, Meaning::Kind(Kind::SchedFlags)),
    short("ops", 'o', Takes::Nothing, Meaning::Kind(Kind::OnePacket)),
    short("real-server", 'r', Takes::Value, Meaning::Kind(Kind::Server)),
    short("weight", 'w', Takes::Value, Meaning::Kind(Kind::Weight)),
    short("u-threshold", 'x', Takes::Value, Meaning::Kind(Kind::UpperThreshold)),
    short("l-threshold", 'y', Takes::Value, Meaning::Kind(Kind::LowerThreshold)),
    long("tun-type", Takes::Value, Meaning::Kind(Kind::TunType)),
    long("tun-port", Takes::Value, Meaning::Kind(Kind::TunPort)),
    long("tun-nocsum", Takes::Nothing, Meaning::Kind(Kind::TunNocsum)),
    long("tun-csum", Takes::Nothing, Meaning::Kind(Kind::TunCsum)),
    long("tun-remcsum", Takes::Nothing, Meaning::Kind(Kind::TunRemcsum)),
    short("numeric", 'n', Takes::Nothing, Meaning::Kind(Kind::Numeric)),
    short("connection", 'c', Takes::Nothing, Meaning::Kind(Kind::Connection)),
    long("timeout", Takes::Nothing, Meaning::Kind(Kind::Timeout)),
    long("daemon", Takes::Nothing, Meaning::Kind(Kind::Daemon)),
    long("stats", Takes::Nothing, Meaning::Kind(Kind::Stats)),
    long("rate", Takes::Nothing, Meaning::Kind(Kind::Rate)),
    short("exact", 'X', Takes::Nothing, Meaning::Kind(Kind::Exact)),
    long("thresholds", Takes::Nothing, Meaning::Kind(Kind::Thresholds)),
    long("persistent-conn", Takes::Nothing, Meaning::Kind(Kind::PersistentConn)),
    long("nosort", Takes::Nothing, Meaning::Kind(Kind::NoSort)),
    long("tun-info", Takes::Nothing, Meaning::Kind(Kind::TunInfo)),
    long("mcast-interface", Takes::Value, Meaning::Kind(Kind::McastInterface)),
    long("syncid", Takes::Value, Meaning::Kind(Kind::SyncId)),
    long("sync-maxlen", Takes::Value, Meaning::Kind(Kind::SyncMaxlen)),
    long("mcast-group", Takes::Value, Meaning::Kind(Kind::McastGroup)),
    long("mcast-port", Takes::Value, Meaning::Kind(Kind::McastPort)),
    long("mcast-ttl", Takes::Value, Meaning::Kind(Kind::McastTtl)),
    long("client", Takes::Value, Meaning::Kind(Kind::Client)),
    long("state", Takes::Value, Meaning::Kind(Kind::State)),
    long("json", Takes::Nothing, Meaning::Kind(Kind::Json)),
    long("on-delete", Takes::Value, Meaning::Kind(Kind::OnDelete)),
    // DPVS's, without the letters of its commands, which ipvsadm refuses, and without `-b`, its `--sched-flags`.
    long("fullnat", Takes::Nothing, Meaning::FullNat),
    long_verb("add-laddr", Takes::Nothing, Verb::AddLocal),
    long_verb("del-laddr", Takes::Nothing, Verb::DeleteLocal),
    long_verb("list-laddr", Takes::Nothing, Verb::ListLocal),
    long_verb("get-laddr", Takes::Nothing, Verb::ListLocal),
    short("local-address", 'z', Takes::Value, Meaning::Kind(Kind::LocalAddress)),
    short("ifname", 'F', Takes::Value, Meaning::Kind(Kind::Ifname)),
];
