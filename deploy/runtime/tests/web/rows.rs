//! Requests as JSON, and what becomes of them.

/// Method, path, body, and what must be heard. The token is acme's.
pub(crate) const UNDERSTOOD: &[(&str, &str, &str, &str)] = &[
    (
        "POST",
        "/v1/things/t1/use",
        r#"{"units": 2, "requestId": "r"}"#,
        r#"Use {"thing":"orgs/acme/things/t1","units":2,"requestId":"r"}"#,
    ),
    ("POST", "/v1/things/t1:use", "", r#"Use {"thing":"orgs/acme/things/t1"}"#),
    // Names as in the .proto file, numbers as text, null, and white space.
    (
        "POST",
        "/v1/things/t1/use",
        " {\"request_id\": null, \"units\": \"2\"} ",
        r#"Use {"thing":"orgs/acme/things/t1","units":2}"#,
    ),
    // What the path says may be said again.
    (
        "POST",
        "/v1/things/t1/use",
        r#"{"thing": "orgs/acme/things/t1"}"#,
        r#"Use {"thing":"orgs/acme/things/t1"}"#,
    ),
    (
        "GET",
        "/v1/things/t1/look/a.b-c_d?times=3",
        "",
        r#"Look {"thing":"orgs/acme/things/t1","secret":"a.b-c_d","times":3}"#,
    ),
    (
        "GET",
        "/v1/things/t%C3%A4/look/%20?",
        "",
        r#"Look {"thing":"orgs/acme/things/tä","secret":" "}"#,
    ),
    (
        "POST",
        "/v1/orgs/other/things?requestId=r&validateOnly=true&words=a+b&words=%26",
        r#"{"units": 1, "parts": [{"units": 2}], "timeLeft": "1.5s", "kind": "KIND_GOOD", "large": "5"}"#,
        r#"Make {"parent":"orgs/other","thing":{"units":1,"parts":[{"units":2}],"timeLeft":"1.500s","kind":"KIND_GOOD","large":"5"},"requestId":"r","validateOnly":true,"words":["a b","&"]}"#,
    ),
    (
        "PATCH",
        "/v1/orgs/a/things/b?updateMask=units,timeLeft",
        r#"{"units": 7}"#,
        r#"Change {"thing":{"name":"orgs/a/things/b","units":7},"updateMask":"units,timeLeft"}"#,
    ),
];

/// Method, path, body, and what must be said.
pub(crate) const REFUSED: &[(&str, &str, &str, &str)] = &[
    ("GET", "/", "", "404: nothing is served at this path"),
    ("GET", "/v1/things/t1", "", "404: nothing is served"),
    ("GET", "/v1/things/t1/look/", "", "404: nothing is served"),
    ("GET", "/v1/things//look/x", "", "404: nothing is served"),
    ("POST", "/v1/things/t1:abuse", "", "404: nothing is served"),
    ("POST", "/floodgate.test.v1.ThingService/Use", "", "404: nothing is served"),
    ("GET", "/v1/things/t1/use", "", "405: this path takes POST"),
    ("OPTIONS", "/v1/things/t1/use", "", "405: this path takes POST"),
    ("POST", "/openapi.json", "", "405: this path takes GET"),
    ("POST", "/v1/things/t1/use", "{", "400: the body is no JSON: EOF while parsing"),
    ("POST", "/v1/things/t1/use", "{} {}", "400: the body is no JSON: trailing characters"),
    ("POST", "/v1/things/t1/use", "\u{7f}", "400: the body is no JSON: expected value"),
    ("POST", "/v1/things/t1/use", "[]", "400: the body must be a JSON object"),
    ("POST", "/v1/things/t1/use", "null", "400: the body must be a JSON object"),
    ("POST", "/v1/things/t1/use", r#"{"amount": 1}"#, "400: amount: is not a field of this call"),
    ("POST", "/v1/things/t1/use", r#"{"units": -1}"#, "400: units: "),
    ("POST", "/v1/things/t1/use", r#"{"units": 1.5}"#, "400: units: "),
    ("POST", "/v1/things/t1/use", r#"{"units": 4294967296}"#, "400: units: "),
    ("POST", "/v1/things/t1/use", r#"{"units": {}}"#, "400: units: "),
    (
        "POST",
        "/v1/things/t1/use",
        r#"{"thing": "orgs/acme/things/t2"}"#,
        "400: thing: is not what the path says",
    ),
    (
        "POST",
        "/v1/orgs/o/things",
        r#"{"parts": [{}, {"parts": [{"u": 1}]}]}"#,
        "400: thing.parts[1].parts[0].u: is not a field",
    ),
    (
        "POST",
        "/v1/orgs/o/things",
        r#"{"parts": [{}, {"units": "x"}]}"#,
        "400: thing.parts[1].units: ",
    ),
    ("POST", "/v1/orgs/o/things", r#"{"timeLeft": "1 h"}"#, "400: thing.timeLeft: "),
    (
        "POST",
        "/v1/orgs/o/things",
        r#"{"kind": "KIND_BAD"}"#,
        "400: thing.kind: unrecognized enum value",
    ),
    ("POST", "/v1/orgs/o/things?thing.units=1", "{}", "400: thing.units: is not a parameter"),
    ("POST", "/v1/orgs/o/things?thing=1", "{}", "400: thing: is not a parameter"),
    ("POST", "/v1/orgs/o/things?parent=orgs/x", "{}", "400: parent: is not a parameter"),
    (
        "POST",
        "/v1/orgs/o/things?validateOnly=yes",
        "{}",
        "400: validateOnly: must be true or false",
    ),
    ("GET", "/v1/things/t1/look/x?times=1&times=2", "", "400: times: stands in the query twice"),
    ("GET", "/v1/things/t1/look/x?times=one", "", "400: times: "),
    ("GET", "/v1/things/t1/look/x?%ff=1", "", "400: the path or the query is not UTF-8"),
    ("GET", "/v1/things/%ff/look/x", "", "400: the path or the query is not UTF-8"),
    ("GET", "/v1/things/..%2Fx/look/x", "", "400: a part of the path has a slash in it"),
    ("GET", "/v1/things/t1/look/x", "{}", "400: this call takes no body"),
];
