use std::collections::HashSet;

use super::*;

#[test]
fn no_word_has_two_meanings_in_one_context() {
    let mut seen = HashSet::new();
    for row in KEYWORDS.iter() {
        assert!(!row.contexts.is_empty(), "{} stands nowhere", row.name);
        for context in row.contexts {
            assert!(seen.insert((row.name, *context)), "{} twice in {context:?}", row.name);
        }
    }
}

#[test]
fn rows_are_well_formed() {
    for row in KEYWORDS.iter() {
        let Arguments { min, max, usage } = row.arguments;
        assert!(max.is_none_or(|max| min <= max), "{}", row.name);
        assert!(!row.name.is_empty() && !row.name.contains(char::is_whitespace), "{}", row.name);
        assert!(!row.note.ends_with('.'), "{}: no full stop", row.name);
        if matches!(row.support, Support::Applied) && max != Some(0) {
            assert!(!usage.is_empty(), "{} is in effect and says not how it is written", row.name);
        }
    }
}

#[test]
fn every_block_can_be_reached_from_the_root() {
    let mut reached = HashSet::from([Context::Root]);
    let mut count = 0;
    while count != reached.len() {
        count = reached.len();
        for row in KEYWORDS.iter() {
            if let Body::Block(inside) = row.body
                && row.contexts.iter().any(|c| reached.contains(c))
            {
                reached.insert(inside);
            }
        }
    }
    for row in KEYWORDS.iter() {
        for context in row.contexts {
            assert!(reached.contains(context), "{} in {context:?}", row.name);
        }
    }
}

#[test]
fn words_are_found_by_context() {
    assert!(lookup("weight", Context::RealServer).is_some());
    assert!(lookup("weight", Context::Root).is_none());
    assert!(lookup("nonsense", Context::Root).is_none());
    assert!(is_root_block("virtual_server"));
    assert!(!is_root_block("track_file"), "it also stands in vrrp_instance");
    assert!(!is_root_block("net_namespace"), "it has no block");
    assert!(!is_root_block("nonsense"));
}

#[test]
fn what_has_no_effect_says_why() {
    for row in KEYWORDS.iter().filter(|row| row.support == Support::NoEffect) {
        assert!(!row.note.is_empty(), "{} has no effect and says not why", row.name);
    }
}

#[test]
fn nothing_of_virtual_servers_and_their_checks_is_put_off() {
    let of_lvs = |context: &Context| {
        !matches!(
            context,
            Context::Root
                | Context::GlobalDefs
                | Context::Ipvs
                | Context::VrrpInstance
                | Context::Authentication
                | Context::AuthHmac
                | Context::VrrpSyncGroup
                | Context::VrrpScript
                | Context::TrackProcess
                | Context::TrackGroup
                | Context::GarpGroup
                | Context::BfdInstance
        )
    };
    for row in KEYWORDS.iter().filter(|row| row.contexts.iter().any(of_lvs)) {
        assert_ne!(row.support, Support::NotYet, "{} in {:?}", row.name, row.contexts);
    }
    let put_off = |context| {
        let rows = KEYWORDS.iter().filter(move |row| row.contexts.contains(&context));
        rows.filter(|row| row.support == Support::NotYet).map(|row| row.name).collect::<Vec<_>>()
    };
    assert_eq!(put_off(Context::BfdInstance), ["weight", "vrrp"], "which are VRRP's");
}
