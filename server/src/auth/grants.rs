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
    /// Adds what one rule grants. Without globs it grants pins of any name, and without `Pin` its globs grant nothing: they
    /// are not to be added to those of a rule that has it.
    pub(super) fn add(&mut self, permissions: &[Permission], pins: &[String]) {
        self.permissions.extend_from_slice(permissions);
        if permissions.contains(&Permission::Pin) {
            self.pins.extend_from_slice(pins);
            self.any_pin |= pins.is_empty();
        }
    }

    /// Permissions, and globs of pin names.
    pub(super) fn finish(mut self) -> (Vec<Permission>, Vec<String>) {
        self.permissions.sort_unstable();
        self.permissions.dedup();
        (self.permissions, if self.any_pin { Vec::new() } else { self.pins })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_widen_nothing_without_the_permission() {
        use Permission::{Pin, Push};
        let pins = |name: &str| vec![name.to_owned()];
        let mut grants = Grants::default();
        grants.add(&[Push], &pins("*"));
        grants.add(&[Pin], &pins("ci-*"));
        grants.add(&[Push], &[]);
        assert_eq!(grants.finish(), (vec![Push, Pin], pins("ci-*")));
        let mut grants = Grants::default();
        grants.add(&[Pin], &pins("ci-*"));
        grants.add(&[Pin], &[]);
        assert_eq!(grants.finish(), (vec![Pin], vec![]), "any");
    }
}
