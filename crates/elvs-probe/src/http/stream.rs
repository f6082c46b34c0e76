//! A TLS connection that ends as web servers end theirs.
//!
//! **Invariant:** only an end without `close_notify` is forgiven, and only where `tls_compliant` was not asked for.
//!
//! Part of the driver of `SSL_GET`.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream for which an end without a farewell is an end.
#[derive(Debug)]
pub(super) struct Lenient<S> {
    inner: S,
    compliant: bool,
}

impl<S> Lenient<S> {
    /// Wraps the stream; with `compliant` it stays as it is.
    pub(super) const fn new(inner: S, compliant: bool) -> Self {
        Self { inner, compliant }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.inner).poll_read(context, buffer)) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                let rude = || io::Error::other("connection closed without TLS close_notify");
                Poll::Ready(if self.compliant { Err(rude()) } else { Ok(()) })
            }
            result => Poll::Ready(result),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
