//! The control group to attach to.
//!
//! **Invariant:** what [`find`] returns is a directory of a cgroup2 file system.
//!
//! Called by [`super::run`].

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

/// An open control group.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// Where it is.
    pub path: PathBuf,
    /// Its directory, open.
    pub directory: File,
}

/// Opens the control group, or the root of the hierarchy if none is named.
pub(super) fn find(named: Option<&Path>) -> Result<Cgroup> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => root()?,
    };
    let directory = File::open(&path)
        .with_context(|| format!("cannot open control group {}", path.display()))?;
    let kind = fstatfs(&directory).with_context(|| format!("statfs of {}", path.display()))?;
    ensure!(
        kind.filesystem_type() == CGROUP2_SUPER_MAGIC,
        "{} is no control group of version 2: name one under a cgroup2 mount, such as /sys/fs/cgroup",
        path.display()
    );
    Ok(Cgroup { path, directory })
}

fn root() -> Result<PathBuf> {
    const MOUNTS: &str = "/proc/self/mountinfo";
    let text = fs::read_to_string(MOUNTS).with_context(|| format!("cannot read {MOUNTS}"))?;
    root_in(&text).context(
        "no cgroup2 hierarchy is mounted: `mount -t cgroup2 none DIRECTORY` and name it with --cgroup",
    )
}

/// The first mount of the whole hierarchy in a `mountinfo` (proc_pid_mountinfo(5)).
fn root_in(text: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let whole = root == "/" && system.split(' ').next() == Some("cgroup2");
        // Blanks in paths are written as \040; such a mount has to be named.
        (whole && !point.contains('\\')).then(|| point.into())
    })
}

#[cfg(test)]
mod tests {
    use super::root_in;

    #[test]
    fn takes_the_first_mount_of_a_whole_cgroup2_hierarchy() {
        let rows: [(&str, Option<&str>); 5] = [
            (
                "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
                Some("/sys/fs/cgroup"),
            ),
            (
                "35 30 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                 44 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
                Some("/sys/fs/cgroup/unified"),
            ),
            (
                "30 23 0:26 /a /mnt rw - cgroup2 none rw\n31 23 0:26 / /b rw - cgroup2 none rw\n",
                Some("/b"),
            ),
            (r"30 23 0:26 / /with\040blank rw - cgroup2 none rw", None),
            ("garbage\n", None),
        ];
        for (text, path) in rows {
            assert_eq!(root_in(text).as_deref(), path.map(std::path::Path::new), "{text}");
        }
    }
}
