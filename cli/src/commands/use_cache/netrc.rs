//! The netrc file by which Nix sends a token to a private cache.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Puts the token of a host into a file that only its owner reads; entries of other hosts stay as they are.
pub(super) fn write(path: &Path, host: &str, token: &str) -> io::Result<()> {
    let known = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = file.write_all(with(&known, host, token).as_bytes()).and_then(|()| file.sync_all());
    written.and_then(|()| fs::rename(&new, path)).inspect_err(|_| drop(fs::remove_file(&new)))
}

/// The first entry of a host counts, and a `default` ends the search: ours goes first.
fn with(known: &str, host: &str, token: &str) -> String {
    let mut text = format!("machine {host} login niks3 password {token}\n");
    let mut ours = false;
    for line in known.split_inclusive('\n') {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("machine") => ours = words.next() == Some(host) && !words.any(|word| word == "machine"),
            Some("default" | "macdef") => ours = false,
            Some(word) if word.starts_with('#') => ours = false,
            _ => {}
        }
        if !ours {
            text.push_str(line);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::with;

    #[test]
    fn others_stay() {
        assert_eq!(with("", "a", "t"), "machine a login niks3 password t\n");
        let known = "# mine\nmachine b login x password y\nmachine a\n  login me\n  password old\n\
                     # of all\ndefault login z password z\n";
        let text = "machine a login niks3 password t\n# mine\nmachine b login x password y\n\
                    # of all\ndefault login z password z\n";
        assert_eq!(with(known, "a", "t"), text);
        assert_eq!(with(text, "a", "t"), text, "a second time changes nothing");
        let line = "machine a login m password o machine b login x password y\n";
        assert_eq!(with(line, "a", "t"), format!("machine a login niks3 password t\n{line}"));
    }
}
