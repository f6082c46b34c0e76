//! `cargo xtask bpf`: builds the kernel's programs from source, and proves that the committed objects are that build.
//!
//! **Invariant:** an object's bytes depend on its sources and on the tools' versions, never on where the checkout
//! lies; `wrapper` sees to that. So `--check` may compare bytes.

mod build;
mod manifest;
mod sources;
mod toolchain;
mod wrapper;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use wrapper::{run as run_wrapped, wrapped_checkout};

use manifest::{MANIFEST, Manifest};
use toolchain::Toolchain;

/// Where the objects and their manifest are committed, seen from the checkout's root.
const COMMITTED: &str = "crates/elvs-dataplane/bpf";

/// Options of `cargo xtask bpf`.
#[derive(Debug, Default, clap::Args)]
pub struct Options {
    /// Write nothing; fail when sources, manifest and objects do not fit, and when a rebuild by the same tools gives
    /// other bytes.
    #[arg(long)]
    check: bool,
}

impl Options {
    /// `--check`.
    pub const fn check() -> Self {
        Self { check: true }
    }
}

/// Builds the objects, or checks them.
pub fn run(root: &Path, options: Options) -> Result<()> {
    if options.check { check(root) } else { write(root) }
}

#[expect(clippy::print_stdout, reason = "a command-line tool says what it made")]
fn write(root: &Path) -> Result<()> {
    let toolchain = Toolchain::find(root)?;
    // Before the build: a source that changes meanwhile makes the manifest stale, not wrong.
    let sources = sources::digest(root)?;
    let objects = build::objects(root, &toolchain)?;
    let manifest = Manifest::new(sources, toolchain.versions.clone(), &objects);
    let folder = root.join(COMMITTED);
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    for object in &objects {
        let path = folder.join(&object.name);
        std::fs::write(&path, &object.bytes)
            .with_context(|| format!("write {}", path.display()))?;
        println!("{COMMITTED}/{}: {} bytes", object.name, object.bytes.len());
    }
    for stale in stale_objects(&folder, &manifest)? {
        std::fs::remove_file(&stale).with_context(|| format!("remove {}", stale.display()))?;
    }
    manifest.write(&folder)
}

#[expect(clippy::print_stdout, reason = "a command-line tool says what it checked")]
fn check(root: &Path) -> Result<()> {
    let folder = root.join(COMMITTED);
    let manifest = Manifest::read(&folder)?;
    let mut faults = Vec::new();
    if manifest.sources != sources::digest(root)? {
        faults.push(format!(
            "the sources are not those that {MANIFEST} names: run `cargo xtask bpf` and commit the result"
        ));
    }
    faults.extend(manifest.compare_files(&folder)?);
    for stale in stale_objects(&folder, &manifest)? {
        faults.push(format!("{} is not in {MANIFEST}", stale.display()));
    }
    match Toolchain::find(root) {
        Err(reason) => println!("bpf: not rebuilt, so bytes are not compared: {reason:#}"),
        Ok(found) if found.versions != manifest.tools => println!(
            "bpf: not rebuilt, so bytes are not compared: the objects were built with {}, here is {}",
            manifest.tools, found.versions
        ),
        Ok(found) => faults.extend(manifest.compare(&build::objects(root, &found)?)),
    }
    if !faults.is_empty() {
        bail!("stale BPF objects in {COMMITTED}:\n  {}", faults.join("\n  "));
    }
    println!("bpf: {} objects fit their manifest and sources", manifest.objects.len());
    Ok(())
}

/// Object files beside the manifest that it does not name.
fn stale_objects(folder: &Path, manifest: &Manifest) -> Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(build::SUFFIX) && !manifest.objects.contains_key(name.as_ref()) {
            stale.push(path);
        }
    }
    stale.sort();
    Ok(stale)
}
