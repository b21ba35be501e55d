//! What a repair has no reason to give up: all that leads there would go with it.

use niks3_protocol::api::pending_closures::UploadObject;
use niks3_protocol::object_key::ObjectKind;
use niks3_server::fsck::Options;
use niks3_server::settings::Parts;
use reqwest::StatusCode;

use crate::support::closure::{TestPath, begin_request};
use crate::support::dice::Dice;
use crate::support::relay::{Relay, Spoiling};
use crate::support::{ADMIN, TestServer, s3_address};

const LOG: &str = "log/00bgd045z0d4icpbc2yyz4gx48ak44la-hello.drv";
const TRACE: &str = "build-trace-v2/026k39lfgdyv6hks4w3zqpkwnmkp05ph-ca.drv/out.doi";

/// A path whose NAR is long enough, compressed, to come in several pieces.
pub(crate) fn long(name: &str) -> TestPath {
    let mut dice = Dice::new(7, 7);
    let nar = (0..400_000).map(|_| u8::try_from(dice.roll(256)).unwrap()).collect();
    TestPath::with_nar(name, nar, &[])
}

impl Relay {
    /// Spoils so many reads of a path's NAR, in its midst.
    pub(crate) fn spoil_nar(&mut self, server: &TestServer, path: &TestPath, how: Spoiling, times: u32) {
        let get = format!("GET /{}/{}", server.place().bucket(), path.nar_key());
        self.spoil(get, how, 200_000, times);
    }

    fn takes(&self) -> impl FnOnce(&mut Parts) + Send + use<> {
        let s3 = format!("http://{}", self.address);
        |parts| parts.bucket.endpoint = Some(s3)
    }
}

#[tokio::test]
async fn a_nar_whose_bytes_stop_coming_is_read_again_and_not_given_up() {
    let server = TestServer::start().await;
    let base = long("base");
    let top = TestPath::new("top", &[&base]);
    server.push(&[&top, &base]).await;
    let place = server.place();
    let before = place.list_objects().await;
    let options = Options { deep: true, repair: true, ..Options::default() };

    // As often as it is read: then nothing is known of the NAR.
    let mut relay = Relay::to(&s3_address()).await;
    relay.spoil_nar(&server, &base, Spoiling::Cut, 1000);
    relay.up();
    let error = place.try_fsck(options.clone(), relay.takes()).await.unwrap_err();
    assert_eq!(format!("{error:#}"), format!("S3 get {}: the answer was cut off", base.nar_key()));
    assert_eq!(place.list_objects().await, before);
    let live = "select count(*) from objects where live and deleting_since is null";
    assert_eq!(place.rows::<(i64,)>(live).await, [(6,)]);
    assert_eq!(relay.unspoiled(), 997);

    // Once; and once it is another on the way.
    for how in [Spoiling::Cut, Spoiling::Flip] {
        relay.down().await;
        relay.spoil_nar(&server, &base, how, 1);
        relay.up();
        let (summary, lines) = place.fsck_with(options.clone(), relay.takes()).await;
        assert_eq!((summary.nars_read, summary.damaged, summary.withdrawn), (2, 0, 0), "{how:?}: {lines:?}");
        assert_eq!(relay.unspoiled(), 0);
    }
    assert_eq!(place.list_objects().await, before);
}

/// Two machines build one path, and each has a log of its own: what the one sends may come after the other's commit.
#[tokio::test]
async fn a_listing_log_or_realisation_of_another_size_stays_and_so_does_what_leads_there() {
    let server = TestServer::start().await;
    let base = TestPath::new("base", &[]);
    let top = TestPath::new("top", &[&base]);
    let mut request = begin_request(&base, &[&base]);
    for (key, kind) in [(LOG, ObjectKind::BuildLog), (TRACE, ObjectKind::Realisation)] {
        request.objects[0].refs.push(key.to_owned());
        request.objects.push(UploadObject { key: key.to_owned(), kind, refs: Vec::new(), nar_size: None });
    }
    let begun = server.begin(ADMIN, &request).await;
    server.upload(ADMIN, &begun, &[&base]).await;
    let realisation = format!(r#"{{"outPath":"{}","signatures":[]}}"#, base.store_path.base_name());
    for (key, text) in [(LOG, "built in a second"), (TRACE, &realisation)] {
        server.put_pending(&begun, key, zstd::encode_all(text.as_bytes(), 3).unwrap()).await;
    }
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    server.push(&[&top, &base]).await;
    let place = server.place();
    let before = place.list_objects().await;

    place.write_encoded(LOG, b"built on a slower machine, in a minute and two seconds").await;
    place.write_encoded(&base.listing_key(), br#"{"version":1,"root":{"type":"regular","size":5}}"#).await;
    place.write_encoded(TRACE, realisation.replace(",\"signatures\":[]", "").as_bytes()).await;
    let (found, lines) = place.fsck(Options::default()).await;
    assert_eq!((found.other_size, found.is_clean()), (3, false), "{lines:?}");
    let repair = || Options { repair: true, ..Options::default() };
    let (summary, lines) = place.fsck(repair()).await;
    assert_eq!((summary.other_size, summary.repaired, summary.withdrawn), (3, 3, 0), "{lines:?}");
    assert_eq!(place.list_objects().await, before);
    let (summary, lines) = place.fsck(Options::default()).await;
    assert!(summary.is_clean(), "the new sizes are noted: {lines:?}");

    // Nix believes what a realisation says.
    place.write_encoded(TRACE, b"nonsense").await;
    let (summary, lines) = place.fsck(repair()).await;
    assert_eq!((summary.other_size, summary.repaired, summary.withdrawn), (1, 1, 2), "{lines:?}");
}
