//! What the server's calls are, as OpenAPI 3.1 (`GET /api/openapi.json`): bodies as the types of `protocol` have them,
//! calls as [`calls`] lists them. A test compares that list with the router.

mod calls;

use std::collections::BTreeMap;

use niks3_protocol::api::ErrorBody;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

type Shape = fn(&mut SchemaGenerator) -> Schema;

/// What an answer holds.
enum Content {
    Nothing,
    Json(Shape),
    /// Something else, by its media type.
    Other(&'static str),
}

/// A parameter of the query.
struct Parameter {
    name: &'static str,
    shape: Shape,
    required: bool,
    about: &'static str,
}

/// One call.
struct Call {
    method: &'static str,
    path: &'static str,
    about: &'static str,
    /// The permissions that suffice; none where no identity is asked for.
    needs: Option<&'static str>,
    query: Vec<Parameter>,
    body: Option<Shape>,
    /// Statuses beside those that [`Call::refusals`] tells.
    answers: Vec<(u16, &'static str, Content)>,
}

fn shape<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The whole document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for call in calls::all() {
        let operation = call.describe(&mut generator);
        paths.entry(call.path).or_default().insert(call.method.to_owned(), operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "niks3-server",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A Nix binary cache on S3: pushes, pins, collections and reads",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "A static token, or a JWT of a known issuer" },
                "basic": { "type": "http", "scheme": "basic", "description": "The same token as the password" },
                "certificate": { "type": "mutualTLS" },
            },
        },
    })
}

impl Call {
    fn describe(&self, generator: &mut SchemaGenerator) -> Value {
        let mut operation = Map::new();
        operation.insert("summary".to_owned(), json!(self.about));
        operation.insert("operationId".to_owned(), json!(self.name()));
        let mut parameters: Vec<Value> = self
            .path
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split('}').next())
            .map(calls::path_parameter)
            .collect();
        parameters.extend(self.query.iter().map(|parameter| {
            let schema = (parameter.shape)(generator);
            json!({
                "name": parameter.name, "in": "query", "required": parameter.required,
                "description": parameter.about, "schema": schema,
            })
        }));
        if !parameters.is_empty() {
            operation.insert("parameters".to_owned(), parameters.into());
        }
        if let Some(body) = self.body {
            let schema = body(generator);
            let content = json!({ "application/json": { "schema": schema } });
            operation.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
        }
        if let Some(needs) = self.needs {
            operation.insert("description".to_owned(), json!(format!("Needs the permission {needs}.")));
            let security = json!([{ "bearer": [] }, { "basic": [] }, { "certificate": [] }]);
            operation.insert("security".to_owned(), security);
        }
        let mut responses = Map::new();
        for (status, about) in self.refusals() {
            let content = Content::Json(shape::<ErrorBody>);
            responses.insert(status.to_string(), response(generator, about, &content));
        }
        for (status, about, content) in &self.answers {
            responses.insert(status.to_string(), response(generator, about, content));
        }
        operation.insert("responses".to_owned(), responses.into());
        operation.into()
    }

    /// `post_api_pins_name`
    fn name(&self) -> String {
        let path = self.path.replace(['{', '}', '.'], "").replace(['/', '-'], "_");
        format!("{}{path}", self.method)
    }

    /// The statuses that every call of a kind may have.
    fn refusals(&self) -> Vec<(u16, &'static str)> {
        let mut all = Vec::new();
        if self.path.starts_with("/api/") && self.path != calls::DOCUMENT {
            all.push((429, "S3 throttles, or this identity calls too often"));
            all.push((503, "the database or the bucket is away, or what is asked for is busy"));
        }
        if self.needs.is_some() {
            all.push((401, "no valid identity"));
            all.push((403, "the identity lacks the permission"));
        }
        if self.body.is_some() || !self.query.is_empty() || self.path.contains('{') {
            all.push((400, "the request is wrong"));
        }
        // Calls without a body are sent one all the same.
        if self.method == "post" {
            all.push((413, "the body is too long"));
        }
        if self.body.is_some() {
            all.push((415, "the body is encoded"));
        }
        all
    }
}

fn response(generator: &mut SchemaGenerator, about: &str, content: &Content) -> Value {
    match content {
        Content::Nothing => json!({ "description": about }),
        Content::Json(shape) => {
            json!({ "description": about, "content": { "application/json": { "schema": shape(generator) } } })
        }
        Content::Other(kind) => json!({ "description": about, "content": { *kind: {} } }),
    }
}
