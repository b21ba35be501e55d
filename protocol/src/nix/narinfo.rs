//! The narinfo: what a binary cache says of one store path. [`FromStr`] and [`Display`](fmt::Display)
//! are inverses on what we write.
//!
//! Source: Nix, `src/libstore/nar-info.cc`.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::{NarHash, Signature, StorePath};

/// One narinfo. References and deriver are kept as whole paths; the text lists their base names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarInfo {
    /// The path described.
    pub store_path: StorePath,
    /// Where the NAR is, relative to the cache's root.
    pub url: String,
    /// `zstd`, `xz`, `bzip2`, `none`; Nix reads a missing line as `bzip2`.
    pub compression: String,
    /// sha256 of the compressed file, where the writer gave it.
    pub file_hash: Option<NarHash>,
    /// Bytes of the compressed file, where the writer gave it.
    pub file_size: Option<u64>,
    /// sha256 of the NAR.
    pub nar_hash: NarHash,
    /// Bytes of the NAR.
    pub nar_size: u64,
    /// What the NAR's contents refer to, the path itself included where it refers to itself.
    pub references: Vec<StorePath>,
    /// The derivation that built it.
    pub deriver: Option<StorePath>,
    /// Signatures over the [`fingerprint`](super::signature::fingerprint).
    pub signatures: Vec<Signature>,
    /// Content address, where the path has one.
    pub ca: Option<String>,
}

/// Why a text is not a narinfo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoError {
    /// A line without `: `.
    #[error("line {line}: no `Field: value`")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A tab, a carriage return, or the like.
    #[error("line {line}: a control character")]
    Control {
        /// Counted from 1.
        line: usize,
    },
    /// A value its field does not allow.
    #[error("line {line}: {field}: {problem}")]
    Value {
        /// Counted from 1.
        line: usize,
        /// The field's name.
        field: &'static str,
        /// What is wrong with the value.
        problem: String,
    },
    /// A field that may stand once stands twice.
    #[error("line {line}: {field} a second time")]
    Twice {
        /// Counted from 1.
        line: usize,
        /// The field's name.
        field: &'static str,
    },
    /// A field that must be there is not.
    #[error("no {0}")]
    Missing(&'static str),
}

impl NarInfo {
    /// The text to sign.
    pub fn fingerprint(&self) -> String {
        super::signature::fingerprint(&self.store_path, self.nar_hash, self.nar_size, &self.references)
    }
}

impl fmt::Display for NarInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "StorePath: {}", self.store_path)?;
        writeln!(f, "URL: {}", self.url)?;
        writeln!(f, "Compression: {}", self.compression)?;
        if let Some(hash) = self.file_hash {
            writeln!(f, "FileHash: {hash}")?;
        }
        if let Some(size) = self.file_size {
            writeln!(f, "FileSize: {size}")?;
        }
        writeln!(f, "NarHash: {}", self.nar_hash)?;
        writeln!(f, "NarSize: {}", self.nar_size)?;
        f.write_str("References: ")?;
        for (index, reference) in self.references.iter().enumerate() {
            if index > 0 {
                f.write_char(' ')?;
            }
            f.write_str(reference.base_name())?;
        }
        f.write_char('\n')?;
        if let Some(deriver) = &self.deriver {
            writeln!(f, "Deriver: {}", deriver.base_name())?;
        }
        for signature in &self.signatures {
            writeln!(f, "Sig: {signature}")?;
        }
        if let Some(ca) = &self.ca {
            writeln!(f, "CA: {ca}")?;
        }
        Ok(())
    }
}

/// A field's value and the line it stood on.
type Field = Option<(usize, String)>;

fn once(slot: &mut Field, line: usize, field: &'static str, value: &str) -> Result<(), NarInfoError> {
    if slot.is_some() {
        return Err(NarInfoError::Twice { line, field });
    }
    *slot = Some((line, value.to_owned()));
    Ok(())
}

fn read<T: FromStr<Err: fmt::Display>>(slot: &Field, field: &'static str) -> Result<Option<T>, NarInfoError> {
    let Some((line, value)) = slot else { return Ok(None) };
    let problem = |error: T::Err| NarInfoError::Value { line: *line, field, problem: error.to_string() };
    value.parse().map(Some).map_err(problem)
}

impl FromStr for NarInfo {
    type Err = NarInfoError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut path, mut url, mut compression, mut ca): (Field, Field, Field, Field) = Default::default();
        let (mut file_hash, mut file_size, mut nar_hash, mut nar_size): (Field, Field, Field, Field) =
            Default::default();
        let (mut references, mut deriver): (Field, Field) = Default::default();
        let mut signatures = Vec::new();
        for (index, text) in text.split_terminator('\n').enumerate() {
            let line = index + 1;
            if text.contains(char::is_control) {
                return Err(NarInfoError::Control { line });
            }
            let (field, value) = text.split_once(':').ok_or(NarInfoError::Line { line })?;
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "StorePath" => once(&mut path, line, "StorePath", value)?,
                "URL" => once(&mut url, line, "URL", value)?,
                "Compression" => once(&mut compression, line, "Compression", value)?,
                "FileHash" => once(&mut file_hash, line, "FileHash", value)?,
                "FileSize" => once(&mut file_size, line, "FileSize", value)?,
                "NarHash" => once(&mut nar_hash, line, "NarHash", value)?,
                "NarSize" => once(&mut nar_size, line, "NarSize", value)?,
                "References" => once(&mut references, line, "References", value)?,
                "Deriver" => once(&mut deriver, line, "Deriver", value)?,
                "CA" => once(&mut ca, line, "CA", value)?,
                "Sig" => signatures
                    .push(read(&Some((line, value.to_owned())), "Sig")?.ok_or(NarInfoError::Missing("Sig"))?),
                _ => {} // newer fields are for newer readers
            }
        }
        let store_path: StorePath = read(&path, "StorePath")?.ok_or(NarInfoError::Missing("StorePath"))?;
        let sibling = |base: &str, line: usize, field: &'static str| {
            StorePath::in_dir(store_path.store_dir(), base).map_err(|error| NarInfoError::Value {
                line,
                field,
                problem: error.to_string(),
            })
        };
        let references = match &references {
            Some((line, list)) => list
                .split_ascii_whitespace()
                .map(|base| sibling(base, *line, "References"))
                .collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let deriver = match &deriver {
            Some((_, base)) if base == "unknown-deriver" => None,
            Some((line, base)) => Some(sibling(base, *line, "Deriver")?),
            None => None,
        };
        Ok(Self {
            url: url.map(|(_, url)| url).filter(|url| !url.is_empty()).ok_or(NarInfoError::Missing("URL"))?,
            compression: compression.map_or_else(|| "bzip2".to_owned(), |(_, name)| name),
            file_hash: read(&file_hash, "FileHash")?,
            file_size: read(&file_size, "FileSize")?,
            nar_hash: read(&nar_hash, "NarHash")?.ok_or(NarInfoError::Missing("NarHash"))?,
            nar_size: read(&nar_size, "NarSize")?.ok_or(NarInfoError::Missing("NarSize"))?,
            references,
            deriver,
            signatures,
            ca: ca.map(|(_, ca)| ca),
            store_path,
        })
    }
}
