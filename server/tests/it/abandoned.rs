//! Multipart uploads that S3 never ends, and one behind them.

use reqwest::{Method, StatusCode};

use crate::support::closure::{TestPath, begin_request};
use crate::support::relay::Relay;
use crate::support::{ADMIN, TestServer, s3_address};

/// More are stuck than are tried in one go. Eight goes leave it out three times in a million.
#[tokio::test]
async fn what_s3_never_ends_keeps_no_other_open() {
    let mut relay = Relay::to(&s3_address()).await;
    relay.cut_at("/nar/stuck-");
    relay.up();
    let s3 = format!("http://{}", relay.address);
    let server = TestServer::with(|parts| drop(parts.bucket.endpoint.replace(s3))).await;
    let stuck = "insert into multipart_uploads (s3_upload_id, object_key, upload_id)
                 select 'stuck-' || number, 'nar/stuck-' || number, -1 from generate_series(1, 130) as number";
    server.place().sql(stuck).await;
    let path = TestPath::new("behind", &[]);
    let mut body = begin_request(&path, &[&path]);
    body.objects[1].nar_size = Some(20 << 20);
    server.begin(ADMIN, &body).await;
    assert_eq!(server.place().open_multiparts().await, 1);
    let past = "update uploads set started_at = started_at - interval '1 day',
                addresses_until = addresses_until - interval '1 day'";
    server.place().sql(past).await;
    for _ in 0..8 {
        let expire = server.request(Method::DELETE, "/api/pending_closures?older-than=1h");
        assert_eq!(expire.send().await.unwrap().status(), StatusCode::NO_CONTENT);
        let stuck = "select count(*) from multipart_uploads where upload_id = -1";
        assert_eq!(server.place().rows::<(i64,)>(stuck).await, [(130,)], "S3 ended what it was to refuse");
        if server.place().open_multiparts().await == 0 {
            return;
        }
    }
    panic!("one that S3 would end was never tried");
}
