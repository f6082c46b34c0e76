//! Finds compilers that build for the kernel: Debian's with the library's sources, or rustup's nightly.
//!
//! **Invariant:** what it returns is complete: compiler, library sources, linker and the tool that strips objects.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::process::{self, which};

/// What to install when something is missing.
const CURE: &str = "see \"Toolchains\" in docs/architecture.md";

/// Programs that build the objects.
pub struct Toolchain {
    /// Cargo of the compiler below.
    pub cargo: PathBuf,
    /// A compiler that takes unstable options, or takes them with `RUSTC_BOOTSTRAP`.
    pub rustc: PathBuf,
    /// Where that compiler has its library's sources.
    pub library: PathBuf,
    /// The linker, which turns bitcode into one BPF object.
    pub linker: PathBuf,
    /// LLVM's objcopy.
    pub objcopy: PathBuf,
    /// What the programs call themselves.
    pub versions: Versions,
}

/// Versions of the programs on which an object's bytes depend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Compiler with its LLVM.
    pub rustc: String,
    /// Linker.
    pub bpf_linker: String,
    /// LLVM of the tool that strips debug information.
    pub objcopy: String,
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, objcopy of {}", self.rustc, self.bpf_linker, self.objcopy)
    }
}

impl Toolchain {
    /// Finds the toolchain.
    ///
    /// # Errors
    ///
    /// What is missing, and where the documentation says how to get it.
    pub fn find(root: &Path) -> Result<Self> {
        let (cargo, rustc) = compiler()?;
        let about = process::output(Command::new(&rustc).args(["--version", "--verbose"]))?;
        let first = about.lines().next().unwrap_or_default();
        let llvm = field(&about, "LLVM version").context("LLVM version of rustc")?;
        let linker = linker(root)?;
        let bpf_linker = process::output(Command::new(&linker).arg("--version"))?;
        let major = llvm.split('.').next().unwrap_or(llvm);
        let objcopy = objcopy(&rustc, major)?;
        let stripper = process::output(Command::new(&objcopy).arg("--version"))?;
        let versions = Versions {
            rustc: format!("{first}, LLVM {llvm}"),
            bpf_linker: bpf_linker.trim().to_owned(),
            objcopy: llvm_version(&stripper).context("version of objcopy")?,
        };
        let library = sysroot(&rustc)?.join(LIBRARY);
        Ok(Self { cargo, rustc, library, linker, objcopy, versions })
    }
}

/// Where a sysroot has the library's sources.
const LIBRARY: &str = "lib/rustlib/src/rust/library";

/// Debian's packages come first: they are one version for everyone who has them.
fn compiler() -> Result<(PathBuf, PathBuf)> {
    let debian = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
    if debian.0.exists() && debian.1.exists() && has_library(&debian.1) {
        return Ok(debian);
    }
    if which("rustup").is_none() {
        bail!(
            "no compiler for the kernel's programs: neither Debian's with rust-web-src nor rustup's; {CURE}"
        );
    }
    let of = |name: &str| -> Result<PathBuf> {
        let found =
            process::output(Command::new("rustup").args(["which", "--toolchain", "nightly", name]))
                .with_context(|| format!("no compiler for the kernel's programs; {CURE}"))?;
        Ok(PathBuf::from(found.trim()))
    };
    let nightly = (of("cargo")?, of("rustc")?);
    ensure!(has_library(&nightly.1), "rustup's nightly has no rust-src component; {CURE}");
    Ok(nightly)
}

fn has_library(rustc: &Path) -> bool {
    sysroot(rustc).is_ok_and(|root| root.join(LIBRARY).join("Cargo.toml").exists())
}

fn sysroot(rustc: &Path) -> Result<PathBuf> {
    Ok(PathBuf::from(process::output(Command::new(rustc).args(["--print", "sysroot"]))?.trim()))
}

/// CI keeps the linker under the checkout's target folder, people have it where Cargo installs.
fn linker(root: &Path) -> Result<PathBuf> {
    let cached = root.join("target/tools/bin/bpf-linker");
    let installed = std::env::home_dir().map(|home| home.join(".cargo/bin/bpf-linker"));
    [Some(cached), which("bpf-linker"), installed]
        .into_iter()
        .flatten()
        .find(|path| path.exists())
        .ok_or_else(|| anyhow!("no bpf-linker; {CURE}"))
}

fn objcopy(rustc: &Path, major: &str) -> Result<PathBuf> {
    let debian = PathBuf::from(format!("/usr/lib/llvm-{major}/bin/llvm-objcopy"));
    let host = process::output(Command::new(rustc).args(["--print", "host-tuple"]))?;
    let component = sysroot(rustc)?.join("lib/rustlib").join(host.trim()).join("bin/llvm-objcopy");
    [Some(debian), Some(component), which(&format!("llvm-objcopy-{major}")), which("llvm-objcopy")]
        .into_iter()
        .flatten()
        .find(|path| path.exists())
        .ok_or_else(|| anyhow!("no llvm-objcopy of LLVM {major}; {CURE}"))
}

/// The value of a `name: value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| (key == name).then(|| value.trim()))
}

/// The line of `llvm-objcopy --version` that says which LLVM it is of.
fn llvm_version(text: &str) -> Option<String> {
    text.lines().map(str::trim).find(|line| line.contains("LLVM version")).map(str::to_owned)
}
