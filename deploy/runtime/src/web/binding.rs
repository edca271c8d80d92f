//! A binding: how one call looks over HTTP. Read once, at the start, from the `google.api.http` options of the services'
//! descriptors, and checked then, so that a request has nothing left to find out.
//!
//! A path may leave out the beginning of a name: where the pattern of a field's resource is `orgs/{org}/sales/{sale}` and
//! the path has only `sales/*`, what is missing is the caller's own, which the plane says.

use http::{HeaderValue, Method, Uri};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    Value,
};

use super::WebError;
use super::answer::Written;
use super::template::{Segment, Template};

/// The field that makes a call the same call again.
const REQUEST_ID: &str = "request_id";

/// How one call looks over HTTP.
#[derive(Debug)]
pub(super) struct Binding {
    /// Of the request.
    pub(super) method: Method,
    /// The path.
    pub(super) template: Template,
    /// The path for people, logs and the document: variables have names there, and no values.
    pub(super) route: String,
    /// The fields that the path makes.
    pub(super) variables: Vec<Bound>,
    /// What the body is.
    pub(super) body: Content,
    /// The field that an `Idempotency-Key` fills.
    pub(super) request_id: Option<FieldDescriptor>,
    /// The call.
    pub(super) call: MethodDescriptor,
    /// The call's path in gRPC.
    pub(super) uri: Uri,
    /// Whether the answer is a stream.
    pub(super) streams: bool,
    /// How long an answer may be kept; none: not at all.
    pub(super) cache: Option<HeaderValue>,
    /// What a stream said not long ago.
    pub(super) written: Written,
}

/// A field that the path makes.
#[derive(Debug)]
pub(super) struct Bound {
    /// From the request to the field.
    pub(super) fields: Vec<FieldDescriptor>,
    /// Which segments make it.
    pub(super) segments: std::ops::Range<usize>,
    /// Whether the caller's own name comes before them.
    pub(super) is_own: bool,
    /// What the segments that may be anything are called.
    pub(super) names: Vec<String>,
}

/// What the body of a request is.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// There is none.
    None,
    /// The request, but for what the path makes.
    All,
    /// One field of it.
    Field(FieldDescriptor),
}

/// All bindings of a service's calls.
pub(super) fn bindings(pool: &DescriptorPool, service: &str) -> Result<Vec<Binding>, WebError> {
    let service = pool
        .get_service_by_name(service)
        .ok_or_else(|| WebError::new(service, "is not in the descriptors"))?;
    let http = pool
        .get_extension_by_name("google.api.http")
        .ok_or_else(|| WebError::new("google.api.http", "is not in the descriptors"))?;
    let mut bindings = Vec::new();
    for call in service.methods() {
        let options = call.options();
        let Some(rule) = options.has_extension(&http).then(|| options.get_extension(&http)) else {
            continue;
        };
        let Some(rule) = rule.as_message() else { continue };
        bindings.push(Binding::new(pool, &call, rule)?);
        let more = rule.get_field_by_name("additional_bindings");
        for rule in more.as_deref().and_then(Value::as_list).unwrap_or_default() {
            let Some(rule) = rule.as_message() else { continue };
            bindings.push(Binding::new(pool, &call, rule)?);
        }
    }
    Ok(bindings)
}

impl Binding {
    fn new(
        pool: &DescriptorPool,
        call: &MethodDescriptor,
        rule: &DynamicMessage,
    ) -> Result<Binding, WebError> {
        let wrong = |what: &str| WebError::new(call.full_name(), what);
        let (method, path) =
            pattern(rule).ok_or_else(|| wrong("has a method that is not known"))?;
        let template =
            Template::parse(&path).ok_or_else(|| wrong("has a path that is no template"))?;
        let input = call.input();
        let body = match text(rule, "body").as_str() {
            "" => Content::None,
            "*" => Content::All,
            field => Content::Field(
                input
                    .get_field_by_name(field)
                    .filter(|field| matches!(field.kind(), Kind::Message(_)) && !field.is_list())
                    .ok_or_else(|| wrong("has a body that is no message"))?,
            ),
        };
        let bound = template.variables.iter().map(|variable| {
            let fields = fields(&input, &variable.field)?;
            let (is_own, names) = names(pool, fields.last()?, template.of(variable))?;
            Some(Bound { fields, segments: variable.segments.clone(), is_own, names })
        });
        let variables: Option<Vec<_>> = bound.collect();
        let variables =
            variables.ok_or_else(|| wrong("has a path of which some part is no name"))?;
        let uri = format!("/{}/{}", call.parent_service().full_name(), call.name());
        Ok(Binding {
            method,
            route: route(&template, &variables),
            variables,
            body,
            request_id: input.get_field_by_name(REQUEST_ID),
            uri: uri.parse().map_err(|_| wrong("has no path in gRPC"))?,
            streams: call.is_server_streaming(),
            call: call.clone(),
            cache: None,
            written: Written::default(),
            template,
        })
    }

