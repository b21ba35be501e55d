//! The way to PostgreSQL, below its messages: they are late, the connection breaks before they arrive, or it
//! breaks after they acted and before the answer.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::{Way, reset};

/// Faults in a thousand flights of messages; those that change what the rules are about are stuck more often.
const SLOW: u64 = 50;
const STUCK: u64 = 10;
const STUCK_CHANGES: u64 = 60;
/// The commit of a push's transaction: until it comes, everybody else sees what was there before, and a whole
/// collection may go by.
const STUCK_PUSHES: u64 = 60;
const STUCK_PUSHES_BY: u64 = 3000;
/// The same where nothing else fails: a collection then takes a tenth of that.
const HELD_PUSHES: u64 = 500;
const HELD_PUSHES_BY: u64 = 1500;
const STUCK_BY: u64 = 1800;
/// Connections in a thousand on which everything is late, for as long as they last, and by how many milliseconds.
const SLUGGISH: u64 = 200;
const SLUGGISH_BY: u64 = 500;
const RESET: u64 = 2;
const LOST: u64 = 3;
/// How long an answer that is to be lost may take.
const ACTS_WITHIN: Duration = Duration::from_secs(2);

pub(super) async fn forward(way: &Way, mut client: TcpStream) {
    let Ok(mut server) = TcpStream::connect(&way.target).await else { return reset(client) };
    let _ = server.set_nodelay(true);
    let mut dice = way.dice("connection");
    let sluggish = dice.chance(SLUGGISH) && !way.is_calm();
    let mut changes = Changes::default();
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            () = way.cut() => break,
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { break };
                let (stuck, by, what) = match changes.what_is_in(&asked[..length]) {
                    What::Push => (STUCK_PUSHES, STUCK_PUSHES_BY, "a push's commit"),
                    What::Change => (STUCK_CHANGES, STUCK_BY, "a change"),
                    What::Other => (STUCK, STUCK_BY, "a statement"),
                };
                if way.is_still() && !way.is_calm() {
                    if what == "a push's commit" && dice.chance(HELD_PUSHES) {
                        let pause = dice.millis(HELD_PUSHES_BY);
                        way.note("held", what, u64::try_from(pause.as_millis()).unwrap_or(0));
                        sleep(pause).await;
                    }
                    if server.write_all(&asked[..length]).await.is_err() {
                        break;
                    }
                    continue;
                }
                let fault = if way.is_calm() { 1000 } else { dice.roll(1000) };
                if sluggish && !way.is_calm() {
                    dice.pause(SLUGGISH_BY).await;
                }
                if fault < RESET {
                    way.note("reset", what, 0);
                    break;
                }
                if fault < RESET + LOST {
                    way.note("lost answer", what, 0);
                    if server.write_all(&asked[..length]).await.is_ok() {
                        let _ = timeout(ACTS_WITHIN, server.read(&mut answered)).await;
                    }
                    break;
                }
                if fault < RESET + LOST + SLOW {
                    dice.pause(120).await;
                } else if fault < RESET + LOST + SLOW + stuck {
                    let pause = dice.millis(by);
                    way.note("slow", what, u64::try_from(pause.as_millis()).unwrap_or(0));
                    sleep(pause).await;
                }
                if server.write_all(&asked[..length]).await.is_err() {
                    break;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { break };
                if client.write_all(&answered[..length]).await.is_err() {
                    break;
                }
            }
        }
    }
    reset(client);
}

/// What a flight of messages is about.
#[derive(Debug, PartialEq, Eq)]
enum What {
    /// The end of a transaction that changed an upload.
    Push,
    /// A statement that changes objects or uploads.
    Change,
    Other,
}

/// The prepared statements of a connection that change objects and uploads. A statement's text passes once, with
/// its name; after that its name alone.
#[derive(Default)]
struct Changes {
    /// Their names, and whether they change uploads.
    names: Vec<(Vec<u8>, bool)>,
    /// The open transaction changed an upload.
    pushing: bool,
}

impl Changes {
    fn what_is_in(&mut self, flight: &[u8]) -> What {
        if flight == COMMIT {
            return if std::mem::take(&mut self.pushing) { What::Push } else { What::Other };
        }
        let has = |needle: &[u8]| flight.windows(needle.len()).any(|window| window == needle);
        let (objects, uploads) = (has(b"update objects"), has(b"update uploads"));
        if objects || uploads {
            let at = flight.windows(NAME.len()).position(|window| window == NAME);
            let name = at.and_then(|at| flight[at..].split(|byte| *byte == 0).next());
            self.names.extend(name.map(|name| (name.to_vec(), uploads)));
            self.pushing |= uploads;
            return What::Change;
        }
        // With the zero that ends it, or one name would be found in another.
        let known = self.names.iter().find(|(name, _)| has(&[name.as_slice(), b"\0"].concat()));
        let Some((_, uploads)) = known else { return What::Other };
        self.pushing |= uploads;
        What::Change
    }
}

/// How sqlx ends a transaction: a message of one statement.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// How sqlx begins the names of its statements.
const NAME: &[u8] = b"sqlx_s_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_known_again_by_its_name() {
        let mut changes = Changes::default();
        assert_eq!(changes.what_is_in(b"P....sqlx_s_1\0select 1\0"), What::Other);
        assert_eq!(changes.what_is_in(b"P....sqlx_s_12\0update objects set live\0"), What::Change);
        assert_eq!(changes.what_is_in(b"B....\0sqlx_s_12\0..."), What::Change);
        assert_eq!(changes.what_is_in(b"B....\0sqlx_s_1\0..."), What::Other);
        assert_eq!(changes.what_is_in(COMMIT), What::Other);
        assert_eq!(changes.what_is_in(b"P....sqlx_s_13\0update uploads set missing\0"), What::Change);
        assert_eq!(changes.what_is_in(COMMIT), What::Push);
        assert_eq!(changes.what_is_in(COMMIT), What::Other, "another transaction");
        assert_eq!(changes.what_is_in(b"B....\0sqlx_s_13\0..."), What::Change);
        assert_eq!(changes.what_is_in(COMMIT), What::Push);
    }
}
