use std::fs;

use super::*;

/// A checkout with one file in each folder of sources.
fn checkout() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for folder in FOLDERS {
        put(root.path(), &format!("{folder}/Cargo.toml"), "[package]");
    }
    root
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn changes_with_name_and_content_of_a_source() {
    let root = checkout();
    let mut seen = vec![digest(root.path()).unwrap()];
    for (path, text) in [
        ("ebpf/elvs-ebpf/src/main.rs", "one"),
        ("ebpf/elvs-ebpf/src/main.rs", "two"),
        ("ebpf/elvs-ebpf/src/maps.rs", "two"),
        ("ebpf/Cargo.lock", ""),
        ("crates/elvs-fastpath/src/lib.rs", "one"),
        ("crates/elvs-common/Cargo.toml", "[package]\n"),
    ] {
        put(root.path(), path, text);
        let now = digest(root.path()).unwrap();
        assert!(!seen.contains(&now), "{path} {text}");
        seen.push(now);
    }
}

#[test]
fn tests_and_built_files_are_no_sources() {
    let root = checkout();
    let before = digest(root.path()).unwrap();
    for path in [
        "ebpf/target/debug/build/x/out.rs",
        "crates/elvs-common/src/control/tests.rs",
        "crates/elvs-fastpath/tests/suite/main.rs",
        "crates/elvs-fastpath/README.md",
        "crates/elvs-model/src/lib.rs",
    ] {
        put(root.path(), path, "x");
        assert_eq!(digest(root.path()).unwrap(), before, "{path}");
    }
}

#[test]
fn is_the_same_in_another_place() {
    assert_eq!(digest(checkout().path()).unwrap(), digest(checkout().path()).unwrap());
}

#[test]
fn a_missing_folder_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let error = digest(root.path()).unwrap_err();
    assert!(format!("{error:#}").contains("crates/elvs-fastpath"), "{error:#}");
}