    /// Whether the path leaves out the caller's own name.
    pub(super) fn is_own(&self) -> bool {
        self.variables.iter().any(|bound| bound.is_own)
    }
}

fn pattern(rule: &DynamicMessage) -> Option<(Method, String)> {
    let methods = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    let rules = methods.into_iter().map(|(name, method)| (method, text(rule, name)));
    rules.into_iter().find(|(_, path)| !path.is_empty())
}

pub(super) fn text(message: &DynamicMessage, field: &str) -> String {
    let value = message.get_field_by_name(field);
    value.as_deref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The fields along a path with dots that ends in a string.
fn fields(message: &MessageDescriptor, path: &str) -> Option<Vec<FieldDescriptor>> {
    let (mut message, mut fields) = (Some(message.clone()), Vec::new());
    for name in path.split('.') {
        let field = message?.get_field_by_name(name)?;
        message = match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() => Some(inner),
            _ => None,
        };
        fields.push(field);
    }
    let last = fields.last()?;
    (matches!(last.kind(), Kind::String) && !last.is_list()).then_some(fields)
}

/// Whether the field's resource has one more collection before these segments, and what those are called that may be
/// anything. None if the segments are no end of the resource's name.
fn names(
    pool: &DescriptorPool,
    field: &FieldDescriptor,
    segments: &[Segment],
) -> Option<(bool, Vec<String>)> {
    let Some(pattern) = resource(pool, field) else {
        return (segments == [Segment::Any]).then(|| (false, vec![field.name().to_owned()]));
    };
    let pattern: Vec<&str> = pattern.split('/').collect();
    let missing = pattern.len().checked_sub(segments.len())?;
    let mut names = Vec::new();
    for (part, segment) in pattern[missing..].iter().zip(segments) {
        let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
        match (name, segment) {
            (Some(name), Segment::Any) => names.push(name.to_owned()),
            (None, Segment::Literal(literal)) if literal == part => {}
            _ => return None,
        }
    }
    matches!(missing, 0 | 2).then_some((missing == 2, names))
}

/// The pattern of the resource that the field names.
fn resource(pool: &DescriptorPool, field: &FieldDescriptor) -> Option<String> {
    let own = pool.get_extension_by_name("google.api.resource")?;
    let pattern = |message: &MessageDescriptor| {
        let options = message.options();
        let resource = options.has_extension(&own).then(|| options.get_extension(&own))?;
        let resource = resource.as_message()?;
        let patterns = resource.get_field_by_name("pattern")?;
        let first = patterns.as_list()?.first()?.as_str()?.to_owned();
        Some((text(resource, "type"), first))
    };
    // A resource's own name has no reference.
    if let Some((_, pattern)) = pattern(field.parent_message()).filter(|_| field.name() == "name") {
        return Some(pattern);
    }
    let reference = pool.get_extension_by_name("google.api.resource_reference")?;
    let options = field.options();
    let kind = text(options.get_extension(&reference).as_message()?, "type");
    let mut resources = pool.all_messages().filter_map(|message| pattern(&message));
    resources.find(|(one, _)| *one == kind).map(|(_, pattern)| pattern)
}

/// The template with the variables' names.
fn route(template: &Template, variables: &[Bound]) -> String {
    let mut names = variables.iter().flat_map(|variable| &variable.names);
    let mut route = String::new();
    for segment in &template.segments {
        route.push('/');
        match segment {
            Segment::Literal(literal) => route.push_str(literal),
            Segment::Any => {
                let name = names.next().map_or("*", String::as_str);
                route.extend(["{", name, "}"]);
            }
        }
    }
    if let Some(verb) = &template.verb {
        route.extend([":", verb]);
    }
    route
}
