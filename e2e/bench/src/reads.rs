//! P8 and P9: reading through the server, beside nginx.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::Args;
use crate::push::Closure;
use crate::report::{Row, Table, say};
use crate::samples::Samples;
use crate::server::{Program, Server, run};

/// Of one `wrk`.
const SECONDS: &str = "5s";
/// A NAR of about this many bytes, as it is stored, is read.
const NAR_BYTES: u64 = 20_000_000;
const NGINX: &str = "/usr/sbin/nginx";

#[derive(Debug, Default)]
struct Figures {
    narinfo: Samples,
    nar: Samples,
}

pub(crate) async fn measure(
    args: &Args,
    programs: &[Program],
    closure: &Closure,
) -> anyhow::Result<Vec<Table>> {
    for program in [NGINX, "wrk"] {
        let there =
            Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        there.with_context(|| format!("{program} is not there: apt-get install nginx-light wrk"))?;
    }
    let (mut figures, mut nginx) = (Vec::new(), Figures::default());
    let mut servers = Vec::new();
    for program in programs {
        let server = Server::start(program, &args.services).await?;
        run(server.client(&programs[0]).arg("push").args(&closure.roots)).await?;
        servers.push(server);
        figures.push(Figures::default());
    }
    let first = servers.first().context("no program to measure")?;
    let narinfo = narinfo_of(closure.roots.first().context("no root")?)?;
    let (nar, bytes) = nar_near(args, first).await?;
    let web = Nginx::start(args, first, &narinfo).await?;
    for round in 1..=args.rounds {
        for (server, figures) in servers.iter().zip(&mut figures) {
            figures.narinfo.push(requests(16, &format!("{}/{narinfo}", server.url)).await?);
            figures.nar.push(requests(1, &format!("{}/{nar}", server.url)).await? * bytes as f64 / 1e6);
        }
        nginx.narinfo.push(requests(16, &format!("{}/{narinfo}", web.url)).await?);
        nginx
            .nar
            .push(requests(1, &format!("{}/s3/{}/{nar}", web.url, first.bucket)).await? * bytes as f64 / 1e6);
        say(&format!("reads {round}/{}", args.rounds));
    }
    for server in servers {
        server.stop().await?;
    }
    Ok(vec![table(programs, &figures, nginx, bytes)])
}

fn narinfo_of(root: &str) -> anyhow::Result<String> {
    let name = root.strip_prefix("/nix/store/").context("a root outside of /nix/store")?;
    Ok(format!("{}.narinfo", name.get(..32).context("no store path")?))
}

/// The NAR whose stored size is nearest to what is wanted.
async fn nar_near(args: &Args, server: &Server) -> anyhow::Result<(String, u64)> {
    let listed =
        args.services.s3("GET", &format!("{}?list-type=2&prefix=nar%2F", server.bucket), None).await?;
    let part = |text: &str, tag: &str| {
        text.split(&format!("<{tag}>")).nth(1).and_then(|rest| rest.split('<').next()).map(str::to_owned)
    };
    listed
        .split("<Contents>")
        .skip(1)
        .filter_map(|text| Some((part(text, "Key")?, part(text, "Size")?.parse::<u64>().ok()?)))
        .min_by_key(|(_, size)| size.abs_diff(NAR_BYTES))
        .context("no NAR in the bucket")
}

/// Requests a second. An answer other than 200 fails the measurement.
async fn requests(connections: usize, url: &str) -> anyhow::Result<f64> {
    let threads = connections.min(2).to_string();
    let connections = connections.to_string();
    let said =
        run(Command::new("wrk").args(["-t", &threads, "-c", &connections, "-d", SECONDS, url])).await?;
    ensure!(!said.contains("Non-2xx"), "{url}: {said}");
    let line =
        said.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("wrk says no rate")?;
    Ok(line.trim().parse()?)
}

/// An nginx that has the narinfo as a file, and passes on to the S3 server.
#[derive(Debug)]
struct Nginx {
    url: String,
    _child: Child,
    _folder: TempDir,
}

impl Nginx {
    async fn start(args: &Args, server: &Server, narinfo: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let text = server.http.get(format!("{}/{narinfo}", server.url)).send().await?.error_for_status()?;
        std::fs::write(folder.path().join(narinfo), text.bytes().await?)?;
        let policy = serde_json::json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"],
                "Resource": [format!("arn:aws:s3:::{}/*", server.bucket)],
            }],
        });
        args.services.s3("PUT", &format!("{}?policy", server.bucket), Some(&policy.to_string())).await?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let configuration = folder.path().join("nginx.conf");
        std::fs::write(&configuration, config(folder.path(), port, &args.services.s3_endpoint))?;
        let child = Command::new(NGINX).arg("-c").arg(&configuration).kill_on_drop(true).spawn()?;
        let url = format!("http://127.0.0.1:{port}");
        for _ in 0..100 {
            if server
                .http
                .get(format!("{url}/{narinfo}"))
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                return Ok(Self { url, _child: child, _folder: folder });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("nginx does not answer within 5 s")
    }
}

fn config(folder: &Path, port: u16, s3: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 2; pid {folder}/pid; error_log {folder}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off; sendfile on; keepalive_requests 1000000;\n\
         upstream s3 {{ server {}; keepalive 16; }}\n\
         server {{ listen 127.0.0.1:{port}; root {folder};\n\
         location /s3/ {{ proxy_pass http://s3/; proxy_http_version 1.1; proxy_set_header Connection ''; \
         proxy_max_temp_file_size 0; }} }} }}\n",
        s3.trim_start_matches("http://"),
    )
}

fn table(programs: &[Program], figures: &[Figures], nginx: Figures, bytes: u64) -> Table {
    let mut rows = Vec::new();
    let mut row = |number, what: &str, unit, who: &str, samples, target: Option<(&str, &'static str)>| {
        let against = target.filter(|_| who == "this").map(|(peer, goal)| (peer.to_owned(), goal));
        rows.push(Row { number, what: what.to_owned(), unit, who: who.to_owned(), samples, against });
    };
    let (file, proxy) = ("nginx, a static file", "nginx, `proxy_pass` to the same S3");
    for (program, figures) in programs.iter().zip(figures) {
        row(
            "P8",
            "a narinfo, 16 connections",
            "/s",
            program.name,
            figures.narinfo.clone(),
            Some((file, "≥ 0.5")),
        );
    }
    row("P8", "a narinfo, 16 connections", "/s", file, nginx.narinfo, None);
    for (program, figures) in programs.iter().zip(figures) {
        row("P9", "a NAR, 1 connection", "MB/s", program.name, figures.nar.clone(), Some((proxy, "≥ 0.8")));
    }
    row("P9", "a NAR, 1 connection", "MB/s", proxy, nginx.nar, None);
    let how = format!(
        "The read proxy (`NIKS3_ENABLE_READ_PROXY=true`), asked by `wrk` for {SECONDS} a time on the same machine. \
         The NAR has {:.1} MB as it is stored.",
        bytes as f64 / 1e6
    );
    Table { title: "Reading".to_owned(), how, rows }
}
