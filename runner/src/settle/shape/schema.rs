//! JSON Schema of job files.

use super::{Field, KIND, KINDS, Kind, Shape, Variant, of_kind};
use serde_json::{Map, Value, json};

/// JSON Schema (2020-12) of job files in TOML and YAML.
pub fn json_schema() -> Value {
    let kinds: Vec<Value> = KINDS
        .iter()
        .filter_map(|kind| {
            let mut schema = shape_schema(of_kind(kind)?);
            schema["title"] = json!(kind);
            schema["properties"]["kind"] = json!({ "const": kind, "description": KIND.doc });
            Some(schema)
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "smack job file",
        "oneOf": kinds,
    })
}

fn shape_schema(shape: &Shape) -> Value {
    let properties: Map<String, Value> =
        shape.fields.iter().map(|field| (field.name.to_string(), field_schema(field))).collect();
    let required: Vec<&str> = shape.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn field_schema(field: &Field) -> Value {
    let mut schema = match &field.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Whole(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Kind::Number(low, high) => json!({ "type": "number", "minimum": low, "maximum": high }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Choice(choices) => json!({ "enum": choices }),
        Kind::Duration(_) => json!({ "type": "string", "pattern": "^[0-9.]+ *[A-Za-z]+$" }),
        Kind::Memory => json!({ "type": ["number", "string"] }),
        Kind::TextList => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::TextTable => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::Table(shape) => shape_schema(shape),
        Kind::Tables(shape) => json!({ "type": "object", "additionalProperties": { "anyOf": [
            { "type": "string" },
            shape_schema(shape),
        ] } }),
        Kind::Tried => json!({ "type": "object", "additionalProperties": { "anyOf": [
            { "type": "array", "minItems": 1 },
            { "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false, "properties": {
                "choice": { "type": "array", "minItems": 1 },
                "uniform": ends(),
                "log_uniform": ends(),
            } },
        ] } }),
        Kind::Names => json!({ "type": ["string", "array"], "items": { "type": "string" } }),
        Kind::Sizes => {
            json!({ "type": ["integer", "array"], "minimum": 1, "items": whole(), "minItems": 2, "maxItems": 2 })
        }
        Kind::WholeList => json!({ "type": "array", "items": whole(), "minItems": 1 }),
        Kind::ListOf(variants) => json!({ "type": "array", "items": { "anyOf": variants_schema(variants) } }),
    };
    schema["description"] = json!(field.doc);
    if let Some(default) = field.default {
        let value = match &field.kind {
            Kind::Whole(..) | Kind::Number(..) | Kind::Boolean | Kind::Memory | Kind::Sizes => {
                serde_json::from_str(default).unwrap_or_else(|_| json!(default))
            }
            Kind::ListOf(_) => json!(null),
            _ => json!(default),
        };
        if !value.is_null() {
            schema["default"] = value;
        }
    }
    schema
}

fn ends() -> Value {
    json!({ "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 2 })
}

fn whole() -> Value {
    json!({ "type": "integer", "minimum": 1 })
}

/// Each variant by its key, and those without a setting by their bare word too.
fn variants_schema(variants: &[Variant]) -> Vec<Value> {
    let mut schemas: Vec<Value> = variants
        .iter()
        .map(|variant| {
            let mut schema = shape_schema(&variant.shape);
            schema["title"] = json!(variant.name);
            let mut required = vec![variant.name];
            required.extend(variant.shape.fields.iter().filter(|field| field.required).map(|field| field.name));
            required.dedup();
            schema["required"] = json!(required);
            schema
        })
        .collect();
    let bare: Vec<&str> = variants.iter().filter(|variant| variant.bare).map(|variant| variant.name).collect();
    schemas.push(json!({ "enum": bare }));
    schemas
}
