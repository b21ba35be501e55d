//! The subject of a certificate as one line: as Go writes it (RFC 2253), since the globs of niks3 1.7 match that.

use std::fmt::Write as _;

use x509_parser::asn1_rs::ToDer as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

/// In the order Go has them, whatever the order of the certificate.
const NAMES: [(&str, &str); 9] = [
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.3", "CN"),
    ("2.5.4.17", "POSTALCODE"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.8", "ST"),
    ("2.5.4.7", "L"),
    ("2.5.4.11", "OU"),
    ("2.5.4.10", "O"),
    ("2.5.4.6", "C"),
];

/// The subject of a certificate that TLS has verified; `None` where it has none, or one that cannot be read.
pub(crate) fn subject_of(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let attributes: Vec<_> = certificate
        .subject()
        .iter_attributes()
        .map(|attribute| (attribute.attr_type().to_id_string(), attribute))
        .collect();
    let mut parts = Vec::new();
    for (id, name) in NAMES {
        let values = attributes.iter().filter(|(found, _)| found == id);
        let values: Option<Vec<String>> = values
            .map(|(_, attribute)| Some(format!("{name}={}", escaped(attribute.as_str().ok()?))))
            .collect();
        let values = values?;
        if !values.is_empty() {
            parts.push(values.join("+"));
        }
    }
    for (id, attribute) in attributes.iter().rev() {
        if NAMES.iter().all(|(known, _)| known != id) {
            parts.push(format!("{id}=#{}", encoded(attribute)?));
        }
    }
    Some(parts.join(",")).filter(|subject| !subject.is_empty())
}

fn encoded(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    attribute.attr_value().to_der_vec().ok().map(hex::encode)
}

/// What separates parts is told from what a value holds: nobody gets another's name by a comma.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        let special = match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => index == 0 || index == last,
            '#' => index == 0,
            _ => false,
        };
        if special {
            text.push('\\');
        }
        let _ = write!(text, "{character}");
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn of(parts: &[(DnType, &str)]) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        subject_of(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    /// Each as Go 1.24 prints `Subject.String()` of such a certificate.
    #[test]
    fn subjects_are_written_as_go_writes_them() {
        use DnType::{CommonName, CountryName, OrganizationName, OrganizationalUnitName};
        let whole = [(CountryName, "DE"), (OrganizationName, "Example"), (CommonName, "builder")];
        assert_eq!(of(&whole).as_deref(), Some("CN=builder,O=Example,C=DE"));
        let other_order =
            [(CommonName, "builder"), (OrganizationName, "Example"), (OrganizationalUnitName, "ci")];
        assert_eq!(of(&other_order).as_deref(), Some("CN=builder,OU=ci,O=Example"));
        let hostile = [(CommonName, "evil,O=Example+CN=admin"), (OrganizationName, " #\\ ")];
        assert_eq!(of(&hostile).as_deref(), Some("CN=evil\\,O=Example\\+CN=admin,O=\\ #\\\\\\ "));
        let own = [(CommonName, "a"), (DnType::CustomDnType(vec![1, 2, 3, 4]), "b")];
        assert_eq!(of(&own).as_deref(), Some("CN=a,1.2.3.4=#0c0162"));
        assert_eq!(of(&[]), None);
        assert_eq!(subject_of(b"no certificate"), None);
    }
}
