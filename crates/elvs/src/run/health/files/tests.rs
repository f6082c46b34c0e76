use std::path::PathBuf;

use super::*;

#[test]
fn keepalived_init_file_writes_what_is_missing_and_overwrites_at_the_start_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let file =
        |path: PathBuf, initial| TrackFile { name: "f".to_owned(), path, initial: Some(initial) };
    let read = |name: &str| fs::read_to_string(path(name)).unwrap();
    fs::write(path("kept"), "7\n").unwrap();
    fs::write(path("over"), "7 and more\n").unwrap();
    fs::create_dir(path("directory")).unwrap();
    std::os::unix::fs::symlink(path("kept"), path("link")).unwrap();
    let files: HashSet<TrackFile> = [
        file(path("new"), (-3, false)),
        file(path("kept"), (1, false)),
        file(path("over"), (2, true)),
        file(path("directory"), (4, true)),
        file(path("link"), (5, true)),
        file(path("missing/new"), (6, false)),
    ]
    .into();
    initialise(&files, true);
    assert_eq!(
        (read("new"), read("kept"), read("over")),
        ("-3\n".into(), "7\n".into(), "2\n".into())
    );
    assert!(!path("missing").exists() && path("directory").is_dir());
    for name in ["new", "over"] {
        fs::write(path(name), "9\n").unwrap();
    }
    fs::remove_file(path("kept")).unwrap();
    initialise(&files, false);
    assert_eq!(
        (read("new"), read("kept"), read("over")),
        ("9\n".into(), "1\n".into(), "9\n".into())
    );
}
