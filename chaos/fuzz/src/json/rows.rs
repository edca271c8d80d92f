//! Requests to begin with. `…` stands for the header that says JSON, and the end of the head.

/// Each with its name.
pub(super) const ROWS: &[(&str, &str)] = &[
    ("Join", "POST /v1/sales/s01/waiting-room…{}"),
    ("Join without a body", "POST /v1/sales/s01/waiting-room"),
    ("GetTicket", "GET /v1/sales/s01/waiting-room/a.b.c"),
    ("GetSaleState", "GET /v1/sales/s01/stock"),
    ("WatchSale", "GET /v1/sales/s01/events\naccept: text/event-stream\nlast-event-id: 7"),
    (
        "Reserve",
        r#"POST /v1/sales/s01/reserve
idempotency-key: "6b3f"…{"ticket":"a.b.c","quantity":2}"#,
    ),
    (
        "Reserve, two ids",
        r#"POST /v1/sales/s01/reserve
idempotency-key: 6b3f…{"requestId":"x"}"#,
    ),
    ("Reserve, by the names of proto", r#"POST /v1/sales/s01/reserve…{"request_id":"x"}"#),
    ("Reserve, a name twice", r#"POST /v1/sales/s01/reserve…{"quantity":1,"quantity":2}"#),
    ("Reserve, a number as text", r#"POST /v1/sales/s01/reserve…{"quantity":"2"}"#),
    ("Reserve, half a unit", r#"POST /v1/sales/s01/reserve…{"quantity":1.5}"#),
    ("Reserve, a whole half", r#"POST /v1/sales/s01/reserve…{"quantity":2.0e0}"#),
    ("Reserve, less than none", r#"POST /v1/sales/s01/reserve…{"quantity":-1}"#),
    ("Reserve, nothing said", r#"POST /v1/sales/s01/reserve…{"ticket":null}"#),
    (
        "Reserve, escaped",
        r#"POST /v1/sales/s%30%31/reserve…{"ticket":"\u0000\ud83d\ude00","sale":"orgs/acme/sales/s01"}"#,
    ),
    (
        "Reserve, another org in the body",
        r#"POST /v1/sales/s01/reserve…{"sale":"orgs/other/sales/s01"}"#,
    ),
    ("Checkout", r#"POST /v1/sales/s01/checkout…{"paymentMethod":"pm_card_visa"}"#),
    ("CancelOrder", "POST /v1/sales/s01/orders/o1:cancel…{}"),
    ("GetOrder", "GET /v1/sales/s01/orders/o1"),
    ("RefundOrder", r#"POST /v1/sales/s01/orders/o1:refund…{"buyer":"ada"}"#),
    (
        "CreateSale",
        r#"POST /v1/orgs/acme/sales?requestId=x&validateOnly=true…{"displayName":"Shoes","class":"FLASH","stock":10,"cap":2,"price":{"currencyCode":"EUR","units":"59","nanos":900000000},"startTime":"2026-11-22T18:00:00.5Z","endTime":"2026-11-22T19:00:00+02:00","holdTtl":"120.000000001s","admissionRate":1000,"keepingTime":"60s"}"#,
    ),
    (
        "CreateSale, a time that is none",
        r#"POST /v1/orgs/acme/sales…{"startTime":"2026-02-30T00:00:00Z"}"#,
    ),
    (
        "CreateSale, long ago",
        r#"POST /v1/orgs/acme/sales…{"startTime":"0001-01-01T00:00:00Z","holdTtl":"-0.5s"}"#,
    ),
    ("CreateSale, a class by number", r#"POST /v1/orgs/acme/sales…{"class":1}"#),
    ("CreateSale, a class unknown", r#"POST /v1/orgs/acme/sales…{"class":99}"#),
    ("CreateSale, no such field", r#"POST /v1/orgs/acme/sales…{"price":{"cents":1}}"#),
    ("GetSale", "GET /v1/orgs/acme/sales/s01"),
    ("ListSales", "GET /v1/orgs/acme/sales?pageSize=10&pageToken=x%2By+z"),
    ("ListSales, a name twice", "GET /v1/orgs/acme/sales?pageSize=1&pageSize=2"),
    (
        "UpdateSale",
        r#"PATCH /v1/orgs/acme/sales/s01?updateMask=cap,displayName…{"cap":3,"etag":"x"}"#,
    ),
    (
        "UpdateSale, a mask in the names of proto",
        "PATCH /v1/orgs/acme/sales/s01?updateMask=display_name…{}",
    ),
    ("ScheduleSale", "POST /v1/orgs/acme/sales/s01:schedule…{}"),
    ("AddStock", r#"POST /v1/orgs/acme/sales/s01:addStock…{"units":5,"requestId":"x"}"#),
    ("SurrenderStock", r#"POST /v1/orgs/acme/sales/s01:surrenderStock…{"units":5}"#),
    ("the document", "GET /openapi.json"),
    (
        "a page asks",
        "OPTIONS /v1/sales/s01/reserve\norigin: https://shop.example\naccess-control-request-method: POST",
    ),
    ("a path of nowhere", "GET /v1/sales"),
    ("an empty part", "GET /v1/sales//stock"),
    ("a slash in a part", "GET /v1/sales/a%2Fb/stock"),
    ("no UTF-8 in a part", "GET /v1/sales/%ff/stock"),
    ("half an escape", "GET /v1/sales/%f/stock"),
    ("a verb unknown", "POST /v1/sales/s01/orders/o1:burn…{}"),
    ("two verbs", "POST /v1/sales/s01/orders/o1:cancel:cancel…{}"),
    ("another method", "DELETE /v1/sales/s01/stock"),
    ("a body where none is", "GET /v1/sales/s01/stock…{}"),
    ("another content type", "POST /v1/sales/s01/reserve\ncontent-type: text/plain\n\n{}"),
    ("packed", "POST /v1/sales/s01/reserve\ncontent-encoding: gzip…{}"),
    ("no JSON", "POST /v1/sales/s01/reserve…{\"ticket\":"),
    ("a list", "POST /v1/sales/s01/reserve…[]"),
    ("a deadline", "GET /v1/sales/s01/stock\ngrpc-timeout: 99999999H"),
    ("a deadline too long", "GET /v1/sales/s01/stock\ngrpc-timeout: 999999999H"),
];
