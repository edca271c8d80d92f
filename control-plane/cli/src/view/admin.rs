//! Sales as their merchants see them.

use proto::wire::admin::Sale;
use serde_json::{Value, json};

use super::{View, duration, money_json, money_text, object, time, word};

impl View for Sale {
    const BRIEF: &'static [&'static str] =
        &["name", "state", "class", "stock", "price", "start", "end", "display name"];

    fn json(&self) -> Value {
        object(json!({
            "name": self.name,
            "displayName": self.display_name,
            "class": self.class().as_str_name(),
            "stock": self.stock,
            "cap": self.cap,
            "price": money_json(self.price.as_ref()),
            "startTime": time(self.start_time.as_ref()),
            "endTime": time(self.end_time.as_ref()),
            "holdTtl": duration(self.hold_ttl.as_ref()),
            "admissionRate": self.admission_rate,
            "keepingTime": duration(self.keeping_time.as_ref()),
            "state": self.state().as_str_name(),
            "revision": self.revision,
            "etag": self.etag,
            "createTime": time(self.create_time.as_ref()),
            "updateTime": time(self.update_time.as_ref()),
            "sold": self.sold,
            "surrendered": self.surrendered,
            "warm": self.warm,
        }))
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("name", self.name.clone()),
            ("display name", self.display_name.clone()),
            ("state", word(self.state().as_str_name(), "STATE_")),
            ("class", word(self.class().as_str_name(), "CLASS_")),
            ("stock", self.stock.to_string()),
            ("cap", self.cap.to_string()),
            ("price", money_text(self.price.as_ref())),
            ("start", time(self.start_time.as_ref()).unwrap_or_default()),
            ("end", time(self.end_time.as_ref()).unwrap_or_default()),
            ("hold ttl", duration(self.hold_ttl.as_ref()).unwrap_or_default()),
            ("admission rate", format!("{}/s", self.admission_rate)),
            ("keeping time", duration(self.keeping_time.as_ref()).unwrap_or_default()),
            ("warm", if self.warm { "yes" } else { "no" }.to_owned()),
            ("sold", self.sold.to_string()),
            ("surrendered", self.surrendered.to_string()),
            ("revision", self.revision.to_string()),
            ("etag", self.etag.clone()),
            ("created", time(self.create_time.as_ref()).unwrap_or_default()),
            ("updated", time(self.update_time.as_ref()).unwrap_or_default()),
        ]
    }
}
