//! The OpenAPI document (3.1) of the bindings, made from the same descriptors as the table, and so never of another mind.
//!
//! What people wrote in the `.proto` files becomes its descriptions.

mod schema;

use std::collections::BTreeSet;
use std::sync::Arc;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::answer::{EVENTS, JSON};
use super::binding::{Binding, Content};
use super::problem::PROBLEM;
use super::request::{IDEMPOTENCY_KEY, free};
use schema::{behaves, comment, reference};

/// The document of these bindings.
pub(super) fn document(title: &str, bindings: &[Arc<Binding>]) -> Value {
    let (mut paths, mut kinds) = (Map::new(), Kinds::default());
    for binding in bindings {
        let operation = operation(binding, &mut kinds);
        let path = paths.entry(binding.route.clone()).or_insert_with(|| json!({}));
        path[binding.method.as_str().to_lowercase()] = operation;
    }
    let mut schemas = kinds.schemas();
    schemas.insert("Problem".to_owned(), problem());
    json!({
        "openapi": "3.1.0",
        "info": {"title": title, "version": "v1"},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": schemas,
        },
    })
}

/// The messages that are named, and all that these name.
#[derive(Debug, Default)]
struct Kinds(Vec<MessageDescriptor>);

impl Kinds {
    fn refer(&mut self, kind: MessageDescriptor) -> Value {
        let refers = reference(&kind);
        if !self.0.contains(&kind) {
            self.0.push(kind);
        }
        refers
    }

    fn schemas(self) -> Map<String, Value> {
        let (mut schemas, mut waiting) = (Map::new(), self.0);
        let mut seen = BTreeSet::new();
        while let Some(kind) = waiting.pop() {
            if !seen.insert(kind.full_name().to_owned()) {
                continue;
            }
            schemas.insert(schema::name(&kind), schema::message(&kind, |_| true));
            let inner = kind.fields().filter_map(|field| match field.kind() {
                Kind::Message(inner) if inner.package_name() != "google.protobuf" => Some(inner),
                _ => None,
            });
            waiting.extend(inner);
        }
        schemas
    }
}

fn operation(binding: &Binding, kinds: &mut Kinds) -> Value {
    let (summary, tag) = (comment(&binding.call), binding.call.parent_service().name().to_owned());
    let output = kinds.refer(binding.call.output());
    let answer = match binding.streams {
        true => json!({EVENTS: {"schema": {"type": "string"}}}),
        false => json!({JSON: {"schema": output}}),
    };
    let mut operation = json!({
        "operationId": binding.call.name(),
        "tags": [tag],
        "description": summary,
        "parameters": parameters(binding),
        "responses": {
            "200": {"description": "The answer.", "content": answer},
            "default": {
                "description": "A refusal, which has changed nothing.",
                "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    });
    if let Some((body, required)) = body(binding, kinds) {
        operation["requestBody"] =
            json!({"required": required, "content": {JSON: {"schema": body}}});
    }
    operation
}

fn parameters(binding: &Binding) -> Vec<Value> {
    let names = binding.variables.iter().flat_map(|bound| &bound.names);
    let mut parameters: Vec<_> = names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}))
        .collect();
    for field in binding.call.input().fields().filter(|field| free(binding, field)) {
        let is_id = Some(&field) == binding.request_id.as_ref();
        parameters.push(json!({
            "name": field.json_name(),
            "in": "query",
            "required": !is_id && behaves(&field, "REQUIRED"),
            "description": comment(&field),
            "schema": schema::field(&field),
        }));
    }
    if let Some(field) = &binding.request_id {
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "description": format!("Instead of `{}`. {}", field.json_name(), comment(field)),
            "schema": {"type": "string", "format": "uuid"},
        }));
        debug_assert!("Idempotency-Key".eq_ignore_ascii_case(IDEMPOTENCY_KEY));
    }
    parameters
}

/// The schema of the body, and whether one must be sent.
fn body(binding: &Binding, kinds: &mut Kinds) -> Option<(Value, bool)> {
    match &binding.body {
        Content::None => None,
        Content::Field(field) => match field.kind() {
            Kind::Message(kind) => Some((kinds.refer(kind), true)),
            _ => None,
        },
        Content::All => {
            let in_path = |field: &FieldDescriptor| {
                binding.variables.iter().any(|bound| bound.fields.first() == Some(field))
            };
            let input = binding.call.input();
            let mut schema = schema::message(&input, |field| !in_path(field));
            let is_needed = |name: &Value| {
                name.as_str() != binding.request_id.as_ref().map(FieldDescriptor::json_name)
            };
            if let Some(required) = schema["required"].as_array_mut() {
                required.retain(is_needed);
            }
            let required = schema["required"].as_array().is_some_and(|all| !all.is_empty());
            Some((schema, required))
        }
    }
}

fn problem() -> Value {
    json!({
        "type": "object",
        "description": "A refusal after RFC 9457.",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What happened and what to do next."},
            "code": {"type": "string", "description": "The google.rpc.Code."},
            "reason": {"type": "string", "description": "Why, out of a closed list."},
            "domain": {"type": "string"},
            "retryAfter": {"type": "string", "description": "When to ask again, where that is of use.", "pattern": schema::DURATION},
            "violations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["field", "description"],
                    "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
                },
            },
        },
    })
}
