//! What a datagram that came back is worth.
//!
//! **Invariant:** total: any bytes are as wanted, or are not for a named reason.
//!
//! Called by the driver of `UDP_CHECK`.

use elvs_model::health::UdpCheck;
use thiserror::Error;

use crate::words;

/// Why a datagram is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Mismatch {
    /// Too short or too long.
    #[error("reply of {}, wanted {least} to {most}", length(*.got, *.most))]
    Length { got: usize, least: u16, most: u16 },
    /// It does not begin as wanted.
    #[error("reply begins with {}, which differs from the wanted one at byte {at}", words::quoted(.bytes))]
    Bytes { bytes: Vec<u8>, at: usize },
}

/// Judges a datagram as keepalived does: only where a pattern is given, and by as much of it as the datagram has.
///
/// # Errors
/// What is not as wanted.
pub(crate) fn judge(check: &UdpCheck, bytes: &[u8]) -> Result<(), Mismatch> {
    let Some(pattern) = &check.reply else { return Ok(()) };
    let (least, most) = (check.min_length, check.max_length);
    if !(usize::from(least)..=usize::from(most)).contains(&bytes.len()) {
        return Err(Mismatch::Length { got: bytes.len(), least, most });
    }
    let wanted = pattern.bytes.iter().zip(&pattern.mask);
    let differs = |(byte, (wanted, mask)): (&u8, (&u8, &u8))| (byte ^ wanted) & mask != 0;
    match bytes.iter().zip(wanted).position(differs) {
        Some(at) => Err(Mismatch::Bytes { bytes: bytes.to_vec(), at }),
        None => Ok(()),
    }
}

/// A length; one that is too great was not read to its end.
fn length(got: usize, most: u16) -> String {
    let more = if got > usize::from(most) { " or more" } else { "" };
    format!("{got} bytes{more}")
}

#[cfg(test)]
mod tests;
