//! Scripts: the words of a command, and the user who runs it.
//!
//! **Invariant:** a script has at least one word, and no word is one that a program cannot be given.
//!
//! Called for everything that names a program.

use elvs_model::health::{Script, ScriptUser};

use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::text::quote;
use crate::tree::Item;

/// `COMMAND [USER [GROUP]]`: a command with arguments is quoted, as in keepalived.
pub(super) fn with_user(item: &Item, reporter: &mut Reporter) -> Option<Script> {
    let (command, rest) = item.arguments.split_first()?;
    if let Some(extra) = rest.get(2) {
        let keyword = &item.keyword.text;
        let message = format!("{} is one word too many after a command", quote(&extra.text));
        reporter.error(Code::ExtraArgument, extra.extent, message).help(format!(
            "write `{keyword} \"COMMAND ARGUMENT...\" [USER [GROUP]]`, the command in quotes"
        ));
        return None;
    }
    Some(Script { words: words(command, reporter)?, user: user(rest) })
}

/// A command without a user; words after it are dropped, as in keepalived.
pub(super) fn alone(item: &Item, reporter: &mut Reporter) -> Option<Script> {
    let (command, rest) = item.arguments.split_first()?;
    if let Some(dropped) = rest.first() {
        let keyword = &item.keyword.text;
        let message = format!("{} does not reach the program", quote(&dropped.text));
        reporter
            .warning(Code::ValueReplaced, dropped.extent, message)
            .help(format!("write `{keyword} \"COMMAND ARGUMENT...\"`, with the quotes"));
    }
    Some(Script { words: words(command, reporter)?, user: None })
}

/// `USER [GROUP]`.
pub(super) fn user(words: &[Word]) -> Option<ScriptUser> {
    let user = words.first()?.text.clone();
    Some(ScriptUser { user, group: words.get(1).map(|group| group.text.clone()) })
}

/// The words of a command: of one in quotes those between blanks, where `'...'` keeps blanks together and `\` takes the next
/// quote, blank or backslash as it is; any other one is a word by itself.
fn words(command: &Word, reporter: &mut Reporter) -> Option<Vec<String>> {
    let words =
        if command.quoted { split(&command.text) } else { Some(vec![command.text.clone()]) };
    let refused = match &words {
        None => "has a `'` that is not closed",
        Some(words) if words.first().is_none_or(String::is_empty) => "names no program",
        Some(words) if words.iter().any(|word| word.contains('\0')) => "has a NUL byte",
        Some(_) => return words,
    };
    let message = format!("command {} {refused}", quote(&command.text));
    reporter
        .error(Code::InvalidValue, command.extent, message)
        .help("write the program's path, and its arguments with it in double quotes");
    None
}

fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => {
                let literal = |next: &char| matches!(next, '\'' | '"' | '\\' | ' ' | '\t');
                let next = chars.next_if(literal).unwrap_or('\\');
                word.get_or_insert_default().push(next);
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

#[cfg(test)]
mod tests;
