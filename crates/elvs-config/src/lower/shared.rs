//! What blocks outside of virtual servers say to them all: the `SSL` block, files, sessions, groups and alerts.
//!
//! **Invariant:** read before the first virtual server, wherever in the file it stands.
//!
//! Called by the lowering of the root statements; read by that of virtual servers and checks.

use std::collections::HashSet;
use std::path::PathBuf;

use elvs_model::health::{BfdInstance, TlsClient};

use super::global_defs::GlobalDefs;
use super::track::Files;
use super::{Once, group, local, track};
use crate::capabilities::Capabilities;
use crate::diagnostic::{Code, Reporter};
use crate::tree::Item;

/// What virtual servers and checks look up.
pub(super) struct Shared<'a> {
    pub capabilities: &'a Capabilities,
    pub global: GlobalDefs,
    pub tls: TlsClient,
    pub files: Files,
    pub sessions: Vec<BfdInstance>,
    /// Names of the sessions.
    pub session_names: HashSet<String>,
    /// Groups of virtual addresses.
    pub groups: group::Groups,
    /// Groups of local addresses.
    pub local: local::Groups,
}

impl<'a> Shared<'a> {
    pub fn read(items: &[Item], capabilities: &'a Capabilities, reporter: &mut Reporter) -> Self {
        let (sessions, session_names) = track::sessions(items, reporter);
        Self {
            capabilities,
            session_names,
            sessions,
            global: GlobalDefs::read(items, reporter),
            tls: tls(items, reporter),
            files: Files::read(items, reporter),
            groups: group::Groups::read(items, reporter),
            local: local::Groups::read(items, reporter),
        }
    }
}

/// The `SSL` block; of several the last one counts, as in keepalived.
fn tls(items: &[Item], reporter: &mut Reporter) -> TlsClient {
    let mut block = Once::default();
    for item in items.iter().filter(|item| item.keyword.text == "SSL") {
        block.set(item, files(item, reporter), reporter);
    }
    block.get().cloned().unwrap_or_default()
}

fn files(item: &Item, reporter: &mut Reporter) -> TlsClient {
    let mut password = Once::default();
    let mut ca = Once::default();
    let mut certificate = Once::default();
    let mut key = Once::default();
    for line in item.items() {
        let Some(word) = line.arguments.first() else { continue };
        let path = || PathBuf::from(&word.text);
        match line.keyword.text.as_str() {
            "password" => password.set(line, word.text.clone(), reporter),
            "ca" => ca.set(line, path(), reporter),
            "certificate" => certificate.set(line, path(), reporter),
            "key" => key.set(line, path(), reporter),
            _ => {}
        }
    }
    let pairs = [
        (certificate.place(), key.place(), "certificate", "key"),
        (key.place(), certificate.place(), "key", "certificate"),
        (password.place(), key.place(), "password", "key"),
    ];
    for (given, other, keyword, missing) in pairs {
        if let (Some(at), None) = (given, other) {
            reporter
                .warning(
                    Code::NoEffect,
                    at,
                    format!("`{keyword}` has no meaning without `{missing}`"),
                )
                .help(format!("write `{missing}` too, or remove the line"));
        }
    }
    TlsClient {
        ca: ca.get().cloned(),
        certificate: certificate.get().cloned(),
        key: key.get().cloned(),
        password: password.get().cloned(),
        ..TlsClient::default()
    }
}
