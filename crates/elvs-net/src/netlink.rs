//! The rtnetlink handle: one socket in one network namespace.
//!
//! **Invariant:** a handle speaks to the namespace in which it was opened, whatever thread uses it afterwards.
//!
//! Links, addresses, routes, neighbours and next hops are in the modules of those names.

use std::io;
use std::time::Duration;

use futures::TryStreamExt;
use futures::stream::Stream;
use rtnetlink::Handle;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Times that a list is asked for again, while the kernel sends what nobody waits for any more.
const LIST_TRIES: u32 = 100;
/// Between two of them.
const LIST_PAUSE: Duration = Duration::from_millis(2);

/// An rtnetlink(7) socket of one network namespace.
///
/// Needs a tokio runtime, on which the socket's driver runs until the handle is dropped.
#[derive(Debug)]
pub struct Netlink {
    pub(crate) handle: Handle,
    /// Held while something is listed: the kernel lists one thing at a time for a socket, and refuses another (EBUSY).
    listing: Mutex<()>,
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
        Ok(Self { handle, listing: Mutex::new(()), driver: tokio::spawn(connection) })
    }

    /// All that a request lists, once those before it are done. The request is sent by `ask`.
    pub(crate) async fn list<M, S: Stream<Item = Result<M, rtnetlink::Error>>>(
        &self,
        ask: impl Fn() -> S,
        what: &'static str,
    ) -> Result<Vec<M>, NetlinkError> {
        let _alone = self.listing.lock().await;
        let mut tries = LIST_TRIES;
        loop {
            let listed = ask().map_err(|error| NetlinkError::of(error, "list", what));
            match listed.try_collect().await {
                // Who asked before has lost interest, and the kernel is not done with that.
                Err(error) if error.errno() == Some(libc::EBUSY) && tries > 0 => tries -= 1,
                listed => return listed,
            }
            sleep(LIST_PAUSE).await;
        }
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
