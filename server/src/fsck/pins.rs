//! Adopting pins: each is an object with a store path, that is to be in the cache by then.

use niks3_protocol::nix::StorePath;
use niks3_protocol::object_key::PIN_PREFIX;

use super::Report;
use super::adopt::{ADOPTED, incomplete, read_small};
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
            let mut transaction = db::begin(&app.db).await?;
            if !db::pins::find(&mut transaction, &[name.to_owned()]).await?.is_empty() {
                continue;
            }
            if db::objects::is_live(&mut transaction, &key).await? {
                db::closures::upsert(&mut transaction, std::slice::from_ref(&key), ADOPTED).await?;
                db::pins::upsert(&mut transaction, name, &key, path.as_str(), ADOPTED).await?;
                transaction.commit().await?;
                report.summary.pins += 1;
            } else {
                incomplete(report, &object, format!("{path}, which it pins, is not in the cache"))?;
            }
        }
    }
}
