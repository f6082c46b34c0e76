use super::*;

fn printed(context: Option<&str>, json: bool) -> Result<String> {
    let mut out = Vec::new();
    print(&mut out, context, json)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn the_table_is_printed_by_block() {
    let all = printed(None, false).unwrap();
    let one = printed(Some("real_server"), false).unwrap();
    assert!(one.lines().count() > 10 && all.lines().count() > 5 * one.lines().count());
    assert!(all.lines().any(|l| l.starts_with("\tvirtual_server\t")), "{all}");
    assert!(one.contains("real_server\tTCP_CHECK\t\t{\t"), "{one}");
    assert!(one.lines().all(|l| l.starts_with("real_server\t")), "{one}");
    let rows: serde_json::Value =
        serde_json::from_str(&printed(Some("url"), true).unwrap()).unwrap();
    let names: Vec<_> =
        rows.as_array().unwrap().iter().map(|r| r["keyword"].as_str().unwrap()).collect();
    assert!(names.contains(&"status_code"), "{names:?}");
    assert!(printed(Some("nothing"), false).is_err());
}
