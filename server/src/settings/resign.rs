//! How stored narinfos are signed again.

use std::ops::RangeInclusive;

use anyhow::{Context as _, bail};
use niks3_protocol::nix::PublicKey;
use niks3_protocol::server_config::ResignSection;

use super::text;
use crate::args::ResignArgs;

/// Writes under way at a time.
const CONCURRENCY: RangeInclusive<usize> = 1..=1000;

/// The file's revoked keys, or those of the arguments.
pub(super) fn revoked_keys(given: Option<String>, file: &[String]) -> anyhow::Result<Vec<PublicKey>> {
    let given: Option<Vec<String>> =
        text(given).map(|all| all.split_whitespace().map(str::to_owned).collect());
    let parse = |key: &String| key.parse().with_context(|| format!("the revoked public key {key:?}"));
    given.as_deref().unwrap_or(file).iter().map(parse).collect()
}

/// The file's section, changed by arguments.
pub(super) fn section(args: ResignArgs, file: ResignSection) -> anyhow::Result<ResignSection> {
    let number = |name: &str, given: Option<String>| -> anyhow::Result<Option<u32>> {
        let Some(given) = text(given) else { return Ok(None) };
        given.parse().map(Some).with_context(|| format!("{name}={given} is not a number of narinfos"))
    };
    let concurrency = match number("NIKS3_RESIGN_CONCURRENCY", args.resign_concurrency)? {
        Some(number) => usize::try_from(number)?,
        None => file.concurrency,
    };
    if !CONCURRENCY.contains(&concurrency) {
        bail!("{concurrency} narinfos are to be signed again at a time, which is not from 1 to 1000");
    }
    Ok(ResignSection {
        mode: args.resign.unwrap_or(file.mode),
        rate: number("NIKS3_RESIGN_RATE", args.resign_rate)?.unwrap_or(file.rate),
        concurrency,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(rate: &str, concurrency: &str) -> ResignArgs {
        ResignArgs {
            revoked_keys: None,
            revoked_keys_file: None,
            resign: None,
            resign_rate: Some(rate.to_owned()),
            resign_concurrency: Some(concurrency.to_owned()),
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_name() {
        let file = ResignSection::default();
        assert_eq!(section(args("", ""), file).unwrap(), file);
        let changed = section(args("0", "3"), file).unwrap();
        assert_eq!((changed.rate, changed.concurrency), (0, 3));
        for (rate, concurrency, said) in [
            ("fast", "", "NIKS3_RESIGN_RATE=fast"),
            ("", "-1", "NIKS3_RESIGN_CONCURRENCY=-1"),
            ("", "0", "1 to 1000"),
        ] {
            let error = section(args(rate, concurrency), file).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let key = "cache-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
        let two = revoked_keys(Some(format!("{key} {key}")), &[]).unwrap();
        assert_eq!(two.iter().map(ToString::to_string).collect::<Vec<_>>(), [key, key]);
        assert_eq!(revoked_keys(Some(String::new()), &[key.to_owned()]).unwrap().len(), 1);
        let error = revoked_keys(Some("cache-1:abc".to_owned()), &[]).unwrap_err().to_string();
        assert!(error.contains("cache-1:abc"), "{error}");
    }
}
