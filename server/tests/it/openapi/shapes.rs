//! JSON Schema, as far as the document has it: values made by it, and values held against it.

use serde_json::{Map, Value, json};

use crate::support::dice::Dice;

/// Deeper than any body.
const MAX_DEPTH: u32 = 8;

/// What stands where a reference leads.
fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

fn choices(schema: &Value) -> Option<&Vec<Value>> {
    schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array())
}

/// Types that a schema allows; none where it allows any.
fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Values of the right shape mostly, of any other now and then.
pub(super) struct Maker<'a> {
    pub(super) document: &'a Value,
    pub(super) dice: Dice,
    /// Texts that mean something to the server.
    pub(super) texts: &'a [String],
}

impl Maker<'_> {
    pub(super) fn text(&mut self) -> String {
        let index = self.dice.index(self.texts.len());
        self.texts[index].clone()
    }

    pub(super) fn hostile(&mut self) -> Value {
        match self.dice.roll(14) {
            0 => Value::Null,
            1 => json!(-1),
            2 => json!(u64::MAX),
            3 => json!(1e300),
            4 => json!(""),
            5 => json!([]),
            6 => json!({}),
            7 => json!(true),
            8 => json!("a\u{0}b"),
            9 => json!("x".repeat(3000)),
            10 => json!([[[[[["deep"]]]]]]),
            11 => json!({"$ref": "#", "__proto__": {}}),
            12 => json!("'; drop table objects; --"),
            _ => json!(self.text()),
        }
    }

    pub(super) fn value(&mut self, schema: &Value, depth: u32) -> Value {
        if depth > MAX_DEPTH || self.dice.roll(40) == 0 {
            return self.hostile();
        }
        let schema = resolve(self.document, schema).clone();
        if let Some(choices) = choices(&schema) {
            let choice = choices[self.dice.index(choices.len())].clone();
            return self.value(&choice, depth + 1);
        }
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(values) = schema["enum"].as_array() {
            return values[self.dice.index(values.len())].clone();
        }
        let types = types(&schema);
        if types.is_empty() {
            return self.hostile();
        }
        match types[self.dice.index(types.len())] {
            "object" => self.object(&schema, depth),
            "array" => {
                let count = self.dice.roll(4);
                (0..count).map(|_| self.value(&schema["items"], depth + 1)).collect()
            }
            "string" => match schema["examples"].as_array() {
                Some(examples) if self.dice.roll(2) == 0 => examples[self.dice.index(examples.len())].clone(),
                _ => json!(self.text()),
            },
            "integer" | "number" => match self.dice.roll(6) {
                0 => json!(0),
                1 => json!(1),
                2 => json!(i64::MAX),
                3 => json!(u32::MAX),
                _ => json!(self.dice.roll(20)),
            },
            "boolean" => json!(self.dice.roll(2) == 0),
            _ => Value::Null,
        }
    }

    fn object(&mut self, schema: &Value, depth: u32) -> Value {
        let mut made = Map::new();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (name, shape) in schema["properties"].as_object().cloned().unwrap_or_default() {
            let odds = if required.contains(&json!(name)) { 60 } else { 2 };
            if self.dice.roll(odds) > 0 {
                made.insert(name, self.value(&shape, depth + 1));
            }
        }
        if schema["additionalProperties"].is_object() {
            for _ in 0..self.dice.roll(3) {
                let name = self.text();
                made.insert(name, self.value(&schema["additionalProperties"], depth + 1));
            }
        }
        made.into()
    }
}

/// Where a value is not of a shape.
pub(super) fn mismatch(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    let schema = resolve(document, schema);
    if let Some(choices) = choices(schema) {
        let all: Vec<String> = choices.iter().map_while(|choice| mismatch(document, choice, value)).collect();
        return (all.len() == choices.len()).then(|| all.join("; "));
    }
    if let Some(constant) = schema.get("const") {
        return (constant != value).then(|| format!("{value} is not {constant}"));
    }
    if let Some(values) = schema["enum"].as_array() {
        return (!values.contains(value)).then(|| format!("{value} is none of {values:?}"));
    }
    let fits = |name: &&str| match *name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        _ => value.is_null(),
    };
    let types = types(schema);
    if !types.is_empty() && !types.iter().any(fits) {
        return Some(format!("{value} is not {types:?}"));
    }
    if let Some(fields) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                return Some(format!("{name} is missing in {value}"));
            }
        }
        for (name, value) in fields {
            let shape = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
            // Each field that is sent is described.
            if schema["properties"].is_object() && shape.is_null() {
                return Some(format!("{name} is not described"));
            }
            if let Some(why) = mismatch(document, shape, value) {
                return Some(format!("{name}: {why}"));
            }
        }
    }
    let mut items = value.as_array().into_iter().flatten();
    items.find_map(|item| mismatch(document, &schema["items"], item))
}
