//! Named network namespaces, as `ip netns` makes them: a bind mount of the namespace at `/run/netns/NAME`.
//!
//! **Invariant:** a thread's namespace is changed only by [`Namespace::enter`]; [`Namespace::run`] does its work on a
//! thread of its own, because a thread that ran in another namespace must never go back to a pool (setns(2) is per
//! thread).
//!
//! Called by the test bed and by `elvs demo`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// A named network namespace; clones name the same one.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    file: Arc<File>,
}

/// Why a namespace operation was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The name cannot be a file name.
    #[error("namespace name `{name}` is empty, starts with a dot or holds a slash")]
    BadName {
        /// The name.
        name: String,
    },
    /// A namespace of that name exists already.
    #[error("namespace `{name}` exists already; remove it with `ip netns delete {name}`")]
    Exists {
        /// The name.
        name: String,
    },
    /// The kernel refused a step.
    #[error("{operation} for namespace `{name}`")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// The namespace.
        name: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl Namespace {
    /// Makes a namespace, its loopback interface still down.
    ///
    /// # Errors
    /// [`NamespaceError::Exists`] if the name is taken; [`NamespaceError::Refused`] without CAP_SYS_ADMIN.
    pub fn create(name: &str) -> Result<NamespaceGuard, NamespaceError> {
        let path = path_of(name)?;
        let refused = |operation, source| NamespaceError::Refused {
            operation,
            name: name.to_owned(),
            source,
        };
        share_directory().map_err(|e| refused("cannot make /run/netns a shared mount", e))?;
        if let Err(source) = File::create_new(&path) {
            return Err(match source.kind() {
                io::ErrorKind::AlreadyExists => NamespaceError::Exists { name: name.to_owned() },
                _ => refused("cannot make the mount point", source),
            });
        }
        let mounted = on_own_thread(|| unshare_onto(&path));
        if let Err(source) = mounted {
            // The mount point is ours and empty; the error to report is the one above.
            let _ = fs::remove_file(&path);
            return Err(refused("cannot unshare and mount", source));
        }
        Ok(NamespaceGuard { namespace: Some(Self::open(name)?) })
    }

    /// Opens a namespace that exists.
    ///
    /// # Errors
    /// [`NamespaceError::Refused`] if there is none of that name.
    pub fn open(name: &str) -> Result<Self, NamespaceError> {
        let file = File::open(path_of(name)?).map_err(|source| NamespaceError::Refused {
            operation: "cannot open /run/netns",
            name: name.to_owned(),
            source,
        })?;
        Ok(Self { name: name.to_owned(), file: Arc::new(file) })
    }

    /// Names of all namespaces that start with `prefix`, sorted.
    ///
    /// # Errors
    /// [`NamespaceError::Refused`] if `/run/netns` exists and cannot be read.
    pub fn list(prefix: &str) -> Result<Vec<String>, NamespaceError> {
        let refused = |source| NamespaceError::Refused {
            operation: "cannot list /run/netns",
            name: format!("{prefix}*"),
            source,
        };
        let entries = match fs::read_dir(DIRECTORY) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(refused(e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(refused)?;
            if let Some(name) = entry.file_name().to_str().filter(|n| n.starts_with(prefix)) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes a namespace's name; the namespace itself goes when its last process and descriptor do.
    ///
    /// A name whose mount is gone already (a crash between two steps) is removed as well.
    ///
    /// # Errors
    /// [`NamespaceError::Refused`] if there is none of that name or the caller may not unmount it.
    pub fn delete(name: &str) -> Result<(), NamespaceError> {
        let path = path_of(name)?;
        let refused = |operation, source| NamespaceError::Refused {
            operation,
            name: name.to_owned(),
            source,
        };
        // Once for each mount that lies on the file; EINVAL says that none does.
        loop {
            match umount2(&path, MntFlags::MNT_DETACH) {
                Ok(()) => {}
                Err(Errno::EINVAL) => break,
                Err(e) => return Err(refused("cannot unmount", e.into())),
            }
        }
        fs::remove_file(&path).map_err(|e| refused("cannot remove the mount point", e))
    }

    /// Name under `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Inode of the namespace (`readlink /proc/PID/ns/net`), which identifies it while it lives.
    ///
    /// # Errors
    /// [`NamespaceError::Refused`] if fstat(2) fails.
    pub fn inode(&self) -> Result<u64, NamespaceError> {
        let metadata = self.file.metadata().map_err(|e| self.refused("cannot stat", e))?;
        Ok(metadata.ino())
    }

    /// Moves the calling thread into this namespace, for good.
    ///
    /// # Errors
    /// [`NamespaceError::Refused`] without CAP_SYS_ADMIN.
    pub fn enter(&self) -> Result<(), NamespaceError> {
        setns(&*self.file, CloneFlags::CLONE_NEWNET)
            .map_err(|e| self.refused("cannot enter", e.into()))
    }

    /// Does `work` inside the namespace, on a thread of its own, and waits for it.
    ///
    /// # Errors
    /// [`NamespaceError::Refused`] if the namespace cannot be entered; `work` is then not called.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        on_own_thread(|| {
            self.enter()?;
            Ok(work())
        })
    }

    /// Does asynchronous `work` inside the namespace, on a thread and a runtime of its own, with a [`Netlink`] handle
    /// of the namespace.
    ///
    /// [`Netlink`]: crate::Netlink
    ///
    /// # Errors
    /// That of entering, or of `work`.
    pub fn with_netlink<T, E>(
        &self,
        work: impl AsyncFnOnce(crate::Netlink) -> Result<T, E> + Send,
    ) -> Result<T, E>
    where
        T: Send,
        E: Send + From<NamespaceError> + From<crate::NetlinkError>,
    {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| self.refused("cannot start a runtime", e))?;
            runtime.block_on(async { work(crate::Netlink::new()?).await })
        })?
    }

    /// A command that will run inside the namespace.
    ///
    /// Only the network namespace changes: mounts (`/sys/fs/bpf` among them) stay the caller's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let file = Arc::clone(&self.file);
        let enter = move || Ok(setns(&*file, CloneFlags::CLONE_NEWNET)?);
        // SAFETY: between fork and exec the closure makes one system call on an open descriptor; it neither
        // allocates nor takes a lock (signal-safety(7)).
        unsafe { command.pre_exec(enter) };
        command
    }

    fn refused(&self, operation: &'static str, source: io::Error) -> NamespaceError {
        NamespaceError::Refused { operation, name: self.name.clone(), source }
    }
}

