//! What `elvs simulate` prints.
//!
//! **Invariant:** an event's line without its arrow is the script's; so the output's event lines are a script's
//! expectations.
//!
//! Called by [`super`].

use std::io::{self, Write};

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use serde::Serialize;

use super::run::{Checked, Report, Settings, Step};
use super::script::Mistake;
use super::shares::ServiceShares;

/// The report of `--json`.
#[derive(Serialize)]
struct Json<'a> {
    file: &'a str,
    seed: u64,
    steps: &'a [Step],
    shares: &'a [ServiceShares],
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'a Checked>,
}

/// The mistakes of `--json`.
#[derive(Serialize)]
struct JsonMistakes<'a> {
    file: &'a str,
    mistakes: &'a [Mistake],
}

/// Prints a report as JSON.
pub(super) fn json(
    file: &str,
    report: &Report,
    settings: Settings,
    out: &mut dyn Write,
) -> io::Result<()> {
    let check = settings.check.then_some(&report.checked);
    let json =
        Json { file, seed: settings.seed, steps: &report.steps, shares: &report.shares, check };
    serde_json::to_writer_pretty(&mut *out, &json)?;
    writeln!(out)
}

/// Prints mistakes as JSON.
pub(super) fn json_mistakes(
    file: &str,
    mistakes: &[Mistake],
    out: &mut dyn Write,
) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &JsonMistakes { file, mistakes })?;
    writeln!(out)
}

/// Prints what happened, and the shares.
pub(super) fn text(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for step in &report.steps {
        match step {
            Step::Event(event) => {
                let place = event.place.as_deref().unwrap_or("none");
                writeln!(out, "{} -> {place}", event.text)?;
            }
            Step::Listing { text, .. } => out.write_all(text.as_bytes())?,
            Step::Moved { line: _, command, service, clients, moved } => {
                writeln!(out, "# {moved} of {clients} clients of {service} moved: {command}")?;
            }
        }
    }
    for service in &report.shares {
        writeln!(out, "\n{}", service.service)?;
        writeln!(out, "{}", table(service))?;
    }
    Ok(())
}

fn table(service: &ServiceShares) -> Table {
    let mut table = Table::new();
    table.load_style(TABLE);
    table.set_header(["real server", "weight", "connections", "share"]);
    for destination in &service.destinations {
        let share = destination.share_per_10000;
        table.add_row([
            destination.server.clone(),
            destination.weight.map_or_else(|| "removed".to_owned(), |weight| weight.to_string()),
            destination.connections.to_string(),
            format!("{}.{:02} %", share / 100, share % 100),
        ]);
    }
    if service.refused > 0 {
        table.add_row(["none", "", &service.refused.to_string(), ""]);
    }
    for column in 1..4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// One line, under the header.
const TABLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Prints what comparing came to.
pub(super) fn checked(file: &str, checked: &Checked, out: &mut dyn Write) -> io::Result<()> {
    let Some(difference) = &checked.difference else {
        let Checked { events, compared, by_shares, difference: _ } = checked;
        write!(out, "{file}: ok: {compared} of {events} events went where they should")?;
        if *by_shares > 0 {
            write!(out, ", {by_shares} compared by their shares")?;
        }
        return writeln!(out);
    };
    writeln!(out, "{file}:{}: {}", difference.line, difference.subject)?;
    writeln!(out, "  expected {}", difference.expected)?;
    writeln!(out, "  got      {}", difference.got)
}
