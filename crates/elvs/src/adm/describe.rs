//! The options of `elvs adm` for the man page and for completions.
//!
//! **Invariant:** spellings are those that the scanner reads, descriptions those of `-h`.
//!
//! Called by the command line's definition.

use clap::{Arg, ArgAction, Command};

use super::option::{SPELLINGS, Spelling, Takes};
use super::text;

/// `command` with ipvsadm's options instead of words that are not looked at.
pub fn describe(command: &Command) -> Command {
    let mut described = Command::new("adm")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .after_help(text::EXTENSIONS.trim_start());
    if let Some(about) = command.get_about() {
        described = described.about(about.clone());
    }
    for spelling in SPELLINGS {
        // A second letter of a long option (`-l`) has no row of its own.
        if described.get_arguments().all(|arg| arg.get_id() != spelling.long) {
            described = described.arg(argument(spelling));
        }
    }
    described.arg(Arg::new("arguments").num_args(0..).help("Timeouts of --set"))
}

fn argument(spelling: &'static Spelling) -> Arg {
    let mut arg = Arg::new(spelling.long).long(spelling.long).help(text::about(spelling.long));
    if let Some(short) = spelling.short {
        arg = arg.short(short);
    }
    for other in SPELLINGS.iter().filter(|other| other.long == spelling.long) {
        if let Some(short) = other.short.filter(|_| other.short != spelling.short) {
            arg = arg.visible_short_alias(short);
        }
    }
    match spelling.takes {
        Takes::Nothing => arg.action(ArgAction::SetTrue),
        Takes::Value => arg.value_name("VALUE"),
        Takes::PerhapsValue => arg.value_name("VALUE").num_args(0..=1),
    }
}

#[cfg(test)]
mod tests;
