//! From what was heard to a finding in words.
//!
//! **Invariant:** every finding that is a failure names the most likely cause that the evidence leaves, and what it rests on.
//!
//! Called by [`super::examination`] at the end of a run; `docs/path-check.md` lists the causes with their cures.

use std::fmt;
use std::net::IpAddr;

use elvs_model::health::Finding;
use elvs_model::{ForwardingMethod, Protocol, TunnelKind};

use super::hear::{Claim, Refusal};
use super::probe::{Role, Way};

/// What was heard of one probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing.
    #[default]
    Nothing,
    /// SYN and ACK.
    Opened,
    /// A datagram or an echo.
    Answered,
    /// A reset (`None`) or an ICMP error, and from whom; `whole` if it is about the packet to the address that was asked,
    /// and not about a tunnel's.
    Refused { refusal: Option<Refusal>, by: IpAddr, whole: bool },
}

impl Heard {
    /// Whether the service was reached and took what was sent.
    pub(super) const fn answers(self) -> bool {
        matches!(self, Self::Opened | Self::Answered)
    }

    /// Whether it shows that the packet reached the transport of the host that it was for.
    const fn arrived(self) -> bool {
        match self {
            Self::Opened | Self::Answered => true,
            Self::Refused { refusal, .. } => matches!(refusal, None | Some(Refusal::Port)),
            Self::Nothing => false,
        }
    }

    /// Whether it says that nothing listens at the address that was asked: hosts say so of TCP by a reset.
    pub(super) fn by_listener(self, protocol: Protocol) -> bool {
        match self {
            Self::Refused { refusal: None, .. } => true,
            Self::Refused { refusal: Some(Refusal::Port), whole, .. } => {
                whole && protocol != Protocol::Tcp
            }
            Self::Refused { .. } | Self::Nothing | Self::Opened | Self::Answered => false,
        }
    }

    /// Whether the real server would have sent the packet on to others.
    pub(super) const fn sent_on(self) -> bool {
        matches!(self, Self::Refused { refusal: Some(Refusal::Hops), whole: true, .. })
    }

    /// The ICMP error.
    const fn error(self) -> Option<(Refusal, IpAddr)> {
        match self {
            Self::Refused { refusal: Some(refusal), by, .. } => Some((refusal, by)),
            Self::Refused { refusal: None, .. } | Self::Nothing | Self::Opened | Self::Answered => {
                None
            }
        }
    }
}

/// What was heard in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// By the roles' numbers.
    heard: [Heard; Role::ALL.len()],
    /// The real server says that the VIP is its own.
    pub(super) claim: Option<Claim>,
}

impl Evidence {
    /// Of one probe.
    pub(super) fn of(&self, role: Role) -> Heard {
        self.heard.get(usize::from(role.number(0))).copied().unwrap_or_default()
    }

    /// Notes an answer; the first counts, but an answer counts more than an error on the way.
    pub(super) fn note(&mut self, role: Role, heard: Heard) {
        if let Some(place) = self.heard.get_mut(usize::from(role.number(0)))
            && (*place == Heard::Nothing || heard.answers())
        {
            *place = heard;
        }
    }

    /// Whether the service itself answered.
    pub(super) fn answers(&self) -> bool {
        self.of(Role::Service).answers() || self.of(Role::Onward).answers()
    }

    /// Whether clients are served as far as this director can see: the service answers, or it is one that may keep silent
    /// and packets arrive.
    pub(super) fn works(&self, way: &Way) -> bool {
        let refused = match self.of(Role::Service) {
            service @ Heard::Refused { .. } => !service.sent_on(),
            Heard::Nothing | Heard::Opened | Heard::Answered => false,
        };
        self.answers()
            || (!refused
                && way.check.protocol != Protocol::Tcp
                && self.of(way.echo()) == Heard::Answered
                && self.of(Role::Onward).error().is_none())
    }

