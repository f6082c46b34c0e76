//! Free memory of the host, as IPVS counts it for `amemthresh`.
//!
//! **Invariant:** what cannot be read is unknown, never 0: the defence against floods does not act by mistake.
//!
//! Called by the ticker once a second, while a setting asks for it.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

/// Pages of free and of buffered memory (`si_meminfo`: `freeram` and `bufferram`).
pub(super) fn free_pages() -> Option<u64> {
    let bytes = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    pages(&fs::read_to_string("/proc/meminfo").ok()?, u64::try_from(bytes).ok()?)
}

/// The same of the text of `/proc/meminfo`, with pages of so many bytes.
fn pages(meminfo: &str, page_bytes: u64) -> Option<u64> {
    let kibibytes = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let free = kibibytes("MemFree")?.checked_add(kibibytes("Buffers")?)?;
    free.checked_mul(1024)?.checked_div(page_bytes)
}

#[cfg(test)]
mod tests {
    use super::pages;

    #[test]
    fn free_and_buffered_memory_count_in_pages() {
        let meminfo =
            "MemTotal:  8000 kB\nMemFree:     4100 kB\nMemAvailable: 7 kB\nBuffers:   40 kB\n";
        assert_eq!(pages(meminfo, 4096), Some(1035));
        assert_eq!(pages(meminfo, 65_536), Some(64));
    }

    #[test]
    fn what_is_missing_is_unknown() {
        for text in
            ["", "MemFree: 1 kB\n", "MemFree: x kB\nBuffers: 1 kB\n", "MemFree:\nBuffers: 1\n"]
        {
            assert_eq!(pages(text, 4096), None, "{text:?}");
        }
        assert_eq!(pages("MemFree: 1 kB\nBuffers: 1 kB\n", 0), None);
    }
}
