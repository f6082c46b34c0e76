//! Reading a line that a server sends, however it cuts it into packets.
//!
//! **Invariant:** no more than a bound is kept, whatever is sent.
//!
//! Called by the drivers of `SMTP_CHECK` and `AGENT_CHECK`.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A source of lines.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    kept: Vec<u8>,
    limit: usize,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, without its end.
    Whole(Vec<u8>),
    /// The connection was closed; what came of a line before that.
    Closed(Vec<u8>),
    /// A line longer than the limit.
    TooLong,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of at most `limit` bytes from `reader`.
    pub(crate) const fn new(reader: R, limit: usize) -> Self {
        Self { reader, kept: Vec::new(), limit }
    }

    /// The reader, to write to it.
    pub(crate) const fn reader(&mut self) -> &mut R {
        &mut self.reader
    }

    /// Reads up to the next end of a line: LF, with or without CR before it.
    ///
    /// # Errors
    /// Those of the connection.
    pub(crate) async fn next(&mut self) -> io::Result<Line> {
        loop {
            if let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.kept.drain(..=end).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(Line::Whole(line));
            }
            if self.kept.len() > self.limit {
                return Ok(Line::TooLong);
            }
            if self.reader.read_buf(&mut self.kept).await? == 0 {
                return Ok(Line::Closed(std::mem::take(&mut self.kept)));
            }
        }
    }
}
