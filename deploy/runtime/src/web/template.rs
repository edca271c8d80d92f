//! A path template of a `google.api.http` rule: literal segments, `*`, variables over them, and a verb at the end.
//!
//! `**` is not understood: a name has as many segments as its kind says.

use std::ops::Range;

/// A template, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    /// What the segments between the slashes must be.
    pub(super) segments: Vec<Segment>,
    /// Which of them make a field.
    pub(super) variables: Vec<Variable>,
    /// What follows the last segment behind a colon.
    pub(super) verb: Option<String>,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Exactly this.
    Literal(String),
    /// Anything but nothing.
    Any,
}

/// Segments that make a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    /// The field's path in the request, with dots.
    pub(super) field: String,
    /// Its segments, joined by slashes.
    pub(super) segments: Range<usize>,
}

impl Template {
    /// Takes a template apart; none if it is none.
    pub(super) fn parse(text: &str) -> Option<Template> {
        let mut template = Template { segments: Vec::new(), variables: Vec::new(), verb: None };
        let mut rest = text.strip_prefix('/')?;
        loop {
            if let Some(inner) = rest.strip_prefix('{') {
                let (inner, after) = inner.split_once('}')?;
                let (field, pattern) = inner.split_once('=').unwrap_or((inner, "*"));
                let first = template.segments.len();
                for segment in pattern.split('/') {
                    template.segments.push(Segment::parse(segment)?);
                }
                let segments = first..template.segments.len();
                template.variables.push(Variable { field: field.to_owned(), segments });
                rest = after;
            } else {
                let end = rest.find(['/', ':']).unwrap_or(rest.len());
                template.segments.push(Segment::parse(&rest[..end])?);
                rest = &rest[end..];
            }
            if let Some(verb) = rest.strip_prefix(':') {
                template.verb = Some(verb.to_owned()).filter(|verb| is_literal(verb));
                return template.verb.is_some().then_some(template);
            }
            if rest.is_empty() {
                return Some(template);
            }
            rest = rest.strip_prefix('/')?;
        }
    }

    /// The segments of a variable.
    pub(super) fn of(&self, variable: &Variable) -> &[Segment] {
        &self.segments[variable.segments.clone()]
    }
}

impl Segment {
    /// One segment as it stands in a template.
    pub(super) fn parse(text: &str) -> Option<Segment> {
        match text {
            "*" => Some(Segment::Any),
            text => is_literal(text).then(|| Segment::Literal(text.to_owned())),
        }
    }
}

fn is_literal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        let template = Template::parse(text)?;
        let segment = |segment: &Segment| match segment {
            Segment::Literal(literal) => literal.clone(),
            Segment::Any => "*".to_owned(),
        };
        let segments: Vec<_> = template.segments.iter().map(segment).collect();
        let variables = template.variables.iter();
        let variables: Vec<_> =
            variables.map(|one| format!("{}={:?}", one.field, one.segments)).collect();
        let verb = template.verb.map(|verb| format!(" :{verb}")).unwrap_or_default();
        Some(format!("{} {}{verb}", segments.join("/"), variables.join(",")))
    }

    #[test]
    fn templates_are_taken_apart() {
        let rows = [
            ("/v1/things", "v1/things "),
            ("/v1/{name=things/*}", "v1/things/* name=1..3"),
            ("/v1/{sale=sales/*}/room/{ticket}", "v1/sales/*/room/* sale=1..3,ticket=4..5"),
            ("/v1/{a.name=orgs/*/things/*}:stop", "v1/orgs/*/things/* a.name=1..5 :stop"),
        ];
        for (text, parts) in rows {
            assert_eq!(shown(text).as_deref(), Some(parts), "{text}");
        }
        for text in ["", "v1", "/", "/v1//x", "/v1/{name", "/v1/{n=**}", "/v1/x:", "/v1/ä", "/v1/"]
        {
            assert_eq!(shown(text), None, "{text}");
        }
    }
}
