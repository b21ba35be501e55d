//! Adopting pins: each is an object with a store path, that is to be in the cache by then.

use niks3_protocol::nix::StorePath;
use niks3_protocol::object_key::PIN_PREFIX;

use super::Report;
use super::adopt::{ADOPTED, Outcome, begin, end, incomplete, read_small};
use super::protect::protect;
use crate::app::App;
use crate::bucket::Listed;
use crate::db;

/// The longest store path in a pin.
const MAX_PIN: usize = 4096;

/// Of those that the bucket tells of and the database does not.
pub(super) async fn adopt(app: &App, report: &mut Report<'_>) -> anyhow::Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page = app.bucket.list(PIN_PREFIX, after.as_deref()).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        for Listed { key: object, .. } in page {
            let name = object.strip_prefix(PIN_PREFIX).unwrap_or_default();
            let Some((bytes, _)) = read_small(app, &object, MAX_PIN).await? else { continue };
            let text = String::from_utf8_lossy(&bytes);
            let Ok(path) = text.trim().parse::<StorePath>() else {
                incomplete(report, &object, "it does not hold a store path".to_owned())?;
                continue;
            };
            let key = path.narinfo_key();
            let mut conn = app.db.acquire().await?;
            if !db::pins::find(&mut conn, &[name.to_owned()]).await?.is_empty() {
                continue;
            }
            if !db::objects::is_live(&mut conn, &key).await? {
                incomplete(report, &object, format!("{path}, which it pins, is not in the cache"))?;
                continue;
            }
            drop(conn);
            let keys = [key];
            let id = begin(app, &keys, &keys).await?;
            let adopted = commit(app, id, name, &path, &keys).await;
            match end(app, id, adopted).await? {
                Outcome::Known => {}
                Outcome::Adopted => report.summary.pins += 1,
                Outcome::Incomplete(why) => {
                    incomplete(report, &object, format!("{path}, which it pins, is not whole: {why}"))?;
                }
            }
        }
    }
}

/// Its path may be live and condemned, with all that leads to, as any narinfo that is adopted.
async fn commit(
    app: &App,
    id: i64,
    name: &str,
    path: &StorePath,
    keys: &[String; 1],
) -> anyhow::Result<Outcome> {
    let protected = match protect(app, id, keys).await? {
        Ok(protected) => protected,
        Err(why) => return Ok(Outcome::Incomplete(why)),
    };
    let mut transaction = db::begin(&app.db).await?;
    let states = match protected.lock(&mut transaction, id, keys).await? {
        Ok(states) => states,
        Err(why) => return Ok(Outcome::Incomplete(why)),
    };
    if let Some(lost) = states.iter().find(|state| !state.live) {
        return Ok(Outcome::Incomplete(format!("{} is not in the bucket", lost.key)));
    }
    db::closures::adopt(&mut transaction, keys, ADOPTED).await?;
    db::pins::upsert(&mut transaction, name, &keys[0], path.as_str(), ADOPTED).await?;
    db::uploads::delete(&mut transaction, id).await?;
    transaction.commit().await?;
    Ok(Outcome::Adopted)
}
