//! A call's parameters, form-encoded as `amount=500&metadata[order]=o-1`. Every parameter must be known:
//! a client that misspells one should hear of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::answer::Answer;

/// Stripe's limits of metadata.
const METADATA_KEYS_MAX: usize = 50;
const METADATA_KEY_CHARS_MAX: usize = 40;
const METADATA_VALUE_CHARS_MAX: usize = 500;

/// Parameters that have not been taken yet.
#[derive(Debug, Clone)]
pub(crate) struct Params(BTreeMap<String, String>);

impl Params {
    pub(crate) fn new(pairs: Vec<(String, String)>) -> Result<Self, Answer> {
        let mut params = BTreeMap::new();
        for (name, value) in pairs {
            if params.contains_key(&name) {
                return Err(Answer::invalid(
                    "parameter_invalid",
                    &format!("{name} is given twice"),
                ));
            }
            params.insert(name, value);
        }
        Ok(Self(params))
    }

    /// A hash of the call: what "the same parameters" means for an idempotency key.
    pub(crate) fn fingerprint(&self, call: &str) -> Arc<str> {
        let mut text = format!("{call}\n");
        for (name, value) in &self.0 {
            // Lengths keep a value from looking like the next name.
            text.extend([name, value].map(|part| format!("{}:{part}\n", part.len())));
        }
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let mut hash = String::new();
        for byte in digest.as_ref().iter().take(16) {
            // Writing to a string fails never.
            write!(hash, "{byte:02x}").ok();
        }
        hash.into()
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// One of a closed list of words.
    pub(crate) fn take_word<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>, Answer> {
        let Some(word) = self.take(name) else { return Ok(None) };
        let parsed = serde_json::from_value(serde_json::Value::String(word.clone()));
        parsed.map(Some).map_err(|_| Answer::invalid_parameter(name, &word))
    }

    pub(crate) fn take_number(&mut self, name: &str) -> Result<Option<u64>, Answer> {
        let Some(text) = self.take(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Answer::invalid_parameter(name, &text))
    }

    pub(crate) fn take_metadata(&mut self) -> Result<BTreeMap<String, String>, Answer> {
        let mut metadata = BTreeMap::new();
        let inner = |name: &str| {
            name.strip_prefix("metadata[")
                .and_then(|rest| rest.strip_suffix(']'))
                .map(str::to_owned)
        };
        for (name, value) in std::mem::take(&mut self.0) {
            match inner(&name) {
                Some(key) => drop(metadata.insert(key, value)),
                None => drop(self.0.insert(name, value)),
            }
        }
        let too_long = metadata.len() > METADATA_KEYS_MAX
            || metadata.iter().any(|(key, value)| {
                key.chars().count() > METADATA_KEY_CHARS_MAX
                    || value.chars().count() > METADATA_VALUE_CHARS_MAX
            });
        if too_long {
            return Err(Answer::invalid("parameter_invalid", "metadata is over its limits"));
        }
        Ok(metadata)
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<(), Answer> {
        self.0.into_keys().next().map_or(Ok(()), |name| {
            Err(Answer::invalid(
                "parameter_unknown",
                &format!("received unknown parameter: {name}"),
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Params::new(pairs.collect()).unwrap()
    }

    #[test]
    fn the_fingerprint_knows_call_names_and_values_but_not_their_order() {
        let one = params(&[("a", "1"), ("b", "2")]).fingerprint("create");
        assert_eq!(one, params(&[("b", "2"), ("a", "1")]).fingerprint("create"));
        assert_ne!(one, params(&[("a", "1"), ("b", "2")]).fingerprint("refund"));
        assert_ne!(one, params(&[("a", "1"), ("b", "3")]).fingerprint("create"));
        assert_ne!(one, params(&[("a", "1\n1:b\n1:2")]).fingerprint("create"));
    }

    #[test]
    fn metadata_is_taken_and_the_unknown_refused() {
        let mut given = params(&[("metadata[order]", "o-1"), ("amuont", "5")]);
        assert_eq!(given.take_metadata().unwrap().get("order").unwrap(), "o-1");
        assert!(given.finish().unwrap_err().body.contains("amuont"));
    }
}
