//! Variables: what a program reads from its environment stands in its file under deploy/env, with its default.

use std::collections::BTreeMap;

use super::repo::{file, files};

/// Each file with the sources whose variables it lists.
const FILES: &[(&str, &[&str])] = &[
    ("router.env", &["router/src/", "deploy/runtime/src/"]),
    ("cell.env", &["cell/src/", "deploy/runtime/src/"]),
    ("control-plane.env", &["control-plane/src/", "deploy/runtime/src/"]),
    ("command-line.env", &["control-plane/cli/src/"]),
    ("trial.env", &["chaos/", "deploy/local/src/"]),
];

/// Names with their defaults; none for what is needed, or off.
type Variables = BTreeMap<String, Option<String>>;

/// The variables that clap reads, off the attributes of its arguments.
fn read_by(sources: &[&str]) -> Variables {
    let of = |path: &str| sources.iter().any(|source| path.starts_with(source));
    let mut variables = Variables::new();
    for file in files().iter().filter(|file| file.is_src() && of(&file.path)) {
        for attribute in file.code().split("#[arg(").skip(1) {
            let attribute = attribute.split("]\n").next().unwrap_or_default();
            if let Some(name) = text_after(attribute, "env = ") {
                variables.insert(name.to_owned(), default_of(attribute));
            }
        }
    }
    variables
}

fn default_of(attribute: &str) -> Option<String> {
    if let Some(text) = text_after(attribute, "default_value = ") {
        return Some(text.to_owned());
    }
    let (_, value) = attribute.split_once("default_value_t = ")?;
    let value = value.split([',', ')', '\n']).next()?.trim();
    let named = value.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    Some(if named { limit(value) } else { value.replace('_', "") })
}

/// The value of a constant of the limits.
fn limit(name: &str) -> String {
    let limits = &file("proto/src/limits.rs").text;
    let constant = limits.lines().find(|line| line.starts_with(&format!("pub const {name}:")));
    let value = constant.and_then(|line| line.split_once(" = ")).map(|(_, value)| value);
    value.expect("a default is a literal or a limit").trim_end_matches(';').replace('_', "")
}

/// What stands between quotes after a mark.
fn text_after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(&format!("{mark}\""))?.1.split('"').next()
}

/// The variables of a file: a line with `#` directly before the name has no default.
fn listed_in(name: &str) -> Variables {
    let text = &file(&format!("deploy/env/{name}")).text;
    let variable = |line: &str| {
        let (name, value) = line.trim_start_matches('#').split_once('=')?;
        let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
        let default = (!line.starts_with('#')).then(|| value.to_owned());
        (!name.is_empty() && name.chars().all(is_name)).then(|| (name.to_owned(), default))
    };
    text.lines().filter_map(variable).collect()
}

#[test]
fn every_variable_is_listed_with_its_default_and_read() {
    for (name, sources) in FILES {
        assert_eq!(
            listed_in(name),
            read_by(sources),
            "deploy/env/{name} (left) is not what clap reads"
        );
    }
}

#[test]
fn no_file_of_variables_and_no_source_is_forgotten() {
    let there = files().iter().filter_map(|file| file.path.strip_prefix("deploy/env/"));
    let mut known: Vec<_> = FILES.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(there.collect::<Vec<_>>(), known);
    let sources: Vec<_> = FILES.iter().flat_map(|(_, sources)| *sources).collect();
    for file in files().iter().filter(|file| file.is_src() && file.code().contains("#[arg(")) {
        let listed = sources.iter().any(|source| file.path.starts_with(**source));
        assert!(
            listed || !file.code().contains("env = \""),
            "{} has no file under deploy/env",
            file.path
        );
    }
}
