//! Asking etcd what it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use etcd_client::{
    Client, Event as Told, EventType, GetOptions, KeyValue, WatchOptions, WatchStream,
};

use super::known::{Event, Range, Read};
use super::snapshot::Entry;
use super::{DecisionsError, DecisionsOptions};
use crate::etcd::{self, EtcdError};

/// Keys in one answer. A value is at most 1.5 MiB and mostly below 4 KiB.
const PAGE_KEYS_MAX: i64 = 256;

/// Bytes of one answer that are taken.
const ANSWER_BYTES_MAX: usize = 64 * 1_024 * 1_024;

/// What an answer says about etcd itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) cluster: u64,
    pub(super) revision: i64,
}

/// The ranges of the prefixes, in their order.
pub(super) fn ranges(options: &DecisionsOptions) -> Result<Vec<Range>, DecisionsError> {
    if options.endpoints.is_empty() || options.prefixes.is_empty() {
        return Err(DecisionsError::Nothing);
    }
    let wrong = |prefix: &str| DecisionsError::Prefix { prefix: prefix.to_owned() };
    let range = |prefix: &str| range(prefix).ok_or_else(|| wrong(prefix));
    options.prefixes.iter().map(|prefix| range(&prefix.key)).collect()
}

/// The keys that begin with a prefix, if it is ASCII and ends in a slash.
pub(super) fn range(prefix: &str) -> Option<Range> {
    // '0' follows '/', so this is the first key after all that begin with the prefix.
    let stem = prefix.strip_suffix('/').filter(|_| prefix.is_ascii())?;
    Some(Range { from: prefix.into(), to: format!("{stem}0").into() })
}

/// The ranges of those prefixes that lie in one of `ranges`.
pub(super) fn inside(ranges: &[Range], prefixes: &[String]) -> Vec<Range> {
    let lies_inside =
        |range: &Range| ranges.iter().any(|whole| whole.from <= range.from && range.to <= whole.to);
    prefixes.iter().filter_map(|prefix| range(prefix)).filter(lies_inside).collect()
}

/// The smallest range that covers all of them.
pub(super) fn cover(ranges: &[Range]) -> Range {
    let from = ranges.iter().map(|range| range.from.clone()).min();
    let to = ranges.iter().map(|range| range.to.clone()).max();
    Range { from: from.unwrap_or_default(), to: to.unwrap_or_default() }
}

/// Where etcd stands.
pub(super) async fn head(client: &Client, any: &Range) -> Result<Head, EtcdError> {
    let options = GetOptions::new().with_count_only();
    let mut kv = client.kv_client();
    let answer = etcd::within("head", kv.get(any.from.as_slice(), Some(options))).await?;
    Ok(head_of(answer.header()))
}

/// Everything in a range, at `revision` or, without one, at the newest.
pub(super) async fn whole(
    client: &Client,
    range: &Range,
    revision: Option<i64>,
) -> Result<Read, EtcdError> {
    let (mut read, mut more) = page(client, range, revision).await?;
    let revision = Some(read.revision);
    while more {
        let from = read.range.to.clone();
        let rest = Range { from, to: range.to.clone() };
        let (next, goes_on) = page(client, &rest, revision).await?;
        read.entries.extend(next.entries);
        read.range.to = next.range.to;
        more = goes_on;
    }
    Ok(read)
}

/// The first keys in a range. The answer's range ends where the page does, which is before the end
/// of `range` when it also says that there is more.
pub(super) async fn page(
    client: &Client,
    range: &Range,
    revision: Option<i64>,
) -> Result<(Read, bool), EtcdError> {
    let options = GetOptions::new()
        .with_range(range.to.as_slice())
        .with_limit(PAGE_KEYS_MAX)
        .with_revision(revision.unwrap_or(0));
    let mut kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
    let mut answer = etcd::within("read", kv.get(range.from.as_slice(), Some(options))).await?;
    let head = head_of(answer.header());
    let kvs = answer.take_kvs();
    let to = match kvs.last().filter(|_| answer.more()) {
        // No key lies between a key and the same key with a zero byte behind it.
        Some(last) => [last.key(), b"\0"].concat(),
        None => range.to.clone(),
    };
    let entries: BTreeMap<_, _> = kvs.into_iter().filter_map(entry).collect();
    let range = Range { from: range.from.clone(), to };
    let revision = revision.unwrap_or(head.revision);
    Ok((Read { range, cluster: head.cluster, revision, entries }, answer.more()))
}

/// A stream of everything that happens in a range from `revision` on.
pub(super) async fn watch(
    client: &Client,
    range: &Range,
    revision: i64,
) -> Result<WatchStream, EtcdError> {
    let options = WatchOptions::new().with_range(range.to.as_slice()).with_start_revision(revision);
    let mut watch = client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX);
    etcd::within("watch", watch.watch(range.from.as_slice(), Some(options))).await
}

/// What the watch told, in our words.
pub(super) fn event(told: &Told) -> Option<Event> {
    let kv = told.kv()?;
    let key = key(kv)?;
    let put = matches!(told.event_type(), EventType::Put);
    let value = put.then(|| Bytes::copy_from_slice(kv.value()));
    Some(Event { key, mod_revision: kv.mod_revision(), value })
}

fn entry(kv: KeyValue) -> Option<(Arc<str>, Entry)> {
    let (key, mod_revision) = (key(&kv)?, kv.mod_revision());
    let (_, value) = kv.into_key_value();
    Some((key, Entry { value: value.into(), mod_revision }))
}

/// Keys are text; one that is not was written by nobody we know.
fn key(kv: &KeyValue) -> Option<Arc<str>> {
    let key = kv.key_str().ok().map(Arc::from);
    if key.is_none() {
        tracing::warn!(key = %kv.key().escape_ascii(), "ignored a key of etcd that is no text");
    }
    key
}

fn head_of(header: Option<&etcd_client::ResponseHeader>) -> Head {
    let of = |header: &etcd_client::ResponseHeader| Head {
        cluster: header.cluster_id(),
        revision: header.revision(),
    };
    header.map_or(Head { cluster: 0, revision: 0 }, of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_followed_can_be_heeded() {
        let followed = ["/a/b/", "/a/d/"].map(|prefix| range(prefix).unwrap());
        let rows = [
            ("/a/b/", true),
            ("/a/b/1/", true),
            ("/a/d/1/2/", true),
            ("/a/", false),
            ("/a/c/", false),
            ("/a/b/1", false),
            ("/a/b/\u{e9}/", false),
            ("", false),
        ];
        for (prefix, expected) in rows {
            let found = inside(&followed, &[prefix.to_owned()]);
            assert_eq!(found, Vec::from_iter(range(prefix).filter(|_| expected)), "{prefix}");
        }
    }
}
