//! TLS of the server's own, and what niks3 1.7's flags say of client certificates, as rules.

use std::path::PathBuf;

use anyhow::bail;
use niks3_protocol::api::Permission;
use niks3_protocol::server_config::{AuthSection, CertificateProxy, CertificateRule, TlsSection};

use super::{given, text};
use crate::args::TlsArgs;
use crate::tls::TlsFiles;

/// What niks3 1.7 lets a certificate do.
const WRITES: [Permission; 3] = [Permission::Push, Permission::Pin, Permission::Gc];

/// The files of TLS; rules and proxy of client certificates go to `auth`. Whether reads are for the bound subjects
/// alone.
pub(super) fn tls(
    args: TlsArgs,
    file: Option<TlsSection>,
    auth: &mut AuthSection,
) -> anyhow::Result<(Option<TlsFiles>, bool)> {
    let path = |path: Option<PathBuf>| given(path.as_deref()).map(std::path::Path::to_owned);
    let by_flags = path(args.tls_client_ca);
    let revoked = path(args.tls_client_crl);
    let of_file =
        |field: fn(&TlsSection) -> Option<&String>| file.as_ref().and_then(field).map(PathBuf::from);
    let client_ca = by_flags.clone().or_else(|| of_file(|file| file.client_ca_file.as_ref()));
    let client_crl = revoked.clone().or_else(|| of_file(|file| file.client_crl_file.as_ref()));
    let files = match (path(args.tls_cert), path(args.tls_key)) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key, client_ca, client_crl }),
        (None, None) if by_flags.is_some() && file.is_none() => {
            bail!(
                "NIKS3_TLS_CLIENT_CA needs NIKS3_TLS_CERT and NIKS3_TLS_KEY: it is for TLS of the server's own"
            )
        }
        (None, None) => file.map(|file| TlsFiles {
            certificate: file.cert_file.into(),
            key: file.key_file.into(),
            client_ca,
            client_crl,
        }),
        _ => bail!("NIKS3_TLS_CERT and NIKS3_TLS_KEY belong together; only one is given"),
    };
    let native = files.as_ref().is_some_and(|files| files.client_ca.is_some());
    if !native && (revoked.is_some() || files.as_ref().is_some_and(|files| files.client_crl.is_some())) {
        bail!("NIKS3_TLS_CLIENT_CRL needs NIKS3_TLS_CLIENT_CA: it lists certificates of those CAs");
    }
    let mut certificates = auth.client_certificates.take().unwrap_or_default();
    let header = text(args.mtls_proxy_header);
    let flags = header.is_some() || by_flags.is_some();
    if let Some(verified_header) = header {
        let addresses = args.mtls_proxy_addresses.unwrap_or_default();
        certificates.proxy = Some(CertificateProxy {
            verified_header,
            subject_header: args.mtls_subject_header,
            addresses: addresses
                .split([',', ' '])
                .filter(|address| !address.is_empty())
                .map(str::to_owned)
                .collect(),
        });
    }
    if native && certificates.proxy.is_some() {
        bail!(
            "certificates are verified by the server (NIKS3_TLS_CLIENT_CA) or by a proxy (NIKS3_MTLS_PROXY_HEADER), \
             not by both"
        );
    }
    let (bound, readers) = (args.mtls_bound_subject, args.mtls_bound_subject_read);
    let named = !bound.is_empty() || !readers.is_empty() || !certificates.rules.is_empty();
    if !native && certificates.proxy.is_none() && named {
        bail!(
            "subjects of client certificates are named, but nothing verifies certificates: set NIKS3_TLS_CLIENT_CA, or \
             NIKS3_MTLS_PROXY_HEADER"
        );
    }
    let private = !readers.is_empty();
    // As in 1.7: without subjects any certificate that was verified may write.
    let any = flags && bound.is_empty() && certificates.rules.is_empty();
    let subjects = if any { vec!["*".to_owned()] } else { bound };
    if !subjects.is_empty() {
        let mut permissions = WRITES.to_vec();
        permissions.extend((!private).then_some(Permission::Read));
        let name = "mtls-bound-subject".to_owned();
        certificates.rules.push(CertificateRule { name, subjects, permissions, pins: Vec::new() });
    }
    if private {
        let name = "mtls-bound-subject-read".to_owned();
        let permissions = vec![Permission::Read];
        certificates.rules.push(CertificateRule { name, subjects: readers, permissions, pins: Vec::new() });
    }
    auth.client_certificates = (native || certificates.proxy.is_some()).then_some(certificates);
    Ok((files, private))
}
