//! `cargo xtask layers`: the crates may depend on each other only as the architecture says.
//!
//! **Invariant:** every crate of the workspace has a row in `LAYERS`, so a new crate is placed before it is used.
//! A row allows dependencies of all kinds; a crate without I/O may not even reach a library that does some.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, Package, PackageId};

/// One crate's place.
struct Layer {
    name: &'static str,
    /// Crates of this workspace that it may depend on.
    may_use: &'static [&'static str],
    io: Io,
}

/// Whether a crate may reach the operating system.
#[derive(PartialEq, Eq)]
enum Io {
    /// No: bytes and time are parameters, effects are returned values.
    Without,
    /// Yes.
    With,
}

const fn layer(name: &'static str, io: Io, may_use: &'static [&'static str]) -> Layer {
    Layer { name, may_use, io }
}

/// The crates, lowest layer first; `docs/architecture.md` has the same table with reasons.
const LAYERS: &[Layer] = &[
    layer("elvs-common", Io::Without, &[]),
    layer("elvs-fastpath", Io::Without, &["elvs-common"]),
    layer("elvs-wire", Io::Without, &[]),
    layer("elvs-model", Io::Without, &[]),
    layer("elvs-config", Io::Without, &["elvs-model"]),
    layer("elvs-vrrp", Io::Without, &["elvs-model", "elvs-wire"]),
    layer("elvs-health", Io::Without, &["elvs-model", "elvs-wire"]),
    layer("elvs-dataplane", Io::With, &["elvs-common", "elvs-fastpath", "elvs-model"]),
    layer("elvs-net", Io::With, &["elvs-model", "elvs-wire"]),
    layer("elvs-probe", Io::With, &["elvs-model", "elvs-wire", "elvs-health", "elvs-net"]),
    layer("elvs-api", Io::With, &["elvs-model"]),
    layer("elvs", Io::With, LIBRARIES),
    layer("elvs-lab", Io::With, LIBRARIES),
    layer("bench", Io::With, &["elvs-common", "elvs-dataplane", "elvs-fastpath", "elvs-model"]),
    layer("xtask", Io::With, &[]),
];

const LIBRARIES: &[&str] = &[
    "elvs-common",
    "elvs-fastpath",
    "elvs-wire",
    "elvs-model",
    "elvs-config",
    "elvs-vrrp",
    "elvs-health",
    "elvs-dataplane",
    "elvs-net",
    "elvs-probe",
    "elvs-api",
];

/// Libraries that do I/O, own threads or talk to the kernel.
const OUTSIDE: &[&str] = &["async-io", "aya", "libc", "mio", "nix", "rustix", "socket2", "tokio"];

/// Optional dependencies that a crate without I/O may declare: `elvs-common` marks its map types as plain data with
/// aya's trait (the orphan rule leaves no other place), when its feature `user` is on.
const OPTIONAL: &[(&str, &str)] = &[("elvs-common", "aya")];

/// Checks the workspace.
#[expect(clippy::print_stdout, reason = "a command-line tool says what it checked")]
pub fn run(root: &Path) -> Result<()> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        // Without it, dependencies of other operating systems count as reachable.
        .other_options(["--filter-platform".to_owned(), "x86_64-unknown-linux-gnu".to_owned()])
        .exec()
        .context("metadata of the workspace")?;
    let faults = faults(&metadata);
    if !faults.is_empty() {
        bail!("dependencies that the architecture forbids:\n  {}", faults.join("\n  "));
    }
    println!("layers: {} crates in order", metadata.workspace_members.len());
    Ok(())
}

/// What breaks the rules, one line each.
fn faults(metadata: &Metadata) -> Vec<String> {
    let graph = Graph::new(metadata);
    let mut faults = Vec::new();
    for package in metadata.workspace_packages() {
        let Some(layer) = LAYERS.iter().find(|layer| package.name == layer.name) else {
            faults.push(format!(
                "{} has no row in the table of layers: add it to xtask/src/layers.rs and docs/architecture.md",
                package.name
            ));
            continue;
        };
        faults.extend(forbidden_edges(package, layer));
        if layer.io == Io::Without {
            faults.extend(graph.ways_outside(&package.id));
        }
    }
    faults
}

fn forbidden_edges(package: &Package, layer: &Layer) -> Vec<String> {
    let ours: BTreeSet<&str> = LAYERS.iter().map(|layer| layer.name).collect();
    let used: BTreeSet<&str> = package
        .dependencies
        .iter()
        .map(|dependency| dependency.name.as_str())
        .filter(|name| ours.contains(name) && !layer.may_use.contains(name))
        .collect();
    used.into_iter().map(|name| format!("{} may not depend on {name}", layer.name)).collect()
}

/// Normal dependencies of all packages, without the optional ones that are allowed.
struct Graph<'a> {
    names: BTreeMap<&'a PackageId, &'a str>,
    edges: BTreeMap<&'a PackageId, Vec<&'a PackageId>>,
}

impl<'a> Graph<'a> {
    fn new(metadata: &'a Metadata) -> Self {
        let packages: BTreeMap<&PackageId, &Package> =
            metadata.packages.iter().map(|package| (&package.id, package)).collect();
        let names = packages.iter().map(|(id, package)| (*id, package.name.as_str())).collect();
        let nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
        let edges = nodes
            .map(|node| {
                let normal = node.deps.iter().filter(|dependency| {
                    dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
                });
                let kept = normal.map(|dependency| &dependency.pkg).filter(|to| {
                    match (packages.get(&node.id), packages.get(to)) {
                        (Some(from), Some(to)) => !is_allowed_option(from, to),
                        _ => true,
                    }
                });
                (&node.id, kept.collect())
            })
            .collect();
        Self { names, edges }
    }

    /// A line for each library in `OUTSIDE` that the package reaches, with the shortest way to it.
    fn ways_outside(&self, start: &'a PackageId) -> Vec<String> {
        let mut ways = Vec::new();
        let mut seen = BTreeSet::from([start]);
        let mut queue = std::collections::VecDeque::from([vec![start]]);
        while let Some(way) = queue.pop_front() {
            let Some(last) = way.last() else { continue };
            for next in self.edges.get(last).into_iter().flatten() {
                if !seen.insert(next) {
                    continue;
                }
                let mut longer = way.clone();
                longer.push(next);
                if OUTSIDE.contains(&self.name(next)) {
                    let names: Vec<&str> = longer.iter().map(|id| self.name(id)).collect();
                    ways.push(format!(
                        "{} does no I/O, but reaches {}",
                        self.name(start),
                        names.join(" -> ")
                    ));
                } else {
                    queue.push_back(longer);
                }
            }
        }
        ways
    }

    fn name(&self, id: &PackageId) -> &'a str {
        self.names.get(id).copied().unwrap_or("?")
    }
}

fn is_allowed_option(from: &Package, to: &Package) -> bool {
    OPTIONAL.contains(&(from.name.as_str(), to.name.as_str()))
        && from
            .dependencies
            .iter()
            .filter(|dependency| dependency.name == to.name.as_str())
            .all(|dependency| dependency.optional)
}

#[cfg(test)]
mod tests;
