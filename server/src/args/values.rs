//! The values of flags and variables, as text.

use niks3_protocol::duration::{DurationError, GoDuration};
use niks3_protocol::server_config::{EncryptionType, ReadMode, ResignMode, VerifyUploads};

pub(super) fn concurrency(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=10_000).contains(number))
        .ok_or_else(|| format!("{text:?} is not a number from 1 to 10000"))
}

pub(super) fn encryption(text: &str) -> Result<EncryptionType, String> {
    match text.to_ascii_lowercase().as_str() {
        "aes256" => Ok(EncryptionType::Aes256),
        "kms" => Ok(EncryptionType::Kms),
        _ => Err(format!("{text:?} is neither aes256 nor kms")),
    }
}

pub(super) fn verify(text: &str) -> Result<VerifyUploads, String> {
    match text.to_ascii_lowercase().as_str() {
        "none" => Ok(VerifyUploads::None),
        "head" => Ok(VerifyUploads::Head),
        "hash" => Ok(VerifyUploads::Hash),
        _ => Err(format!("{text:?} is none of none, head and hash")),
    }
}

pub(super) fn request_timeout(text: &str) -> Result<GoDuration, String> {
    let timeout: GoDuration = text.parse().map_err(|error: DurationError| error.to_string())?;
    let fits = (GoDuration::seconds(1)..=GoDuration::hours(1)).contains(&timeout);
    fits.then_some(timeout).ok_or_else(|| format!("{text} is not from 1s to 1h"))
}

/// Go's booleans.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub(super) fn read_mode(text: &str) -> Result<ReadMode, String> {
    match text.to_ascii_lowercase().as_str() {
        "disabled" => Ok(ReadMode::Disabled),
        "proxy" => Ok(ReadMode::Proxy),
        "redirect" => Ok(ReadMode::Redirect),
        _ => Err(format!("{text:?} is none of disabled, proxy and redirect")),
    }
}

pub(super) fn resign_mode(text: &str) -> Result<ResignMode, String> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(ResignMode::Auto),
        "manual" => Ok(ResignMode::Manual),
        _ => Err(format!("{text:?} is neither auto nor manual")),
    }
}
