//! Builds the objects from source.
//!
//! **Invariant:** every `[[bin]]` of the workspace in `ebpf/` becomes one object of its name.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::TargetKind;

use super::toolchain::Toolchain;
use super::wrapper;
use crate::process;

/// How names of objects end.
pub const SUFFIX: &str = ".bpf.o";

const TARGET: &str = "bpfel-unknown-none";

/// One built object.
pub struct Object {
    /// File name, `SUFFIX` included.
    pub name: String,
    /// The ELF file, without DWARF, with BTF.
    pub bytes: Vec<u8>,
}

/// Builds all objects.
pub fn objects(root: &Path, toolchain: &Toolchain) -> Result<Vec<Object>> {
    let folder = target_folder(root)?;
    compile(root, toolchain, &folder)?;
    let built = folder.join(TARGET).join("release");
    let mut objects = Vec::new();
    for name in binaries(root)? {
        let file = format!("{name}{SUFFIX}");
        let stripped = folder.join(&file);
        // BTF stays: the verifier and `bpftool` read it. DWARF is nine tenths of the file and nobody does.
        process::output(
            Command::new(&toolchain.objcopy)
                .arg("--strip-debug")
                .args([&built.join(&name), &stripped]),
        )?;
        let bytes =
            std::fs::read(&stripped).with_context(|| format!("read {}", stripped.display()))?;
        objects.push(Object { name: file, bytes });
    }
    ensure!(!objects.is_empty(), "ebpf/ has no [[bin]]");
    Ok(objects)
}

fn compile(root: &Path, toolchain: &Toolchain, folder: &Path) -> Result<()> {
    let xtask = std::env::current_exe().context("path of xtask itself")?;
    let mut command = Command::new(&toolchain.cargo);
    for (name, _) in std::env::vars_os() {
        // What `cargo run` and rustup told xtask about the host's toolchain must not reach the other one.
        let text = name.to_string_lossy();
        let home = text == "CARGO_HOME"
            || text.starts_with("CARGO_HTTP_")
            || text.starts_with("CARGO_NET_");
        if (text.starts_with("CARGO") && !home) || text.starts_with("RUST") && text != "RUSTUP_HOME"
        {
            command.env_remove(name);
        }
    }
    command
        .current_dir(root.join("ebpf"))
        .args([
            "build",
            "--release",
            "--locked",
            "-Zbuild-std=core",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(folder)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC_WRAPPER", xtask)
        .env(wrapper::CHECKOUT, root)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain).join("\u{1f}"));
    process::run(&mut command).context("build the kernel's programs")
}

/// Options for rustc.
fn flags(toolchain: &Toolchain) -> Vec<String> {
    vec![
        format!("-Clinker={}", toolchain.linker.display()),
        // BTF is made from debug information.
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        // Compare-and-swap, exchange and 32-bit jumps.
        "-Ctarget-cpu=v3".into(),
        // Packets are read in words: without this every unaligned word is eight loads and shifts.
        "-Ctarget-feature=+allows-misaligned-mem-access".into(),
        format!("--remap-path-prefix={}=rust/library", toolchain.library.display()),
    ]
}

/// Names of the binaries that the workspace in `ebpf/` builds, sorted.
fn binaries(root: &Path) -> Result<Vec<String>> {
    let metadata = process::metadata(&root.join("ebpf"))?;
    let mut names: Vec<String> = metadata
        .packages
        .iter()
        .flat_map(|package| &package.targets)
        .filter(|target| target.kind.contains(&TargetKind::Bin))
        .map(|target| target.name.clone())
        .collect();
    names.sort();
    Ok(names)
}

/// A folder of its own, so that neither build makes the other start anew.
fn target_folder(root: &Path) -> Result<PathBuf> {
    Ok(process::metadata(root)?.target_directory.join("bpf").into())
}
