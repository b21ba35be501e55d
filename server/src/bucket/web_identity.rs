//! Credentials by web identity: STS gives them for a token in a file, as pods of EKS have one.
//!
//! The SDK's own provider looks for an account in the name of the role that STS answers with, and refuses the answers of
//! MinIO, which has no accounts and names none.

use std::path::PathBuf;
use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_sts::Client;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::credentials::in_one_line;

/// Which token, and what for.
#[derive(Debug, Clone)]
pub struct WebIdentity {
    /// The file with the token, which somebody else replaces before it ends.
    pub token_file: PathBuf,
    /// The role to have; servers other than AWS's may need none.
    pub role_arn: Option<String>,
    /// What STS calls the session.
    pub session_name: String,
    /// Origin of STS; AWS's of the region where it is left out.
    pub sts_endpoint: Option<String>,
}

/// Asks STS.
#[derive(Debug)]
pub(super) struct Exchange {
    identity: WebIdentity,
    sts: Client,
    place: String,
}

impl Exchange {
    pub(super) fn new(identity: WebIdentity, sdk: &SdkConfig) -> Self {
        let mut config = aws_sdk_sts::config::Builder::from(sdk);
        if let Some(endpoint) = &identity.sts_endpoint {
            config = config.endpoint_url(endpoint);
        }
        let region = sdk.region().map_or("us-east-1", |region| region.as_ref());
        let place =
            identity.sts_endpoint.clone().unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com"));
        Self { identity, sts: Client::from_conf(config.build()), place }
    }

    /// New credentials, or a sentence.
    pub(super) async fn credentials(&self) -> Result<Credentials, String> {
        let WebIdentity { token_file, role_arn, session_name, .. } = &self.identity;
        let token = tokio::fs::read_to_string(token_file).await.map_err(|error| {
            format!(
                "web identity: the token file {} cannot be read ({error}); mount the token there, or correct \
                 AWS_WEB_IDENTITY_TOKEN_FILE",
                token_file.display()
            )
        })?;
        let request = self.sts.assume_role_with_web_identity().set_role_arn(role_arn.clone());
        let request = request.role_session_name(session_name).web_identity_token(token.trim());
        let answer = request.send().await.map_err(|error| self.explain(&error))?;
        let useless = |what: &str| format!("web identity: STS at {} answers without {what}", self.place);
        let given = answer.credentials.ok_or_else(|| useless("credentials"))?;
        let end =
            SystemTime::try_from(given.expiration).map_err(|_| useless("the end of the credentials"))?;
        let (id, secret, session) = (given.access_key_id, given.secret_access_key, given.session_token);
        Ok(Credentials::new(id, secret, Some(session), Some(end), "web identity"))
    }

    fn explain(&self, error: &SdkError<AssumeRoleWithWebIdentityError, HttpResponse>) -> String {
        let place = &self.place;
        let SdkError::ServiceError(refused) = error else {
            return format!(
                "web identity: STS at {place} does not answer ({}); is there a way to it, or is it elsewhere \
                 (AWS_ENDPOINT_URL_STS)?",
                in_one_line(error)
            );
        };
        let status = refused.raw().status().as_u16();
        let (code, said) = (refused.err().code(), refused.err().message());
        format!(
            "web identity: STS at {place} gives nothing for the token in {}, for {}: {status} {}: {}; the token has to be \
             of now, of an issuer that STS knows, with its audience, and of a subject that may have the role",
            self.identity.token_file.display(),
            self.identity
                .role_arn
                .as_ref()
                .map_or_else(|| "no role".to_owned(), |role| format!("the role {role}")),
            code.unwrap_or("no code"),
            said.unwrap_or("no message"),
        )
    }
}
