//! Tokens to a tree of statements: `keyword argument ...` with an optional `{ ... }`.
//!
//! **Invariant:** total, and never deeper than [`MAX_DEPTH`], so that walking the tree needs little stack. Unknown
//! keywords stay in the tree; only braces are judged here.
//!
//! Called by [`crate::read`]; the tree is judged by the checker and lowered to the model.

use crate::diagnostic::{Code, Reporter};
use crate::keywords;
use crate::lexer::{Token, Word};
use crate::sources::Extent;
use crate::text::quote;

/// Deepest nesting of blocks; keepalived's own language needs 4.
pub(crate) const MAX_DEPTH: usize = 16;

/// One statement.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Its first word.
    pub keyword: Word,
    /// The other words.
    pub arguments: Vec<Word>,
    /// Its block.
    pub block: Option<Block>,
}

impl Item {
    /// The statement's line: keyword to last argument.
    pub fn head(&self) -> Extent {
        self.arguments.last().map_or(self.keyword.extent, |a| self.keyword.extent.to(a.extent))
    }

    /// Statements of the block, none if there is no block.
    pub fn items(&self) -> &[Self] {
        self.block.as_ref().map_or(&[], |b| &b.items)
    }
}

/// What stands between `{` and `}`.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The opening brace.
    pub open: Extent,
    /// Statements in it.
    pub items: Vec<Item>,
}

/// Builds the tree.
pub(crate) fn build(tokens: Vec<Token>, reporter: &mut Reporter) -> Vec<Item> {
    let mut builder =
        Builder { reporter, root: Vec::new(), open: Vec::new(), line: Vec::new(), skipped: 0 };
    for token in tokens {
        builder.token(token);
    }
    builder.finish()
}

struct Builder<'a> {
    reporter: &'a mut Reporter,
    /// Statements outside every block.
    root: Vec<Item>,
    /// Blocks being read, outermost first; each is the last statement of the one before.
    open: Vec<Item>,
    /// Words of the statement being read.
    line: Vec<Word>,
    /// Blocks open below the deepest that is kept.
    skipped: usize,
}

impl Builder<'_> {
    fn token(&mut self, token: Token) {
        match token {
            Token::Open(_) if self.skipped > 0 => self.skipped += 1,
            Token::Close(_) if self.skipped > 0 => self.skipped -= 1,
            Token::Word(_) | Token::End if self.skipped > 0 => {}
            Token::Word(word) => self.line.push(word),
            Token::End => self.end_statement(),
            Token::Open(at) => self.open_block(at),
            Token::Close(at) => {
                self.end_statement();
                self.close_block(at);
            }
        }
    }

    fn statements(&mut self) -> &mut Vec<Item> {
        match self.open.last_mut().and_then(|item| item.block.as_mut()) {
            Some(block) => &mut block.items,
            None => &mut self.root,
        }
    }

    fn end_statement(&mut self) {
        let mut words = core::mem::take(&mut self.line).into_iter();
        let Some(keyword) = words.next() else { return };
        self.statements().push(Item { keyword, arguments: words.collect(), block: None });
    }

    fn open_block(&mut self, at: Extent) {
        if self.open.len() >= MAX_DEPTH {
            self.line.clear();
            self.skipped = 1;
            self.reporter
                .error(Code::TooDeep, at, format!("blocks are nested more than {MAX_DEPTH} deep"))
                .help("no block of the language nests so deep; is a `}` missing above?");
            return;
        }
        if self.line.is_empty() {
            // As in keepalived, the brace may stand on the line after its keyword.
            let bare = self.statements().pop_if(|item| item.block.is_none());
            let Some(item) = bare else {
                self.skipped = 1;
                self.reporter
                    .error(Code::UnbalancedBrace, at, "`{` without a keyword before it")
                    .help("write `keyword {`, or remove the block");
                return;
            };
            return self.push_block(item, at);
        }
        let mut words = core::mem::take(&mut self.line).into_iter();
        if let Some(keyword) = words.next() {
            self.push_block(Item { keyword, arguments: words.collect(), block: None }, at);
        }
    }

    fn push_block(&mut self, mut item: Item, at: Extent) {
        if !self.open.is_empty()
            && !item.keyword.quoted
            && keywords::is_root_block(&item.keyword.text)
        {
            self.close_before(&item);
        }
        item.block = Some(Block { open: at, items: Vec::new() });
        self.open.push(item);
    }

    /// A block that only stands outside others starts inside one: a `}` is missing before it.
    fn close_before(&mut self, next: &Item) {
        if let Some((name, at)) = self.open.last().map(|i| (i.keyword.text.clone(), i.head())) {
            let next_name = quote(&next.keyword.text);
            let message = format!("block {} is not closed before {next_name}", quote(&name));
            self.reporter
                .error(Code::UnbalancedBrace, at, message)
                .help("add the missing `}`")
                .related(next.head(), format!("{next_name} stands outside every other block"));
        }
        while !self.open.is_empty() {
            self.pop_block();
        }
    }

    fn close_block(&mut self, at: Extent) {
        if self.open.is_empty() {
            self.reporter
                .error(Code::UnbalancedBrace, at, "`}` closes nothing")
                .help("remove it, or add the `{` that it should close");
        }
        self.pop_block();
    }

    fn pop_block(&mut self) {
        if let Some(item) = self.open.pop() {
            self.statements().push(item);
        }
    }

    fn finish(mut self) -> Vec<Item> {
        self.end_statement();
        while let Some(item) = self.open.last() {
            let message = format!("block {} is never closed", quote(&item.keyword.text));
            let at = item.block.as_ref().map_or(item.keyword.extent, |b| b.open);
            self.reporter.error(Code::UnbalancedBrace, at, message).help("add the missing `}`");
            self.pop_block();
        }
        self.root
    }
}

#[cfg(test)]
mod tests;
