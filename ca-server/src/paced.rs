//! A connection whose reader must keep pace: who takes nothing, or next to nothing, is let go, and with him the bytes
//! that wait for him.
//!
//! For h2 it also keeps small frames together: those of less than 1 KiB are copied into one piece where a connection does
//! not take several at once, and of less than a quarter of that where it does. What is copied is one record of TLS, one
//! segment and one waking of the peer. Of a larger frame the first KiB goes alone then. HTTP/1 would copy whole answers.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// How long a reader may take nothing in all; what it takes wins time back at [`SLOWEST`].
const PATIENCE: Duration = Duration::from_secs(30);
/// Octets a second below which a reader uses its patience up.
const SLOWEST: u64 = 16 * 1024;

/// Wraps a connection. Writing fails with `TimedOut` when the reader is too slow; reading is as it was.
pub struct Paced<S> {
    inner: S,
    /// Whether it takes several pieces at once, if the connection does.
    pieces: bool,
    pace: Pace,
    /// Since when the reader blocks, and when that is too long.
    blocked: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> Paced<S> {
    /// Around this connection.
    pub fn new(inner: S) -> Self {
        Self { inner, pieces: true, pace: Pace { patience: PATIENCE }, blocked: None }
    }

    /// Around a connection that h2 writes to: one piece at a time.
    pub fn in_one_piece(inner: S) -> Self {
        Self { pieces: false, ..Self::new(inner) }
    }

    /// Accounts for what came of a write.
    fn account(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Pending => {
                let patience = self.pace.patience;
                let (_, end) = self.blocked.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(patience))));
                ready!(end.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(Ok(written)) => {
                let blocked = self.blocked.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
                self.pace.took(written, blocked);
                Poll::Ready(Ok(written))
            }
            failed => failed,
        }
    }
}

/// How long a reader may still block.
struct Pace {
    patience: Duration,
}

impl Pace {
    /// The reader took so much after it had blocked for so long.
    fn took(&mut self, octets: usize, blocked: Duration) {
        let won = Duration::from_micros((octets as u64).saturating_mul(1_000_000) / SLOWEST);
        self.patience = (self.patience.saturating_sub(blocked) + won).min(PATIENCE);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.account(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.account(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.pieces && self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn left_after(steps: u32, octets: usize, blocked: Duration) -> Duration {
        let mut pace = Pace { patience: PATIENCE };
        (0..steps).for_each(|_| pace.took(octets, blocked));
        pace.patience
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_let_go() {
        let (near, _far) = tokio::io::duplex(1024);
        let mut near = Paced { pace: Pace { patience: Duration::from_millis(5) }, ..Paced::new(near) };
        assert_eq!(near.write_all(&[0; 4096]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn only_what_h2_writes_to_takes_one_piece_at_a_time() {
        assert!(!Paced::in_one_piece(tokio::net::UnixStream::pair().unwrap().0).is_write_vectored());
        // An answer of HTTP/1 that is held by many readers is copied for none of them.
        assert!(Paced::new(tokio::net::UnixStream::pair().unwrap().0).is_write_vectored());
    }

    #[test]
    fn a_little_now_and_then_uses_patience_up() {
        assert!(left_after(4, 16, Duration::from_secs(10)) < Duration::from_millis(10));
    }

    #[test]
    fn who_keeps_pace_may_go_on_for_ever() {
        assert_eq!(left_after(100_000, 64 * 1024, Duration::from_secs(4)), PATIENCE);
    }

    #[test]
    fn patience_is_not_saved_up() {
        assert_eq!(left_after(1, 1 << 30, Duration::ZERO), PATIENCE);
    }
}
