use serde_json::{Value, json};

use super::*;

/// An edge: from, to, kind as Cargo writes it ("" for normal), optional.
type Edge = (&'static str, &'static str, &'static str, bool);

/// Metadata as `cargo metadata` prints them, of a workspace whose members are those named in the table or starting
/// with "elvs".
fn metadata(edges: &[Edge]) -> Metadata {
    let names: BTreeSet<&str> = edges.iter().flat_map(|edge| [edge.0, edge.1]).collect();
    let members: Vec<Value> =
        names.iter().filter(|name| name.starts_with("elvs")).map(|name| id(name)).collect();
    let packages: Vec<Value> = names.iter().map(|name| package(name, edges)).collect();
    let nodes: Vec<Value> = names.iter().map(|name| node(name, edges)).collect();
    serde_json::from_value(json!({
        "packages": packages,
        "workspace_members": members,
        "workspace_default_members": members,
        "resolve": { "nodes": nodes, "root": null },
        "target_directory": "/target",
        "workspace_root": "/",
        "version": 1,
        "metadata": null,
    }))
    .unwrap()
}

fn id(name: &str) -> Value {
    json!(format!("path+file:///{name}#0.1.0"))
}

fn kind(kind: &str) -> Value {
    if kind.is_empty() { Value::Null } else { json!(kind) }
}

fn package(name: &str, edges: &[Edge]) -> Value {
    let dependencies: Vec<Value> = edges
        .iter()
        .filter(|edge| edge.0 == name)
        .map(|edge| {
            json!({
                "name": edge.1, "source": null, "req": "*", "kind": kind(edge.2), "rename": null,
                "optional": edge.3, "uses_default_features": true, "features": [], "target": null,
                "registry": null,
            })
        })
        .collect();
    json!({
        "name": name, "version": "0.1.0", "id": id(name), "license": null, "license_file": null,
        "description": null, "source": null, "dependencies": dependencies, "targets": [],
        "features": {}, "manifest_path": format!("/{name}/Cargo.toml"), "metadata": null,
        "publish": null, "authors": [], "categories": [], "keywords": [], "readme": null,
        "repository": null, "homepage": null, "documentation": null, "edition": "2024",
        "links": null, "default_run": null, "rust_version": null,
    })
}

fn node(name: &str, edges: &[Edge]) -> Value {
    let deps: Vec<Value> = edges
        .iter()
        .filter(|edge| edge.0 == name)
        .map(|edge| {
            json!({
                "name": edge.1, "pkg": id(edge.1),
                "dep_kinds": [{ "kind": kind(edge.2), "target": null }],
            })
        })
        .collect();
    json!({ "id": id(name), "deps": deps, "dependencies": [], "features": [] })
}

#[test]
fn faults_of_workspaces() {
    const NORMAL: &str = "";
    let cases: &[(&str, &[Edge], &[&str])] = &[
        (
            "accepts edges of the table",
            &[
                ("elvs-fastpath", "elvs-common", NORMAL, false),
                ("elvs-dataplane", "elvs-fastpath", NORMAL, false),
                ("elvs-dataplane", "aya", NORMAL, false),
                ("elvs", "elvs-dataplane", NORMAL, false),
                ("elvs", "tokio", NORMAL, false),
            ],
            &[],
        ),
        (
            "rejects an edge upwards",
            &[("elvs-config", "elvs-dataplane", NORMAL, false)],
            &["elvs-config may not depend on elvs-dataplane"],
        ),
        (
            "rejects an edge upwards in tests too",
            &[("elvs-config", "elvs-dataplane", "dev", false)],
            &["elvs-config may not depend on elvs-dataplane"],
        ),
        (
            "rejects a crate without a row",
            &[("elvs-tools", "elvs-model", NORMAL, false)],
            &["elvs-tools has no row in the table of layers: add it to xtask/src/layers.rs and \
               docs/architecture.md"],
        ),
        (
            "rejects a runtime that is reached by way of a library",
            &[("elvs-vrrp", "timers", NORMAL, false), ("timers", "tokio", NORMAL, false)],
            &["elvs-vrrp does no I/O, but reaches elvs-vrrp -> timers -> tokio"],
        ),
        (
            "accepts a runtime that only tests and build scripts reach",
            &[
                ("elvs-model", "proptest", "dev", false),
                ("elvs-model", "cc", "build", false),
                ("proptest", "libc", NORMAL, false),
                ("cc", "libc", NORMAL, false),
            ],
            &[],
        ),
        (
            "accepts aya behind an option of elvs-common, there and above",
            &[
                ("elvs-common", "aya", NORMAL, true),
                ("elvs-fastpath", "elvs-common", NORMAL, false),
                ("aya", "libc", NORMAL, false),
            ],
            &[],
        ),
        (
            "rejects aya in elvs-common without an option",
            &[("elvs-common", "aya", NORMAL, false)],
            &["elvs-common does no I/O, but reaches elvs-common -> aya"],
        ),
        (
            "rejects an option elsewhere",
            &[("elvs-model", "aya", NORMAL, true)],
            &["elvs-model does no I/O, but reaches elvs-model -> aya"],
        ),
    ];
    for (name, edges, expected) in cases {
        assert_eq!(faults(&metadata(edges)), *expected, "{name}");
    }
}

#[test]
fn rows_allow_lower_crates_only() {
    for (place, layer) in LAYERS.iter().enumerate() {
        for used in layer.may_use {
            let lower = LAYERS.iter().position(|other| other.name == *used).unwrap();
            assert!(lower < place, "{} above {used}", layer.name);
            let with = LAYERS[lower].io == Io::With && layer.io == Io::Without;
            assert!(!with, "{} does no I/O, {used} does", layer.name);
        }
    }
}
