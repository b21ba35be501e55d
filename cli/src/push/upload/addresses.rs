//! Addresses that are asked for when the bytes are there, and bound to their length and sha256: S3 takes no others.
//!
//! One call is under way at a time, and asks for all that is ready by then, so that their number follows from the
//! time a push takes rather than from the number of its objects.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use niks3_protocol::api::pending_closures::{AddressesRequest, MAX_ADDRESSES, StoredBytes};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::client::{Client, ClientError};
use crate::push::PushError;

const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");
/// How often, and for how long each time, more objects are waited for before a call.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(5);
/// With so many nothing is waited for.
const ENOUGH: usize = 16;

/// The addresses of one upload.
pub(super) struct Addresses {
    upload: String,
    /// Headers that the server names are sent along.
    told: bool,
    waiting: Mutex<Vec<Asked>>,
    turn: tokio::sync::Mutex<()>,
}

/// Where bytes go, and the headers that they have to have.
type Address = (String, BTreeMap<String, String>);

struct Asked {
    key: String,
    bytes: StoredBytes,
    answer: oneshot::Sender<Address>,
}

/// What an address is bound to.
pub(super) fn bytes_of(body: &[u8]) -> StoredBytes {
    StoredBytes { length: body.len() as u64, sha256: STANDARD.encode(Sha256::digest(body)) }
}

/// The header that S3 compares them by.
pub(super) fn add_checksum(headers: &mut HeaderMap, bytes: &StoredBytes) {
    if let Ok(value) = HeaderValue::from_str(&bytes.sha256) {
        headers.insert(CHECKSUM, value);
    }
}

/// What a server says that a PUT has to have.
pub(super) fn told_headers(told: &BTreeMap<String, String>) -> Result<HeaderMap, PushError> {
    let header = |(name, value): (&String, &String)| {
        let unexpected = || PushError::Unexpected(format!("the header {name:?}"));
        let name: HeaderName = name.parse().map_err(|_| unexpected())?;
        Ok((name, HeaderValue::from_str(value).map_err(|_| unexpected())?))
    };
    told.iter().map(header).collect()
}

/// Sends an object, and where S3 got other bytes than were sent once more, read anew: it may be memory that is damaged.
pub(super) async fn twice<T, F>(send: impl Fn() -> F) -> Result<T, PushError>
where
    F: Future<Output = Result<T, PushError>>,
{
    match send().await {
        Err(error) if error.is_damage() => {
            tracing::debug!(error = &error as &dyn std::error::Error, "sent once more");
            send().await
        }
        result => result,
    }
}

impl Addresses {
    pub(super) fn new(upload: String, told: bool) -> Self {
        Self { upload, told, waiting: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Where to send these bytes.
    pub(super) async fn get(
        &self,
        client: &Client,
        key: &str,
        bytes: &StoredBytes,
    ) -> Result<Address, ClientError> {
        loop {
            let (answer, mut asked) = oneshot::channel();
            self.with(|waiting| waiting.push(Asked { key: key.to_owned(), bytes: bytes.clone(), answer }));
            let _turn = self.turn.lock().await;
            match asked.try_recv() {
                Ok(address) => return Ok(address),
                // Whoever asked for this one too failed, and says so.
                Err(TryRecvError::Closed) => continue,
                Err(TryRecvError::Empty) => {}
            }
            for _ in 0..LOOKS {
                if self.with(|waiting| waiting.len()) >= ENOUGH {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            self.ask(client, self.with(std::mem::take)).await?;
            if let Ok(address) = asked.try_recv() {
                return Ok(address);
            }
            return Err(ClientError::NotNiks3 {
                host: client.host(),
                problem: format!("it gave no address for {key}"),
            });
        }
    }

    async fn ask(&self, client: &Client, mut all: Vec<Asked>) -> Result<(), ClientError> {
        while !all.is_empty() {
            let batch: Vec<Asked> = all.drain(..all.len().min(MAX_ADDRESSES)).collect();
            let objects: BTreeMap<String, StoredBytes> =
                batch.iter().map(|asked| (asked.key.clone(), asked.bytes.clone())).collect();
            let request = AddressesRequest { objects, upload_headers: self.told };
            let mut answer = client.addresses(&self.upload, &request).await?;
            for asked in batch {
                if let Some(address) = answer.addresses.remove(&asked.key) {
                    let _ = asked.answer.send((address, answer.upload_headers.clone()));
                }
            }
        }
        Ok(())
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Vec<Asked>) -> T) -> T {
        use_it(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
