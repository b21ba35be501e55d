//! TLS of the server's own, and client certificates.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// TLS.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// File with the certificate and those between it and its CA (PEM); without it the server speaks plain HTTP.
    #[arg(long, env = "NIKS3_TLS_CERT", global = true)]
    pub tls_cert: Option<PathBuf>,
    /// File with its key (PEM).
    #[arg(long, env = "NIKS3_TLS_KEY", global = true)]
    pub tls_key: Option<PathBuf>,
    /// File with the CAs of client certificates (PEM).
    #[arg(long, env = "NIKS3_TLS_CLIENT_CA", global = true)]
    pub tls_client_ca: Option<PathBuf>,
    /// File with revocation lists of those CAs (PEM), one for each CA.
    #[arg(long, env = "NIKS3_TLS_CLIENT_CRL", global = true)]
    pub tls_client_crl: Option<PathBuf>,
    /// Header that a proxy in front sets to SUCCESS where it verified a client certificate.
    #[arg(long, env = "NIKS3_MTLS_PROXY_HEADER", global = true)]
    pub mtls_proxy_header: Option<String>,
    /// Addresses and networks of that proxy, separated by commas or spaces: its headers count from there alone.
    #[arg(long, env = "NIKS3_MTLS_PROXY_ADDRESSES", global = true)]
    pub mtls_proxy_addresses: Option<String>,
    /// Header in which that proxy says the certificate's subject.
    #[arg(long, env = "NIKS3_MTLS_SUBJECT_HEADER", default_value = "X-SSL-Client-Dn", global = true)]
    pub mtls_subject_header: String,
    /// Glob of subjects that may push, pin and collect; may be given several times.
    #[arg(long, global = true)]
    pub mtls_bound_subject: Vec<String>,
    /// Glob of subjects that may read, and nobody else without a token; may be given several times.
    #[arg(long, global = true)]
    pub mtls_bound_subject_read: Vec<String>,
}
