//! Fixed texts of ipvsadm 1.31.
//!
//! **Invariant:** byte for byte what ipvsadm prints; people compare and scripts match them. ELVS's own options are
//! described apart.
//!
//! Called by the argument reader and the runner.

/// First line of `-h`, only line of `-v`.
pub(super) const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

/// `-h`.
pub(super) fn help(program: &str) -> String {
    format!("{VERSION}Usage:\n{}", include_str!("help.txt").replace("{program}", program))
}

/// What `elvs adm -h` adds: the options that ipvsadm does not have.
pub(super) const EXTENSIONS: &str = include_str!("extensions.txt");

/// What `-h` says of a long option; of a command or option that it leaves out, the option's own name.
pub(super) fn about(long: &str) -> &'static str {
    let named = |line: &&str| {
        let mut words = line.trim_start().split([' ', '|']);
        words.next().and_then(|word| word.strip_prefix("--")) == Some(long)
    };
    let lines = include_str!("help.txt").lines().chain(EXTENSIONS.lines());
    match (lines.clone().find(named), long) {
        // Behind the name and its value stands the description, two blanks or more apart.
        (Some(line), _) => {
            line.trim_end().rsplit("  ").next().unwrap_or_default().trim().trim_end_matches(',')
        }
        (None, "version") => "display the version",
        (None, _) => "",
    }
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
