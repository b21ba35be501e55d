//! The server: what it speaks, what time it has, who it thinks calls.

use niks3_protocol::api::Permission;
use niks3_protocol::api::cache_config::CacheConfig;
use niks3_protocol::duration::GoDuration;
use time::OffsetDateTime;

use super::Check;
use crate::client::{Client, ClientError};

/// Seconds between two clocks that nobody notices.
const CLOSE: u64 = 30;
/// Seconds from which on tokens and addresses are refused.
const FAR: u64 = 300;

pub(super) fn server(client: &Client, config: &CacheConfig) -> Check {
    let host = client.host();
    match (&config.server_version, config.extensions.as_slice()) {
        (_, []) => Check::warn(
            "server",
            format!("{host} speaks the plain protocol of niks3 1.7"),
            "a newer server commits nothing that is not in the bucket, and goes on with interrupted pushes",
        ),
        (version, extensions) => {
            let version = version.as_deref().unwrap_or("of unknown version");
            Check::ok("server", format!("{host} is niks3-server {version}: {}", extensions.join(", ")))
        }
    }
}

pub(super) async fn clock(client: &Client) -> Check {
    let ahead = match client.clock_ahead().await {
        Ok(Some(ahead)) => ahead,
        Ok(None) => return Check::ok("clock", "the server does not say its time"),
        Err(error) => return Check::error("clock", &error.into(), "ask again"),
    };
    let (seconds, side) = (ahead.unsigned_abs(), if ahead < 0 { "ahead of" } else { "behind" });
    let found = format!("this machine's clock is {} {side} the server's", GoDuration::seconds(seconds));
    let change = "set it: `timedatectl set-ntp true`, or look at the server's";
    match seconds {
        0..=CLOSE => Check::ok("clock", "as the server's"),
        _ if seconds < FAR => Check::warn("clock", found, change),
        _ => Check::fail("clock", found, change),
    }
}

/// Whose token it is, and whether it may push.
pub(super) async fn token(client: &Client) -> Check {
    let facts = match client.token_facts().await {
        Ok(facts) => facts,
        Err(error) => return Check::error("token", &error.into(), "`niks3 login` keeps a token"),
    };
    let place = facts.as_ref().map_or_else(|| "no token".to_owned(), |facts| format!("from {}", facts.place));
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let left = facts.as_ref().and_then(|facts| facts.expires).map(|end| end - now);
    let lasts = match left {
        Some(left) if left < 0 => {
            let found = format!("{place}: it is over since {}", GoDuration::seconds(left.unsigned_abs()));
            return Check::fail("token", found, "get a new one");
        }
        Some(left) => format!(", lasts {}", GoDuration::seconds(left.unsigned_abs())),
        None => String::new(),
    };
    match client.whoami().await {
        Ok(me) => {
            let may: Vec<String> = me.permissions.iter().map(|one| format!("{one:?}")).collect();
            let found = format!("{} ({place}{lasts}), may: {}", me.identity, may.join(", "));
            let pushes = [Permission::Push, Permission::Admin];
            if me.permissions.iter().any(|one| pushes.contains(one)) {
                return Check::ok("token", found);
            }
            Check::fail(
                "token",
                format!("{found}; it may not push"),
                "give it the permission Push on the server",
            )
        }
        Err(ClientError::TooOld { .. }) => {
            Check::ok("token", format!("{place}{lasts}; the server is too old to say whose it is"))
        }
        Err(error) if facts.is_none() => {
            let change = "`niks3 login` keeps a token; CI sets NIKS3_AUTH_TOKEN_FILE or a token of its own";
            Check { change: Some(change.to_owned()), ..Check::error("token", &error.into(), change) }
        }
        Err(error) => Check::error("token", &error.into(), "is it the one of this cache?"),
    }
}
