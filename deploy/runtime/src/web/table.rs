//! The table of bindings: from a path to what may be done there, in one walk along its segments.
//!
//! A table in which two bindings could take the same request is not made.

use std::sync::Arc;

use http::Method;

use super::binding::Binding;
use super::template::Segment;

/// Bindings by their paths.
#[derive(Debug, Default)]
pub(super) struct Table {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: Vec<(String, Node)>,
    any: Option<Box<Node>>,
    /// What may be done at a path that ends here, by the verb behind it.
    ends: Vec<(Option<String>, Vec<Arc<Binding>>)>,
}

/// What a path leads to.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// One a method.
    pub(super) bindings: &'a [Arc<Binding>],
    /// The path's segments, as they came.
    pub(super) segments: Vec<&'a str>,
}

impl Table {
    /// Adds a binding; says no when another would take the same requests.
    pub(super) fn add(&mut self, binding: Arc<Binding>) -> bool {
        let mut node = &mut self.root;
        for segment in &binding.template.segments {
            let Some(next) = node.child(segment) else { return false };
            node = next;
        }
        let verb = &binding.template.verb;
        let at = node.ends.iter().position(|(one, _)| one == verb).unwrap_or_else(|| {
            node.ends.push((verb.clone(), Vec::new()));
            node.ends.len() - 1
        });
        let there = &mut node.ends[at].1;
        let free = there.iter().all(|one| one.method != binding.method);
        there.push(binding);
        free
    }

    /// What may be done at a path.
    pub(super) fn find<'a>(&'a self, path: &'a str) -> Option<Found<'a>> {
        let mut segments: Vec<&str> = Vec::new();
        let mut node = &self.root;
        let (mut rest, mut verb) = (path.strip_prefix('/')?, None);
        loop {
            let (mut segment, more) = match rest.split_once('/') {
                Some((segment, more)) => (segment, Some(more)),
                None => (rest, None),
            };
            if more.is_none()
                && let Some((before, after)) = segment.rsplit_once(':')
            {
                (segment, verb) = (before, Some(after));
            }
            node = node.step(segment)?;
            segments.push(segment);
            match more {
                Some(more) => rest = more,
                None => break,
            }
        }
        let end = node.ends.iter().find(|(one, _)| one.as_deref() == verb)?;
        Some(Found { bindings: &end.1, segments })
    }
}

impl Found<'_> {
    /// What a method does there.
    pub(super) fn binding(&self, method: &Method) -> Option<&Arc<Binding>> {
        self.bindings.iter().find(|binding| binding.method == method)
    }

    /// The methods, for people and for `Allow`.
    pub(super) fn methods(&self) -> String {
        let methods: Vec<_> = self.bindings.iter().map(|one| one.method.as_str()).collect();
        methods.join(", ")
    }
}

impl Node {
    fn child(&mut self, segment: &Segment) -> Option<&mut Node> {
        match segment {
            Segment::Any if self.literals.is_empty() => Some(self.any.get_or_insert_default()),
            Segment::Literal(literal) if self.any.is_none() => {
                let at = self.literals.iter().position(|(one, _)| one == literal);
                let at = at.unwrap_or_else(|| {
                    self.literals.push((literal.clone(), Node::default()));
                    self.literals.len() - 1
                });
                Some(&mut self.literals[at].1)
            }
            _ => None,
        }
    }

    fn step(&self, segment: &str) -> Option<&Node> {
        match &self.any {
            Some(next) => (!segment.is_empty()).then_some(next),
            None => self.literals.iter().find(|(one, _)| one == segment).map(|(_, next)| next),
        }
    }
}
