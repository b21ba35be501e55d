//! What is made of files, and made anew when they change: a certificate is renewed and a key follows another without
//! a restart. Files are looked at rather than watched: a kubelet swaps links, editors rename, network folders say
//! nothing.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::app::App;
use crate::storage;
use crate::telemetry::chain;

/// The files are looked at so often, and at once on SIGHUP.
const PERIOD: Duration = Duration::from_secs(5);
/// Several files that changed are read until two readings in a row are the same, but not more often than this.
const READINGS: usize = 10;

/// Files, and what is made of them.
pub trait Source: Send + Sync {
    /// What the files hold.
    type Contents: PartialEq + Send;
    /// What is made of that.
    type Made: Send + Sync;
    /// Why they cannot be used; never their content.
    type Error: Error + 'static;
    /// What logs call them.
    const WHAT: &'static str;

    /// Reads all of them.
    fn read(&self) -> Result<Self::Contents, Self::Error>;

    /// Makes something of what was read.
    fn make(&self, contents: &Self::Contents) -> Result<Self::Made, Self::Error>;
}

/// What was made of files that could be used whole.
pub struct Watched<S: Source> {
    source: S,
    contents: Mutex<S::Contents>,
    made: watch::Sender<Arc<S::Made>>,
    /// Why what the files hold now is not in force.
    problem: Mutex<Option<String>>,
}

impl<S: Source + std::fmt::Debug> std::fmt::Debug for Watched<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.source.fmt(f)
    }
}

impl<S: Source> Watched<S> {
    /// Reads the files.
    pub fn open(source: S) -> Result<Self, S::Error> {
        let contents = settled(&source, source.read()?)?;
        let made = watch::Sender::new(Arc::new(source.make(&contents)?));
        Ok(Self { source, contents: Mutex::new(contents), made, problem: Mutex::default() })
    }

    /// What is in force. Whoever does something with it in several steps asks once.
    pub fn now(&self) -> Arc<S::Made> {
        Arc::clone(&self.made.borrow())
    }

    /// Tells when something else is in force.
    pub fn subscribe(&self) -> watch::Receiver<Arc<S::Made>> {
        self.made.subscribe()
    }

    /// Why what the files hold now is not in force.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again; whether something else is in force now. What cannot be used whole changes nothing.
    fn look(&self) -> bool {
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match self.reload() {
            Ok(changed) => {
                if changed {
                    tracing::info!("the {} changed: what they hold now is in force", S::WHAT);
                } else if problem.is_some() {
                    tracing::info!("the {} hold again what is in force", S::WHAT);
                }
                *problem = None;
                changed
            }
            Err(error) => {
                let said = chain(&error);
                // Of two files that change one after the other, the first may not fit: once is enough.
                if problem.as_ref() != Some(&said) {
                    tracing::warn!(
                        error = said,
                        "the {} cannot be used now; what they held before still is",
                        S::WHAT
                    );
                }
                *problem = Some(said);
                false
            }
        }
    }

    fn reload(&self) -> Result<bool, S::Error> {
        let mut before = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = self.source.read()?;
        if *before == contents {
            return Ok(false);
        }
        let contents = settled(&self.source, contents)?;
        if *before == contents {
            return Ok(false);
        }
        let made = self.source.make(&contents)?;
        *before = contents;
        self.made.send_replace(Arc::new(made));
        Ok(true)
    }
}

/// All files as they were at one time: a kubelet swaps them together, maybe between two reads.
fn settled<S: Source>(source: &S, mut contents: S::Contents) -> Result<S::Contents, S::Error> {
    for _ in 0..READINGS {
        let again = source.read()?;
        if again == contents {
            break;
        }
        contents = again;
    }
    Ok(contents)
}

/// Takes what changes, for as long as the server runs.
pub async fn keep(app: Arc<App>) {
    let mut hangup = signal(SignalKind::hangup()).ok();
    let mut page_is_old = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = told(hangup.as_mut()) => tracing::info!("SIGHUP: keys and certificates are read again"),
        }
        if let Some(tls) = &app.tls {
            tls.look();
        }
        page_is_old |= app.keys.look();
        app.metrics.note_keys(app.keys.problem().is_none());
        // The page in the bucket names the keys.
        if page_is_old && app.health.require_storage().is_ok() {
            match storage::write_page(&app).await {
                Ok(()) => page_is_old = false,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "the landing page names former keys still");
                }
            }
        }
    }
}

async fn told(hangup: Option<&mut Signal>) {
    if let Some(hangup) = hangup
        && hangup.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}
