//! Bodies of requests.

use serde::Deserialize;

/// Reads a whole body; else says what is wrong, and where.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    // To know where one is costs as much again as to read them all: only what is wrong is read so.
    if let Ok(parsed) = serde_json::from_slice(bytes) {
        return Ok(parsed);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| match error.path() {
        path if path.iter().next().is_none() => format!("the body is not right: {}", error.inner()),
        path => format!("the body is not right at {path}: {}", error.inner()),
    })?;
    deserializer.end().map_err(|error| format!("the body goes on after its end: {error}"))?;
    Ok(parsed)
}

/// Refuses a body that lists more than it may.
pub fn at_most(limit: usize, count: usize, what: &str) -> Result<(), String> {
    if count <= limit {
        return Ok(());
    }
    Err(format!("the call has {count} {what}; this server takes {limit} at a time"))
}
