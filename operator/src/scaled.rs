//! Bytes in the unit in which people read them.

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaled {
    /// Of the unit, rounded down.
    pub value: u64,
    /// The digit after the point; none of bytes, nor of the largest unit.
    pub tenths: Option<u64>,
    /// `Ki` to `Pi`; nothing of bytes.
    pub unit: &'static str,
}

/// In the largest unit of which there is at least one. Fewer than none are none.
pub fn scaled(bytes: i64) -> Scaled {
    let mut value = u64::try_from(bytes).unwrap_or(0);
    let mut tenths = None;
    for unit in ["", "Ki", "Mi", "Gi", "Ti"] {
        if value < 1024 {
            return Scaled { value, tenths, unit };
        }
        tenths = Some(value % 1024 * 10 / 1024);
        value /= 1024;
    }
    Scaled { value, tenths: None, unit: "Pi" }
}
