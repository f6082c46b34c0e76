//! Mapped memory of array maps, and the one system call that aya has no function for.
//!
//! **Invariant:** this is the crate's only unsafe code. Mapped memory is only ever looked at as atomic words, because
//! programs in the kernel write it at any moment.
//!
//! Called by the tables and links of the kernel backend.

use std::ffi::CString;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use elvs_fastpath::{Bucket, Local, PortSlot, WideBucket};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Types that memory shared with the kernel may be looked at as.
///
/// # Safety
///
/// Any bytes are a value, every access is atomic, alignment is at most a page's.
pub(crate) unsafe trait Shared {}

// SAFETY: an atomic word.
unsafe impl Shared for AtomicU64 {}
// SAFETY: an atomic word.
unsafe impl Shared for AtomicU32 {}
// SAFETY: atomic words, aligned to 128 bytes.
unsafe impl Shared for Bucket<AtomicU64> {}
// SAFETY: as above.
unsafe impl Shared for WideBucket<AtomicU64> {}
// SAFETY: as above, aligned to 64 bytes.
unsafe impl Shared for Local<AtomicU64> {}
// SAFETY: as above.
unsafe impl Shared for PortSlot<AtomicU64> {}

/// Memory of an array map.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<libc::c_void>,
    bytes: NonZeroUsize,
}

// SAFETY: the memory belongs to no thread, and it is only handed out as atomic words.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` of an array map made with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    ///
    /// What `mmap` answers.
    pub(crate) fn new(map: &impl AsFd, bytes: NonZeroUsize) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; no memory of ours is touched.
        let start = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self { start, bytes })
    }

    /// The memory as a slice.
    pub(crate) fn slice<T: Shared>(&self) -> &[T] {
        let length = self.bytes.get() / size_of::<T>();
        // SAFETY: the mapping is that long, aligned to a page, and lives as long as `self`; every bit pattern is a
        // value of `T` and its accesses are atomic, by the trait's contract.
        unsafe { std::slice::from_raw_parts(self.start.cast::<T>().as_ptr(), length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and slices of it cannot outlive it.
        let unmapped = unsafe { munmap(self.start, self.bytes.get()) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping: {unmapped:?}");
    }
}

/// `BPF_OBJ_GET` of `enum bpf_cmd` (`include/uapi/linux/bpf.h`).
const OBJ_GET: libc::c_long = 7;
/// `BPF_LINK_DETACH` of `enum bpf_cmd`.
const LINK_DETACH: libc::c_long = 34;

/// Detaches a pinned link at once. Removing its pin alone would do it too, but some time later.
///
/// # Errors
///
/// What the kernel answers.
pub(crate) fn detach_pinned_link(path: &Path) -> io::Result<()> {
    #[repr(C)]
    struct ObjGet {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let name = CString::new(path.as_os_str().as_bytes())?;
    let get = ObjGet { path: name.as_ptr().expose_provenance() as u64, fd: 0, flags: 0 };
    // SAFETY: the attributes and the path they point to live through the call; the size is theirs.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET, &raw const get, size_of::<ObjGet>()) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    let detach = link.as_raw_fd();
    let size = size_of_val(&detach);
    // SAFETY: the attribute is the descriptor alone; it lives through the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, LINK_DETACH, &raw const detach, size) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
