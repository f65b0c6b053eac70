//! A request's body on loan to a connection: what brings it back where nothing of the request was
//! processed. Knows neither connections nor why a body is wanted back.
//!
//! Law: a body called in is the body as it was lent, whatever was read of it since; or it does not
//! come back at all. What was read is kept as shared slices, never copied, up to [`KEPT_BYTES_MAX`]
//! and [`KEPT_PIECES_MAX`], and only for as long as the loan may be called in.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::{Body, Error};

/// Data kept of one lent body, unless more is asked for; one that was read beyond it does not come
/// back.
pub const KEPT_BYTES_MAX: usize = 16 * 1024;

/// Pieces kept for so many bytes at most: each may hold on to the buffer that it was read into.
const KEPT_PIECES_MAX: usize = 16;

/// What brings a lent body back.
pub(super) enum Loan {
    /// The body can be had twice.
    Copy(Body),
    /// The body is shared with its borrower.
    Shared(Lender),
}

impl Loan {
    /// The body as it was; `None` where too much of it has been read.
    pub(super) fn call_in(self) -> Option<Body> {
        match self {
            Self::Copy(body) => Some(body),
            Self::Shared(lender) => lender.call_in(),
        }
    }
}

/// Lends a body: the borrower's half, and the lender's.
pub(super) fn lend(body: Body, bytes_max: usize) -> (Borrowed, Lender) {
    let slot = Arc::new(Mutex::new(Slot {
        rest: Some(body),
        first: Bytes::new(),
        more: Vec::new(),
        kept_bytes: 0,
        bytes_max,
        wanted: true,
        reader: None,
    }));
    (Borrowed(slot.clone()), Lender(slot))
}

struct Slot {
    /// What was not read yet. `None` once it was called in, or is the borrower's for good.
    rest: Option<Body>,
    /// The first piece read: most bodies are one.
    first: Bytes,
    more: Vec<Bytes>,
    kept_bytes: usize,
    bytes_max: usize,
    /// It may still be called in.
    wanted: bool,
    /// Who waits for more of it.
    reader: Option<Waker>,
}

impl Slot {
    /// Keeps what was read; false where that is more than is kept.
    fn keep(&mut self, data: &Bytes) -> bool {
        self.kept_bytes += data.len();
        let pieces_max = KEPT_PIECES_MAX * self.bytes_max.div_ceil(KEPT_BYTES_MAX).max(1);
        if self.kept_bytes > self.bytes_max || self.more.len() + 1 >= pieces_max {
            return false;
        }
        if self.first.is_empty() {
            self.first = data.clone();
        } else if !data.is_empty() {
            self.more.push(data.clone());
        }
        true
    }

    fn forget(&mut self) {
        self.wanted = false;
        self.first = Bytes::new();
        self.more = Vec::new();
    }
}

/// The half that can call the body in.
pub(super) struct Lender(Arc<Mutex<Slot>>);

impl Lender {
    fn call_in(self) -> Option<Body> {
        let mut slot = lock(&self.0);
        let mut rest = slot.rest.take()?;
        if let Some(reader) = slot.reader.take() {
            // It learns that there is nothing more for it.
            reader.wake();
        }
        if slot.first.is_empty() {
            return Some(rest);
        }
        let informational = rest.take_informational();
        let mut kept = VecDeque::from(std::mem::take(&mut slot.more));
        kept.push_front(std::mem::take(&mut slot.first));
        let body = match (&*kept.make_contiguous(), rest.is_end_stream()) {
            ([all], true) => Body::full(all.clone()),
            _ => Body::wrap(Replay { kept, rest }),
        };
        Some(match informational {
            Some(informational) => body.with_informational(informational),
            None => body,
        })
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        lock(&self.0).forget();
    }
}

/// A frame of a body, or how it broke off; none at its end.
type NextFrame = Option<Result<Frame<Bytes>, Error>>;

