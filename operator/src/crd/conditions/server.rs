//! Why a server lacks its database or its bucket, in its own words: it says so by `/readyz`, and the operator passes it on.

words! {
    /// Why a server lacks what it needs.
    ServerReason {
        /// Nothing answers where the database should be.
        ConnectionFailed,
        /// The database refuses user or password.
        AuthenticationFailed,
        /// The database's certificate is not trusted.
        TLSVerificationFailed,
        /// The tables are being brought up to date, or with `database.migrations: Manual` wait for you to do that.
        MigrationPending,
        /// The tables cannot be brought up to date.
        MigrationFailed,
        /// The tables are of a newer server.
        SchemaTooNew,
        /// The bucket waits for the database.
        DatabaseUnavailable,
        /// Nothing that speaks S3 answers, or it fails.
        EndpointUnreachable,
        /// There are no credentials for S3: the source that was asked gave none, or they are over.
        CredentialsUnavailable,
        /// S3 does not take the signature: a wrong key, region or addressing style.
        SignatureRejected,
        /// This S3 server lacks what a cache needs; the message says what.
        FeatureMissing,
        /// The clocks of server and S3 differ too much.
        ClockSkew,
        /// The bucket is not there.
        BucketNotFound,
        /// The credentials may not do what a cache does; the message names the right.
        AccessDenied,
        /// The bucket and prefix are another cache's.
        StorageIdentityMismatch,
    }
}

impl ServerReason {
    /// What to do; nothing where there is nothing to do.
    pub fn remedy(self) -> Option<&'static str> {
        Some(match self {
            Self::ConnectionFailed => "see that the database runs, and that a network policy leads there",
            Self::AuthenticationFailed => "correct the Secret with the database's credentials",
            Self::TLSVerificationFailed => "name the database's CA in database.ca",
            Self::MigrationFailed => "the server's log says which statement failed",
            Self::SchemaTooNew => "run a server at least as new as the last one",
            Self::EndpointUnreachable => "see that S3 runs, and that its address and CA are right",
            Self::CredentialsUnavailable => {
                "the message names the source: mount the token, or correct the role's trust or the address of STS"
            }
            Self::SignatureRejected => "correct the Secret, storage.s3.region or addressingStyle",
            Self::FeatureMissing => {
                "see docs/s3.md: another S3 server, a newer one, or the setting that the message names"
            }
            Self::ClockSkew => "set the clocks of the nodes and of S3",
            Self::BucketNotFound => "make the bucket, or correct its name",
            Self::AccessDenied => "give the credentials the right that the message names",
            Self::StorageIdentityMismatch => {
                "give each cache a bucket or prefix of its own; see docs/fsck.md"
            }
            Self::MigrationPending => {
                "with database.migrations: Manual run `kubectl niks3 migrate`; else wait"
            }
            Self::DatabaseUnavailable => return None,
        })
    }
}
