//! Why a condition is what it is.

words! {
    /// Why a condition is what it is.
    Reason {
        /// All is well.
        Ready,
        /// The spec can be carried out.
        Accepted,
        /// Everything the spec refers to was found.
        Resolved,
        /// A dependency answered.
        Reachable,
        /// The database answered; but it has fewer connections than all pods together may open.
        TooFewConnections,
        /// Pods say they are ready, and that includes this; the operator itself could not ask.
        ReportedByPods,
        /// Nobody could be asked yet.
        ServerUnreachable,
        /// The spec cannot be carried out.
        InvalidSpec,
        /// An older cache has the bucket and prefix.
        BucketConflict,
        /// A Secret is missing.
        SecretNotFound,
        /// A Secret lacks a key.
        SecretKeyMissing,
        /// A ConfigMap, or a key in it, is missing.
        ConfigMapNotFound,
        /// What should be a CA is none.
        InvalidCA,
        /// What should be a revocation list is none.
        InvalidCRL,
        /// A ServiceAccount is missing.
        ServiceAccountNotFound,
        /// The object the API server refused to take is named in the message.
        ApplyFailed,
        /// An object that somebody else made has the name of the child that the message names.
        NameTaken,
        /// A quota of the namespace leaves no room for what the message names.
        QuotaExceeded,
        /// An admission webhook or policy of the cluster refuses what the message names.
        AdmissionRefused,
        /// Pods cannot be made.
        PodsNotCreated,
        /// A pod's image cannot be pulled.
        ImagePullBackOff,
        /// A pod ends again and again.
        CrashLoopBackOff,
        /// A pod's container cannot be made.
        CreateContainerConfigError,
        /// No node takes a pod, or its volume is not there.
        Unschedulable,
        /// A StorageClass is missing.
        StorageClassNotFound,
        /// No key to sign with.
        NoActiveKey,
        /// What should be a key is none.
        InvalidKey,
        /// The key has another name than the spec says.
        KeyNameMismatch,
        /// An issuer does not give the keys that its tokens are judged by; those of others are.
        IssuerUnreachable,
        /// Tokens of an issuer are judged by keys that should have been fetched anew, because it does not give them.
        JWKSStale,
        /// Nothing in the spec lets anybody push.
        NoIdentityCanPush,
        /// One signing key, or one generation of credentials, follows another one.
        RotationInProgress,
        /// One key signs, and what is stored is signed again by it.
        Resigning,
        /// A volume of an embedded server grows.
        Resizing,
        /// The API server does not let a volume of an embedded server grow.
        ResizeRefused,
        /// A volume of an embedded server is larger than the spec says.
        CannotShrink,
        /// An annotation asks for what cannot be done.
        InvalidRequest,
        /// A signing key is published and signs when it is told to.
        AwaitingPromotion,
        /// Nothing is changing.
        Stable,
        /// A change is being rolled out.
        RollingOut,
        /// A rollout stands still.
        ProgressDeadlineExceeded,
        /// Enough pods are ready.
        MinimumReplicasAvailable,
        /// Too few pods are ready.
        MinimumReplicasUnavailable,
        /// Not known yet.
        Reconciling,
        /// The cluster has no Gateway API.
        GatewayAPINotInstalled,
        /// The cluster has no cert-manager.
        CertManagerNotInstalled,
        /// The cluster has no ServiceMonitors.
        PrometheusOperatorNotInstalled,
        /// A Gateway does not take the route, or none has looked at it yet.
        RouteNotAccepted,
        /// The Ingress has no address yet.
        IngressPending,
        /// The certificate, or the Secret with it, is not there.
        CertificateNotReady,
        /// The spec asks for standstill.
        Suspended,
        /// The spec asks the operator to keep its hands off.
        SuspendReconcile,
        /// Another policy has the cache, or each of the caches.
        Conflicted,
        /// The schedule is not cron.
        InvalidSchedule,
        /// The time zone is unknown.
        InvalidTimeZone,
        /// Uploads would be given up while their addresses live.
        UnsafeUploadWindow,
        /// The cache does not exist.
        CacheNotFound,
        /// No cache has the labels that the policy selects.
        NoCacheMatches,
        /// More caches match than one policy collects.
        TooManyCaches,
        /// The cache cannot be read by this operator.
        CacheNotReady,
        /// The cache takes no ServiceAccount tokens, so the collector could not prove who it is.
        KubernetesAuthDisabled,
        /// None has ended yet.
        NeverRan,
        /// The last one succeeded.
        Succeeded,
        /// The last collection failed.
        GCFailed,
        /// The last one would have deleted or repaired more than `safety` allows, and changed nothing.
        SafetyLimitReached,
        /// The last comparison of bucket and database left something as it should not be.
        DamageFound,
        /// The last comparison of bucket and database did not come to its end.
        FsckFailed,
    }
}
