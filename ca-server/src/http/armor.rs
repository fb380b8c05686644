//! PEM of CRLs that are in memory, written while it is sent: nothing that a gateway fetches is there twice.

use std::{
    convert::Infallible,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::HttpBody;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::pki::{PemLabel, PemPieces};

/// One block after the other, in this order.
#[derive(Clone, Debug)]
pub(super) struct Armor(Vec<Bytes>);

impl Armor {
    /// Of these CRLs (DER).
    pub(super) fn new(crls: Vec<Bytes>) -> Self {
        Self(crls)
    }

    /// How long it is.
    pub(super) fn len(&self) -> usize {
        let length = |block: PemPieces<'_>| (0..block.count()).map(|index| block.length(index)).sum::<usize>();
        self.0.iter().map(|der| length(PemPieces::of(PemLabel::Crl, der))).sum()
    }

    /// This part of it, as a body.
    pub(super) fn part(&self, range: Range<usize>) -> ArmorBody {
        ArmorBody { armor: self.clone(), block: 0, piece: 0, position: 0, range }
    }

    /// All of it, piece by piece.
    pub(super) fn pieces(&self) -> impl Iterator<Item = String> {
        let blocks = self.0.iter().map(|der| PemPieces::of(PemLabel::Crl, der));
        blocks.flat_map(|block| (0..block.count()).map(move |index| block.write(index)))
    }
}

/// What is still to be sent.
#[derive(Debug)]
pub(super) struct ArmorBody {
    armor: Armor,
    /// The next piece, and where it begins.
    block: usize,
    piece: usize,
    position: usize,
    /// What is wanted and was not sent yet.
    range: Range<usize>,
}

impl ArmorBody {
    fn next(&mut self) -> Option<Bytes> {
        while !self.range.is_empty() {
            let pieces = PemPieces::of(PemLabel::Crl, self.armor.0.get(self.block)?);
            if self.piece == pieces.count() {
                (self.block, self.piece) = (self.block + 1, 0);
                continue;
            }
            let (index, begin) = (self.piece, self.position);
            self.piece += 1;
            self.position += pieces.length(index);
            if self.position > self.range.start {
                let wanted = self.range.start - begin..self.range.end.min(self.position) - begin;
                self.range.start += wanted.len();
                return Some(Bytes::from(pieces.write(index)).slice(wanted));
            }
        }
        None
    }
}

impl HttpBody for ArmorBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.range.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.range.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::pki::to_pem;

    #[tokio::test]
    async fn every_part_is_that_part_of_the_whole() {
        let crls: Vec<Bytes> = [100_000, 10, 49_152].map(|length| Bytes::from(vec![7; length])).to_vec();
        let whole: String = crls.iter().map(|der| to_pem(PemLabel::Crl, der)).collect();
        let armor = Armor::new(crls);
        assert_eq!((armor.len(), armor.pieces().collect::<String>()), (whole.len(), whole.clone()));
        let end = whole.len();
        for range in
            [0..end, 0..1, 0..0, 5..66_600, 66_586..66_586 + 70_000, 66_570..66_571, end - 1..end, end - 70_000..end]
        {
            let body = armor.part(range.clone());
            assert_eq!(body.size_hint().exact(), Some(range.len() as u64));
            let sent = body.collect().await.unwrap().to_bytes();
            assert_eq!(sent, whole.as_bytes()[range.clone()], "{range:?}");
        }
    }
}
