//! Web identity, by the variables of AWS: as EKS sets them for a pod.

use clap::Args as ClapArgs;

/// A token in a file, which STS gives credentials of S3 for.
#[derive(Debug, ClapArgs)]
pub struct WebIdentityArgs {
    /// File with a token (JWT) that STS gives credentials for; read anew each time.
    #[arg(long, env = "AWS_WEB_IDENTITY_TOKEN_FILE", global = true)]
    pub s3_web_identity_token_file: Option<String>,
    /// Role that the token is to have.
    #[arg(long, env = "AWS_ROLE_ARN", global = true)]
    pub s3_role_arn: Option<String>,
    /// What STS and its logs call the session.
    #[arg(long, env = "AWS_ROLE_SESSION_NAME", global = true)]
    pub s3_role_session_name: Option<String>,
    /// STS, where it is not AWS's of the region.
    #[arg(long, env = "AWS_ENDPOINT_URL_STS", global = true)]
    pub s3_sts_endpoint: Option<String>,
}
