//! A begin's body, read on a thread of its own: for ten thousand objects that takes as long as PostgreSQL takes to look
//! them up. Its keys are told once they are known, and what they refer to is numbered while PostgreSQL is busy with them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;

use axum::body::Bytes;
use niks3_protocol::api::pending_closures::BeginRequest;
use niks3_protocol::object_key::ObjectKey;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::PushError;
use super::plan::{Plan, Sorted};
use crate::json;

/// A string of a body: a part of it, where it has no escapes.
#[derive(Debug, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A begin while it is read.
pub struct Reading {
    told: oneshot::Receiver<Begin>,
    plan: JoinHandle<Result<(Plan, Vec<u8>), PushError>>,
}

/// What a begin says, but its objects' references.
#[expect(clippy::struct_excessive_bools, reason = "each is an extension of its own")]
pub struct Begin {
    /// Keys of its roots.
    pub(super) roots: Vec<String>,
    /// Keys of its objects, in order.
    pub(super) keys: Vec<String>,
    pub(super) verify_s3: bool,
    /// The client sends narinfos of its own.
    pub(super) staged: bool,
    /// The client asks for each address when it knows its bytes.
    pub(super) bound: bool,
    /// The client sends along what it is told.
    pub(super) headers: bool,
}

/// What is still read: the references.
pub struct Numbering(JoinHandle<Result<(Plan, Vec<u8>), PushError>>);

impl Reading {
    /// Refuses more objects than `limit`.
    pub fn start(body: Bytes, limit: usize) -> Self {
        let (tell, told) = oneshot::channel();
        let plan = tokio::task::spawn_blocking(move || {
            let request: BeginRequest<Text<'_>> = json::parse(&body).map_err(PushError::Invalid)?;
            let (begin, objects) = read(request, limit)?;
            // Whoever asked may be gone.
            let _ = tell.send(begin);
            let plan = objects.plan()?;
            let kept = plan.to_bytes()?;
            Ok((plan, kept))
        });
        Self { told, plan }
    }

    /// What can be said before all references are read.
    pub async fn begin(self) -> Result<(Begin, Numbering), PushError> {
        match self.told.await {
            Ok(begin) => Ok((begin, Numbering(self.plan))),
            Err(never) => {
                Err(self.plan.await?.err().unwrap_or_else(|| PushError::Invalid(never.to_string())))
            }
        }
    }
}

impl Begin {
    /// How many objects it names.
    pub fn objects(&self) -> usize {
        self.keys.len()
    }
}

impl Numbering {
    /// The whole plan, and as an upload's row keeps it.
    pub(super) async fn end(self) -> Result<(Plan, Vec<u8>), PushError> {
        self.0.await?
    }
}

fn read(request: BeginRequest<Text<'_>>, limit: usize) -> Result<(Begin, Sorted<'_>), PushError> {
    let BeginRequest {
        closure,
        closures,
        objects,
        verify_s3,
        server_narinfos,
        bound_addresses: bound,
        upload_headers: headers,
    } = request;
    json::at_most(limit, objects.len(), "objects")
        .map_err(|message| PushError::TooLarge { message, objects: BTreeMap::new() })?;
    let objects = Sorted::new(objects)?;
    let mut roots = closures;
    roots.push(closure);
    roots.sort_unstable();
    roots.dedup();
    for root in &roots {
        if !matches!(root.parse(), Ok(ObjectKey::Narinfo(_))) {
            return Err(PushError::Invalid(format!(
                "the closure {root:?} is not a narinfo's key ({{32 digits}}.narinfo)"
            )));
        }
        if !objects.has(root) {
            return Err(PushError::Invalid(format!("the closure {root} is not among the objects")));
        }
    }
    let begin = Begin { roots, keys: objects.keys(), verify_s3, staged: !server_narinfos, bound, headers };
    Ok((begin, objects))
}
