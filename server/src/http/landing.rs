//! The page people see who open the cache in a browser.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;

use crate::app::App;

/// `GET /`
pub async fn index(State(app): State<Arc<App>>) -> Html<String> {
    Html(page(&app))
}

/// The page's text; also written into the bucket.
pub fn page(app: &App) -> String {
    let url = escape(&app.config.cache_url);
    let keys = app.keys.now().signer.public_keys();
    let keys: Vec<String> = keys.iter().map(|key| escape(&key.to_string())).collect();
    let keys = keys.join(" ");
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Nix binary cache</title>\n\
         <style>body{{font:16px/1.5 system-ui;max-width:46rem;margin:4rem auto;padding:0 1rem}}\
         pre{{background:#f3f4f6;padding:1rem;overflow:auto}}</style>\n\
         <h1>Nix binary cache</h1>\n<p>Add these lines to <code>nix.conf</code>:</p>\n\
         <pre>extra-substituters = {url}\nextra-trusted-public-keys = {keys}</pre>\n\
         <p>Push with <code>niks3 push PATH</code>.</p>\n</html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
