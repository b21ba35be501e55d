//! `niks3 why`, `niks3 du`, `niks3 delete`

use serde_json::Value;

use crate::support::Cache;
use crate::support::program::Niks3;
use crate::support::script::Script;

/// A line with a time in it, without that.
fn timeless(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let date = word.as_bytes().first() == Some(&b'2') && word.contains('T') && word.contains('Z');
        if date { format!("WHEN{}", word.split_once('Z').unwrap().1) } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn why_names_the_roots_the_rules_and_the_way() {
    let cache = Cache::start().await;
    let secret = cache.store.add("secret", &[("x", b"the secret")]);
    let inner = cache.store.build("inner", &format!("echo {secret} > $out"), &[&secret]);
    let outer = cache.store.build("outer", &format!("echo {inner} > $out"), &[&inner]);
    let run = async |arguments: &[&str]| cache.niks3(arguments).run().await;
    run(&["push", "--pin", "main", outer.as_str()]).await.succeeded();
    run(&["push", inner.as_str()]).await.succeeded();
    insta::assert_snapshot!(timeless(&run(&["why", secret.as_str()]).await.data()), @r"
    /nix/store/HASH-secret is in the cache: SIZE with all it needs

    kept by /nix/store/HASH-outer (pin main; last used WHEN)
      which needs /nix/store/HASH-inner
      which needs /nix/store/HASH-secret

    kept by /nix/store/HASH-inner (no_age_limit; last used WHEN)
      which needs /nix/store/HASH-secret

    stays until somebody changes what keeps it (there was no collection yet, so no policy lets anything go)
    ");
    // The policy of the last collection says until when; without the pin the path goes after its grace.
    run(&["gc", "--older-than=1h", "--deletion-grace=2h"]).await.succeeded();
    run(&["pins", "delete", "main"]).await.succeeded();
    let text = run(&["why", secret.hash().as_str(), "--json"]).await.data();
    let why: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&why["policy_of_run"], &why["roots_count"]), (&1.into(), &2.into()), "{text}");
    let rules: Vec<&str> =
        why["roots"].as_array().unwrap().iter().map(|root| root["kept_by"].as_str().unwrap()).collect();
    assert_eq!(rules, ["older_than", "older_than"]);
    let count = "select extract(epoch from $1::timestamptz - max(updated_at))::bigint from closures";
    let after = count.replace("$1", &format!("'{}'", why["goes_at"].as_str().unwrap()));
    assert_eq!(cache.count(&after).await, 3 * 3600, "an hour of age, two of grace");

    run(&["gc", "--older-than=0s", "--deletion-grace=2h"]).await.succeeded();
    let text = run(&["why", secret.as_str()]).await.data();
    assert!(text.contains("nothing reaches it since ") && text.contains("goes with the first"), "{text}");
    let said = run(&["why", "/nix/store/00000000000000000000000000000000-none"]).await.failed(1);
    assert!(said.contains("the cache has no 00000000000000000000000000000000.narinfo"), "{said}");
    assert!(run(&["why", "/etc/passwd"]).await.failed(2).contains("is not in a Nix store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn du_lists_the_closures_that_take_the_most_alone() {
    let cache = Cache::start().await;
    let noise: Vec<u8> = (0..60_000_u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let shared = cache.store.add("shared", &[("x", &noise)]);
    let small = cache.store.build("small", &format!("echo {shared} > $out"), &[&shared]);
    let large = cache.store.add("large", &[("y", &noise[..20_000])]);
    for path in [&small, &large, &shared] {
        cache.niks3(&["push", path.as_str()]).run().await.succeeded();
    }
    let table = cache.niks3(&["du"]).run().await.data();
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("in the cache          9 objects") || lines[0].contains("objects"),
        "{table}"
    );
    assert!(lines[4].ends_with("LARGEST OF 3 CLOSURES"), "{table}");
    assert!(
        lines[5].ends_with("-large") && lines[6].ends_with("-small") && lines[7].ends_with("-shared"),
        "{table}"
    );
    let text = cache.niks3(&["du", "--limit=1", "--json"]).run().await.data();
    let usage: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(usage["largest"].as_array().unwrap().len(), 1);
    assert_eq!(usage["unreached"]["objects"], 0);
    let outcome = cache.niks3(&["du", "--limit=0"]).run().await;
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
}

/// A secret was pushed: it goes with all that needs it, and nothing else goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaked_path_goes_with_what_depends_on_it_at_once() {
    let cache = Cache::start().await;
    let secret = cache.store.add("secret", &[("x", b"the secret")]);
    let shared = cache.store.add("shared", &[("x", b"shared")]);
    let script = format!("echo {secret} {shared} > $out");
    let tainted = cache.store.build("tainted", &script, &[&secret, &shared]);
    let clean = cache.store.build("clean", &format!("echo {shared} > $out"), &[&shared]);
    let run = async |arguments: &[&str]| cache.niks3(arguments).run().await;
    run(&["push", "--pin", "ci-7", tainted.as_str()]).await.succeeded();
    run(&["push", clean.as_str()]).await.succeeded();
    let objects = cache.count("select count(*) from objects").await;

    insta::assert_snapshot!(run(&["delete", secret.as_str()]).await.failed(2), @"error: this deletes at once, and nobody is there to ask: give --yes, or --dry-run to look first");
    insta::assert_snapshot!(run(&["delete", "--dry-run", secret.as_str()]).await.data(), @r"
    goes  7 objects  SIZE
          1 closures, 2 paths:
      /nix/store/HASH-secret
      /nix/store/HASH-tainted
    pin   ci-7  /nix/store/HASH-tainted
    note: a deletion would stop: the pin ci-7 would have to go too, which only force does
    ");
    insta::assert_snapshot!(run(&["delete", "--yes", secret.as_str()]).await.failed(2), @"error: nothing was deleted: the pin ci-7 would have to go too; give --force where that is meant");
    assert_eq!(cache.count("select count(*) from objects where condemned_at is null").await, objects);

    // Who decides by the table reads it beside the data, not among them.
    let data = cache.folder.path().join("data");
    let delete =
        format!("{} delete --json --force {secret} > {}", env!("CARGO_BIN_EXE_niks3"), data.display());
    let asked =
        cache.niks3(&[]).within(&["sh", "-c", "echo no | script -qec \"$1\" /dev/null", "sh", &delete]);
    let shown = asked.run().await.stdout;
    assert!(shown.contains("goes  7 objects") && shown.contains("Nothing was deleted"), "{shown}");
    assert_eq!(std::fs::read_to_string(data).unwrap(), "");

    let said = run(&["delete", "--yes", "--force", secret.hash().as_str()]).await.succeeded();
    insta::assert_snapshot!(said, @"Deleted 2 paths: 7 objects, SIZE freed");
    for path in [&secret, &tainted] {
        assert_eq!(cache.get(&format!("{}.narinfo", path.hash())).await.status(), 404, "{path}");
    }
    assert_eq!(run(&["pins", "list", "--names-only"]).await.data(), "");
    let copy = cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &clean).unwrap();
    cache.store.assert_equal(&clean, &copy);
    cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &tainted).unwrap_err();
    let again = run(&["delete", "--yes", secret.as_str()]).await.failed(1);
    assert!(again.contains("the cache has no "), "{again}");
    // What was deleted is pushed anew like anything else.
    run(&["push", tainted.as_str()]).await.succeeded();
    cache.store.copy_from(&cache.url, &cache.public_key.to_string(), &tainted).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_cannot_are_named() {
    let old = Script::start(|request| match request.line.as_str() {
        line if line.starts_with("GET /api/cache-config") => {
            (200, "", r#"{"substituter_url":"http://x","public_keys":[]}"#.to_owned())
        }
        _ => (404, "", "404 page not found\n".to_owned()),
    })
    .await;
    let path = "/nix/store/00000000000000000000000000000000-none";
    for (arguments, what) in [
        (&["why", path][..], "cannot say why a path is kept"),
        (&["du"], "cannot say what takes the space"),
        (&["delete", "--yes", path], "cannot delete a path"),
    ] {
        let said = Niks3::new(&[arguments, &["--server-url", &old.url]].concat()).run().await.failed(1);
        assert!(said.contains(what), "{said}");
    }
}
