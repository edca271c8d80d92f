//! Orgs with their keys and withdrawn tokens, cells and placements.

use proto::wire::admin::RevokedToken;
use proto::wire::fleet::public_key::Key;
use proto::wire::fleet::{Cell, Org, Placement, Process, PublicKey};
use serde_json::{Value, json};

use super::{View, bytes, object, time};
use crate::input::written;

impl View for Org {
    const BRIEF: &'static [&'static str] = &["name", "display name", "created"];

    fn json(&self) -> Value {
        let key = |key: &PublicKey| match &key.key {
            Some(Key::Ed25519(raw)) => json!({ "kid": key.kid, "ed25519": bytes(raw) }),
            Some(Key::Es256(point)) => json!({ "kid": key.kid, "es256": bytes(point) }),
            Some(Key::Rs256(der)) => json!({ "kid": key.kid, "rs256": bytes(der) }),
            None => json!({ "kid": key.kid }),
        };
        object(json!({
            "name": self.name,
            "displayName": self.display_name,
            "keys": self.keys.iter().map(key).collect::<Vec<_>>(),
            "createTime": time(self.create_time.as_ref()),
            "callsPerS": self.calls_per_s,
        }))
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let key = |key: &PublicKey| ("key", written(key));
        let mut fields = vec![
            ("name", self.name.clone()),
            ("display name", self.display_name.clone()),
            ("created", time(self.create_time.as_ref()).unwrap_or_default()),
        ];
        if self.calls_per_s > 0 {
            fields.push(("calls a second", self.calls_per_s.to_string()));
        }
        fields.extend(self.keys.iter().map(key));
        fields
    }
}

impl View for RevokedToken {
    const BRIEF: &'static [&'static str] = &["jti", "expires"];

    fn json(&self) -> Value {
        object(json!({ "jti": self.jti, "expireTime": time(self.expire_time.as_ref()) }))
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let expires = time(self.expire_time.as_ref()).unwrap_or_default();
        vec![("jti", self.jti.clone()), ("expires", expires)]
    }
}

impl View for Cell {
    const BRIEF: &'static [&'static str] = &["name", "orgs", "live processes", "overflow"];

    fn json(&self) -> Value {
        let process = |process: &Process| {
            json!({
                "process": process.process,
                "address": process.address,
                "version": process.version,
            })
        };
        json!({
            "name": self.name,
            "processes": self.processes.iter().map(process).collect::<Vec<_>>(),
            "orgCount": self.org_count,
            "overflow": self.overflow,
        })
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let process = |process: &Process| {
            (
                "process",
                format!("{} at {}, version {}", process.process, process.address, process.version),
            )
        };
        let mut fields = vec![
            ("name", self.name.clone()),
            ("orgs", self.org_count.to_string()),
            ("live processes", self.processes.len().to_string()),
            ("overflow", if self.overflow { "yes".to_owned() } else { String::new() }),
        ];
        fields.extend(self.processes.iter().map(process));
        fields
    }
}

impl View for Placement {
    const BRIEF: &'static [&'static str] = &["name", "cells", "overlap"];

    fn json(&self) -> Value {
        json!({ "name": self.name, "cells": self.cells, "overlapMax": self.overlap_max })
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("name", self.name.clone()),
            ("cells", self.cells.join(" ")),
            ("overlap", self.overlap_max.to_string()),
        ]
    }
}
