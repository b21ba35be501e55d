//! What a call asks of its caller: said in the handler's signature, and decided by method, path and headers, before
//! anything is said of the query and before a byte of the body is read.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use niks3_protocol::api::Permission;
use niks3_protocol::api::pins::PinName;

use super::Segment;
use crate::app::App;
use crate::auth::{AuthError, Identity};
use crate::error::ApiError;
use crate::layers::{BodyLimit, too_large};

/// Permissions of which one suffices.
pub trait Need: 'static {
    /// The last is named where all are lacking.
    const ANY_OF: &'static [Permission];
}

macro_rules! needs {
    ($($(#[$about:meta])* $name:ident = $($permission:ident)|+;)+) => {$(
        $(#[$about])*
        #[derive(Debug)]
        pub enum $name {}

        impl Need for $name {
            const ANY_OF: &'static [Permission] = &[$(Permission::$permission),+];
        }
    )+};
}

needs! {
    /// Upload, commit, refresh.
    Push = Push;
    /// Collect and compare.
    Gc = Gc;
    /// Delete at once.
    Admin = Admin;
    /// See what is known of a path.
    SeePaths = Push | Read;
    /// See what keeps a path, and what takes the space: it reads the whole graph.
    SeeGraph = Push | Gc;
    /// See pins.
    SeePins = Read | Push | Pin;
}

/// A caller who may make this call. Stands first among a handler's arguments.
#[derive(Debug)]
pub struct May<N>(pub Identity, PhantomData<fn() -> N>);

impl<N> Deref for May<N> {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.0
    }
}

impl<N: Need> FromRequestParts<Arc<App>> for May<N> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let identity = Identity::from_request_parts(parts, app).await?;
        identity.may_any(N::ANY_OF)?;
        body_fits(parts)?;
        Ok(Self(identity, PhantomData))
    }
}

/// A caller who may write the pin that the path names.
#[derive(Debug)]
pub struct MayPin {
    /// Who.
    pub identity: Identity,
    /// Which.
    pub name: PinName,
}

impl FromRequestParts<Arc<App>> for MayPin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let identity = Identity::from_request_parts(parts, app).await?;
        identity.may(Permission::Pin)?;
        let Segment(name) = Segment::from_request_parts(parts, app).await?;
        let name: PinName = name.parse().map_err(|error| ApiError::BadRequest(format!("{error}")))?;
        identity.may_pin(&name)?;
        body_fits(parts)?;
        Ok(Self { identity, name })
    }
}

impl Identity {
    fn may_any(&self, permissions: &[Permission]) -> Result<(), AuthError> {
        let mut lacking = Ok(());
        for permission in permissions {
            lacking = self.may(*permission);
            if lacking.is_ok() {
                break;
            }
        }
        lacking
    }
}

/// A body that says it is too long is refused before any of it is read.
fn body_fits(parts: &Parts) -> Result<(), ApiError> {
    let Some(BodyLimit(limit)) = parts.extensions.get() else { return Ok(()) };
    let length: Option<usize> =
        parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        Some(length) if length > *limit => Err(too_large(*limit)),
        _ => Ok(()),
    }
}
