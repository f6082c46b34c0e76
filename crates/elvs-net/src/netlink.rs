//! The rtnetlink handle: one socket in one network namespace.
//!
//! **Invariant:** a handle speaks to the namespace in which it was opened, whatever thread uses it afterwards.
//!
//! Links, addresses, routes, neighbours and next hops are in the modules of those names.

use std::io;

use rtnetlink::Handle;
use tokio::task::JoinHandle;

/// An rtnetlink(7) socket of one network namespace.
///
/// Needs a tokio runtime, on which the socket's driver runs until the handle is dropped.
#[derive(Debug)]
pub struct Netlink {
    pub(crate) handle: Handle,
    driver: JoinHandle<()>,
}

/// Why a netlink request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// The kernel refused a request.
    #[error("cannot {operation} {object}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// No interface of that name.
    #[error("interface `{name}` does not exist")]
    NoSuchInterface {
        /// The name.
        name: String,
    },
    /// No interface with that index.
    #[error("interface with index {ifindex} does not exist")]
    NoSuchIndex {
        /// The index.
        ifindex: u32,
    },
    /// The kernel answered with something that is no answer to the request.
    #[error("the kernel's answer to `{operation}` cannot be understood: {answer}")]
    Unexpected {
        /// What was tried.
        operation: &'static str,
        /// The answer, for a report.
        answer: String,
    },
}

impl Netlink {
    /// Opens a handle in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`NetlinkError::Open`] if the kernel gives no socket.
    pub fn new() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        Ok(Self { handle, driver: tokio::spawn(connection) })
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl NetlinkError {
    /// Names the operation and object of a library error.
    pub(crate) fn of(
        error: rtnetlink::Error,
        operation: &'static str,
        object: impl ToString,
    ) -> Self {
        match error {
            rtnetlink::Error::NetlinkError(message) => {
                Self::Refused { operation, object: object.to_string(), source: message.to_io() }
            }
            other => Self::Unexpected { operation, answer: other.to_string() },
        }
    }

    /// The kernel's `errno`, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open(source) | Self::Refused { source, .. } => source.raw_os_error(),
            Self::NoSuchInterface { .. } | Self::NoSuchIndex { .. } | Self::Unexpected { .. } => {
                None
            }
        }
    }
}
