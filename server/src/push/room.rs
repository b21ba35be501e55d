//! How many uploads may be under way.

use super::PushError;
use crate::app::App;
use crate::auth::Identity;
use crate::db;

/// Refuses one upload more, where there are as many as there may be. Those that were given up count until their
/// addresses end. Some that begin at once may all get in: the limit is for those that never end.
pub async fn require_room(app: &App, identity: &Identity) -> Result<(), PushError> {
    let limits = &app.config.limits;
    let (all, own) = (i64::from(limits.open_uploads), i64::from(limits.open_uploads_per_identity));
    if all == 0 && own == 0 {
        return Ok(());
    }
    let mut conn = app.db.acquire().await?;
    let open = db::uploads::count_open(&mut conn, &identity.name).await?;
    if own > 0 && open.own >= own {
        return Err(PushError::TooMany(format!(
            "{} has {} uploads under way, which is as many as it may; complete them, or wait until they expire",
            identity.name, open.own
        )));
    }
    if all > 0 && open.all >= all {
        return Err(PushError::TooMany(format!(
            "{} uploads are under way, which is as many as this cache takes; try again",
            open.all
        )));
    }
    Ok(())
}
