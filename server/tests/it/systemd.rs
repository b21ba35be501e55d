//! As a service of systemd: its socket, what it is told, and the end.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::start::{Running, variables};
use crate::support::Place;

const UNIT: &str = include_str!("../../../manifests/systemd/niks3-server.service");

/// What was said since, until a line begins with `wanted`.
fn wait_for(socket: &UnixDatagram, wanted: &str) -> Vec<String> {
    let (mut said, mut text) = (Vec::new(), [0; 4096]);
    let give_up = Instant::now() + Duration::from_secs(30);
    while Instant::now() < give_up {
        let Ok(length) = socket.recv(&mut text) else { continue };
        said.extend(String::from_utf8_lossy(&text[..length]).lines().map(str::to_owned));
        if said.iter().any(|line| line.starts_with(wanted)) {
            return said;
        }
    }
    panic!("no {wanted}: {said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_the_socket_it_is_given_and_says_how_it_is() {
    let place = Place::create().await;
    // The bucket is made by a server that is told to.
    crate::support::TestServer::at(place.clone(), |_| {}).await.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let told = UnixDatagram::bind(&path).unwrap();
    told.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());

    // A socket is the descriptor 3, and the process has to be the one that it is for.
    let shell = "exec 3<&0 < /dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\"";
    let child = Command::new("sh")
        .args(["-c", shell, env!("CARGO_BIN_EXE_niks3-server")])
        .env_clear()
        .envs(variables(&place))
        .env("NIKS3_HTTP_ADDR", "192.0.2.1:1")
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let said = wait_for(&told, "READY=1");
    assert!(!said.iter().any(|line| line.starts_with("STOPPING")), "{said:?}");
    assert_eq!(reqwest::get(format!("{url}/livez")).await.unwrap().status(), StatusCode::OK);
    wait_for(&told, "STATUS=database and bucket are ready");
    let started = Instant::now();
    for _ in 0..3 {
        wait_for(&told, "WATCHDOG=1");
    }
    assert!(started.elapsed() < Duration::from_secs(10));

    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    wait_for(&told, "STOPPING=1");
    assert!(running.0.wait().unwrap().success());
}

#[test]
fn the_unit_waits_for_what_the_server_says_and_longer_than_it_drains() {
    for line in ["Type=notify", "WatchdogSec=30s", "TimeoutStopSec=30s"] {
        assert!(UNIT.lines().any(|there| there == line), "{line}");
    }
}
