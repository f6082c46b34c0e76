use super::*;

#[test]
fn who_may_not_use_it_is_told_so_before_the_line_is_judged() {
    let failure = || Failure { code: 255, message: "mistake\n".to_owned(), fatal: true };
    let socket = Path::new("/run/elvs/elvs.sock");
    let (code, message) =
        first_trouble(failure(), &Some(ClientError::Permission(socket.to_owned())));
    assert_eq!(code, 2);
    assert!(message.starts_with("Can't initialize ipvs: Permission denied"), "{message}");
    for unreachable in [None, Some(ClientError::NoDaemon(socket.to_owned()))] {
        assert_eq!(first_trouble(failure(), &unreachable), (255, "mistake\n".to_owned()));
    }
}
