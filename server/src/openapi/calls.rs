//! Every call.

use niks3_protocol::api::cache_config::{CacheConfig, CacheStats};
use niks3_protocol::api::closures::{Closure, RefreshRequest, RefreshResponse};
use niks3_protocol::api::fsck::{FsckConflict, FsckParams, FsckStatus};
use niks3_protocol::api::gc::{DeleteRequest, GcConflict, GcParams, GcStatus};
use niks3_protocol::api::multipart::{
    CompleteMultipartRequest, ListPartsRequest, ListPartsResponse, RequestPartsRequest, RequestPartsResponse,
};
use niks3_protocol::api::paths::PathDetails;
use niks3_protocol::api::pending_closures::{
    AddressesRequest, AddressesResponse, BeginRequest, BeginResponse, SignRequest, SignResponse,
};
use niks3_protocol::api::pins::{CreatePinRequest, Pin};
use niks3_protocol::api::resign::ResignStatus;
use niks3_protocol::api::usage::{Usage, Why};
use niks3_protocol::api::{ErrorBody, WhoAmI};
use niks3_protocol::duration::GoDuration;
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::{Call, Content, Parameter, shape};

/// Where this is served.
pub(super) const DOCUMENT: &str = "/api/openapi.json";

const PUSH: &str = "Push";
const GC: &str = "GC";
const READ: &str = "Read, where reads are private";

const ACTIVE: &str = "another run, with other parameters, is active";

fn call(method: &'static str, path: &'static str, about: &'static str) -> Call {
    Call { method, path, about, needs: None, query: Vec::new(), body: None, answers: Vec::new() }
}

impl Call {
    fn needs(mut self, permission: &'static str) -> Self {
        self.needs = Some(permission);
        self
    }

    fn query<T: JsonSchema>(mut self, name: &'static str, required: bool, about: &'static str) -> Self {
        self.query.push(Parameter { name, shape: shape::<T>, required, about });
        self
    }

    fn body<T: JsonSchema>(mut self) -> Self {
        self.body = Some(shape::<T>);
        self
    }

    fn json<T: JsonSchema>(mut self, status: u16, about: &'static str) -> Self {
        self.answers.push((status, about, Content::Json(shape::<T>)));
        self
    }

    fn empty(mut self, status: u16, about: &'static str) -> Self {
        self.answers.push((status, about, Content::Nothing));
        self
    }

    fn other(mut self, status: u16, about: &'static str, kind: &'static str) -> Self {
        self.answers.push((status, about, Content::Other(kind)));
        self
    }

    fn or(self, status: u16, about: &'static str) -> Self {
        self.json::<ErrorBody>(status, about)
    }
}

pub(super) fn path_parameter(name: &str) -> Value {
    let (about, schema) = match name {
        "hash" => {
            let pattern = "^[0123456789abcdfghijklmnpqrsvwxyz]{32}$";
            ("the hash part of a store path", json!({ "type": "string", "pattern": pattern }))
        }
        "name" => ("the name of a pin", json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,256}$" })),
        "id" => ("a number, as the server gave it", json!({ "type": "string", "pattern": "^[0-9]+$" })),
        _ => ("a key of the bucket, its slashes as they are", json!({ "type": "string" })),
    };
    json!({ "name": name, "in": "path", "required": true, "description": about, "schema": schema })
}

pub(super) fn all() -> Vec<Call> {
    let mut all = about_the_cache();
    all.extend(pushes());
    all.extend(collections());
    all.extend(comparisons());
    all.extend(signing());
    all.extend(reads());
    all
}