/// The half that is read.
pub(super) struct Borrowed(Arc<Mutex<Slot>>);

impl Borrowed {
    /// The next frame, and the body itself once it is the borrower's for good.
    pub(super) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<(NextFrame, Option<Body>)> {
        let mut slot = lock(&self.0);
        let Some(rest) = slot.rest.as_mut() else {
            return Poll::Ready((Some(Err(Error::Canceled)), None));
        };
        let Poll::Ready(frame) = Pin::new(rest).poll_frame(cx) else {
            match &mut slot.reader {
                Some(reader) => reader.clone_from(cx.waker()),
                reader => *reader = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        };
        let may_come_back = slot.wanted
            && match &frame {
                Some(Ok(frame)) => frame.data_ref().is_some_and(|data| slot.keep(data)),
                Some(Err(_)) => false,
                None => true,
            };
        if may_come_back {
            return Poll::Ready((frame, None));
        }
        slot.forget();
        Poll::Ready((frame, slot.rest.take()))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        lock(&self.0).rest.as_ref().is_none_or(Body::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        lock(&self.0).rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body of which some was read: that again, and the rest.
struct Replay {
    kept: VecDeque<Bytes>,
    rest: Body,
}

impl http_body::Body for Replay {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(data) = self.kept.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(ready!(Pin::new(&mut self.rest).poll_frame(cx)))
    }

    fn is_end_stream(&self) -> bool {
        self.kept.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let kept = self.kept.iter().map(|data| data.len() as u64).sum::<u64>();
        let mut hint = self.rest.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + kept);
        }
        hint.set_lower(hint.lower() + kept);
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use http_body_util::BodyExt;
    use proptest::prelude::*;

    use super::*;

    /// What a future that needs not wait gives.
    fn now<F: Future>(future: F) -> F::Output {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("not ready"),
        }
    }

    /// A body of these pieces.
    fn pieces(pieces: &[Vec<u8>]) -> Body {
        let kept: VecDeque<_> = pieces.iter().map(|piece| Bytes::from(piece.clone())).collect();
        Body::wrap(Replay { kept, rest: Body::empty() })
    }

    proptest! {
        #[test]
        fn a_body_called_in_is_what_was_lent_or_does_not_come_back(
            lent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6000), 1..20),
            read in 0..20_usize,
        ) {
            let whole = lent.concat();
            let (mut borrowed, loan) = pieces(&lent).lend();
            let mut seen = 0;
            let read = read.min(lent.len());
            for piece in &lent[..read] {
                let frame = now(borrowed.frame()).unwrap().unwrap();
                prop_assert_eq!(frame.data_ref().unwrap(), piece);
                seen += piece.len();
            }
            let within = seen <= KEPT_BYTES_MAX && read < KEPT_PIECES_MAX;
            match loan.call_in() {
                Some(body) => {
                    prop_assert!(within || read == 0);
                    prop_assert_eq!(body.size_hint().exact(), Some(whole.len() as u64));
                    let back = now(body.read_to_end(usize::MAX)).unwrap();
                    prop_assert_eq!(&back[..], &whole[..]);
                    prop_assert!(now(borrowed.frame()).unwrap().is_err());
                }
                None => {
                    prop_assert!(!within);
                    // Who has it reads on as if nothing were.
                    let rest = now(borrowed.read_to_end(usize::MAX)).unwrap();
                    prop_assert_eq!(&rest[..], &whole[seen..]);
                }
            }
        }
    }

    #[test]
    fn nothing_is_kept_once_the_loan_cannot_be_called_in() {
        let (mut borrowed, loan) = pieces(&[vec![1; 10], vec![2; 10]]).lend();
        let first = now(borrowed.frame()).unwrap().unwrap().into_data().unwrap();
        assert!(!first.is_unique());
        drop(loan);
        assert!(first.is_unique());
        let second = now(borrowed.frame()).unwrap().unwrap().into_data().unwrap();
        assert!(second.is_unique());
    }
}
