//! Reading keys that begin alike, page by page, in the order of their names.

use etcd_client::{GetOptions, KeyValue};
use prost::Message;

use super::{Kept, Store, StoreError, decode};

/// Keys that one request reads: a page of the largest records stays far below what one answer may hold.
const KEYS_MAX: usize = 500;

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The last name of the page before.
    pub after: Option<String>,
    /// Names on this page.
    pub size: usize,
}

impl Store {
    /// Records whose keys begin with `prefix`, and whether there are more behind them.
    pub(super) async fn page<T: Message + Default>(
        &self,
        what: &'static str,
        prefix: &str,
        page: &Page,
    ) -> Result<(Vec<Kept<T>>, bool), StoreError> {
        let (kvs, more) = self.keys(what, prefix, page, GetOptions::new()).await?;
        Ok((kvs.iter().map(decode).collect::<Result<_, _>>()?, more))
    }

    /// Names below `prefix`, and whether there are more behind them.
    pub(super) async fn names(
        &self,
        what: &'static str,
        prefix: &str,
        page: &Page,
    ) -> Result<(Vec<String>, bool), StoreError> {
        let options = GetOptions::new().with_keys_only();
        let (kvs, more) = self.keys(what, prefix, page, options).await?;
        Ok((kvs.iter().filter_map(|kv| name(kv, prefix)).collect(), more))
    }

    /// All records whose keys begin with `prefix`, as they were at one moment.
    pub(super) async fn all<T: Message + Default>(
        &self,
        what: &'static str,
        prefix: &str,
    ) -> Result<Vec<Kept<T>>, StoreError> {
        let mut found = Vec::new();
        let mut page = Page { after: None, size: KEYS_MAX };
        let mut at_revision = 0;
        loop {
            let options = GetOptions::new().with_revision(at_revision);
            let (kvs, more, revision) = self.read(what, prefix, &page, options).await?;
            at_revision = revision;
            page.after = kvs.last().and_then(|kv| name(kv, prefix));
            for kv in &kvs {
                found.push(decode(kv)?);
            }
            if !more {
                return Ok(found);
            }
        }
    }

    async fn keys(
        &self,
        what: &'static str,
        prefix: &str,
        page: &Page,
        options: GetOptions,
    ) -> Result<(Vec<KeyValue>, bool), StoreError> {
        let (kvs, more, _) = self.read(what, prefix, page, options).await?;
        Ok((kvs, more))
    }

    async fn read(
        &self,
        what: &'static str,
        prefix: &str,
        page: &Page,
        options: GetOptions,
    ) -> Result<(Vec<KeyValue>, bool, i64), StoreError> {
        // The smallest key after `x` is `x` and a zero byte; names are ASCII, so 0x7f is beyond all of them.
        let from =
            page.after.as_ref().map_or(prefix.to_owned(), |after| format!("{prefix}{after}\0"));
        let limit = i64::try_from(page.size).unwrap_or(i64::MAX);
        let options = options.with_range(format!("{prefix}\x7f")).with_limit(limit);
        let mut answer = self.ask(what, self.client.kv_client().get(from, Some(options))).await?;
        let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        let more = answer.more();
        Ok((answer.take_kvs(), more, revision))
    }
}

fn name(kv: &KeyValue, prefix: &str) -> Option<String> {
    kv.key_str().ok()?.strip_prefix(prefix).map(str::to_owned)
}
