use super::*;

fn object(name: &str, bytes: &[u8]) -> Object {
    Object { name: name.to_owned(), bytes: bytes.to_vec() }
}

fn manifest(objects: &[Object]) -> Manifest {
    let tools = Versions { rustc: "r".into(), bpf_linker: "b".into(), objcopy: "o".into() };
    Manifest::new("s".into(), tools, objects)
}

#[test]
fn reads_what_it_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let written = manifest(&[object("elvs.bpf.o", b"one"), object("bench.bpf.o", b"two")]);
    written.write(folder.path()).unwrap();
    assert_eq!(Manifest::read(folder.path()).unwrap(), written);
}

#[test]
fn a_missing_manifest_says_how_to_make_it() {
    let folder = tempfile::tempdir().unwrap();
    let error = Manifest::read(folder.path()).unwrap_err();
    assert!(format!("{error:#}").contains("cargo xtask bpf"), "{error:#}");
}

#[test]
fn finds_files_that_were_edited_or_lost() {
    let folder = tempfile::tempdir().unwrap();
    let objects = [object("a.bpf.o", b"one"), object("b.bpf.o", b"two"), object("c.bpf.o", b"3")];
    for object in &objects {
        std::fs::write(folder.path().join(&object.name), &object.bytes).unwrap();
    }
    let manifest = manifest(&objects);
    assert_eq!(manifest.compare_files(folder.path()).unwrap(), Vec::<String>::new());

    std::fs::write(folder.path().join("a.bpf.o"), b"0ne").unwrap();
    std::fs::remove_file(folder.path().join("c.bpf.o")).unwrap();
    let faults = manifest.compare_files(folder.path()).unwrap();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].starts_with("a.bpf.o: committed object has 3 bytes"), "{faults:?}");
    assert!(faults[1].starts_with("c.bpf.o: "), "{faults:?}");
}

#[test]
fn finds_rebuilt_objects_that_differ() {
    let manifest = manifest(&[object("a.bpf.o", b"one"), object("b.bpf.o", b"two")]);
    assert_eq!(
        manifest.compare(&[object("b.bpf.o", b"two"), object("a.bpf.o", b"one")]),
        Vec::<String>::new()
    );
    let faults = manifest.compare(&[object("a.bpf.o", b"ones"), object("c.bpf.o", b"3")]);
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(faults[0].starts_with("a.bpf.o: rebuilt object has 4 bytes"), "{faults:?}");
    assert!(faults[1].contains("not in manifest.json"), "{faults:?}");
    assert!(faults[2].contains("no source builds it"), "{faults:?}");
}
