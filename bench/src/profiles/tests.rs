use std::collections::BTreeSet;

use super::{Chosen, PROFILES, Profile, TABLE_LOAD, names};

fn chosen(words: &[&str]) -> Result<Vec<&'static str>, String> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let chosen = Chosen::new(&words).map_err(|error| error.to_string())?;
    Ok(names().filter(|name| chosen.has(name)).collect())
}

#[test]
fn a_whole_name_is_that_profile_and_a_part_all_that_have_it() {
    assert_eq!(chosen(&["new-flow"]).unwrap(), ["new-flow"]);
    assert_eq!(chosen(&["tun-"]).unwrap(), ["tun-ipip", "tun-gue", "tun-gre"]);
    assert_eq!(chosen(&["nat-reply", "table"]).unwrap(), ["nat-reply", TABLE_LOAD]);
    assert_eq!(chosen(&[]).unwrap().len(), PROFILES.len() + 1);
}

#[test]
fn a_word_that_names_nothing_is_refused_with_all_names() {
    let refused = chosen(&["new-flow", "new-flaw"]).unwrap_err();
    assert!(refused.starts_with("no profile has `new-flaw` in its name; there are "), "{refused}");
    assert!(names().all(|name| refused.contains(name)), "{refused}");
}

#[test]
fn names_are_distinct_and_every_table_can_be_made() {
    assert_eq!(names().collect::<BTreeSet<_>>().len(), PROFILES.len() + 1);
    for Profile { name, setup, .. } in PROFILES {
        let table = setup.table().unwrap();
        let services =
            setup.beside.services().iter().chain([setup]).map(|one| if one.marked { 1 } else { 2 });
        assert_eq!(table.services().len(), services.sum::<usize>(), "{name}");
    }
}
