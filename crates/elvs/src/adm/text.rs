//! Fixed texts of ipvsadm 1.31.
//!
//! **Invariant:** byte for byte what ipvsadm prints; people compare and scripts match them.
//!
//! Called by the argument reader and the runner.

/// First line of `-h`, only line of `-v`.
pub(super) const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

/// `-h`.
pub(super) fn help(program: &str) -> String {
    format!("{VERSION}Usage:\n{}", include_str!("help.txt").replace("{program}", program))
}

/// What a line without a command is answered with.
pub(super) fn try_help(program: &str) -> String {
    format!("Try `{program} -h' or '{program} --help' for more information.\n")
}

/// `ipvsadm-save -x`.
pub(super) fn save_help(program: &str) -> String {
    format!(
        "{program}: Script to save the IPVS table to stdout.\n   \
         With the -n option, prints out the table in numeric format.\n"
    )
}
