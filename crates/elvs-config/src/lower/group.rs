//! `virtual_server_group`: addresses, ranges of them and firewall marks that one virtual server stands for.
//!
//! **Invariant:** a group that is lowered has an entry; ranges are expanded within the limit of services.
//!
//! Called by the lowering of the root statements and of virtual servers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use elvs_model::{Family, with_last_part};

use super::{MAX_SERVICES, defined_twice, value};
use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::sources::Extent;
use crate::text::{nearest, quote};
use crate::tree::Item;

/// What one line of a group stands for.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// Addresses from the first to the last, with a port or 0 = every port.
    Addresses { first: IpAddr, last: IpAddr, port: u16 },
    /// A firewall mark, with a family where one is written.
    Mark(u32, Option<Family>),
}

/// One group; without entries if they could not be read.
pub(super) struct Group {
    pub entries: Vec<(Entry, Extent)>,
    at: Extent,
}

/// Every `virtual_server_group` block.
#[derive(Default)]
pub(super) struct Groups {
    groups: HashMap<String, Group>,
}

impl Groups {
    pub fn read(items: &[Item], reporter: &mut Reporter) -> Self {
        let mut groups = Self::default();
        for item in items.iter().filter(|item| item.keyword.text == "virtual_server_group") {
            if reporter.is_full() {
                break;
            }
            groups.group(item, reporter);
        }
        groups
    }

    fn group(&mut self, item: &Item, reporter: &mut Reporter) {
        let mut refused = false;
        let mut entries = Vec::new();
        for line in item.items() {
            match entry(line, reporter) {
                Some(entry) => entries.push((entry, line.head())),
                None => refused = true,
            }
        }
        let Some(name) = item.arguments.first() else { return };
        let at = item.head();
        if item.block.is_some() && item.items().is_empty() {
            let message = format!("virtual server group {} is empty", quote(&name.text));
            reporter
                .error(Code::MissingArgument, at, message)
                .help("write `ADDRESS [PORT]`, `RANGE [PORT]` or `fwmark MARK` between the braces");
        }
        if let Some(first) = self.groups.get(&name.text) {
            let cure = "join the two blocks, or rename one";
            defined_twice("virtual server group", name, cure, [first.at, at], reporter);
            return;
        }
        let entries = if refused { Vec::new() } else { entries };
        self.groups.insert(name.text.clone(), Group { entries, at });
    }

    /// The group that a virtual server names.
    pub fn get(&self, word: &Word, reporter: &mut Reporter) -> Option<&Group> {
        let group = self.groups.get(&word.text);
        if group.is_none() {
            let message = format!("there is no virtual server group {}", quote(&word.text));
            let help = match nearest(&word.text, self.groups.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write `virtual_server_group NAME { ADDRESS PORT }` outside of every block"
                    .to_owned(),
            };
            reporter.error(Code::UnknownName, word.extent, message).help(help);
        }
        group
    }
}

/// One line of a group; none if it is refused.
fn entry(line: &Item, reporter: &mut Reporter) -> Option<Entry> {
    let word = &line.keyword;
    let most = if word.text == "fwmark" { 2 } else { 1 };
    if let Some(extra) = line.arguments.get(most) {
        let message = format!("{} is one word too many in a line of a group", quote(&extra.text));
        reporter
            .error(Code::ExtraArgument, extra.extent, message)
            .help("write `ADDRESS [PORT]`, `RANGE [PORT]` or `fwmark MARK [inet|inet6]`");
        return None;
    }
    if word.text == "fwmark" {
        return mark(line, reporter);
    }
    let port = line.arguments.first().map_or(Some(0), |word| value::port(word, reporter));
    let (first, last) = range(word, reporter)?;
    Some(Entry::Addresses { first, last, port: port? })
}

fn mark(line: &Item, reporter: &mut Reporter) -> Option<Entry> {
    let Some(word) = line.arguments.first() else {
        reporter
            .error(Code::MissingArgument, line.head(), "`fwmark` has no MARK")
            .help("write `fwmark MARK [inet|inet6]`");
        return None;
    };
    let mark = value::number("firewall mark", word, 1, u32::MAX, reporter)?;
    const FAMILIES: [(&str, Family); 2] = [("inet", Family::Inet), ("inet6", Family::Inet6)];
    let family = match line.arguments.get(1) {
        Some(word) => Some(value::name("address family", word, &FAMILIES, reporter)?),
        None => None,
    };
    Some(Entry::Mark(mark, family))
}

/// First and last of an address, `A-B`, `A-LAST_PART` or `A/LENGTH`.
fn range(word: &Word, reporter: &mut Reporter) -> Option<(IpAddr, IpAddr)> {
    let text = word.text.as_str();
    let separator = text.find(['-', '/']);
    let (start, rest) = text.split_at_checked(separator.unwrap_or(text.len()))?;
    let first_word = Word { text: start.to_owned(), ..word.clone() };
    let first = value::host_address("virtual address", &first_word, reporter)?;
    let refuse = |message: String, reporter: &mut Reporter| {
        reporter.error(Code::InvalidValue, word.extent, message).help(
            "write a range as 192.0.2.1-10, 192.0.2.250-192.0.3.10 or 192.0.2.8/29 (IPv6 alike)",
        );
    };
    let last = match (rest.strip_prefix('-'), rest.strip_prefix('/')) {
        (Some(end), _) => end.parse().ok().or_else(|| with_last_part(first, end)),
        (_, Some(length)) => {
            let last = last_of_prefix(first, length);
            if last.is_none() {
                let message = format!("{} does not begin at the start of a prefix", quote(text));
                refuse(message, reporter);
                return None;
            }
            last
        }
        (None, None) => Some(first),
    };
    let Some(last) = last.filter(|last| Family::of(*last) == Family::of(first)) else {
        refuse(format!("range {} has no end of its family", quote(text)), reporter);
        return None;
    };
    if last < first || (separator.is_some() && rest.starts_with('-') && last == first) {
        refuse(format!("range {} does not end after its start", quote(text)), reporter);
        return None;
    }
    let count = (bits(last) - bits(first)).saturating_add(1);
    if count > MAX_SERVICES as u128 {
        let message =
            format!("range {} has {count} addresses, more than {MAX_SERVICES}", quote(text));
        reporter.error(Code::OutOfRange, word.extent, message).help(
            "each address is a service: give fewer, or mark the packets and write `fwmark MARK`",
        );
        return None;
    }
    Some((first, last))
}

/// Last address of a prefix that `first` begins; as in keepalived, every address of it counts.
fn last_of_prefix(first: IpAddr, length: &str) -> Option<IpAddr> {
    let size = if first.is_ipv4() { 32_u32 } else { 128 };
    let digits = length.bytes().all(|b| b.is_ascii_digit());
    let length = length.parse::<u32>().ok().filter(|n| digits && (1..=size).contains(n))?;
    let hosts = 1_u128.checked_shl(size - length).map_or(u128::MAX, |count| count - 1);
    (bits(first) & hosts == 0).then(|| of_bits(Family::of(first), bits(first) | hosts))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn of_bits(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::Inet => Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
        Family::Inet6 => Ipv6Addr::from_bits(bits).into(),
    }
}

/// The addresses from `first` to `last`.
pub(super) fn addresses(first: IpAddr, last: IpAddr) -> impl Iterator<Item = IpAddr> {
    let family = Family::of(first);
    (bits(first)..=bits(last)).map(move |bits| of_bits(family, bits))
}

#[cfg(test)]
mod tests;
