//! The bytes of a message where they are: a block that came from somewhere else is not copied to stand beside the next.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

/// From so many bytes on a piece stands for itself. Less is copied to its neighbours: that takes less than to keep account
/// of it.
const ALONE_BYTES: usize = 4 << 10;

/// Bytes in pieces, which are one after the other. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Pieces(Vec<Bytes>);

impl Pieces {
    /// Bytes of all together.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// Each piece, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }

    /// The [`super::checksum`] of all together.
    pub fn checksum(&self) -> u64 {
        match &self.0[..] {
            [] => super::checksum(&[]),
            [whole] => super::checksum(whole),
            pieces => {
                let mut hash = Xxh3::new();
                pieces.iter().for_each(|piece| hash.update(piece));
                hash.digest()
            }
        }
    }

    /// All together; copied if they are several.
    pub fn joined(&self) -> Bytes {
        match &self.0[..] {
            [] => Bytes::new(),
            [whole] => whole.clone(),
            pieces => pieces.concat().into(),
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(whole: Bytes) -> Pieces {
        Pieces(vec![whole])
    }
}

impl From<Vec<u8>> for Pieces {
    fn from(whole: Vec<u8>) -> Pieces {
        Pieces::from(Bytes::from(whole))
    }
}

impl PartialEq for Pieces {
    fn eq(&self, other: &Pieces) -> bool {
        self.len() == other.len() && self.joined() == other.joined()
    }
}

/// Puts pieces together.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pieces: Vec<Bytes>,
    /// What belongs behind them.
    tail: Vec<u8>,
    length: usize,
}

impl Writer {
    /// Bytes that were put so far.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Copies a few bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        self.tail.extend_from_slice(bytes);
    }

    /// Puts what is there already, as it is unless it is small.
    pub fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < ALONE_BYTES {
            return self.put(bytes);
        }
        self.length += bytes.len();
        self.cut();
        self.pieces.push(bytes.clone());
    }

    /// What was put.
    pub fn finish(mut self) -> Pieces {
        self.cut();
        Pieces(self.pieces)
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(std::mem::take(&mut self.tail).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_what_was_put_and_large_ones_are_shared() {
        let large = Bytes::from((0..3 * ALONE_BYTES).map(|byte| byte as u8).collect::<Vec<_>>());
        let small = Bytes::from_static(b"small");
        for order in ["", "p", "s", "l", "psl", "ll", "lpspl", "sss", "plplpl"] {
            let (mut writer, mut expected) = (Writer::default(), Vec::new());
            for kind in order.chars() {
                match kind {
                    'p' => writer.put(b"header"),
                    's' => writer.share(&small),
                    _ => writer.share(&large),
                }
                expected.extend_from_slice(match kind {
                    'p' => b"header",
                    's' => &small,
                    _ => &large,
                });
                assert_eq!(writer.len(), expected.len());
            }
            let pieces = writer.finish();
            assert_eq!((pieces.len(), pieces.is_empty()), (expected.len(), expected.is_empty()), "{order}");
            assert_eq!(pieces.joined(), expected, "{order}");
            assert_eq!(pieces.checksum(), super::super::checksum(&expected), "{order}");
            assert_eq!(pieces, Pieces::from(expected), "{order}");
            let shared = pieces.iter().filter(|piece| piece.as_ptr() == large.as_ptr()).count();
            assert_eq!(shared, order.matches('l').count(), "{order}");
        }
        assert_ne!(Pieces::from(small), Pieces::from(Bytes::from_static(b"other")));
    }
}
