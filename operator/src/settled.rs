//! Which objects are as they were left. An operator is told of its own writes too; without this it would look at
//! each object again because of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::Resource;
use kube::api::ObjectMeta;
use kube::runtime::reflector::ObjectRef;

/// Names an object in memory.
pub fn key<K: Resource<DynamicType = ()>>(namespace: &str, name: &str) -> String {
    format!("{} {namespace}/{name}", K::kind(&()))
}

/// The same, of an object's metadata.
pub fn key_of<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> String {
    key::<K>(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// How objects were left.
#[derive(Debug, Default)]
pub struct Settled(Mutex<HashMap<String, Entry>>);

#[derive(Debug, Default)]
struct Entry {
    /// How often something that the object depends on changed.
    touched: u64,
    /// The version that our own status gave it.
    wrote: Option<String>,
    left: Option<Left>,
}

#[derive(Debug)]
struct Left {
    version: String,
    touched: u64,
    until: Instant,
}

/// A look at an object that has begun.
#[derive(Debug)]
pub struct Look {
    version: Option<String>,
    touched: u64,
}

impl Settled {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that the object depends on changed.
    pub fn touch<K: Resource<DynamicType = ()>, S>(&self, namespace: &str, name: &str) -> ObjectRef<S>
    where
        S: Resource<DynamicType = ()>,
    {
        self.entries().entry(key::<K>(namespace, name)).or_default().touched += 1;
        ObjectRef::new(name).within(namespace)
    }

    /// Our status gave the object this version, and nothing else of it changed meanwhile.
    pub fn wrote(&self, object: &str, version: Option<String>) {
        self.entries().entry(object.to_owned()).or_default().wrote = version;
    }

    /// Begins to look at an object of this version. One that is as it was left is due in the time of the error.
    pub fn begin(&self, object: &str, version: Option<&str>) -> Result<Look, Duration> {
        let now = Instant::now();
        let mut entries = self.entries();
        let entry = entries.entry(object.to_owned()).or_default();
        if let Some(left) = entry.left.take_if(|left| {
            Some(left.version.as_str()) != version || left.touched != entry.touched || left.until <= now
        }) {
            tracing::trace!(object, ?left, "it is no longer as it was left");
        }
        if let Some(left) = &entry.left {
            return Err(left.until - now);
        }
        entry.wrote = None;
        Ok(Look { version: version.map(str::to_owned), touched: entry.touched })
    }

    /// The look is over and went well; the next one is due after `wait`.
    pub fn finish(&self, object: &str, look: Look, wait: Duration) {
        let mut entries = self.entries();
        let entry = entries.entry(object.to_owned()).or_default();
        entry.left = entry.wrote.take().or(look.version).map(|version| Left {
            version,
            touched: look.touched,
            until: Instant::now() + wait,
        });
    }
}

/// Whether `after` is the object of which `before` was read, but for its status.
pub fn differ_in_status_alone(before: &ObjectMeta, after: &ObjectMeta) -> bool {
    (&before.uid, before.generation, &before.annotations, &before.deletion_timestamp)
        == (&after.uid, after.generation, &after.annotations, &after.deletion_timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{BinaryCache, GCPolicy};

    const LONG: Duration = Duration::from_mins(5);

    fn left(settled: &Settled, wrote: Option<&str>) {
        let look = settled.begin("BinaryCache nix/main", Some("1")).unwrap();
        if let Some(version) = wrote {
            settled.wrote("BinaryCache nix/main", Some(version.to_owned()));
        }
        settled.finish("BinaryCache nix/main", look, LONG);
    }

    fn begins(settled: &Settled, version: &str) -> bool {
        settled.begin("BinaryCache nix/main", Some(version)).is_ok()
    }

    #[test]
    fn what_is_as_it_was_left_waits() {
        let settled = Settled::default();
        left(&settled, None);
        assert!(!begins(&settled, "1"));
        assert!(begins(&settled, "2"), "somebody wrote it");
        left(&settled, Some("7"));
        assert!(!begins(&settled, "7"), "that was our own status");
        assert!(settled.begin("BinaryCache nix/other", Some("7")).is_ok());
    }

    #[test]
    fn whoever_is_touched_is_looked_at_even_where_that_happens_during_a_look() {
        let settled = Settled::default();
        left(&settled, None);
        let _: ObjectRef<GCPolicy> = settled.touch::<GCPolicy, _>("nix", "main");
        assert!(!begins(&settled, "1"), "that was another kind");
        let _: ObjectRef<BinaryCache> = settled.touch::<BinaryCache, _>("nix", "main");
        let look = settled.begin("BinaryCache nix/main", Some("1")).unwrap();
        let _: ObjectRef<BinaryCache> = settled.touch::<BinaryCache, _>("nix", "main");
        settled.finish("BinaryCache nix/main", look, LONG);
        assert!(begins(&settled, "1"));
    }

    #[test]
    fn what_is_due_is_looked_at() {
        let settled = Settled::default();
        let look = settled.begin("a", Some("1")).unwrap();
        settled.finish("a", look, Duration::ZERO);
        assert!(settled.begin("a", Some("1")).is_ok());
    }
}