    /// Whether an echo from the VIP is lost that one from the director's own address is not: answers to clients do not come
    /// back through this director.
    pub(super) fn lacks_back(&self, way: &Way) -> bool {
        let echoes = self.of(Role::PlainEcho) == Heard::Answered;
        way.asks_back() && echoes && !self.of(Role::Back).arrived()
    }
}

/// The finding of a run.
pub(super) fn judge(way: &Way, evidence: &Evidence) -> Finding {
    if let Some(claim) = evidence.claim {
        return Finding::failed(claimed(way, claim));
    }
    if evidence.works(way) && evidence.lacks_back(way) {
        return Finding::failed(format!(
            "{}, but an echo from the VIP is not answered here, as one from {} is: answers to clients do not come back \
             through this director; make it the default gateway of the real server",
            works(way, evidence),
            way.outer_source
        ));
    }
    if evidence.works(way) {
        return Finding::passed(works(way, evidence));
    }
    let cause = match evidence.of(Role::Service) {
        Heard::Refused { refusal, by, whole } => refused(way, evidence, refusal, by, whole),
        Heard::Nothing | Heard::Opened | Heard::Answered => silent(way, evidence),
    };
    Finding::failed(cause)
}

fn works(way: &Way, evidence: &Evidence) -> String {
    let what = Asked(way);
    match (way.check.protocol, evidence.of(Role::Service)) {
        (Protocol::Tcp, _) => format!("{what} was accepted"),
        (_, Heard::Answered) => format!("{what} was answered"),
        (_, Heard::Nothing | Heard::Opened | Heard::Refused { .. }) => {
            format!("{what} was not refused, and an echo took the same way")
        }
    }
}

fn claimed(way: &Way, claim: Claim) -> String {
    let (vip, mac) = (way.check.vip, Mac(claim.mac));
    let cure = match vip {
        IpAddr::V4(_) if claim.asking => "set arp_announce=2 on the real server",
        IpAddr::V4(_) => "set arp_ignore=1 on the real server and the VIP on its lo",
        IpAddr::V6(_) => "set the VIP on lo of the real server, with prefix length 128",
    };
    let how = match vip {
        IpAddr::V4(_) if claim.asking => "announces the VIP in ARP requests of its own",
        IpAddr::V4(_) => "answers ARP for the VIP",
        IpAddr::V6(_) => "answers neighbour solicitations for the VIP",
    };
    format!("the real server {how} ({vip} is at {mac}) and so draws clients away: {cure}")
}

/// The service refused, or somebody on the way did.
fn refused(
    way: &Way,
    evidence: &Evidence,
    refusal: Option<Refusal>,
    by: IpAddr,
    whole: bool,
) -> String {
    let what = Asked(way);
    match refusal {
        None => not_listening(way, evidence, "reset"),
        Some(Refusal::Port) if evidence.of(Role::Service).by_listener(way.check.protocol) => {
            not_listening(way, evidence, "port unreachable")
        }
        Some(Refusal::Hops) if whole && way.to_vip() => match evidence.of(Role::VipEcho) {
            Heard::Answered | Heard::Opened => format!(
                "{what} was sent on by the real server, which has the VIP, and not answered behind it: is the service's \
                 container there?"
            ),
            Heard::Nothing | Heard::Refused { .. } => format!(
                "{what} was not for the real server, which would have sent it on (time exceeded from {by}): {MISSING}"
            ),
        },
        Some(Refusal::Port | Refusal::Protocol) if way.tunnelled() && !whole => {
            no_tunnel(way, refusal)
        }
        Some(Refusal::Port) => {
            format!("{what} was refused by {by} (port unreachable): does a firewall reject it?")
        }
        Some(refusal) => format!("{what} was refused by {by} ({})", Named(refusal)),
    }
}

