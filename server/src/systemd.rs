//! systemd, where the server is its service: the socket it opened, and what it wants to be told. Elsewhere all of this
//! does nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::TcpListener;

use crate::app::App;

/// How often it is looked at whether the server became ready.
const LOOK: Duration = Duration::from_millis(200);

/// The socket that was opened for this server.
pub fn listener() -> anyhow::Result<Option<TcpListener>> {
    let opened = ListenFd::from_env().take_tcp_listener(0).context("the socket that systemd opened")?;
    let Some(opened) = opened else { return Ok(None) };
    opened.set_nonblocking(true)?;
    Ok(Some(TcpListener::from_std(opened)?))
}

/// The server listens. What it needs may be away still: it goes on when that comes back, and is not to be ended for
/// it, so that is said in the status alone.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("waiting for database and bucket")]);
}

/// No new requests from now on.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing what is under way")]);
}

/// Says when database and bucket were found, and that the process is not stuck.
pub async fn keep(app: Arc<App>) {
    while app.health.require_storage().is_err() {
        let pause = sd_notify::watchdog_enabled().map_or(LOOK, |limit| LOOK.min(limit / 2));
        tell_alive();
        tokio::time::sleep(pause).await;
    }
    tell(&[NotifyState::Status("database and bucket are ready")]);
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    loop {
        tell_alive();
        tokio::time::sleep(limit / 2).await;
    }
}

fn tell_alive() {
    if sd_notify::watchdog_enabled().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(error = &error as &dyn std::error::Error, "systemd was not told");
    }
}
