//! Why the two differ, where they do: each class with its reason.

/// Who refuses what the other takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// `keepalived -t`.
    Keepalived,
    /// `elvs check`.
    Elvs,
}

/// A kind of difference.
#[derive(Debug)]
pub struct Class {
    /// Who refuses.
    pub who: Who,
    /// What it says: a part of its complaint.
    pub says: &'static str,
    /// Why that is so, and stays so.
    pub reason: &'static str,
    /// The side that takes the file says nothing of it either.
    pub silent: bool,
}

const fn keepalived(says: &'static str, reason: &'static str) -> Class {
    Class { who: Who::Keepalived, says, reason, silent: false }
}

const fn elvs(says: &'static str, reason: &'static str) -> Class {
    Class { who: Who::Elvs, says, reason, silent: false }
}

impl Class {
    const fn silent(self) -> Self {
        Self { silent: true, ..self }
    }
}

const DEFAULT: &str = "the default is the same; `elvs check` warns of it and goes on";
const USER: &str =
    "a user is looked for when the script runs: a file can be checked on another machine";
const LATER: &str = "known to keepalived 2.3 or 2.4, not to 2.2.7 that was compared";
const NOT_YET: &str =
    "`elvs check` notes that `lvs_sync_daemon` is not yet in effect, and does not judge its values";
const SECURITY: &str = "without `enable_script_security` scripts run without the check of their path, as in keepalived";

/// Every difference there is.
pub const CLASSES: &[Class] = &[
    keepalived(
        "has no real servers - ignoring",
        "the virtual server is left out by both; `elvs check` warns of it and goes on",
    ),
    keepalived("no protocol set - defaulting to UDP", DEFAULT),
    keepalived("no scheduler set, setting default 'wlc'", DEFAULT),
    keepalived("no forwarding method set, setting default NAT", DEFAULT),
    keepalived(">= quorum", "the same value is used, with a warning"),
    keepalived("exceeds total weight of real servers", "the same value is used, with a warning"),
    keepalived("ports don't match - resetting", "the port of the virtual server is used, with a warning"),
    keepalived("one packet scheduling requires UDP - resetting", "`ops` is left out, with a warning"),
    keepalived(
        "protocol specified for fwmark - protocol will be ignored",
        "the protocol is ignored, with a warning",
    ),
    keepalived(
        "Ignoring sorry_server inhibit used before or without sorry_server",
        "the order of keywords does not matter to ELVS",
    ),
    keepalived(
        "hashed only applies to sh scheduler - ignoring",
        "`hashed` has no effect in ELVS, where every service is found by hash; `elvs check` notes it",
    ),
    keepalived("Error setting global script uid/gid", USER).silent(),
    keepalived("Failed to set uid/gid for misc checker script", USER).silent(),
    keepalived("Invalid syncid (300) - defaulting to vrid", NOT_YET),
    keepalived("number '300' outside range [0, 255]", NOT_YET),
    keepalived("Please use keyword \"id\" before lvs_sync_daemon SYNCID", NOT_YET),
    keepalived(
        "Duplicate include_check 'wildcard_match' specified - ignoring",
        "keepalived.conf(5) allows any combination of options; keepalived takes only the first one without `+`",
    )
    .silent(),
    keepalived("Unknown keyword 'sni_name'", LATER).silent(),
    keepalived("Unknown keyword 'tls_compliant'", LATER).silent(),
    keepalived(
        "Invalid hex string for UDP_CHECK payload",
        "ELVS takes blanks between the bytes of a quoted payload",
    )
    .silent(),
    keepalived("script_security not enabled", SECURITY).silent(),
    elvs(
        "unknown value of",
        "a word that is neither yes nor no is a mistake; keepalived ignores it here",
    ),
    elvs(
        "is one argument too many for",
        "a word too many is a mistake; keepalived drops it without a word",
    ),
    elvs(
        "lthreshold 10 exceeds uthreshold 0",
        "the kernel refuses it too (ERANGE); keepalived finds out when it runs",
    ),
    elvs(
        "is malformed: `` is no whole number",
        "keepalived takes a number that is left out of `~SEQ` for 0, which nobody means",
    ),
    elvs(
        "duplicate: virtual server TCP",
        "two blocks for one address and port: keepalived merges or loses one of them",
    ),
    elvs(
        "duplicate: virtual server group",
        "two blocks of one name: keepalived uses one of them",
    ),
    elvs(
        "there is no virtual server group",
        "keepalived starts without the virtual server",
    ),
    elvs(
        "`include` cannot be conditional or come from a parameter",
        "keepalived.conf(5) says that it does not work; keepalived reads the file twice then",
    ),
    elvs(
        "files include each other without end",
        "keepalived opens the file until it has no more descriptors, then goes on",
    ),
];

/// The differences as a page for operators.
pub fn page(files: usize, agreed: usize) -> String {
    let mut page = format!(
        "# Where `elvs check` and `keepalived -t` differ\n\n\
         Of {files} generated files, `elvs check` and `keepalived -t` (Debian's 2.2.7) both take or both refuse {agreed}. \
         The others are these. The page is written by the test `peer_keepalived_config`, which fails for a difference that is \
         not in it.\n\n\
         `keepalived -t` counts every message as a failure, also where keepalived itself would go on with a default; \
         `elvs check` refuses what `elvs run` refuses, and only warns of the rest.\n"
    );
    let tables = [
        (Who::Keepalived, "`keepalived -t` refuses, `elvs check` takes", "keepalived says"),
        (Who::Elvs, "`elvs check` refuses, `keepalived -t` takes", "elvs says"),
    ];
    for (who, title, says) in tables {
        page += &format!("\n## {title}\n\n| {says} | Why |\n|---|---|\n");
        for class in CLASSES.iter().filter(|class| class.who == who) {
            page += &format!("| {} | {} |\n", class.says.replace('|', "\\|"), class.reason);
        }
    }
    page
}
