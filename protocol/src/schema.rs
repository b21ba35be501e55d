//! The shapes of the texts in bodies, for the document that describes the calls (OpenAPI).

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::duration::GoDuration;
use crate::nix::{NarHash, PublicKey, Signature, StorePath, StorePathHash};

/// A time, as RFC 3339 writes it.
#[derive(Debug)]
pub struct Instant;

macro_rules! texts {
    ($($type:ident: $schema:expr,)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

texts! {
    Instant: json_schema!({
        "type": "string", "format": "date-time", "examples": ["2026-11-21T12:00:00Z"],
    }),
    GoDuration: json_schema!({
        "type": "string", "description": "A duration as Go writes it", "examples": ["720h", "1h30m", "0s"],
    }),
    StorePath: json_schema!({
        "type": "string", "description": "A whole store path",
        "examples": ["/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello-2.12"],
    }),
    StorePathHash: json_schema!({
        "type": "string", "description": "The hash part of a store path",
        "pattern": "^[0123456789abcdfghijklmnpqrsvwxyz]{32}$", "examples": ["0123456789abcdfghijklmnpqrsvwxyz"],
    }),
    NarHash: json_schema!({
        "type": "string", "description": "sha256 of a NAR, in Nix's base 32, in hexadecimal, or as SRI",
        "examples": ["sha256:0000000000000000000000000000000000000000000000000000"],
    }),
    PublicKey: json_schema!({ "type": "string", "description": "name:base64" }),
    Signature: json_schema!({ "type": "string", "description": "name:base64" }),
}