fn about_the_cache() -> Vec<Call> {
    vec![
        call("get", "/api/cache-config", "What a client must know of the cache")
            .query::<String>("issuer", false, "whose tokens the client has")
            .json::<CacheConfig>(200, "where Nix reads, keys, audience, extensions"),
        call("get", "/api/cache-stats", "How much the cache holds").json::<CacheStats>(200, "counts"),
        call("get", "/api/whoami", "Who the server takes the caller for")
            .needs("of any kind")
            .json::<WhoAmI>(200, "the identity"),
        call("get", DOCUMENT, "This document").other(200, "OpenAPI 3.1", "application/json"),
        call("get", "/health", "That the process answers, as niks3 1.7 says it").other(
            200,
            "OK",
            "text/plain",
        ),
        call("get", "/livez", "That the process answers").other(200, "ok", "text/plain"),
        call("get", "/readyz", "Whether database and bucket can be used; JSON with `?verbose`")
            .other(200, "ok", "text/plain")
            .other(503, "what is missing", "text/plain"),
        call("get", "/metrics", "Metrics").other(200, "OpenMetrics", "application/openmetrics-text"),
        call("get", "/", "A page for people").other(200, "the page", "text/html"),
        call("get", "/index.html", "The same page").other(200, "the page", "text/html"),
    ]
}

fn pushes() -> Vec<Call> {
    vec![
        call("post", "/api/pending_closures", "Begin an upload")
            .needs(PUSH)
            .body::<BeginRequest>()
            .json::<BeginResponse>(200, "what is missing, and where to send it")
            .or(404, "the upload expired meanwhile"),
        call("delete", "/api/pending_closures", "Delete uploads that were given up")
            .needs(GC)
            .query::<GoDuration>("older-than", true, "those begun longer ago")
            .empty(204, "done"),
        call(
            "post",
            "/api/pending_closures/{id}/addresses",
            "Addresses for bytes that are ready, and no others",
        )
        .needs(PUSH)
        .body::<AddressesRequest>()
        .json::<AddressesResponse>(200, "addresses")
        .or(404, "no such upload"),
        call("post", "/api/pending_closures/{id}/sign", "Sign narinfos of an upload")
            .needs(PUSH)
            .body::<SignRequest>()
            .json::<SignResponse>(200, "signatures")
            .or(404, "no such upload")
            .or(409, "what was uploaded is not there yet, or the upload is being completed"),
        call("post", "/api/pending_closures/{id}/complete", "Commit an upload")
            .needs(PUSH)
            .empty(204, "committed: all it reaches is in the bucket")
            .or(404, "no such upload")
            .or(409, "something is missing, or changed meanwhile"),
        call("post", "/api/multipart/request-parts", "Addresses of more parts")
            .needs(PUSH)
            .body::<RequestPartsRequest>()
            .json::<RequestPartsResponse>(200, "addresses")
            .or(404, "no such upload"),
        call("post", "/api/multipart/list-parts", "What S3 has of a multipart upload")
            .needs(PUSH)
            .body::<ListPartsRequest>()
            .json::<ListPartsResponse>(200, "parts")
            .or(404, "no such upload"),
        call("post", "/api/multipart/complete", "Put the parts of an object together")
            .needs(PUSH)
            .body::<CompleteMultipartRequest>()
            .empty(204, "done")
            .or(404, "no such upload"),
        call("head", "/api/objects/{key}", "Whether an object is live")
            .needs(PUSH)
            .empty(204, "it is")
            .empty(404, "it is not"),
        call("post", "/api/closures/refresh", "Which closures are there; those count as pushed now")
            .needs(PUSH)
            .body::<RefreshRequest>()
            .json::<RefreshResponse>(200, "those that are there"),
        call("get", "/api/closures/{key}", "A committed closure")
            .needs(PUSH)
            .json::<Closure>(200, "what it reaches")
            .or(404, "no such closure"),
        call("get", "/api/paths/{hash}", "What is known of a path, and who pushed it")
            .needs("Read or Push")
            .json::<PathDetails>(200, "the path")
            .or(404, "not pushed"),
        call("get", "/api/pins", "All pins").needs("Read, Push or Pin").json::<Vec<Pin>>(200, "pins"),
        call("post", "/api/pins/{name}", "Write a pin")
            .needs("Pin")
            .body::<CreatePinRequest>()
            .empty(204, "written")
            .or(404, "the closure was not pushed"),
        call("delete", "/api/pins/{name}", "Delete a pin")
            .needs("Pin")
            .empty(204, "deleted")
            .or(404, "no such pin"),
    ]
}

