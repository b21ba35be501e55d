//! What is stored as zstd, for who cannot undo it.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use async_compression::tokio::bufread::ZstdDecoder;
use async_compression::zstd::DParameter;
use axum::body::Body;
use futures::StreamExt as _;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::CHUNK;
use crate::app::App;
use crate::bucket::ObjectRead;
use crate::error::ApiError;

/// The largest window of what was compressed by others: 2^25 bytes. No level of zstd but its two "ultra"
/// ones needs more, and a frame that asks for 2^31 would take that from this server's memory.
const WINDOW_LOG: u32 = 25;

/// So many readers may have something decoded at a time, a window each; others wait.
pub const READERS: usize = 8;
/// For so long.
const WAIT: Duration = Duration::from_secs(5);

/// The object's text. Its start is decoded before anything is sent: a frame that asks for more than it gets says so in
/// its first bytes, and afterwards there is no status to say it with.
pub(super) async fn decoded(app: &App, key: &str, object: ObjectRead) -> Result<Body, ApiError> {
    let turn = tokio::time::timeout(WAIT, Arc::clone(&app.decoding).acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        let message = format!(
            "{READERS} readers have something decoded here already; try again, or accept zstd and get {key} as it is stored"
        );
        return Err(ApiError::Unavailable { after: WAIT, message });
    };
    let stored = object.body.into_async_read();
    let mut decoder = ZstdDecoder::with_params(stored, &[DParameter::window_log_max(WINDOW_LOG)]);
    let mut start = vec![0; CHUNK];
    let length = decoder.read(&mut start).await.map_err(|error| {
        ApiError::BadGateway(format!(
            "{key} as it is stored cannot be decoded here: {error}; a client that accepts zstd gets it as it is, \
             and windows of up to {} MiB are decoded",
            (1 << WINDOW_LOG) >> 20
        ))
    })?;
    start.truncate(length);
    let text = ReaderStream::with_capacity(Cursor::new(start).chain(decoder), CHUNK);
    Ok(Body::from_stream(text.inspect(move |_| {
        // The turn ends with the stream, or with the reader.
        let _ = &turn;
    })))
}