impl AsRawFd for Namespace {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// A namespace that is deleted when this is dropped.
#[derive(Debug)]
pub struct NamespaceGuard {
    /// `None` once kept.
    namespace: Option<Namespace>,
}

impl NamespaceGuard {
    /// Gives the namespace up: it outlives the guard.
    pub fn keep(mut self) -> Option<Namespace> {
        self.namespace.take()
    }
}

impl Deref for NamespaceGuard {
    type Target = Namespace;

    #[expect(
        clippy::expect_used,
        reason = "only `keep` and `drop` empty it, and both end the guard"
    )]
    fn deref(&self) -> &Namespace {
        self.namespace.as_ref().expect("a live guard holds its namespace")
    }
}

impl Drop for NamespaceGuard {
    fn drop(&mut self) {
        if let Some(namespace) = self.namespace.take() {
            // Nobody is left to report to: a name that is gone already is what was wanted.
            let _ = Namespace::delete(&namespace.name);
        }
    }
}

/// Runs `work` on a fresh thread; a panic of it goes on in the caller.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Makes `/run/netns` a shared mount, as ip-netns(8) does before it adds a name.
///
/// Without it the next `ip netns add` would mount the directory onto itself, and our names would be below that mount:
/// neither to be unmounted nor removed.
fn share_directory() -> io::Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    // ip-netns(8) takes the same lock, so that only one of us mounts.
    let directory = File::open(DIRECTORY)?;
    let _lock = Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
    let none: Option<&str> = None;
    let share = || mount(none, DIRECTORY, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none);
    match share() {
        // It is a directory of another mount.
        Err(Errno::EINVAL) => {
            mount(Some(DIRECTORY), DIRECTORY, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
            share()?;
        }
        other => other?,
    }
    Ok(())
}

/// Gives the calling thread a fresh network namespace and mounts it at `path`.
fn unshare_onto(path: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let none: Option<&str> = None;
    mount(Some("/proc/thread-self/ns/net"), path, none, MsFlags::MS_BIND, none)?;
    Ok(())
}

fn path_of(name: &str) -> Result<PathBuf, NamespaceError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(NamespaceError::BadName { name: name.to_owned() });
    }
    Ok(Path::new(DIRECTORY).join(name))
}

/// Where ip-netns(8) keeps names.
const DIRECTORY: &str = "/run/netns";
