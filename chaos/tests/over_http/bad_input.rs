//! What makes no sense over HTTP, and the problem that comes back: one row each.

use proto::token::Role;
use serde_json::Value;

use crate::curl::ask;
use crate::shop::{ORG, Shop};

/// Who asks.
#[derive(Clone, Copy, Debug)]
enum Who {
    Buyer,
    Merchant,
    Nobody,
    /// A token that no key signed.
    Forger,
}

struct Row {
    who: Who,
    method: &'static str,
    /// `{sale}` stands for the sale's id; what begins with `+` is asked of the control plane.
    path: String,
    kind: &'static str,
    body: String,
    status: u16,
    reason: &'static str,
    /// What it is about: a field, or an `Allow`.
    about: &'static str,
}

/// Every row that went otherwise.
pub(crate) async fn wrong(shop: &Shop, sale: &str) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for row in rows() {
        let (server, path) = match row.path.strip_prefix('+') {
            Some(path) => (&shop.control, path),
            None => (&shop.router, &*row.path),
        };
        let url = format!("{server}{}", path.replace("{sale}", sale));
        let token = match row.who {
            Who::Buyer => shop.bearer("bob", Role::Buyer),
            Who::Merchant => shop.bearer("merchant", Role::Merchant),
            Who::Nobody => String::new(),
            Who::Forger => format!("{}AAAA", shop.bearer("bob", Role::Buyer)),
        };
        let mut headers = vec![("content-type", row.kind)];
        if !token.is_empty() {
            headers.push(("authorization", &token));
        }
        let told = ask(row.method, &url, &headers, &row.body).await?;
        let json = told.json().unwrap_or(Value::Null);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let about = match row.status {
            405 => told.header("allow").to_owned(),
            _ => text(&json["violations"][0]["field"]),
        };
        let is = (told.status, text(&json["reason"]), about);
        let kind = told.header("content-type");
        if is != (row.status, row.reason.to_owned(), row.about.to_owned())
            || kind != "application/problem+json"
            || text(&json["domain"]) != "floodgate"
            || json["status"] != told.status
        {
            wrong.push(format!("{} {}: {is:?} {}", row.method, row.path, told.body));
        }
    }
    Ok(wrong)
}

const RESERVE: &str = "/v1/sales/{sale}/reserve";

fn asked(
    who: Who,
    (method, path): (&'static str, &str),
    body: &str,
    (status, reason, about): (u16, &'static str, &'static str),
) -> Row {
    let (path, body) = (path.to_owned(), body.to_owned());
    Row { who, method, path, kind: "application/json", body, status, reason, about }
}

fn rows() -> Vec<Row> {
    bodies().into_iter().chain(ways()).chain(merchants()).collect()
}

/// What a body must not be.
fn bodies() -> Vec<Row> {
    let reserves = |body: &str, reason, about| {
        asked(Who::Buyer, ("POST", RESERVE), body, (400, reason, about))
    };
    let of_kind = |kind| Row { kind, status: 415, ..reserves("{}", "MESSAGE_UNDECODABLE", "") };
    let large = format!(r#"{{"ticket": "{}"}}"#, "t".repeat(40_000));
    let deep = format!("{}{}", r#"{"a":"#.repeat(1_000), "}".repeat(1_000));
    let nested = format!(r#"{{"ticket": {}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let id = r#""requestId": "4f6c1c2e-0d62-4c7c-9f54-0a6e9f1f3c11""#;
    vec![
        reserves("{", "MESSAGE_UNDECODABLE", ""),
        reserves("[1]", "MESSAGE_UNDECODABLE", ""),
        reserves(&deep, "MESSAGE_UNDECODABLE", ""),
        reserves(&nested, "MESSAGE_UNDECODABLE", ""),
        reserves(r#"{"tikcet": "t"}"#, "INVALID_FIELD", "tikcet"),
        reserves(r#"{"quantity": "two"}"#, "INVALID_FIELD", "quantity"),
        reserves(r#"{"quantity": 1, "sale": "orgs/other/sales/s1"}"#, "INVALID_FIELD", "sale"),
        reserves(r#"{"quantity": 1, "ticket": "t"}"#, "INVALID_FIELD", "request_id"),
        reserves(&format!(r#"{{"quantity": 0, {id}}}"#), "INVALID_FIELD", "quantity"),
        reserves(&format!(r#"{{"quantity": 1, "ticket": "t", {id}}}"#), "TICKET_INVALID", ""),
        of_kind("text/plain"),
        of_kind("application/x-www-form-urlencoded"),
        asked(Who::Buyer, ("POST", RESERVE), &large, (413, "MESSAGE_TOO_LARGE", "")),
    ]
}

/// Paths, methods and callers that lead nowhere.
fn ways() -> Vec<Row> {
    let gets =
        |who, path: &str, status, reason| asked(who, ("GET", path), "", (status, reason, ""));
    let only = |method, path, allow| {
        asked(Who::Buyer, (method, path), "", (405, "MESSAGE_UNDECODABLE", allow))
    };
    let long = format!("/v1/sales/{{sale}}/waiting-room/{}", "t".repeat(3_000));
    let join = ("POST", "/v1/sales/{sale}/waiting-room");
    vec![
        gets(Who::Buyer, &long, 414, "MESSAGE_TOO_LARGE"),
        only("GET", RESERVE, "POST"),
        only("DELETE", "/v1/sales/{sale}/stock", "GET"),
        gets(Who::Buyer, "/v1/sales/{sale}", 404, "NOT_FOUND"),
        gets(Who::Buyer, "/v1/sales/s0000000000000000/stock", 404, "NOT_FOUND"),
        gets(Who::Buyer, "/v1/sales/..%2f..%2fother/stock", 400, "MESSAGE_UNDECODABLE"),
        gets(Who::Buyer, "/v1/sales/{sale}/waiting-room/t", 400, "TICKET_INVALID"),
        gets(Who::Nobody, "/v1/sales/{sale}/stock", 401, "TOKEN_MISSING"),
        gets(Who::Forger, "/v1/sales/{sale}/stock", 401, "TOKEN_WRONG_KEY"),
        gets(Who::Nobody, "/v1/sales/{sale}/events", 401, "TOKEN_MISSING"),
        asked(Who::Merchant, join, "", (403, "ROLE_NOT_ALLOWED", "")),
    ]
}

/// The same at the control plane.
fn merchants() -> Vec<Row> {
    let sales = format!("+/v1/orgs/{ORG}/sales");
    let plans =
        |body, about| asked(Who::Merchant, ("POST", &sales), body, (400, "INVALID_FIELD", about));
    let gets =
        |who, path: &str, status, reason| asked(who, ("GET", path), "", (status, reason, ""));
    vec![
        gets(Who::Merchant, "+/v1/orgs/other/sales/{sale}", 404, "NOT_FOUND"),
        gets(Who::Buyer, &format!("{sales}/{{sale}}"), 403, "ROLE_NOT_ALLOWED"),
        gets(Who::Nobody, &sales, 401, "TOKEN_MISSING"),
        plans(r#"{"price": {"nano": 1}}"#, "sale.price.nano"),
        plans(r#"{"startTime": "noon"}"#, "sale.startTime"),
        asked(Who::Merchant, ("PUT", &sales), "", (405, "MESSAGE_UNDECODABLE", "POST, GET")),
    ]
}
