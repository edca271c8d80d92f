//! A purchase over REST, with curl.

use std::time::Duration;

use anyhow::{Context, ensure};
use proto::token::Role;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::books::Told;
use crate::curl::{ask, listen};
use crate::shop::{ORG, STOCK_TEXT, Shop, fresh_id};

/// A buyer at a sale.
struct Buyer<'a> {
    shop: &'a Shop,
    bearer: String,
    sale: String,
}

/// Stands in line, holds two units, pays for them, and looks at what came of it.
pub(crate) async fn buys(shop: &Shop, id: &str) -> anyhow::Result<Told> {
    let bearer = shop.bearer("ada", Role::Buyer);
    let sale = format!("{}/v1/sales/{id}", shop.router);
    let buyer = Buyer { shop, bearer, sale };
    buyer.sees_the_page(id).await?;
    let ticket = buyer.waits().await?;
    let held = buyer.reserves(&ticket).await?;
    let paid = buyer.pays(&held).await?;
    let units = paid["units"].as_array().context("units")?.iter();
    let units: Option<Vec<u32>> =
        units.map(|unit| unit.as_u64().and_then(|unit| unit.try_into().ok())).collect();
    let (whole, part) = (text(&paid["total"], "units")?, &paid["total"]["nanos"]);
    Ok(Told {
        org: ORG.to_owned(),
        sale: format!("orgs/{ORG}/sales/{id}"),
        order: text(&paid, "name")?,
        units: units.context("units")?,
        amount_minor: whole.parse::<i64>()? * 100 + part.as_i64().unwrap_or(0) / 10_000_000,
        currency: text(&paid["total"], "currencyCode")?,
    })
}

impl Buyer<'_> {
    async fn call(&self, method: &str, path: &str, body: Value) -> anyhow::Result<Value> {
        let headers = [("authorization", &*self.bearer), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let told = ask(method, &format!("{}{path}", self.sale), &headers, &body).await?;
        told.answer().with_context(|| format!("{method} {path}"))
    }

    async fn sees_the_page(&self, id: &str) -> anyhow::Result<()> {
        let token = [("authorization", &*self.bearer)];
        let stock = ask("GET", &format!("{}/stock", self.sale), &token, "").await?;
        let cache = stock.header("cache-control");
        ensure!(cache == "max-age=1, stale-while-revalidate=60", "{stock:?}");
        ensure!(stock.answer()?["stock"] == *STOCK_TEXT, "{stock:?}");
        let again = [("authorization", &*self.bearer), ("last-event-id", "7")];
        let url = format!("{}/events", self.sale);
        let events = listen(&url, &again, Duration::from_secs(1)).await?;
        ensure!(events.header("content-type") == "text/event-stream", "{events:?}");
        let data = events.body.lines().find_map(|line| line.strip_prefix("data: "));
        let state: Value = serde_json::from_str(data.context("an event")?)?;
        ensure!(state["sale"] == format!("orgs/{ORG}/sales/{id}"), "{state}");
        ensure!(state["phase"] == "PHASE_OPEN", "{state}");
        Ok(())
    }

    async fn waits(&self) -> anyhow::Result<String> {
        let mut place = self.call("POST", "/waiting-room", Value::Null).await?;
        let ticket = text(&place, "ticket")?;
        while place["state"] == "STATE_WAITING" {
            let pause = text(&place, "askAgain")?;
            let seconds: f64 = pause.trim_end_matches('s').parse()?;
            sleep(Duration::from_secs_f64(seconds)).await;
            place = self.call("GET", &format!("/waiting-room/{ticket}"), Value::Null).await?;
        }
        ensure!(place["state"] == "STATE_ADMITTED" && place["place"] == "0", "{place}");
        // Whoever reads the log must not be able to buy with what stands there.
        let stack = self.shop.platform.stack();
        ask("GET", &format!("{}/waiting-room/{ticket}", self.sale), &[], "").await?;
        ensure!(stack.logged("router", "/v1/sales/{sale}/waiting-room/{ticket}")? > 0, "no log");
        ensure!(stack.logged("router", &ticket)? == 0, "the log has a ticket");
        Ok(ticket)
    }

    async fn reserves(&self, ticket: &str) -> anyhow::Result<Value> {
        let key = fresh_id();
        let reserve = async |quantity: u32| {
            let headers = [
                ("authorization", &*self.bearer),
                ("content-type", "application/json"),
                ("idempotency-key", &*key),
            ];
            let body = json!({"ticket": ticket, "quantity": quantity}).to_string();
            ask("POST", &format!("{}/reserve", self.sale), &headers, &body).await
        };
        let held = reserve(2).await?.answer()?;
        ensure!(held["state"] == "STATE_HELD", "{held}");
        let again = reserve(2).await?.answer()?;
        ensure!(again["name"] == held["name"] && again["units"] == held["units"], "{again}");
        let other = reserve(1).await?;
        ensure!(other.status == 400 && other.json()?["reason"] == "REQUEST_ID_REUSED", "{other:?}");
        Ok(held)
    }

    async fn pays(&self, held: &Value) -> anyhow::Result<Value> {
        let name = text(held, "name")?;
        let body = json!({"name": name, "paymentMethod": "pm_card_visa"});
        let elsewhere = format!("{}/v1/sales/s0000000000000000/checkout", self.shop.router);
        let headers = [("authorization", &*self.bearer), ("content-type", "application/json")];
        let refused = ask("POST", &elsewhere, &headers, &body.to_string()).await?;
        ensure!(refused.json()?["violations"][0]["field"] == "sale", "{refused:?}");
        let paid = self.call("POST", "/checkout", body).await?;
        ensure!(paid["state"] == "STATE_PAID" && paid["units"] == held["units"], "{paid}");
        let id = name.rsplit('/').next().context("an id")?;
        let shown = self.call("GET", &format!("/orders/{id}"), Value::Null).await?;
        ensure!(shown == paid, "{shown} is not {paid}");
        let cancel = format!("{}/orders/{id}:cancel", self.sale);
        let late = ask("POST", &cancel, &headers, "").await?;
        ensure!(late.status == 409 && late.json()?["reason"] == "ORDER_STATE_CONFLICT", "{late:?}");
        Ok(paid)
    }
}

fn text(json: &Value, name: &str) -> anyhow::Result<String> {
    Ok(json[name].as_str().with_context(|| format!("{name} in {json}"))?.to_owned())
}
