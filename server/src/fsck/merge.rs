//! Two listings in the same order, as one.

use std::collections::VecDeque;

use anyhow::ensure;

use crate::app::App;
use crate::bucket::Listed;
use crate::db;
use crate::db::fsck::Row;

/// Rows read at a time.
const PAGE: i64 = 1000;

/// What bucket and database say of a key.
#[derive(Debug)]
pub(super) enum Pair {
    Both(Listed, Row),
    Object(Listed),
    Row(Row),
}

impl Pair {
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Both(object, _) | Self::Object(object) => &object.key,
            Self::Row(row) => &row.key,
        }
    }
}

/// Both listings, from where they are.
pub(super) struct Pairs {
    objects: Listing<Listed>,
    rows: Listing<Row>,
}

struct Listing<T> {
    page: VecDeque<T>,
    /// The last key of the last page.
    last: String,
    ended: bool,
}

impl<T> Listing<T> {
    fn after(key: String) -> Self {
        Self { page: VecDeque::new(), last: key, ended: false }
    }

    fn add(&mut self, page: Vec<T>, key: fn(&T) -> &str) -> anyhow::Result<()> {
        for item in &page {
            // A merge of what is not sorted would find everything wrong.
            let (last, next) = (&self.last, key(item));
            ensure!(
                next > last.as_str(),
                "{next} is listed after {last}, which is not the order of S3's keys"
            );
            self.last = next.to_owned();
        }
        self.ended = page.is_empty();
        self.page = page.into();
        Ok(())
    }
}

impl Pairs {
    pub(super) fn after(key: String) -> Self {
        Self { objects: Listing::after(key.clone()), rows: Listing::after(key) }
    }

    /// The next key of either.
    pub(super) async fn next(&mut self, app: &App) -> anyhow::Result<Option<Pair>> {
        if self.objects.page.is_empty() && !self.objects.ended {
            let after = Some(self.objects.last.as_str()).filter(|key| !key.is_empty());
            let page = app.bucket.list("", after).await?;
            self.objects.add(page, |object| &object.key)?;
        }
        if self.rows.page.is_empty() && !self.rows.ended {
            let mut conn = app.db.acquire().await?;
            let page = db::fsck::list_rows(&mut conn, &self.rows.last, PAGE).await?;
            self.rows.add(page, |row| &row.key)?;
        }
        Ok(self.pair())
    }

    fn pair(&mut self) -> Option<Pair> {
        let (objects, rows) = (&mut self.objects.page, &mut self.rows.page);
        let order = match (objects.front(), rows.front()) {
            (None, None) => return None,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(object), Some(row)) => object.key.cmp(&row.key),
        };
        match order {
            std::cmp::Ordering::Less => objects.pop_front().map(Pair::Object),
            std::cmp::Ordering::Greater => rows.pop_front().map(Pair::Row),
            std::cmp::Ordering::Equal => {
                objects.pop_front().zip(rows.pop_front()).map(|(object, row)| Pair::Both(object, row))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str) -> Listed {
        Listed { key: key.to_owned(), size: 1, modified: 0 }
    }

    #[test]
    fn every_key_comes_once_with_what_there_is_of_it() {
        let row = |key: &str| Row { key: key.to_owned(), live: true, stored_size: None };
        let mut pairs = Pairs::after(String::new());
        pairs.objects.add(["a", "c", "d"].map(object).to_vec(), |object| &object.key).unwrap();
        pairs.rows.add(["b", "c", "e"].map(row).to_vec(), |row| &row.key).unwrap();
        let mut found = Vec::new();
        while let Some(pair) = pairs.pair() {
            found.push(match &pair {
                Pair::Both(..) => format!("{}=", pair.key()),
                Pair::Object(_) => format!("{}<", pair.key()),
                Pair::Row(_) => format!("{}>", pair.key()),
            });
        }
        assert_eq!(found, ["a<", "b>", "c=", "d<", "e>"]);
    }

    #[test]
    fn a_listing_out_of_order_is_refused() {
        let mut pairs = Pairs::after(String::new());
        let error = pairs.objects.add(["b", "a"].map(object).to_vec(), |object| &object.key).unwrap_err();
        assert_eq!(error.to_string(), "a is listed after b, which is not the order of S3's keys");
    }
}
