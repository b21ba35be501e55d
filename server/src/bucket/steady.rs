//! The bytes of an object on their way: who reads them waits for the next for so long, and not for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// Without one byte for so long, they are taken to have stopped.
const STALLED: Duration = Duration::from_secs(20);

/// The bytes of an object, an error where they stop coming.
pub(super) fn steady(body: SdkBody) -> ByteStream {
    steady_for(body, STALLED)
}

fn steady_for(body: SdkBody, limit: Duration) -> ByteStream {
    ByteStream::new(SdkBody::from_body_1_x(Steady { body, limit, stalled: None }))
}

struct Steady {
    body: SdkBody,
    limit: Duration,
    /// Runs while a reader waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Body for Steady {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.stalled = None;
            return Poll::Ready(frame);
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        stalled.as_mut().poll(context).map(|()| Some(Err(format!("no bytes for {limit:?}").into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn an_object_whose_bytes_stop_coming_is_an_error() {
        struct Silent;
        impl Body for Silent {
            type Data = Bytes;
            type Error = BoxError;
            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
                Poll::Pending
            }
        }
        let silent = steady_for(SdkBody::from_body_1_x(Silent), Duration::from_millis(50));
        let ended = timeout(Duration::from_secs(10), silent.collect()).await;
        assert!(ended.expect("nobody should wait for ever").is_err());
        assert_eq!(steady(SdkBody::from("bytes")).collect().await.unwrap().to_vec(), b"bytes");
    }
}
