//! The keyword table for editors and completion.
//!
//! **Invariant:** one row for each keyword and place, from the table that the reader itself uses.
//!
//! Called by `elvs check --keywords`.

use std::io::Write;

use anyhow::{Result, bail};
use elvs_config::{Body, Capabilities, Context, KEYWORDS, Keyword, Support};
use serde::Serialize;

/// A keyword in one place.
#[derive(Debug, Serialize)]
struct Row {
    keyword: &'static str,
    /// Name of the block it stands in; empty outside every block.
    context: &'static str,
    arguments: &'static str,
    /// Whether a `{ ... }` follows.
    block: bool,
    /// `in-effect`, `not-yet` or `no-effect`.
    support: &'static str,
    note: &'static str,
}

/// Prints the keywords that stand in the block `context`, or all of them.
pub(super) fn print(out: &mut impl Write, context: Option<&str>, json: bool) -> Result<()> {
    let mut rows: Vec<(Context, Row)> = KEYWORDS
        .iter()
        .flat_map(|keyword| keyword.contexts.iter().map(|place| (*place, row(keyword, *place))))
        .filter(|(_, row)| context.is_none_or(|name| name == row.context))
        .collect();
    if let (true, Some(name)) = (rows.is_empty(), context) {
        bail!("no block is called `{name}`; without a name the keywords of all blocks are printed");
    }
    rows.sort_by_key(|(place, row)| (*place, row.keyword));
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    if json {
        serde_json::to_writer_pretty(&mut *out, &rows)?;
        writeln!(out)?;
        return Ok(());
    }
    for Row { keyword, context, arguments, block, support, note } in rows {
        let block = if block { "{" } else { "" };
        writeln!(out, "{context}\t{keyword}\t{arguments}\t{block}\t{support}\t{note}")?;
    }
    Ok(())
}

fn row(keyword: &Keyword, place: Context) -> Row {
    let features = Capabilities::THIS_RELEASE.features;
    let support = match keyword.support {
        Support::Applied => "in-effect",
        Support::Needs(feature) if features.contains(&feature) => "in-effect",
        Support::Needs(_) | Support::NotYet => "not-yet",
        Support::NoEffect => "no-effect",
    };
    Row {
        keyword: keyword.name,
        context: if place == Context::Root { "" } else { place.name() },
        arguments: keyword.arguments.usage,
        block: keyword.body != Body::None,
        support,
        note: keyword.note,
    }
}

#[cfg(test)]
mod tests;
