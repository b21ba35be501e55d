//! Starting, being ready, losing what it needs, and stopping.

use reqwest::StatusCode;

use crate::support::TestServer;
use crate::support::closure::TestPath;

#[tokio::test]
async fn a_pushed_closure_is_served() {
    let server = TestServer::start().await;
    let dependency = TestPath::new("dependency", &[]);
    let root = TestPath::new("root", &[&dependency]);
    server.push(&[&root, &dependency]).await;
    let answer = server.get(&format!("/{}", root.key())).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap().contains("Sig: test-1:"));
    server.stop().await;
}
