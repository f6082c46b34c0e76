//! `elvs set` and `elvs get`: the settings that IPVS has under `net.ipv4.vs`.
//!
//! **Invariant:** a setting that is not in effect is never set or shown by name without a word about it on standard error.
//!
//! Called by the command line.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use elvs_api::{Client, Outcome};
use elvs_model::{Change, Setting, SettingView};

/// Options of `elvs set`.
#[derive(Clone, Debug, clap::Args)]
pub struct SetOptions {
    /// Name, as in `sysctl net.ipv4.vs`; `elvs get` lists them
    #[arg(value_name = "NAME")]
    setting: Setting,
    /// Value, as sysctl takes it; sync_threshold has two
    #[arg(required = true, num_args = 1..=2, allow_negative_numbers = true)]
    value: Vec<String>,
}

/// Options of `elvs get`.
#[derive(Clone, Debug, clap::Args)]
pub struct GetOptions {
    /// Print the value of this one alone
    #[arg(value_name = "NAME")]
    setting: Option<Setting>,
    /// Print JSON: value, default, what it does, and whether it is in effect
    #[arg(long)]
    json: bool,
}

/// Sets a setting of the daemon on `socket`.
///
/// # Errors
/// A value that it does not take, no daemon, or a daemon that refuses.
pub fn set(options: &SetOptions, socket: &Path) -> Result<ExitCode> {
    // A wrong value is told without a daemon.
    let change = change(options)?;
    apply(&mut Client::connect(socket)?, change, &mut io::stderr().lock())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the settings of the daemon on `socket`.
///
/// # Errors
/// No daemon, or output that cannot be written.
pub fn get(options: &GetOptions, socket: &Path) -> Result<ExitCode> {
    let settings = Client::connect(socket)?.settings()?;
    let mut out = io::stdout().lock();
    show(&settings, options, &mut out, &mut io::stderr().lock())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn change(options: &SetOptions) -> Result<Change> {
    let setting = options.setting;
    Ok(Change::Set { setting, value: setting.value(&options.value.join(" "))? })
}

fn apply(client: &mut Client, change: Change, errors: &mut impl Write) -> Result<()> {
    for outcome in client.apply(std::slice::from_ref(&change), true)? {
        if let Outcome::Refused { message, .. } = outcome {
            bail!(message);
        }
    }
    if let Change::Set { setting, .. } = change {
        warn(setting, errors)?;
    }
    Ok(())
}

fn warn(setting: Setting, errors: &mut impl Write) -> io::Result<()> {
    match setting.warning() {
        Some(warning) => writeln!(errors, "elvs: warning: {warning}"),
        None => Ok(()),
    }
}

fn show(
    settings: &[SettingView],
    options: &GetOptions,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> Result<()> {
    let named = |view: &&SettingView| options.setting.is_none_or(|name| name == view.setting);
    let shown: Vec<&SettingView> = settings.iter().filter(named).collect();
    match (options.setting, options.json) {
        (None, true) => serde_json::to_writer_pretty(&mut *out, &shown)?,
        (Some(_), true) => serde_json::to_writer_pretty(&mut *out, &shown.first())?,
        (Some(setting), false) => {
            for view in shown {
                writeln!(out, "{}", view.value)?;
            }
            warn(setting, errors)?;
        }
        (None, false) => {
            writeln!(out, "{:<26} {:>8} {:>8}  Status", "Setting", "Value", "Default")?;
            for SettingView { setting, value, default, support, note, .. } in shown {
                let (value, default) = (value.to_string(), default.to_string());
                let status = support.words();
                let reason = if note.is_empty() { String::new() } else { format!(": {note}") };
                let name = setting.name();
                writeln!(out, "{name:<26} {value:>8} {default:>8}  {status}{reason}")?;
            }
        }
    }
    if options.json {
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
