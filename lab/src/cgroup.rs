//! A control group for the programs of one test.
//!
//! **Invariant:** while the guard lives, this process and what it starts are in the group; afterwards it is back where
//! it was, and the group and its mount are gone.
//!
//! Called by tests that attach programs to control groups: so no other program of the machine meets them.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::require_root;

/// A group with this process in it.
#[derive(Debug)]
pub struct Cgroup {
    mount: TempDir,
    path: PathBuf,
    before: PathBuf,
}

impl Cgroup {
    /// Makes the group and moves this process into it.
    ///
    /// # Panics
    /// Without root, or if the kernel has no cgroup2.
    pub fn enter(name: &str) -> Self {
        require_root();
        let mount_point = tempfile::Builder::new().prefix("elvs-lab-cgroup-").tempdir();
        let mount_point = mount_point.expect("a directory");
        let at = mount_point.path();
        let none: Option<&str> = None;
        mount(Some("none"), at, Some("cgroup2"), MsFlags::empty(), none).expect("cgroup2");
        // After the mount: where nobody mounted the hierarchy before, the kernel does not show places in it.
        let groups = fs::read_to_string("/proc/self/cgroup").expect("the groups of this process");
        let before = groups.lines().find_map(|line| line.strip_prefix("0::/"));
        let before = before.expect("a place in the cgroup2 hierarchy");
        let group = Self {
            path: at.join(format!("elvs-lab-{name}")),
            before: at.join(before),
            mount: mount_point,
        };
        // One that a crashed run left will do as well.
        let _ = fs::create_dir(&group.path);
        join(&group.path).expect("entering the group");
        group
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let left = join(&self.before).and_then(|()| fs::remove_dir(&self.path));
        let unmounted = umount2(self.mount.path(), MntFlags::MNT_DETACH);
        if !std::thread::panicking() {
            left.expect("leaving the group");
            unmounted.expect("unmounting the hierarchy");
        }
    }
}

fn join(group: &Path) -> std::io::Result<()> {
    fs::write(group.join("cgroup.procs"), std::process::id().to_string())
}
