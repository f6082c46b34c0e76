use std::path::PathBuf;

use super::*;

#[test]
fn says_how_to_start_a_daemon_and_who_may_talk_to_it() {
    let socket = PathBuf::from("/run/elvs/elvs.sock");
    assert_eq!(
        client_error(&ClientError::NoDaemon(socket.clone())),
        "no ELVS daemon answers on /run/elvs/elvs.sock\n\
         start one with `elvs run -f FILE`, or `elvs run` for an empty table\n"
    );
    assert_eq!(
        client_error(&ClientError::Permission(socket.clone())),
        "Can't initialize ipvs: Permission denied (you must be root)\n\
         Are you sure that IP Virtual Server is built in the kernel or as module?\n"
    );
    let source = io::Error::other("boom");
    assert_eq!(
        client_error(&ClientError::Connect { path: socket, source }),
        "cannot connect to /run/elvs/elvs.sock: boom\n"
    );
}

#[test]
fn splits_lines_at_white_space_and_drops_the_name() {
    assert_eq!(words("ipvsadm -A\t-t  1.2.3.4:80\r\n"), ["-A", "-t", "1.2.3.4:80"]);
    assert_eq!(words("-C ipvsadm\n"), ["-C"]);
    assert_eq!(words("-A\x0b-t\x0c1.2.3.4:80 -s rr\n"), ["-A\x0b-t\x0c1.2.3.4:80", "-s", "rr"]);
    assert_eq!(words(" \n"), [""; 0]);
}
