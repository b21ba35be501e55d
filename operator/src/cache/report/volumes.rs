//! Pure: whether the volumes of embedded servers are as large as the spec says.

use crate::cache::apply::{Applied, Standing, Volume};
use crate::crd::conditions::{ConditionType, Finding, Reason};

const ABOUT: ConditionType = ConditionType::VolumesResized;

/// Nothing before there are any.
pub(super) fn resized(applied: &Applied) -> Option<Finding> {
    let volumes = &applied.volumes;
    let bad = |find: fn(&Standing) -> bool| volumes.iter().find(|volume| find(&volume.standing));
    let worst = bad(|standing| matches!(standing, Standing::Refused(..)))
        .or_else(|| bad(|standing| *standing == Standing::Larger))
        .or_else(|| bad(|standing| matches!(standing, Standing::Grows(..))));
    if let Some(volume) = worst {
        return Some(not_yet(volume));
    }
    let sizes: Vec<String> =
        volumes.iter().map(|volume| format!("{} has {}", volume.server, volume.wanted)).collect();
    (!sizes.is_empty()).then(|| Finding::yes(ABOUT, Reason::Stable, sizes.join(", ")))
}

fn not_yet(volume: &Volume) -> Finding {
    let Volume { field, claim, wanted, asked, .. } = volume;
    match &volume.standing {
        Standing::Refused(reason, why) => {
            let message = format!(
                "{field}: claim {claim} cannot grow from {asked} to {wanted}: {why}; let its StorageClass allow that \
                 (allowVolumeExpansion), or set the size back to {asked}"
            );
            Finding::no(ABOUT, *reason, message)
        }
        Standing::Larger => {
            let message = format!(
                "{field}: claim {claim} has {asked}, and a volume cannot shrink to {wanted}; set the size back to {asked}"
            );
            Finding::no(ABOUT, Reason::CannotShrink, message)
        }
        Standing::Grows(has, said) => {
            let about = format!("{field}: claim {claim} asks for {wanted} and has {has}");
            let said: Vec<&str> =
                std::iter::once(about.as_str()).chain(said.iter().map(String::as_str)).collect();
            Finding::no(ABOUT, Reason::Resizing, said.join("; "))
        }
        Standing::Fits => Finding::yes(ABOUT, Reason::Stable, format!("{} has {wanted}", volume.server)),
    }
}
