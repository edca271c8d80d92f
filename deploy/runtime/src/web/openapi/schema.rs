//! Schemas of messages and fields as proto3 JSON has them.

use prost_reflect::{
    DescriptorPool, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, MethodDescriptor,
};
use serde_json::{Map, Value, json};

/// A `google.protobuf.Duration`.
pub(super) const DURATION: &str = "^-?[0-9]+(\\.[0-9]{1,9})?s$";
const INTEGER: &str = "^-?[0-9]+$";

/// What a message is called in the document: the last part of its name, behind those that it lies in.
pub(super) fn name(kind: &MessageDescriptor) -> String {
    let name = kind.full_name().strip_prefix(kind.package_name()).unwrap_or(kind.full_name());
    name.trim_start_matches('.').to_owned()
}

/// A reference to a message's schema.
pub(super) fn reference(kind: &MessageDescriptor) -> Value {
    json!({"$ref": format!("#/components/schemas/{}", name(kind))})
}

/// The schema of a message with some of its fields.
pub(super) fn message(kind: &MessageDescriptor, with: impl Fn(&FieldDescriptor) -> bool) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for field in kind.fields().filter(with) {
        let mut schema = self::field(&field);
        schema["description"] = json!(comment(&field));
        if behaves(&field, "OUTPUT_ONLY") || behaves(&field, "IDENTIFIER") {
            schema["readOnly"] = json!(true);
        }
        if behaves(&field, "REQUIRED") {
            required.push(field.json_name().to_owned());
        }
        properties.insert(field.json_name().to_owned(), schema);
    }
    json!({
        "type": "object",
        "description": comment(kind),
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

/// The schema of a field.
pub(super) fn field(field: &FieldDescriptor) -> Value {
    let one = match field.kind() {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::String => json!({"type": "string"}),
        Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
        Kind::Double | Kind::Float => json!({"type": "number"}),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX})
        }
        Kind::Uint32 | Kind::Fixed32 => {
            json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => {
            json!({"type": "string", "pattern": INTEGER})
        }
        Kind::Enum(kind) => {
            let names: Vec<_> = kind.values().map(|value| value.name().to_owned()).collect();
            json!({"type": "string", "enum": names})
        }
        Kind::Message(kind) => match kind.full_name() {
            "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
            "google.protobuf.Duration" => json!({"type": "string", "pattern": DURATION}),
            "google.protobuf.FieldMask" => json!({"type": "string"}),
            _ => reference(&kind),
        },
    };
    if field.is_list() { json!({"type": "array", "items": one}) } else { one }
}

/// Whether the field has this `google.api.field_behavior`.
pub(super) fn behaves(field: &FieldDescriptor, behavior: &str) -> bool {
    let pool: &DescriptorPool = field.parent_pool();
    let number = pool
        .get_enum_by_name("google.api.FieldBehavior")
        .and_then(|kind| kind.get_value_by_name(behavior).map(|value| value.number()));
    let Some(extension) = pool.get_extension_by_name("google.api.field_behavior") else {
        return false;
    };
    let options = field.options();
    let behaviors = options.get_extension(&extension);
    let mut all = behaviors.as_list().unwrap_or_default().iter();
    number.is_some() && all.any(|one| one.as_enum_number() == number)
}

/// What stands before it in its file.
pub(super) fn comment(what: &impl Commented) -> String {
    let (file, path) = what.place();
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let mut locations = info.map(|info| info.location.iter()).into_iter().flatten();
    let comment = locations.find(|location| location.path == path);
    let text = comment.and_then(|location| location.leading_comments.as_deref()).unwrap_or("");
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// What may have a comment.
pub(super) trait Commented {
    /// Its file, and where it stands there.
    fn place(&self) -> (FileDescriptor, &[i32]);
}

impl Commented for MessageDescriptor {
    fn place(&self) -> (FileDescriptor, &[i32]) {
        (self.parent_file(), self.path())
    }
}

impl Commented for FieldDescriptor {
    fn place(&self) -> (FileDescriptor, &[i32]) {
        (self.parent_file(), self.path())
    }
}

impl Commented for MethodDescriptor {
    fn place(&self) -> (FileDescriptor, &[i32]) {
        (self.parent_file(), self.path())
    }
}
