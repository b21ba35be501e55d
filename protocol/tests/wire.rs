//! The bodies of niks3 1.7, as its client sends and expects them: `golden/` is written from its contract, by hand.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use niks3_protocol::api::cache_config::{CacheConfig, CacheStats};
use niks3_protocol::api::closures::Closure;
use niks3_protocol::api::gc::{GcConflict, GcStatus};
use niks3_protocol::api::multipart::{
    CompleteMultipartRequest, MAX_PART_NUMBER, RequestPartsRequest, RequestPartsResponse,
};
use niks3_protocol::api::pending_closures::{
    BeginRequest, BeginResponse, MULTIPART_THRESHOLD, SignRequest, SignResponse, part_size,
};
use niks3_protocol::api::pins::{CreatePinRequest, Pin};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Whether all that the contract says of a body is in ours, as the contract says it. More may be: nobody reads it.
fn has(ours: &Value, contract: &Value) -> bool {
    match (ours, contract) {
        (Value::Object(ours), Value::Object(contract)) => {
            contract.iter().all(|(name, value)| ours.get(name).is_some_and(|ours| has(ours, value)))
        }
        (Value::Array(ours), Value::Array(contract)) => {
            ours.len() == contract.len()
                && ours.iter().zip(contract).all(|(ours, contract)| has(ours, contract))
        }
        _ => ours == contract,
    }
}

fn read_and_written_again<T: DeserializeOwned + Serialize>(text: &str) {
    let contract: Value = serde_json::from_str(text).unwrap();
    let body: T = serde_json::from_str(text).unwrap();
    let ours = serde_json::to_value(&body).unwrap();
    assert!(has(&ours, &contract), "{ours:#} is not {contract:#}");
}

#[test]
fn every_body_is_read_and_written_as_niks3_1_7_does() {
    read_and_written_again::<CacheConfig>(include_str!("golden/cache-config.json"));
    read_and_written_again::<CacheStats>(include_str!("golden/cache-stats.json"));
    read_and_written_again::<BeginRequest>(include_str!("golden/begin-request.json"));
    read_and_written_again::<BeginResponse>(include_str!("golden/begin-response.json"));
    read_and_written_again::<SignRequest>(include_str!("golden/sign-request.json"));
    read_and_written_again::<SignResponse>(include_str!("golden/sign-response.json"));
    read_and_written_again::<RequestPartsRequest>(include_str!("golden/request-parts-request.json"));
    read_and_written_again::<RequestPartsResponse>(include_str!("golden/request-parts-response.json"));
    read_and_written_again::<CompleteMultipartRequest>(include_str!(
        "golden/complete-multipart-request.json"
    ));
    read_and_written_again::<Closure>(include_str!("golden/closure.json"));
    read_and_written_again::<GcStatus>(include_str!("golden/gc-status.json"));
    read_and_written_again::<GcConflict>(include_str!("golden/gc-conflict.json"));
    read_and_written_again::<Vec<Pin>>(include_str!("golden/pins.json"));
    read_and_written_again::<CreatePinRequest>(include_str!("golden/create-pin-request.json"));
}

/// What a client says that has nothing to say is left out, as before there were extensions: a server of 1.7 is sent
/// nothing it does not know.
#[test]
fn a_begin_without_extensions_is_one_of_niks3_1_7() {
    let text = include_str!("golden/begin-request.json");
    let body: BeginRequest = serde_json::from_str(text).unwrap();
    let contract: Value = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&body).unwrap(), contract);
}

/// A NAR of any size that S3 can hold fits into the parts it can have, should it not compress at all, and no part is
/// longer than S3 takes.
#[test]
fn the_largest_nar_fits_into_the_parts_that_s3_has() {
    const GIB: u64 = 1 << 30;
    for nar_size in [MULTIPART_THRESHOLD + 1, 88 * GIB, 89 * GIB, 5 * 1024 * GIB - 1, 5 * 1024 * GIB] {
        let size = part_size(nar_size);
        assert!((5 << 20..=5 * GIB).contains(&size), "{nar_size}: parts of {size}");
        // What zstd adds to bytes that do not compress: less than a part in two hundred.
        let stored = nar_size + nar_size / 200;
        assert!(stored.div_ceil(size) <= u64::from(MAX_PART_NUMBER), "{nar_size}: parts of {size}");
    }
    assert_eq!(part_size(MULTIPART_THRESHOLD + 1), 10 << 20);
}
