use super::*;

fn package(folder: &str) -> Package {
    Package { folder: folder.into(), name: "elvs-common".into(), version: "0.1.0".into() }
}

fn arguments(hash: &str) -> impl Iterator<Item = OsString> {
    ["-C".to_owned(), format!("metadata={hash}"), "src/lib.rs".to_owned()]
        .map(OsString::from)
        .into_iter()
}

#[test]
fn two_checkouts_give_the_same_metadata_and_names() {
    let one = stable(arguments("a1"), &package("/one/crates/elvs-common"), Path::new("/one"));
    let two = stable(arguments("b2"), &package("/two/crates/elvs-common"), Path::new("/two"));
    assert_eq!(one[..3], two[..3]);
    assert_eq!(one[1], "metadata=0.1.0");
    assert_eq!(one[3], "--remap-path-prefix=/one/crates/elvs-common=elvs-common-0.1.0");
    assert_eq!(two[3], "--remap-path-prefix=/two/crates/elvs-common=elvs-common-0.1.0");
}

#[test]
fn a_registry_crate_keeps_its_metadata() {
    let other = stable(arguments("a1"), &package("/registry/aya-ebpf-0.2.1"), Path::new("/one"));
    assert_eq!(other[1], "metadata=a1");
}
