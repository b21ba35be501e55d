//! What people can do about a condition that is false.

use super::{Reason, ServerReason};

/// What to do about a reason, the operator's or the server's.
pub fn remedy(reason: &str) -> Option<&'static str> {
    let servers = || ServerReason::named(reason)?.remedy();
    Reason::named(reason).and_then(Reason::remedy).or_else(servers)
}

impl Reason {
    /// What to do; nothing where there is nothing to do.
    pub fn remedy(self) -> Option<&'static str> {
        Some(match self {
            Self::InvalidSpec | Self::UnsafeUploadWindow | Self::InvalidSchedule | Self::InvalidTimeZone => {
                "change the spec as the message says"
            }
            Self::InvalidRequest => "change or remove the annotation that the message names",
            Self::BucketConflict => "give one of the two caches another bucket or prefix",
            Self::Conflicted => "delete one of the policies, or let it name or select other caches",
            Self::SecretNotFound | Self::SecretKeyMissing | Self::NoActiveKey => {
                "make the Secret, or its key; it is found within a minute"
            }
            Self::ConfigMapNotFound => "make the ConfigMap, or its key; it is found within a minute",
            Self::ServiceAccountNotFound => "make the ServiceAccount; it is found within a minute",
            Self::InvalidCA => "put CA certificates there, as PEM",
            Self::InvalidCRL => "put a revocation list of each CA there, as PEM",
            Self::InvalidKey | Self::KeyNameMismatch => {
                "see docs/keys.md; `nix key generate-secret` makes a key"
            }
            Self::IssuerUnreachable | Self::JWKSStale => {
                "see that pods reach the issuer, and its CA; auth.oidc[].jwksURL names another place for its keys"
            }
            Self::NoIdentityCanPush => "give somebody Push in auth; a cache that is only read can stay so",
            Self::TooFewConnections => {
                "raise max_connections of the database, or lower database.pool.maxConnections or the number of pods"
            }
            Self::NameTaken => {
                "rename or delete the object that the message names, or make the cache anew under another name"
            }
            Self::QuotaExceeded => "raise the quota of the namespace, or ask for less",
            Self::AdmissionRefused | Self::ApplyFailed => {
                "the message has the cluster's own words; it is tried again, at most two minutes apart"
            }
            Self::ImagePullBackOff => "correct the image, or name a Secret in server.imagePullSecrets",
            Self::CrashLoopBackOff | Self::CreateContainerConfigError => {
                "the message names the pod; `kubectl logs --previous` says why it ends"
            }
            Self::PodsNotCreated => "the message has the cluster's own words",
            Self::Unschedulable => "make room on the nodes, or change server.scheduling or resources",
            Self::StorageClassNotFound => "make the StorageClass, or make the cache anew with another",
            Self::ResizeRefused => {
                "let the StorageClass grow volumes (allowVolumeExpansion: true), or set the size back"
            }
            Self::CannotShrink => "set the size back to what the message says that the claim has",
            Self::ServerUnreachable => "wait for a pod to be ready; Available says what keeps it",
            Self::ProgressDeadlineExceeded => "look at the newest pods: they do not become ready",
            Self::GatewayAPINotInstalled => "install the Gateway API, or use server.ingress",
            Self::CertManagerNotInstalled => {
                "install cert-manager, or name a Secret in server.tls.secretName"
            }
            Self::PrometheusOperatorNotInstalled => {
                "install the CRDs of the prometheus-operator, or set server.metrics.serviceMonitor.mode: Disabled"
            }
            Self::RouteNotAccepted => "let the Gateway's listener take routes of this namespace and hostname",
            Self::IngressPending => "install an ingress controller of this class, or name another class",
            Self::CertificateNotReady => "make the Secret with the certificate, or let cert-manager do so",
            Self::Suspended | Self::SuspendReconcile => "set suspend back when it is time to go on",
            Self::CacheNotReady => "look at the BinaryCache: this operator cannot read it",
            Self::CacheNotFound => "make the BinaryCache, or correct cacheRef",
            Self::NoCacheMatches => "label a BinaryCache as cacheSelector says, or correct cacheSelector",
            Self::TooManyCaches => "let several policies select the caches, each some of them",
            Self::KubernetesAuthDisabled => "set auth.kubernetes.mode: Enabled in the BinaryCache",
            Self::GCFailed => "the message names the Job; the next run goes on where this one stopped",
            Self::SafetyLimitReached => {
                "look at `kubectl niks3 gc --dry-run`; `kubectl niks3 gc --override-safety` collects once all the same"
            }
            Self::DamageFound => {
                "see docs/fsck.md: fsck.mode: Repair lets the next push bring back what was lost"
            }
            Self::FsckFailed => "the message names the Job; the next one goes on where this one stopped",
            _ => return None,
        })
    }
}
