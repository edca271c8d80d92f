//! How answers are written: as a table for people, or as JSON for programs.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::failure::Failure;
use crate::view::View;

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs: protobuf's JSON mapping.
    Json,
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Output {
        Output { format }
    }

    /// How it writes.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Writes a text as it is.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        say(text)
    }

    /// Writes one thing with all that is known of it.
    pub(crate) fn one(&self, view: &impl View) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(&view.json()),
            Format::Table => {
                let mut table = plain();
                for (name, value) in view.fields() {
                    table.add_row([name.to_owned(), value]);
                }
                say(&table.trim_fmt())
            }
        }
    }

    /// Writes a list; `collection` is its name in JSON.
    pub(crate) fn many<V: View>(&self, collection: &str, views: &[V]) -> Result<(), Failure> {
        if self.format == Format::Json {
            let values: Vec<Value> = views.iter().map(View::json).collect();
            return self.json(&serde_json::json!({ collection: values }));
        }
        let mut table = plain();
        table.set_header(V::BRIEF.iter().map(|name| name.to_uppercase()));
        for view in views {
            let fields = view.fields();
            let cell = |name: &&str| {
                let found = fields.iter().find(|(field, _)| field == name);
                found.map(|(_, value)| value.clone()).unwrap_or_default()
            };
            table.add_row(V::BRIEF.iter().map(cell));
        }
        say(&table.trim_fmt())
    }

    /// Writes one of a row of things that come one after another: a line each.
    pub(crate) fn next(&self, view: &impl View) -> Result<(), Failure> {
        match self.format {
            Format::Json => say(&view.json().to_string()),
            Format::Table => {
                let fields = view.fields();
                let fields = fields.iter().filter(|(_, value)| !value.is_empty());
                let fields: Vec<_> =
                    fields.map(|(name, value)| format!("{name}={value}")).collect();
                say(&fields.join("  "))
            }
        }
    }

    fn json(&self, value: &Value) -> Result<(), Failure> {
        say(&format!("{value:#}"))
    }
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let said = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
    match said.and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        said => said.map_err(Failure::io("write the answer")),
    }
}
