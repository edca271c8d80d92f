//! Keys of orgs and tokens that they sign, from their making to their end.

use serde_json::Value;

use super::Desk;

/// Whether a token of acme's merchant in this file is taken, or why not.
async fn verdict(desk: &Desk, file: &str) -> String {
    let ran = desk.run_with("sales list acme -o json", Some(file)).await;
    match ran.code {
        0 => "taken".to_owned(),
        _ => ran.err.split(": ").nth(1).unwrap_or_default().to_owned(),
    }
}

fn kids(org: &Value) -> Vec<&str> {
    org["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn two_keys_live_each_for_its_algorithm_and_a_removed_one_is_void() {
    let desk = Desk::with_org().await;
    let first = desk.operator("orgs get acme -o json").await.json();
    let first = kids(&first)[0].to_owned();
    let made = desk.run("keys generate --alg es256 --out second.key -o json").await.json();
    let key = made["key"].as_str().unwrap();
    assert!(key.contains("=es256:"), "{key}");
    let org = desk.operator(&format!("orgs keys add acme --key {key} -o json")).await.json();
    let second = made["kid"].as_str().unwrap();
    assert_eq!(kids(&org), [first.as_str(), second]);
    assert!(org["keys"][1]["es256"].is_string(), "{org}");
    desk.mint("second.token", "--key second.key --iss acme --role merchant --sub ada").await;
    assert_eq!(verdict(&desk, "acme.token").await, "taken");
    assert_eq!(verdict(&desk, "second.token").await, "taken");
    // The first key's name on the second key's token.
    let borrowed = format!("--key second.key --kid {first} --iss acme --role merchant --sub ada");
    desk.mint("borrowed.token", &borrowed).await;
    assert_eq!(verdict(&desk, "borrowed.token").await, "TOKEN_WRONG_KEY");

    // A third would be one too many, however it is written.
    std::fs::write(desk.file("third.pem"), include_str!("../../src/input/fixtures/rs256.pem"))
        .unwrap();
    let add = "orgs keys add acme --public third.pem --kid third --alg";
    let third = desk.operator(&format!("{add} rs256")).await;
    assert!(third.code == 2 && third.err.contains("key: would be the third"), "{third:?}");
    let wrong = desk.operator(&format!("{add} es256")).await;
    assert!(wrong.code == 2 && wrong.err.contains("no public key for ES256"), "{wrong:?}");
    let missing = desk.operator("orgs keys remove acme --kid nobody").await;
    assert_eq!(missing.code, 3, "{missing:?}");
    let removed = desk.operator(&format!("orgs keys remove acme --kid {first} -o json")).await;
    assert_eq!(kids(&removed.json()), [second]);
    assert_eq!(verdict(&desk, "acme.token").await, "TOKEN_WRONG_KEY");
    assert_eq!(verdict(&desk, "second.token").await, "taken");
    let last = desk.operator(&format!("orgs keys remove acme --kid {second}")).await;
    assert!(last.code == 2 && last.err.contains("only key"), "{last:?}");
    let third = desk.operator(&format!("{add} rs256 -o json")).await.json();
    assert_eq!(kids(&third), [second, "third"]);
}

#[tokio::test]
async fn a_token_is_withdrawn_by_its_id() {
    let desk = Desk::with_org().await;
    let mint = "--key acme.key --iss acme --role merchant --sub ada";
    desk.mint("lost.token", &format!("{mint} --jti lost-1")).await;
    assert_eq!(verdict(&desk, "lost.token").await, "taken");
    let lost = std::fs::read_to_string(desk.file("lost.token")).unwrap();
    let revoked = desk.merchant(&format!("tokens revoke acme --jws {} -o json", lost.trim())).await;
    assert_eq!(revoked.json()["jti"], "lost-1");
    assert_eq!(verdict(&desk, "lost.token").await, "TOKEN_REVOKED");
    assert_eq!(verdict(&desk, "acme.token").await, "taken");
    let by_id = desk.merchant("tokens revoke acme --jti lost-2 --expire +1h").await;
    assert_eq!(by_id.code, 0, "{by_id:?}");
    let listed = desk.merchant("tokens revoked acme -o json").await.json();
    let ids: Vec<_> =
        listed["tokens"].as_array().unwrap().iter().map(|one| one["jti"].as_str()).collect();
    assert_eq!(ids, [Some("lost-1"), Some("lost-2")]);

    let plain = std::fs::read_to_string(desk.file("acme.token")).unwrap();
    let nameless = desk.merchant(&format!("tokens revoke acme --jws {}", plain.trim())).await;
    assert!(nameless.code == 2 && nameless.err.contains("has no id"), "{nameless:?}");
    let far = desk.merchant("tokens revoke acme --jti x --expire 2099-01-01T00:00:00Z").await;
    assert!(far.code == 2 && far.err.contains("token.expire_time"), "{far:?}");
    let foreign = desk.merchant("tokens revoke other --jti x --expire +1h").await;
    assert_eq!(foreign.code, 3, "{foreign:?}");
    let operator = desk.operator("tokens revoked acme").await;
    assert!(operator.err.contains("ROLE_NOT_ALLOWED"), "{operator:?}");
}

#[tokio::test]
async fn an_org_is_given_another_quota() {
    let desk = Desk::with_org().await;
    let org = desk.operator("orgs set-quota acme --calls-per-s 500 -o json").await.json();
    assert_eq!(org["callsPerS"], 500);
    let shown = desk.operator("orgs get acme").await.out;
    assert!(shown.contains("calls a second") && shown.contains("500"), "{shown}");
    let merchant = desk.merchant("orgs set-quota acme --calls-per-s 9999999").await;
    assert!(merchant.err.contains("ROLE_NOT_ALLOWED"), "{merchant:?}");
}
