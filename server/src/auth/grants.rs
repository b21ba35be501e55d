//! What rules grant, added up.

use niks3_protocol::api::Permission;

/// What the rules that fit an identity let it do.
#[derive(Debug, Default)]
pub(super) struct Grants {
    permissions: Vec<Permission>,
    pins: Vec<String>,
    any_pin: bool,
}

impl Grants {
    /// Adds what one rule grants. Without globs it grants pins of any name.
    pub(super) fn add(&mut self, permissions: &[Permission], pins: &[String]) {
        self.permissions.extend_from_slice(permissions);
        self.pins.extend_from_slice(pins);
        self.any_pin |= pins.is_empty() && permissions.contains(&Permission::Pin);
    }

    /// Permissions, and globs of pin names.
    pub(super) fn finish(mut self) -> (Vec<Permission>, Vec<String>) {
        self.permissions.sort_unstable();
        self.permissions.dedup();
        (self.permissions, if self.any_pin { Vec::new() } else { self.pins })
    }
}
