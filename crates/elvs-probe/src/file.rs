//! `FILE_CHECK`: a number in a file, times a weight.
//!
//! **Invariant:** no more than the first 127 bytes of the file matter, and whatever they are gives a number or a fault.
//!
//! Called by [`crate::Prober`].

use std::io;

use elvs_model::health::{CheckResult, FileCheck, Finding, WeightChange};
use tokio::task::spawn_blocking;

use crate::words;

/// Runs the check once.
pub(crate) async fn run(check: &FileCheck) -> Finding {
    let path = check.file.path.clone();
    // A pipe or a file of a network could take its time.
    let content = match spawn_blocking(move || read(&path)).await {
        Ok(content) => content,
        Err(error) => return Finding::failed(format!("file was not read: {error}")),
    };
    judge(check, &content)
}

/// The beginning of the file.
fn read(path: &std::path::Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let file = std::fs::File::options()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let mut content = Vec::new();
    file.take(READ).read_to_end(&mut content)?;
    Ok(content)
}

/// Judges the file's content as keepalived does: a file that cannot be read, and one without a number, count as 0.
fn judge(check: &FileCheck, content: &io::Result<Vec<u8>>) -> Finding {
    let (value, said) = match content {
        Ok(content) => match number(content) {
            Some(value) => (value, format!("file says {value}")),
            None => {
                return Finding::failed(format!(
                    "file says {}, which is beyond 32 bits",
                    words::quoted(content)
                ));
            }
        },
        Err(error) => (0, format!("file counts as 0: {}", words::error(error))),
    };
    if check.weight == 0 {
        return match ((value == 0) != check.reverse, check.reverse) {
            (true, _) => Finding::passed(said),
            (false, false) => Finding::failed(format!("{said}, wanted 0")),
            (false, true) => Finding::failed(format!("{said}, wanted another number than 0")),
        };
    }
    let sign = if check.reverse { -1 } else { 1 };
    // Both factors have 32 bits, so the product has 63.
    let change = value * i64::from(check.weight) * sign;
    if change <= i64::from(i32::MIN) {
        return Finding::failed(format!("{said}, times {} is a fault", check.weight));
    }
    let change = change.min(i64::from(i32::MAX));
    Finding {
        result: CheckResult::Passed(WeightChange::Add(change)),
        words: format!("{said}, weight {change:+}"),
    }
}

/// The number that a file begins with, as strtol(3) reads it with base 0; 0 without one, `None` beyond 32 bits.
fn number(content: &[u8]) -> Option<i64> {
    let text = String::from_utf8_lossy(content);
    let text = text.trim_start();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (base, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, digits.get(2..).unwrap_or_default()),
        _ if digits.starts_with('0') => (8, digits),
        _ => (10, digits),
    };
    let end = digits.find(|c: char| !c.is_digit(base)).unwrap_or(digits.len());
    let value = match digits.get(..end) {
        None | Some("") => 0,
        Some(digits) => sign * i64::from_str_radix(digits, base).ok()?,
    };
    (i64::from(i32::MIN)..=i64::from(i32::MAX) + 1).contains(&value).then_some(value)
}

/// Bytes that are read.
const READ: u64 = 127;

#[cfg(test)]
mod tests;