/// Nothing listens where clients connect to.
fn not_listening(way: &Way, evidence: &Evidence, how: &str) -> String {
    let (what, check) = (Asked(way), &way.check);
    let (to, port) = way.service();
    let elsewhere = evidence.of(Role::Plain);
    let listens = match check.protocol {
        Protocol::Tcp => elsewhere == Heard::Opened,
        Protocol::Udp | Protocol::Sctp => {
            !matches!(elsewhere, Heard::Refused { .. })
                && evidence.of(Role::PlainEcho) == Heard::Answered
        }
    };
    let here = Address(to, port);
    if way.to_vip() && listens {
        let own = Address(check.real_server, check.real_port);
        return format!(
            "{what} was refused ({how}), the same to {own} was not: the service listens at the real server's own address \
             only; let it listen at {here} as well"
        );
    }
    format!("{what} was refused ({how}): nothing listens at {here}")
}

fn no_tunnel(way: &Way, refusal: Option<Refusal>) -> String {
    let (what, device) = (Asked(way), Device(way));
    let says = refusal.map_or_else(String::new, |refusal| format!(" ({})", Named(refusal)));
    format!(
        "{what} was not taken out of the tunnel{says}: the real server has no {device} device for {}; make one, or run \
         `elvs realserver --decap` there",
        way.check.real_server
    )
}

/// Nothing at all was heard from the service.
fn silent(way: &Way, evidence: &Evidence) -> String {
    let what = Asked(way);
    let check = &way.check;
    let heard = |role| evidence.of(role);
    let alive = heard(Role::Plain).arrived() || heard(Role::PlainEcho).arrived();
    if !way.to_vip() {
        if !alive {
            return format!("no answer to {what}, nor to an echo: {}", Down(way));
        }
        let more = match check.method {
            ForwardingMethod::Nat => ", or nat_icmp_send of this director refuse its answer",
            ForwardingMethod::Dr | ForwardingMethod::Tun(_) | ForwardingMethod::FullNat => "",
        };
        return format!(
            "no answer to {what}, though the real server answers an echo: does a firewall drop it{more}?"
        );
    }
    if heard(Role::OtherSource).answers() {
        return format!(
            "no answer to {what} from {}, but to the same from {}: rp_filter of the real server, or its route back to {}",
            way.source,
            way.other_source.unwrap_or(way.source),
            way.source
        );
    }
    if heard(Role::VipEcho).answers() {
        return format!(
            "no answer to {what}, though the VIP answers an echo by the same way: does a firewall drop it, or is the \
             service's backlog full?"
        );
    }
    // An ICMP error is none: a host without the tunnel's device sends it about the outer header.
    let through = |role| heard(role).error().is_none() && heard(role).arrived();
    if way.tunnelled() && !through(Role::Inner) && !through(Role::InnerEcho) {
        return silent_tunnel(way, evidence, alive);
    }
    if alive || way.tunnelled() {
        let same = if heard(Role::Plain).answers() {
            format!("the same to {} is answered", Address(check.real_server, check.real_port))
        } else {
            format!("{} itself answers by the same way", check.real_server)
        };
        return format!("no answer to {what}: {MISSING} ({same})");
    }
    format!("no answer to {what}, nor to anything for {}: {}", check.real_server, Down(way))
}

