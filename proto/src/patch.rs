//! Patches: the steps that make a CRL of an older one, byte for byte.
//!
//! What comes out is to be held against the SHA-256 that was announced, and verified like any other CRL: steps prove
//! nothing.

use crate::v1::CrlPatchStep;

/// Why steps cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatchError {
    /// They lead over the end of the old CRL.
    Outside,
    /// What would come out has not the length announced.
    Length,
}

impl std::fmt::Display for PatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PatchError::Outside => "the patch leads over the end of the CRL that is held",
            PatchError::Length => "the patch makes another length than it announces",
        })
    }
}

impl std::error::Error for PatchError {}

/// Applies the steps to `old`. `length` is what must come out, in octets: the caller has bounded it. Nothing is allocated
/// before the steps were seen to make just that.
pub fn apply(steps: &[CrlPatchStep], old: &[u8], length: usize) -> Result<Vec<u8>, PatchError> {
    let (mut at, mut made) = (0u64, 0u64);
    for step in steps {
        at = at.checked_add(step.skip).and_then(|at| at.checked_add(step.copy)).ok_or(PatchError::Outside)?;
        if at > old.len() as u64 {
            return Err(PatchError::Outside);
        }
        made += step.copy + step.insert.len() as u64;
    }
    if made != length as u64 {
        return Err(PatchError::Length);
    }
    let (mut new, mut rest) = (Vec::with_capacity(length), old);
    for step in steps {
        // Both lie within `old`, as was seen above.
        let (copied, left) = rest[step.skip as usize..].split_at(step.copy as usize);
        new.extend_from_slice(copied);
        new.extend_from_slice(&step.insert);
        rest = left;
    }
    Ok(new)
}

/// The steps that do what `first` and then `second` does. `second` applies to what `first` makes.
pub fn compose(first: &[CrlPatchStep], second: &[CrlPatchStep]) -> Vec<CrlPatchStep> {
    let mut made = Made::of(first);
    let mut steps = Steps::default();
    for step in second {
        made.take(step.skip, |_| {});
        made.take(step.copy, |piece| steps.add(piece));
        steps.add(Piece::New(&step.insert));
    }
    steps.0
}

/// A piece of what steps make.
#[derive(Clone, Copy)]
enum Piece<'a> {
    /// Octets of the old CRL: where they begin, and how many.
    Old(u64, u64),
    /// Octets that were put in.
    New(&'a [u8]),
}

impl<'a> Piece<'a> {
    fn len(&self) -> u64 {
        match self {
            Piece::Old(_, length) => *length,
            Piece::New(octets) => octets.len() as u64,
        }
    }

    fn split(self, at: u64) -> (Self, Self) {
        match self {
            Piece::Old(start, length) => (Piece::Old(start, at), Piece::Old(start + at, length - at)),
            Piece::New(octets) => {
                let (left, right) = octets.split_at(at as usize);
                (Piece::New(left), Piece::New(right))
            }
        }
    }
}

/// What steps make, piece by piece.
struct Made<'a> {
    pieces: std::collections::VecDeque<Piece<'a>>,
}

impl<'a> Made<'a> {
    fn of(steps: &'a [CrlPatchStep]) -> Self {
        let mut at = 0;
        let pieces = steps.iter().flat_map(|step| {
            let copied = Piece::Old(at + step.skip, step.copy);
            at += step.skip + step.copy;
            [copied, Piece::New(&step.insert)]
        });
        Self { pieces: pieces.collect() }
    }

