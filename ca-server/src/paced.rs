//! A connection whose reader must keep pace: who takes nothing, or next to nothing, is let go, and with him the bytes
//! that wait for him.
//!
//! It also keeps small pieces together. h2 copies the small frames of an answer into one piece, up to 1 KiB each where
//! a connection does not take several pieces at once, and a quarter of that where it does; whatever it copies is one record
//! of TLS, one segment and one waking of the peer. So this one takes no pieces; and the head of a large frame, which h2
//! writes alone then, waits here for what it is the head of.

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

/// What is shorter waits for what comes after it, or for the flush. The head of a frame is: it has 9 octets.
const ALONE: usize = 64;

/// Wraps a connection. Writing fails with `TimedOut` when the reader is too slow; reading is as it was.
pub struct Paced<S> {
    inner: S,
    pace: Pace,
    /// What waits for what comes after it.
    held: Vec<u8>,
    /// Since when the reader blocks, and when that is too long.
    blocked: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> Paced<S> {
    /// Around this connection.
    pub fn new(inner: S) -> Self {
        Self { inner, pace: Pace { patience: PATIENCE }, held: Vec::new(), blocked: None }
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

impl<S: AsyncWrite + Unpin> Paced<S> {
    /// Writes what is held and this behind it, in one; says how much of this.
    fn write_with_held(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let pieces = [io::IoSlice::new(&self.held), io::IoSlice::new(buf)];
        let outcome = match self.held.is_empty() {
            true => Pin::new(&mut self.inner).poll_write(cx, buf),
            false => Pin::new(&mut self.inner).poll_write_vectored(cx, &pieces),
        };
        let written = ready!(self.account(cx, outcome))?;
        if written == 0 && !(self.held.is_empty() && buf.is_empty()) {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_held = written.min(self.held.len());
        self.held.drain(..of_held);
        Poll::Ready(Ok(written - of_held))
    }

    fn write_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            ready!(self.write_with_held(cx, &[]))?;
        }
        Poll::Ready(Ok(()))
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
        if self.held.is_empty() && buf.len() < ALONE {
            self.held.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        loop {
            let written = ready!(self.write_with_held(cx, buf))?;
            if written > 0 || buf.is_empty() {
                return Poll::Ready(Ok(written));
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_held(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_held(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
    async fn what_is_small_goes_with_what_follows_and_nothing_is_lost() {
        // Room for three octets at a time: every write is a partial one.
        let (near, mut far) = tokio::io::duplex(3);
        let mut near = Paced::new(near);
        let sent: Vec<u8> = (0..=255).collect();
        let expected = sent.clone();
        let reading = tokio::spawn(async move {
            let mut taken = Vec::new();
            far.read_to_end(&mut taken).await.unwrap();
            taken
        });
        for piece in [&sent[..9], &sent[9..100], &sent[100..101], &sent[101..102], &sent[102..]] {
            near.write_all(piece).await.unwrap();
        }
        near.shutdown().await.unwrap();
        drop(near);
        assert_eq!(reading.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn what_is_held_goes_out_with_a_flush() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut near = Paced::new(near);
        near.write_all(b"head").await.unwrap();
        assert!(futures::poll!(Box::pin(far.read_u8())).is_pending());
        near.flush().await.unwrap();
        let mut taken = [0; 4];
        far.read_exact(&mut taken).await.unwrap();
        assert_eq!(&taken, b"head");
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
