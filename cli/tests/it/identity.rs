//! Tokens: missing, empty, unknown, without permission, renewed.

use std::sync::atomic::{AtomicU32, Ordering};

use niks3_protocol::api::Permission;
use niks3_protocol::server_config::StaticToken;

use crate::support::program::Niks3;
use crate::support::script::Script;
use crate::support::{ADMIN, Cache};

const READER: &str = "test-token-of-a-reader-0123456789abcdef";
const PUSHER: &str = "test-token-of-a-pusher-0123456789abcdef";

async fn cache() -> Cache {
    Cache::with(|parts, folder| {
        let token = |name: &str, text: &str, permissions, pins: &[&str]| {
            let file = folder.join(name);
            std::fs::write(&file, text).unwrap();
            StaticToken {
                name: name.to_owned(),
                token_file: file.into_os_string().into_string().unwrap(),
                permissions,
                pins: pins.iter().map(|pin| (*pin).to_owned()).collect(),
            }
        };
        parts.auth.static_tokens = vec![
            token("reader", READER, vec![Permission::Read], &[]),
            token("pusher", PUSHER, vec![Permission::Push, Permission::Pin], &["ci-*"]),
        ];
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_do_not_do() {
    let cache = cache().await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    let push = || cache.niks3(&["push", path.as_str()]);
    let with = async |token: &str| {
        std::fs::write(cache.token_file(), token).unwrap();
        push().run().await.failed(2)
    };
    insta::assert_snapshot!(with("").await, @"error: the token file FOLDER/token is empty");
    insta::assert_snapshot!(with("unknown-token-0123456789abcdef0123456789").await, @r"
    error: the token is not valid here: it is not one of this cache's tokens (SERVER answered 401 Unauthorized)
    hint: is the token file the one of this cache, and made for its audience?
    ");
    insta::assert_snapshot!(with(READER).await, @r"
    error: token:reader lacks the permission Push (SERVER answered 403 Forbidden)
    hint: `niks3 whoami` shows who the server thinks you are and what you may do
    ");
    insta::assert_snapshot!(with("two\nlines").await, @"error: the token file FOLDER/token does not hold a token: one word of printable characters");
    std::fs::remove_file(cache.token_file()).unwrap();
    insta::assert_snapshot!(push().run().await.failed(2), @"error: the token file FOLDER/token cannot be read: No such file or directory (os error 2)");
    insta::assert_snapshot!(push().without("NIKS3_AUTH_TOKEN_FILE").run().await.failed(2), @r"
    error: no identity: send `Authorization: Bearer TOKEN` (SERVER answered 401 Unauthorized)
    hint: `niks3 login` keeps a token; --auth-token-file or --client-cert gives one for this call
    ");
    cache.assert_nothing_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_found_where_it_usually_is() {
    let cache = cache().await;
    let who = || cache.niks3(&["whoami"]).without("NIKS3_AUTH_TOKEN_FILE");
    let home = cache.folder.path();
    std::fs::create_dir_all(home.join("niks3")).unwrap();
    std::fs::write(home.join("niks3/auth-token"), READER).unwrap();
    insta::assert_snapshot!(who().env("XDG_CONFIG_HOME", home).run().await.data(), @r"
    token:reader
    permissions: Read
    ");
    // The variable counts more, the file that is named most; an empty variable does not count.
    let named = who().env("XDG_CONFIG_HOME", home).env("NIKS3_AUTH_TOKEN", PUSHER);
    insta::assert_snapshot!(named.run().await.data(), @r"
    token:pusher
    permissions: Push, Pin
    pins: ci-*
    ");
    let named = who().env("NIKS3_AUTH_TOKEN", PUSHER).env("NIKS3_AUTH_TOKEN_FILE", cache.token_file());
    insta::assert_snapshot!(named.run().await.data(), @r"
    token:default
    permissions: Admin
    ");
    let empty = who().env("NIKS3_AUTH_TOKEN_FILE", "").env("NIKS3_AUTH_TOKEN", ADMIN);
    insta::assert_snapshot!(empty.run().await.data(), @r"
    token:default
    permissions: Admin
    ");
}

/// A server that says who called by what its answer to `whoami` is, and GitHub's side of it.
async fn ci() -> Script {
    Script::start(|request| {
        let line = request.line.as_str();
        if line.starts_with("GET /api/cache-config?issuer=") {
            let known = line.contains("token.actions.githubusercontent.com");
            let audience = if known { r#","oidc_audience":"my cache""# } else { "" };
            return (200, "", format!(r#"{{"substituter_url":"x","public_keys":[]{audience}}}"#));
        }
        match line {
            "GET /github?v=1&audience=my+cache" if request.authorization == "Bearer of-the-job" => {
                (200, "", r#"{"value":"from.github.for-this-cache"}"#.to_owned())
            }
            "GET /api/whoami" => {
                let identity = request.authorization.replace('"', "");
                (200, "", format!(r#"{{"identity":"{identity}","permissions":["Push"]}}"#))
            }
            _ => (401, "", String::new()),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_ci_needs_no_secret() {
    let server = ci().await;
    let who = || Niks3::new(&["whoami", "--server-url", &server.url]);
    let github = || {
        let url = format!("{}/github?v=1", server.url);
        who().env("ACTIONS_ID_TOKEN_REQUEST_URL", url).env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-the-job")
    };
    insta::assert_snapshot!(github().run().await.data(), @r"
    Bearer from.github.for-this-cache
    permissions: Push
    ");
    let refused = github().env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-another-job").run().await.failed(2);
    insta::assert_snapshot!(refused, @"error: GitHub gives no token for this job: it answered 401 Unauthorized");
    // Another GitHub, whose tokens this cache does not take: none is asked for.
    let other = github().env("GITHUB_SERVER_URL", "https://github.example.org").run().await.data();
    insta::assert_snapshot!(other, @r"

    permissions: Push
    ");
    let lines = server.lines();
    let issuer = "issuer=https%3A%2F%2Fgithub.example.org%2F_services%2Ftoken";
    assert!(lines.iter().any(|line| line.ends_with(issuer)), "{lines:?}");

    insta::assert_snapshot!(who().env("NIKS3_ID_TOKEN", "from.gitlab.job").run().await.data(), @r"
    Bearer from.gitlab.job
    permissions: Push
    ");
    let mount = "mount -t tmpfs none /run && mkdir -p /var/run/secrets/niks3 && \
                 echo from-the-pod > /var/run/secrets/niks3/token && exec \"$0\" \"$@\"";
    let pod = who().within(&["unshare", "-rm", "sh", "-c", mount]);
    insta::assert_snapshot!(pod.run().await.data(), @r"
    Bearer from-the-pod
    permissions: Push
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn that_github_is_away_for_a_moment_is_no_configuration() {
    let asked = AtomicU32::new(0);
    let server = Script::start(move |request| {
        let config = r#"{"substituter_url":"x","public_keys":[],"oidc_audience":"a"}"#;
        match (request.line.as_str(), asked.fetch_add(1, Ordering::Relaxed)) {
            ("GET /api/whoami", _) => (200, "", r#"{"identity":"job","permissions":[]}"#.to_owned()),
            (_, 0) => (502, "", String::new()),
            ("GET /github?audience=a", 2) => (429, "", String::new()),
            ("GET /github?audience=a", _) => (200, "", r#"{"value":"x"}"#.to_owned()),
            _ => (200, "", config.to_owned()),
        }
    })
    .await;
    let job = |run: Niks3, server: &Script| {
        run.env("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{}/github", server.url))
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-the-job")
    };
    let who = job(Niks3::new(&["whoami", "--server-url", &server.url]), &server).run().await.data();
    assert!(who.starts_with("job\n"), "{who}");
    let (config, github) = ("GET /api/cache-config", "GET /github?audience=a");
    let lines: Vec<String> =
        server.lines().iter().map(|line| line.split("?issuer").next().unwrap().to_owned()).collect();
    assert_eq!(lines, [config, config, github, config, github, "GET /api/whoami"]);

    let (away, cache) = (Script::start(|_| (503, "", String::new())).await, Cache::start().await);
    let path = cache.store.add("tree", &[("x", b"x")]);
    let push = cache.niks3(&["push", "--best-effort", path.as_str()]).without("NIKS3_AUTH_TOKEN_FILE");
    let said = job(push.env("NIKS3_SERVER_URL", &away.url), &away).run().await.succeeded();
    insta::assert_snapshot!(said, @"warning: GitHub gives no token for this job at the moment: the cache names no audience: it answered 503 Service Unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_may_print_the_token() {
    let server = ci().await;
    let who = |command: &str| {
        let run =
            Niks3::new(&["whoami", "--server-url", &server.url]).env("NIKS3_AUTH_TOKEN_COMMAND", command);
        run.run()
    };
    insta::assert_snapshot!(who("echo plain").await.data(), @r"
    Bearer plain
    permissions: Push
    ");
    let json = r#"echo '{"token":"of-json","expires_at":"2099-01-01T00:00:00Z"}'"#;
    insta::assert_snapshot!(who(json).await.data(), @r"
    Bearer of-json
    permissions: Push
    ");
    insta::assert_snapshot!(who("exit 3").await.failed(2), @"error: the token command failed: exit status: 3");
    insta::assert_snapshot!(who("true").await.failed(2), @"error: what the token command printed does not hold a token: one word of printable characters");
    insta::assert_snapshot!(who(r#"echo '{"secret":"x"}'"#).await.failed(2), @r#"error: the token command failed: it did not print {"token", "expires_at"}"#);

    // One that lasts is asked for once, one that is over each time.
    let cache = Cache::start().await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    let count = cache.folder.path().join("count");
    for (expires, again) in [("2099-01-01T00:00:00Z", false), ("2020-01-01T00:00:00Z", true)] {
        std::fs::write(&count, "").unwrap();
        let command = format!(
            "echo x >> {}; echo '{{\"token\":\"{ADMIN}\",\"expires_at\":\"{expires}\"}}'",
            count.display()
        );
        let push =
            cache.niks3(&["push", "--verify-s3-integrity", "--auth-token-command", &command, path.as_str()]);
        push.without("NIKS3_AUTH_TOKEN_FILE").run().await.succeeded();
        let runs = std::fs::read_to_string(&count).unwrap().lines().count();
        assert!(runs > 0 && (runs > 1) == again, "{runs} runs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_is_refused_fails_the_push() {
    let cache = cache().await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    std::fs::write(cache.token_file(), PUSHER).unwrap();
    cache.niks3(&["push", "--pin", "ci-main", path.as_str()]).run().await.succeeded();
    let refused = cache.niks3(&["push", "--pin", "release", path.as_str()]).run().await.failed(2);
    insta::assert_snapshot!(refused, @r"
    All of it is in SERVER already; nothing was uploaded (TIME)
    error: token:pusher may write pins named ci-*, not release (SERVER answered 403 Forbidden)
    hint: `niks3 whoami` shows who the server thinks you are and what you may do
    ");
    insta::assert_snapshot!(cache.niks3(&["gc", "--older-than=1h"]).run().await.failed(2), @r"
    error: token:pusher lacks the permission GC (SERVER answered 403 Forbidden)
    hint: `niks3 whoami` shows who the server thinks you are and what you may do
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_read_anew_for_every_call() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let running = |state: &str| {
        format!(
            r#"{{"state":"{state}","phase":"vacuum_tables","params":{{"older_than":"1h","failed_uploads_older_than":"6h",
            "force":false}},"stats":{{"failed_uploads_deleted":0,"old_closures_deleted":0,"objects_marked_for_deletion":0,
            "objects_deleted_after_grace_period":0,"objects_failed_to_delete":0}},
            "started_at":"2026-07-01T10:00:00Z","updated_at":"2026-07-01T10:00:00Z"}}"#
        )
    };
    let renewed = file.clone();
    let server = Script::start(move |request| {
        // As the kubelet does it: another file takes the name.
        let next = renewed.with_extension("next");
        std::fs::write(&next, if request.line.starts_with("DELETE") { "second" } else { "third" }).unwrap();
        std::fs::rename(next, &renewed).unwrap();
        let done = request.authorization.ends_with("third");
        (200, "", running(if done { "succeeded" } else { "running" }))
    })
    .await;
    let run = Niks3::new(&["gc", "--older-than=1h", "--server-url", &server.url]);
    run.env("NIKS3_AUTH_TOKEN_FILE", &file).run().await.succeeded();
    let tokens: Vec<String> = server.requests().into_iter().map(|request| request.authorization).collect();
    assert_eq!(tokens, ["Bearer first", "Bearer second", "Bearer third"]);
}
