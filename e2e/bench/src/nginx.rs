//! nginx as Debian packages it: a file from disk, and an object of S3.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// A running nginx.
pub(crate) struct Nginx {
    pub(crate) url: String,
    folder: TempDir,
    child: Child,
}

impl Nginx {
    /// Serves `/file`, of that content, and `/objects/N`, the Nth of those paths of S3 at `host`.
    pub(crate) async fn start(file: &[u8], host: &str, objects: &[String]) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("files"))?;
        std::fs::write(folder.path().join("files/file"), file)?;
        let location = |(number, object): (usize, &String)| {
            format!(
                "location = /objects/{number} {{ proxy_pass http://s3{object}; proxy_http_version 1.1; \
                 proxy_set_header Connection ''; proxy_set_header Host {host}; }}\n"
            )
        };
        let locations: String = objects.iter().enumerate().map(location).collect();
        let base = folder.path().display();
        // Where root starts it, its workers are to read a folder of root's.
        let config = format!(
            "{user}worker_processes auto; pid {base}/pid; error_log {base}/log; daemon off;\n\
             events {{}}\n\
             http {{\n\
             access_log off; sendfile on; keepalive_requests 1000000000;\n\
             client_body_temp_path {base}; proxy_temp_path {base}; fastcgi_temp_path {base}; \
             scgi_temp_path {base}; uwsgi_temp_path {base};\n\
             upstream s3 {{ server {host}; keepalive 64; }}\n\
             server {{ listen {address}; root {base}/files;\n{locations}}}\n\
             }}\n",
            user = if is_root() { "user root; " } else { "" },
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        let child = Command::new("nginx")
            .args(["-e", "stderr", "-p"])
            .arg(folder.path())
            .arg("-c")
            .arg(&file)
            .kill_on_drop(true)
            .spawn()
            .context("nginx does not start: apt-get install nginx")?;
        let nginx = Self { url: format!("http://{address}"), folder, child };
        for _ in 0..100 {
            if reqwest::get(format!("{}/file", nginx.url)).await.is_ok_and(|answer| answer.status() == 200) {
                return Ok(nginx);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = std::fs::read_to_string(nginx.folder.path().join("log")).unwrap_or_default();
        anyhow::bail!("nginx does not answer after 5 s: {log}")
    }

    /// Ends it and its workers.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = std::fs::read_to_string(self.folder.path().join("pid"))?;
        let told = Command::new("kill").args(["-TERM", pid.trim()]).status().await?;
        ensure!(told.success(), "nginx has ended before");
        self.child.wait().await?;
        Ok(())
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
