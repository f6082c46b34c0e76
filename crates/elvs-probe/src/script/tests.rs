use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn script(words: &[&str]) -> Script {
    Script { words: words.iter().map(|word| (*word).to_owned()).collect(), user: None }
}

fn user(user: &str, group: Option<&str>) -> ScriptUser {
    ScriptUser { user: user.to_owned(), group: group.map(str::to_owned) }
}

#[test]
fn users_go_by_name_or_number() {
    for (name, group) in [("root", None), ("0", Some("root")), ("root", Some("0"))] {
        let identity = Identity::of_daemon(Some(&user(name, group))).unwrap();
        assert_eq!((identity.uid().as_raw(), identity.gid().as_raw()), (0, 0), "{name}");
    }
    for (wanted, said) in [
        (user("no-such-user", None), "there is no user no-such-user"),
        (user("root", Some("no-such-group")), "there is no group no-such-group"),
    ] {
        assert_eq!(Identity::of_daemon(Some(&wanted)).unwrap_err().to_string(), said);
    }
}

#[test]
fn script_security_follows_the_whole_path() {
    let program = look_for("true").unwrap();
    assert!(security::examine(&program).is_ok(), "{}", program.display());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("script");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(security::examine(&file).is_err());
    let missing = security::examine(Path::new("/nonexistent/x")).unwrap_err();
    assert!(matches!(missing, Insecure::Unknown { .. }), "{missing}");
    let relative = security::examine(Path::new("bin/x")).unwrap_err();
    assert!(matches!(relative, Insecure::Relative(_)), "{relative}");
}

#[test]
fn says_what_would_not_run_without_running_it() {
    let root = user("root", None);
    let examine = |words: &[&str], user: &ScriptUser, security| {
        examine(&script(words), Some(user), security).map_err(|error| error.to_string())
    };
    assert_eq!(examine(&["true"], &root, true), Ok(()));
    assert_eq!(examine(&["/bin/true", "x"], &root, true), Ok(()));
    for (words, said) in [
        (
            ["/nonexistent/x"].as_slice(),
            "program /nonexistent/x cannot be run: no such file or directory",
        ),
        (&["no-such-program"], "program no-such-program cannot be run: no such file or directory"),
        (
            &["/etc/passwd"],
            "program /etc/passwd cannot be run by user 0: the mode of /etc/passwd forbids it",
        ),
        (&["/usr"], "program /usr cannot be run by user 0: the mode of /usr forbids it"),
        (&[], "no program is named"),
    ] {
        assert_eq!(examine(words, &root, false), Err(said.to_owned()), "{words:?}");
    }
    let nobody = user("no-such-user", None);
    assert_eq!(examine(&["true"], &nobody, false), Err("there is no user no-such-user".to_owned()));
    // A program of its owner alone is none for others.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("script");
    fs::write(&file, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
    let name = file.to_str().unwrap();
    assert_eq!(examine(&[name], &root, false), Ok(()));
    let said = examine(&[name], &user("nobody", None), false).unwrap_err();
    assert!(said.starts_with(&format!("program {name} cannot be run by user 65534: ")), "{said}");
}
