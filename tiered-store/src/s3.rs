//! S3 itself: the client of its objects, and what concerns a bucket as a whole.
//!
//! Bucket requests are signed by `object_store`'s own signer, which spares a second S3 client with a tree of its own.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use object_store::aws::{
    AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, Checksum, S3ConditionalPut,
};
use object_store::client::{HttpClient, HttpConnector, HttpRequestBody};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use crate::counts::{CountingConnector, Counts};
use crate::error::TroubleKind;
use crate::profile;
use crate::store::OpenError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(15);
const DEFAULT_REGION: &str = "us-east-1";
const ANSWER_CHARS_MAX: usize = 300;

/// A bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) objects: Arc<AmazonS3>,
    client: HttpClient,
    /// Without a slash at its end.
    url: String,
    region: String,
}

/// A request about the bucket itself that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The store answered with an error.
    #[error("cannot {operation}: {kind} (HTTP {code}: {answer})")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// What it means.
        kind: TroubleKind,
        /// The status.
        code: u16,
        /// The beginning of what it said.
        answer: String,
    },
    /// There are none, or who gives them does not answer.
    #[error("cannot {operation}: no credentials were found: {cause}")]
    Credentials {
        /// What was asked.
        operation: &'static str,
        /// Why.
        cause: String,
    },
    /// The store gave no answer.
    #[error("cannot {operation}: {cause}")]
    Unreachable {
        /// What was asked.
        operation: &'static str,
        /// Why.
        cause: String,
    },
}

impl BucketError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused { kind, .. } => kind.hint(),
            Self::Credentials { .. } => TroubleKind::NoCredentials.hint(),
            Self::Unreachable { .. } => TroubleKind::Unreachable.hint(),
        }
    }
}

impl Bucket {
    pub(crate) fn open(
        bucket: &str,
        endpoint: Option<&str>,
        counts: &Arc<Counts>,
    ) -> Result<Self, OpenError> {
        install_tls();
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        if let Some(profile) = profile::from_environment()? {
            let settings = [
                (AmazonS3ConfigKey::AccessKeyId, profile.access_key_id),
                (
                    AmazonS3ConfigKey::SecretAccessKey,
                    profile.secret_access_key,
                ),
                (AmazonS3ConfigKey::Token, profile.session_token),
                (AmazonS3ConfigKey::Region, profile.region),
            ];
            for (key, value) in settings {
                if let Some(value) = value {
                    builder = builder.with_config(key, value);
                }
            }
        }
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
        let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let is_plain = endpoint
            .as_deref()
            .is_some_and(|url| url.starts_with("http://"));
        let url = match &endpoint {
            Some(endpoint) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
            None => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        };
        let options = ClientOptions::new()
            .with_allow_http(is_plain)
            .with_http1_only()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_read_timeout(READ_TIMEOUT)
            // Each request has a deadline by its size instead.
            .with_timeout_disabled();
        let connector = CountingConnector(Arc::clone(counts));
        let client = connector.connect(&options).map_err(OpenError::S3)?;
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 3,
            retry_timeout: Duration::from_secs(15),
        };
        let objects = builder
            .with_region(&region)
            .with_client_options(options)
            .with_retry(retry)
            // The checksum proves the bytes; signing them too would cost a SHA-256 of everything.
            .with_unsigned_payload(true)
            .with_checksum_algorithm(Checksum::CRC64NVME)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_http_connector(connector)
            .build()
            .map_err(OpenError::S3)?;
        Ok(Self {
            objects: Arc::new(objects),
            client,
            url,
            region,
        })
    }

    /// Creates the bucket. One that exists and is ours is success.
    pub(crate) async fn create(&self) -> Result<(), BucketError> {
        let operation = "create the bucket";
        let body = match self.region == DEFAULT_REGION {
            true => String::new(),
            false => format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{}</LocationConstraint></CreateBucketConfiguration>",
                self.region
            ),
        };
        match self.ask(operation, http::Method::PUT, "", body).await {
            Err(BucketError::Refused { answer, .. })
                if answer.contains("BucketAlreadyOwnedByYou") =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// Has the store drop parts of uploads that never ended.
    pub(crate) async fn abort_stale_uploads(&self, days: u32) -> Result<(), BucketError> {
        let body = format!(
            "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Rule>\
             <ID>tidemill-stale-uploads</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>\
             <AbortIncompleteMultipartUpload><DaysAfterInitiation>{days}</DaysAfterInitiation>\
             </AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>"
        );
        let operation = "set the bucket's lifecycle";
        self.ask(operation, http::Method::PUT, "?lifecycle", body)
            .await
    }

    async fn ask(
        &self,
        operation: &'static str,
        method: http::Method,
        query: &str,
        body: String,
    ) -> Result<(), BucketError> {
        let unreachable = |cause: String| BucketError::Unreachable { operation, cause };
        let credential = self.objects.credentials().get_credential().await;
        let credential = credential.map_err(|error| BucketError::Credentials {
            operation,
            cause: error.to_string(),
        })?;
        let md5 = content_md5(&body);
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{query}", self.url))
            .header("content-md5", md5)
            .body(HttpRequestBody::from(body));
        let mut request = request.map_err(|error| unreachable(error.to_string()))?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|error| unreachable(error.to_string()))?;
        let answered = self.client.execute(request).await;
        let response = answered.map_err(|error| unreachable(error.to_string()))?;
        let code = response.status().as_u16();
        let answer = response.into_body().bytes().await;
        let answer = answer.map_err(|error| unreachable(error.to_string()))?;
        if (200..300).contains(&code) {
            return Ok(());
        }
        let answer = String::from_utf8_lossy(&answer);
        Err(BucketError::Refused {
            operation,
            kind: TroubleKind::of_answer(&answer, code),
            code,
            answer: answer.chars().take(ANSWER_CHARS_MAX).collect(),
        })
    }
}

/// S3 wants it with every configuration of a bucket.
fn content_md5(body: &str) -> String {
    BASE64_STANDARD.encode(Md5::digest(body))
}

fn install_tls() {
    // A second call finds it done.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
