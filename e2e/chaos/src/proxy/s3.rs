//! The way to S3, one request a connection: late, refused, cut before it acts, cut after it acted, or answered
//! with a failure although it acted.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{Kind, Way, reset};
use crate::dice::Dice;

/// The longest head and body of a request.
const MAX_HEAD: usize = 64 << 10;
const MAX_BODY: usize = 64 << 20;

const SLOW_DOWN: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/xml\r\nconnection: close\r\n\
    content-length: 86\r\n\r\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate</Message></Error>";
const BROKEN: &[u8] =
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/xml\r\nconnection: close\r\n\
    content-length: 76\r\n\r\n<Error><Code>InternalError</Code><Message>Please try again</Message></Error>";

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It arrives late, and is answered if anybody still listens.
    Late(Duration),
    /// 503, and nothing was done.
    Refused,
    /// The connection breaks, and nothing was done.
    Reset,
    /// It acts, and the connection breaks.
    Lost,
    /// It acts, and a failure is answered.
    Broken,
}

struct Request {
    method: String,
    target: String,
    head: String,
    body: Vec<u8>,
}

pub(super) async fn forward(way: &Way, mut client: TcpStream) {
    let Some(request) = read(&mut client).await else { return reset(client) };
    let path = request.target.split('?').next().unwrap_or_default();
    let deletes = request.method == "DELETE" || request.target.contains("?delete");
    let what = format!("{} {path}{}", request.method, if deletes { " delete" } else { "" });
    let mut dice = way.dice(&what);
    let fault = if way.is_calm() || way.is_still() {
        Fault::None
    } else {
        fault(way, &request.method, deletes, &mut dice)
    };
    let received = Instant::now();
    match fault {
        Fault::None => {}
        Fault::Late(delay) => {
            let puts = way.kind == Kind::S3 && request.method == "PUT";
            way.note(
                if deletes {
                    "late delete"
                } else if puts {
                    "late put"
                } else {
                    "slow"
                },
                &what,
                millis(delay),
            );
            sleep(delay).await;
        }
        Fault::Refused => {
            way.note("refused", &what, 0);
            let _ = client.write_all(SLOW_DOWN).await;
            return;
        }
        Fault::Reset => {
            way.note("reset", &what, 0);
            return reset(client);
        }
        Fault::Lost | Fault::Broken => {
            way.note(if fault == Fault::Lost { "lost answer" } else { "broken" }, &what, 0);
        }
    }
    let answer = send(way, &request).await;
    if (deletes || request.method == "PUT") && received.elapsed() > Duration::from_millis(way.latest * 3 / 2)
    {
        // The machine was so busy that T does not hold: what the run finds then proves nothing.
        way.note("T broken", &what, millis(received.elapsed()));
    }
    match (fault, answer) {
        (Fault::Lost, _) | (_, None) => reset(client),
        (Fault::Broken, Some(_)) => {
            let _ = client.write_all(BROKEN).await;
        }
        (_, Some(answer)) => {
            let _ = client.write_all(&answer).await;
            let _ = client.shutdown().await;
        }
    }
}

fn fault(way: &Way, method: &str, deletes: bool, dice: &mut Dice) -> Fault {
    // A late delete is what the rules are about; but its keys are claimed until T, and pushes of them wait.
    let roll = dice.roll(1000);
    let late = |dice: &mut Dice| Fault::Late(Duration::from_millis(dice.roll(way.latest)));
    match (deletes, roll) {
        (true, ..150) => late(dice),
        (true, 150..170) | (false, 10..14) => Fault::Lost,
        (true, 170..180) | (false, 14..18) => Fault::Broken,
        (true, 180..200) | (false, ..10) => Fault::Refused,
        (true, 200..210) | (false, 18..24) => Fault::Reset,
        (false, 24..60) => Fault::Late(dice.millis(150)),
        // A server's PUT of a narinfo may act long after it was given up. That of a client acts before: one that
        // acts after its upload leaves garbage (docs/gc.md).
        (false, 60..100) if way.kind == Kind::S3 && method == "PUT" => late(dice),
        (false, 60..64) => Fault::Late(dice.millis(1500)),
        _ => Fault::None,
    }
}

/// Reads a whole request.
async fn read(client: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::with_capacity(4 << 10);
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if bytes.len() > MAX_HEAD || client.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut body = bytes.split_off(end);
    let text = String::from_utf8(bytes).ok()?;
    let mut lines = text.trim_end().split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let mut head = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
    let mut length = 0;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "connection" => continue,
            "expect" => {
                client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
                continue;
            }
            "content-length" => length = value.trim().parse().ok().filter(|length| *length <= MAX_BODY)?,
            _ => {}
        }
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    while body.len() < length {
        if client.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request { method, target, head, body })
}

/// Sends it on; gives the whole answer.
async fn send(way: &Way, request: &Request) -> Option<Vec<u8>> {
    let mut server = TcpStream::connect(&way.target).await.ok()?;
    server.write_all(request.head.as_bytes()).await.ok()?;
    server.write_all(&request.body).await.ok()?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await.ok()?;
    (!answer.is_empty()).then_some(answer)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{BROKEN, SLOW_DOWN};

    #[test]
    fn answers_are_as_long_as_they_say() {
        for answer in [SLOW_DOWN, BROKEN] {
            let text = std::str::from_utf8(answer).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}", body.len())), "{} bytes", body.len());
        }
    }
}
