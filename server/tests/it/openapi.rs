//! The document that describes the calls: that it is whole, that it stands in docs/, and that the server keeps to it
//! whatever it is sent.

mod fuzz;
mod shapes;

use std::collections::BTreeSet;

use niks3_server::openapi;
use reqwest::StatusCode;
use serde_json::Value;

use crate::support::{TestServer, optional};

const ROUTER: &str = include_str!("../../src/router.rs");

/// `get /api/pins` of each route.
fn routes() -> BTreeSet<String> {
    let mut routes = BTreeSet::new();
    for route in ROUTER.split(".route(").skip(1) {
        let route = route.split(".route(").next().unwrap();
        let path = route.split('"').nth(1).unwrap().replace("{*key}", "{key}");
        let handlers = route.split(".layer(").next().unwrap();
        for method in ["get", "post", "delete", "head", "put", "patch"] {
            if [" ", "(", "."].iter().any(|before| handlers.contains(&format!("{before}{method}("))) {
                routes.insert(format!("{method} {path}"));
            }
        }
    }
    routes
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let document = openapi::document();
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            described.insert(format!("{method} {path}"));
            assert!(!operation["responses"].as_object().unwrap().is_empty(), "{method} {path}");
        }
    }
    // What no route has: objects.
    assert!(described.remove("get /{key}"));
    let routes = routes();
    assert!(routes.len() > 30, "{routes:?}");
    assert_eq!(described, routes);
}

#[test]
fn it_stands_in_docs_and_every_reference_leads_somewhere() {
    let document = openapi::document();
    let text = format!("{}\n", serde_json::to_string_pretty(&document).unwrap());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    if optional("INSTA_UPDATE").as_deref() == Some("always") {
        std::fs::write(path, &text).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == text, "docs/openapi.json is not up to date: run this test with INSTA_UPDATE=always");
    let references: Vec<&str> =
        text.split("\"$ref\": \"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(references.len() > 50);
    for reference in references {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn it_is_served_to_everybody() {
    let server = TestServer::start().await;
    let answer = server.get("/api/openapi.json").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.json::<Value>().await.unwrap(), openapi::document());
}