/// Nothing came out of a tunnel.
fn silent_tunnel(way: &Way, evidence: &Evidence, alive: bool) -> String {
    let (what, check, device) = (Asked(way), &way.check, Device(way));
    let errors = [Role::VipEcho, Role::Inner, Role::InnerEcho, Role::OtherSource];
    let error = errors.into_iter().find_map(|role| evidence.of(role).error());
    if let Some((refusal @ (Refusal::Protocol | Refusal::Port), _)) = error {
        return no_tunnel(way, Some(refusal));
    }
    if !alive {
        let address = check.real_server;
        return format!("no answer to {what}, nor to anything for {address}: {}", Down(way));
    }
    let through = "nor to anything else through the tunnel";
    let strange = evidence.of(Role::Strange);
    if way.sent_without_checksum() {
        return match (strange, strange.error()) {
            (_, Some((refusal, _))) => no_tunnel(way, Some(refusal)),
            (Heard::Answered, None) => format!(
                "no answer to {what}, but to an echo in a datagram that has a checksum: have the tunnel send them (csum), \
                 or the real server's {device} device take those without"
            ),
            (Heard::Nothing | Heard::Opened | Heard::Refused { .. }, None) => format!(
                "no answer to {what}, nor to the like with a checksum: {MISSING} If it is, a firewall drops what comes \
                 out of its {device} device"
            ),
        };
    }
    if strange.error().is_none() {
        return format!(
            "no answer to {what}, {through}, though {} itself answers: no {device} device, or rp_filter on it, or a \
             firewall (the real server sends no ICMP errors that would tell)",
            check.real_server
        );
    }
    let takes = "which the real server does not refuse as it refuses other packets";
    match check.vip {
        _ if !way.same_family() => format!(
            "no answer to {what}, {takes}: {MISSING} If it is, rp_filter or a firewall drops what comes out of its \
             {device} device"
        ),
        IpAddr::V4(_) => format!(
            "no answer to {what}, {through}, {takes}: rp_filter drops what comes out of its {device} device; set \
             net.ipv4.conf.all.rp_filter and that of the device to 0"
        ),
        IpAddr::V6(_) => format!(
            "no answer to {what}, {through}, {takes}: what comes out of its {device} device is dropped, by a firewall or \
             because IPv6 is off there"
        ),
    }
}

/// Why a packet for the VIP is not the real server's.
const MISSING: &str = "is the VIP on lo of the real server?";

/// The probe of the service, in words.
struct Asked<'a>(&'a Way);

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = self.0;
        let kind = match way.check.protocol {
            Protocol::Tcp => "a SYN",
            Protocol::Udp => "a datagram",
            Protocol::Sctp => "an echo",
        };
        let (to, port) = way.service();
        write!(f, "{kind} for {}", Address(to, port))?;
        match way.check.method {
            ForwardingMethod::Dr => write!(f, " sent to {}", Mac(way.mac)),
            ForwardingMethod::Tun(_) => {
                write!(f, " sent to {} by {}", way.check.real_server, Device(way))
            }
            ForwardingMethod::Nat | ForwardingMethod::FullNat => Ok(()),
        }
    }
}

/// Why nothing is heard of a real server.
struct Down<'a>(&'a Way);

impl fmt::Display for Down<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.on_link {
            write!(
                f,
                "the real server has a MAC address, but drops all of {}'s packets (rp_filter or a firewall), or has just \
                 gone",
                self.0.outer_source
            )
        } else {
            write!(f, "the real server is down, or not reachable from {}", self.0.outer_source)
        }
    }
}

/// The device that takes a tunnel's packets.
struct Device<'a>(&'a Way);

impl fmt::Display for Device<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.check.method {
            ForwardingMethod::Tun(TunnelKind::Gue { port, .. }) => write!(f, "GUE (port {port})"),
            ForwardingMethod::Tun(TunnelKind::Gre { .. }) => write!(f, "GRE"),
            ForwardingMethod::Tun(TunnelKind::Ipip)
            | ForwardingMethod::Nat
            | ForwardingMethod::Dr
            | ForwardingMethod::FullNat => write!(f, "IPIP"),
        }
    }
}

/// An ICMP error's name.
struct Named(Refusal);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Refusal::Port => write!(f, "port unreachable"),
            Refusal::Protocol => write!(f, "protocol unreachable"),
            Refusal::Hops => write!(f, "time exceeded"),
            Refusal::Prohibited => write!(f, "prohibited: by a firewall's rules"),
            Refusal::Unreachable => write!(f, "host unreachable"),
            Refusal::Other { kind, code } => write!(f, "ICMP type {kind}, code {code}"),
        }
    }
}

/// Address and port.
struct Address(IpAddr, u16);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::net::SocketAddr::new(self.0, self.1))
    }
}

/// A MAC address.
struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests;
