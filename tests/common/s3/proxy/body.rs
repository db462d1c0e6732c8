//! A body on its way, and what a fault does to it.

use super::{Fault, cut};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::watch;

/// What happens to a body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Whole,
    Cut(u64),
    Stall(u64),
    End(u64),
    Flip(u64),
}

pub(super) fn shapes(fault: Option<Fault>) -> (Shape, Shape) {
    use Shape::{Cut, End, Flip, Stall, Whole};
    match fault {
        Some(Fault::CutRequest(n)) => (Cut(n), Whole),
        Some(Fault::StallRequest(n)) => (Stall(n), Whole),
        Some(Fault::FlipRequest(n)) => (Flip(n), Whole),
        Some(Fault::CutAnswer(n)) => (Whole, Cut(n)),
        Some(Fault::StallAnswer(n)) => (Whole, Stall(n)),
        Some(Fault::ShortAnswer(n)) => (Whole, End(n)),
        Some(Fault::FlipAnswer(n)) => (Whole, Flip(n)),
        _ => (Whole, Whole),
    }
}

/// A body on its way, to which something happens.
pub(super) struct Shaped {
    inner: Incoming,
    shape: Shape,
    /// Bytes that went by.
    past: u64,
    /// Bytes that it has, where it says so.
    length: Option<u64>,
    /// Whether hyper had its chance to send what went by before the cut.
    flushed: bool,
    /// Resolves when what is stalled is cut.
    stalled: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

impl Shaped {
    pub(super) fn new(inner: Incoming, shape: Shape, mut cleared: watch::Receiver<u64>) -> Self {
        let length = inner.size_hint().exact();
        let stalled = Box::pin(async move {
            cleared.changed().await.ok();
        });
        Self {
            inner,
            shape,
            past: 0,
            length,
            flushed: false,
            stalled,
        }
    }

    /// Bytes that may still go by before the cut, the stall or the end.
    fn room(&self) -> Option<u64> {
        match self.shape {
            Shape::Cut(n) | Shape::Stall(n) | Shape::End(n) => Some(n.saturating_sub(self.past)),
            Shape::Whole | Shape::Flip(_) => None,
        }
    }
}

impl Body for Shaped {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.room() == Some(0) {
            return match self.shape {
                Shape::End(_) => Poll::Ready(None),
                Shape::Stall(_) => self
                    .stalled
                    .as_mut()
                    .poll(context)
                    .map(|()| Some(Err(cut()))),
                _ if !self.flushed => {
                    self.flushed = true;
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                _ => Poll::Ready(Some(Err(cut()))),
            };
        }
        let frame = match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(frame)) => frame.map_err(io::Error::other)?,
        };
        let Ok(mut data) = frame.into_data() else {
            return Poll::Ready(None);
        };
        if let Some(room) = self.room() {
            data.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        }
        let before = self.past;
        self.past += data.len() as u64;
        if let Shape::Flip(at) = self.shape {
            let at = self
                .length
                .map_or(at, |length| at.min(length.saturating_sub(1)));
            if (before..self.past).contains(&at) {
                let mut bytes = data.to_vec();
                bytes[usize::try_from(at - before).unwrap()] ^= 1;
                data = bytes.into();
            }
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        // A faulty body ends by its fault.
        matches!(self.shape, Shape::Whole | Shape::Flip(_)) && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.shape {
            Shape::End(n) => SizeHint::with_exact(n.saturating_sub(self.past)),
            _ => self.inner.size_hint(),
        }
    }
}
