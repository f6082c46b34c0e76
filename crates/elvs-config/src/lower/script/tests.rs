use super::split;

#[test]
fn a_quoted_command_is_split_at_blanks() {
    let cases: [(&str, &[&str]); 8] = [
        ("/bin/a", &["/bin/a"]),
        ("/bin/a  up\tdown", &["/bin/a", "up", "down"]),
        ("/bin/a 'x y' z", &["/bin/a", "x y", "z"]),
        ("/bin/a ''", &["/bin/a", ""]),
        ("/bin/a it\\'s \\'q\\'", &["/bin/a", "it's", "'q'"]),
        // The quotes that the file wrote as \" are the program's.
        ("/bin/a \"x y\"", &["/bin/a", "\"x", "y\""]),
        ("/bin/a x\\ y \\d \\\\", &["/bin/a", "x y", "\\d", "\\"]),
        ("", &[]),
    ];
    for (text, words) in cases {
        assert_eq!(split(text).unwrap(), words, "{text}");
    }
    assert_eq!(split("/bin/a 'x"), None);
}