fn collections() -> Vec<Call> {
    vec![
        call("delete", "/api/closures", "Collect garbage, as niks3 1.7 asks for it")
            .needs(GC)
            .query::<GoDuration>("older-than", true, "closures not pushed for so long go")
            .query::<GoDuration>("failed-uploads-older-than", false, "uploads begun so long ago go; 6h")
            .query::<GoDuration>("pending-older-than", false, "older name of that")
            .query::<GoDuration>("deletion-grace", false, "how long an object stays after its last closure")
            .query::<bool>("force", false, "without a grace period")
            .json::<GcStatus>(202, "the run")
            .json::<GcConflict>(409, ACTIVE),
        call("post", "/api/gc", "Collect garbage by a policy")
            .needs(GC)
            .body::<GcParams>()
            .json::<GcStatus>(202, "the run")
            .json::<GcConflict>(409, ACTIVE),
        call("post", "/api/gc/abort", "End the run that is active")
            .needs(GC)
            .empty(202, "it is asked to end")
            .or(404, "none is running"),
        call("get", "/api/gc/runs", "The last runs")
            .needs(GC)
            .query::<u32>("limit", false, "how many; 20")
            .json::<Vec<GcStatus>>(200, "runs, the last first"),
        call("get", "/api/gc/runs/{id}", "One run")
            .needs(GC)
            .json::<GcStatus>(200, "the run")
            .or(404, "no such run"),
        call("get", "/api/gc/status", "The last run")
            .needs(GC)
            .json::<GcStatus>(200, "the run")
            .or(404, "there was none yet"),
        call("get", "/api/paths/{hash}/why", "What keeps a path")
            .needs("Push or GC")
            .json::<Why>(200, "roots and rules")
            .or(404, "not pushed"),
        call("post", "/api/paths/{hash}/delete", "Delete a path at once, and all that depends on it")
            .needs("Admin")
            .body::<DeleteRequest>()
            .json::<GcStatus>(202, "the run")
            .or(404, "not pushed")
            .json::<GcConflict>(409, ACTIVE),
        call("get", "/api/usage", "What takes the space")
            .needs("Push or GC")
            .query::<u16>("limit", false, "closures to list, 1000 at most; 20")
            .json::<Usage>(200, "sizes"),
    ]
}

fn comparisons() -> Vec<Call> {
    vec![
        call("post", "/api/fsck", "Compare bucket and database")
            .needs(GC)
            .body::<FsckParams>()
            .json::<FsckStatus>(202, "the run")
            .json::<FsckConflict>(409, ACTIVE),
        call("post", "/api/fsck/abort", "End the comparison that is active")
            .needs(GC)
            .empty(202, "it is asked to end")
            .or(404, "none is running"),
        call("get", "/api/fsck/runs", "The last comparisons")
            .needs(GC)
            .query::<u32>("limit", false, "how many; 20")
            .json::<Vec<FsckStatus>>(200, "runs, the last first"),
        call("get", "/api/fsck/runs/{id}", "One comparison")
            .needs(GC)
            .json::<FsckStatus>(200, "the run")
            .or(404, "no such run"),
        call("get", "/api/fsck/status", "The last comparison")
            .needs(GC)
            .json::<FsckStatus>(200, "the run")
            .or(404, "there was none yet"),
    ]
}

fn signing() -> Vec<Call> {
    vec![
        call("get", "/api/resign", "How far stored narinfos are signed by the keys of now")
            .json::<ResignStatus>(200, "the last run over all narinfos")
            .or(404, "there was none yet"),
        call("post", "/api/resign", "Look at all narinfos now")
            .needs("Admin")
            .json::<ResignStatus>(202, "the run")
            .or(409, "narinfos are being signed with other keys, or there are none"),
    ]
}

fn reads() -> Vec<Call> {
    vec![
        call("get", "/{key}", "An object: `nix-cache-info`, narinfo, NAR, listing, log, realisation")
            .needs(READ)
            .other(200, "the object, plain or as zstd with `Content-Encoding`", "application/octet-stream")
            .other(206, "the range of a NAR that was asked for", "application/x-nix-nar")
            .empty(302, "an address of the bucket (mode Redirect)")
            .empty(304, "as the reader has it")
            .other(404, "not in this cache", "text/plain")
            .empty(416, "the range is outside the NAR")
            .or(429, "S3 throttles")
            .or(503, "the bucket is away"),
    ]
}
