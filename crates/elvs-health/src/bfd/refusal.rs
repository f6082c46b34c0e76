//! Why a datagram was not taken for a session's packet.
//!
//! **Invariant:** one variant, one counter, one name.
//!
//! Called by [`super::Sessions`].

use std::collections::BTreeMap;

use elvs_wire::bfd::DecodeError;

/// Why a datagram was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no control packet.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// Its discriminator is none of ours.
    #[error("no session has discriminator {got:#010x}")]
    UnknownDiscriminator {
        /// Your Discriminator.
        got: u32,
    },
    /// It names no session, and nobody is configured to be its sender's neighbour.
    #[error("no bfd_instance has its sender for neighbor")]
    UnknownNeighbor,
    /// It came to the port of single hop for a multihop session, or the other way round.
    #[error("its session uses the other UDP port")]
    OtherPort,
    /// The kernel did not say how many hops it may yet have gone.
    #[error("its TTL is not known")]
    NoHopLimit,
    /// It came from further away than allowed (RFC 5881 section 5; keepalived's `ttl` less `max_hops`).
    #[error("TTL {got} is below {least}")]
    HopLimit {
        /// TTL or hop limit it came with.
        got: u8,
        /// Least that is taken.
        least: u8,
    },
}

impl Refusal {
    /// Name of the counter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed(error) => match error {
                DecodeError::Short { .. } => "short",
                DecodeError::Version { .. } => "version",
                DecodeError::Length { .. } => "length",
                DecodeError::Multiplier => "multiplier",
                DecodeError::Multipoint => "multipoint",
                DecodeError::MyDiscriminator => "my_discriminator",
                DecodeError::YourDiscriminator { .. } => "your_discriminator",
                DecodeError::Authentication => "authentication",
                DecodeError::PollAndFinal => "poll_and_final",
            },
            Self::UnknownDiscriminator { .. } => "unknown_discriminator",
            Self::UnknownNeighbor => "unknown_neighbor",
            Self::OtherPort => "other_port",
            Self::NoHopLimit => "no_hop_limit",
            Self::HopLimit { .. } => "hop_limit",
        }
    }
}

/// Refused datagrams by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals(BTreeMap<&'static str, u64>);

impl Refusals {
    pub(super) fn count(&mut self, refusal: Refusal) {
        let counter = self.0.entry(refusal.name()).or_default();
        *counter = counter.saturating_add(1);
    }

    /// Datagrams refused for the reason of this [`Refusal::name`].
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Reasons that came up, with their numbers, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(name, count)| (*name, *count))
    }
}
