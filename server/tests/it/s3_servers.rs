//! S3 servers differ: what one lacks is coped with, or said in a sentence before anything is stored there.

use niks3_server::bucket::Notice;
use reqwest::StatusCode;

use crate::start::{program, variables};
use crate::storage::wait_for_reason;
use crate::support::closure::TestPath;
use crate::support::lesser::{Lack, Lesser};
use crate::support::{Place, TestServer};

async fn server_without(lack: Lack, bound: bool) -> (TestServer, Lesser) {
    let s3 = Lesser::without(lack).await;
    let url = s3.url.clone();
    let server = TestServer::launch(Place::create().await, move |parts| {
        parts.bucket.endpoint = Some(url);
        parts.settings.bound = bound;
    })
    .await;
    (server, s3)
}

#[tokio::test]
async fn what_an_s3_server_lacks_is_said_before_anything_is_stored_there() {
    for (lack, reason, sentences) in [
        (Lack::Verification, "FeatureMissing", ["x-amz-checksum-sha256", "switch off --bound-uploads"]),
        (
            Lack::Encoding,
            "FeatureMissing",
            ["keep an object's Content-Encoding", "zstd was written, none is read"],
        ),
        (Lack::StartAfter, "FeatureMissing", ["`start-after`", "in the order of bytes"]),
        (
            Lack::Checksums,
            "FeatureMissing",
            ["does not take `x-amz-checksum-sha256`", "switch off --bound-uploads"],
        ),
        (Lack::DeleteObjects, "FeatureMissing", ["S3 delete 2 keys", "501 NotImplemented"]),
        (Lack::OneOfTwo, "AccessDenied", ["AccessDenied held", "allow these credentials s3:DeleteObject"]),
        (Lack::ListParts, "AccessDenied", ["403 AccessDenied", "s3:ListMultipartUploadParts"]),
    ] {
        let (server, _s3) = server_without(lack, true).await;
        let check = wait_for_reason(&server, reason).await;
        for sentence in sentences {
            assert!(check.message.contains(sentence), "{lack:?}: {sentence}: {check:?}");
        }
        assert_eq!(server.get("/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE, "{lack:?}");
        assert!(!server.place().in_bucket("nix-cache-info").await, "{lack:?}");
    }
}

/// Nothing else sends checksums that an S3 server may not know, and what has to be checked is by MD5.
#[tokio::test]
async fn a_server_that_knows_md5_alone_is_enough() {
    let (server, _s3) = server_without(Lack::Checksums, false).await;
    server.wait_until_ready().await;
    let path = TestPath::new("path", &[]);
    server.push(&[&path]).await;
    server.place().sql("update closures set updated_at = now() - interval '2 hours'").await;
    let run = server.collect("older-than=1h&force=true").await;
    assert_eq!((run.stats.objects_deleted_after_grace_period, run.stats.objects_failed_to_delete), (3, 0));
    assert_eq!(server.place().list_objects().await, [""; 0]);
}

#[tokio::test]
async fn what_need_not_be_mended_is_a_notice_and_the_check_succeeds() {
    for (lack, notice) in [(Lack::Overwriting, Notice::KeepsVersions), (Lack::Listing, Notice::ListsLate)] {
        let (server, s3) = server_without(lack, false).await;
        server.wait_until_ready().await;
        let mut check = program();
        check.arg("check").envs(variables(server.place())).env("NIKS3_S3_ENDPOINT", &s3.url);
        let output = tokio::task::spawn_blocking(move || check.output().unwrap()).await.unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("are in order"), "{lack:?}: {said}");
        assert!(
            said.contains(&notice.to_string().replace('"', "\\\"")) || said.contains(&notice.to_string()),
            "{said}"
        );
    }
}