    /// Takes so many octets off the front; fewer where there are fewer.
    fn take(&mut self, mut count: u64, mut each: impl FnMut(Piece<'a>)) {
        while count > 0 {
            let Some(piece) = self.pieces.pop_front() else { return };
            let (taken, left) = piece.split(count.min(piece.len()));
            if left.len() > 0 {
                self.pieces.push_front(left);
            }
            count -= taken.len();
            each(taken);
        }
    }
}

/// Steps in the making.
#[derive(Default)]
struct Steps(Vec<CrlPatchStep>, u64);

impl Steps {
    fn add(&mut self, piece: Piece<'_>) {
        let Self(steps, at) = self;
        match (piece, steps.last_mut()) {
            (piece, _) if piece.len() == 0 => {}
            (Piece::Old(start, length), Some(last)) if start == *at && last.insert.is_empty() => {
                last.copy += length;
                *at += length;
            }
            (Piece::Old(start, length), _) => {
                steps.push(CrlPatchStep { skip: start - *at, copy: length, insert: Vec::new() });
                *at = start + length;
            }
            (Piece::New(octets), Some(last)) => last.insert.extend_from_slice(octets),
            (Piece::New(octets), None) => {
                steps.push(CrlPatchStep { skip: 0, copy: 0, insert: octets.to_vec() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step(skip: u64, copy: u64, insert: &[u8]) -> CrlPatchStep {
        CrlPatchStep { skip, copy, insert: insert.to_vec() }
    }

    #[test]
    fn steps_skip_copy_and_insert() {
        let steps = [step(1, 2, b"XY"), step(3, 1, b""), step(0, 0, b"Z")];
        assert_eq!(apply(&steps, b"abcdefghij", 6).unwrap(), b"bcXYgZ");
        assert_eq!(apply(&[], b"abc", 0).unwrap(), b"");
    }

    #[test]
    fn steps_that_lead_outside_or_make_another_length_are_refused() {
        for steps in [
            &[step(11, 0, b"")][..],
            &[step(0, 11, b"")],
            &[step(5, 5, b""), step(0, 1, b"")],
            &[step(u64::MAX, 1, b"")],
            &[step(1, u64::MAX, b"")],
            &[step(u64::MAX, u64::MAX, b""), step(2, 0, b"")],
        ] {
            assert_eq!(apply(steps, b"abcdefghij", 5), Err(PatchError::Outside), "{steps:?}");
        }
        for length in [0, 3, 5, usize::MAX] {
            assert_eq!(apply(&[step(0, 3, b"X")], b"abcdefghij", length), Err(PatchError::Length));
        }
    }

    /// Steps that apply to so many octets.
    fn steps(old: usize) -> impl Strategy<Value = Vec<CrlPatchStep>> {
        let one = (0u64..20, 0u64..20, proptest::collection::vec(any::<u8>(), 0..5));
        proptest::collection::vec(one, 0..10).prop_map(move |all| {
            let mut left = old as u64;
            let fitting = |(skip, copy, insert): (u64, u64, Vec<u8>)| {
                let skip = skip.min(left);
                let copy = copy.min(left - skip);
                left -= skip + copy;
                CrlPatchStep { skip, copy, insert }
            };
            all.into_iter().map(fitting).collect()
        })
    }

    fn length(steps: &[CrlPatchStep]) -> usize {
        steps.iter().map(|step| step.copy as usize + step.insert.len()).sum()
    }

    proptest! {
        #[test]
        fn composed_steps_do_what_one_after_the_other_does(
            old in proptest::collection::vec(any::<u8>(), 100),
            (first, second) in steps(100).prop_flat_map(|first| {
                let made = length(&first);
                (Just(first), steps(made))
            }),
        ) {
            let between = apply(&first, &old, length(&first)).unwrap();
            let new = apply(&second, &between, length(&second)).unwrap();
            let both = compose(&first, &second);
            prop_assert!(both.len() <= first.len() + second.len() + 1);
            prop_assert_eq!(apply(&both, &old, new.len()).unwrap(), new);
        }

        #[test]
        fn no_steps_make_it_panic(
            old in proptest::collection::vec(any::<u8>(), 0..50),
            steps in proptest::collection::vec((any::<u64>(), any::<u64>(), 0usize..5), 0..5),
            length in 0usize..100,
            shift in prop_oneof![Just(0), Just(58)],
        ) {
            let steps: Vec<_> = steps.into_iter().map(|(skip, copy, insert)| step(skip >> shift, copy >> shift, &vec![7; insert])).collect();
            let _ = apply(&steps, &old, length);
        }
    }
}
