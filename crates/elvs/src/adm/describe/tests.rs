//! Every option is there, and is described.

use clap::CommandFactory;

use super::*;
use crate::cli::Cli;

#[test]
fn every_option_of_ipvsadm_is_described_once() {
    let documented = crate::cli::documented();
    documented.clone().debug_assert();
    let adm = documented.find_subcommand("adm").unwrap();
    for spelling in SPELLINGS {
        let arg = adm.get_arguments().find(|arg| arg.get_long() == Some(spelling.long)).unwrap();
        let letters = arg.get_short_and_visible_aliases().unwrap_or_default();
        assert!(spelling.short.is_none_or(|short| letters.contains(&short)), "{spelling:?}");
        let help = arg.get_help().unwrap().to_string();
        assert!(help.len() > 5 && !help.starts_with(' '), "--{}: {help:?}", spelling.long);
    }
    assert!(adm.get_about().unwrap().to_string().starts_with("ipvsadm 1.31"));
    // The parser itself leaves the words to ipvsadm's rules.
    let parser = Cli::command();
    assert_eq!(parser.find_subcommand("adm").unwrap().get_arguments().count(), 1);
}
