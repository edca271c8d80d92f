//! The provider's HTTP interface: Stripe's paths and forms for payment intents and refunds, and beside
//! them `/faults` and `/healthz`.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Form, FromRequest, Json, Path, Query, Request, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use floodgate_local::Faults;
use rand::RngExt;
use rand::distr::Alphanumeric;

use crate::answer::Answer;
use crate::book::{Call, Page};
use crate::desk::{Desk, Outcome, Work};
use crate::intent::{Card, Step};
use crate::ledger::{Event, Line};
use crate::params::Params;

/// No call of these is longer.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Stripe's limits.
const KEY_CHARS_MAX: usize = 255;
const AMOUNT_MAX: u64 = 99_999_999;
const ID_CHARS: usize = 24;

/// Marks a response that must not be sent: the connection is closed instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LostReply;

type Pairs = Vec<(String, String)>;

/// All routes.
pub(crate) fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/payment_intents", post(create).get(list_intents))
        .route("/v1/payment_intents/{id}", get(retrieve))
        .route("/v1/payment_intents/{id}/{step}", post(step))
        .route("/v1/refunds", post(refund).get(list_refunds))
        .route("/v1/refunds/{id}", get(retrieve_refund))
        .route("/faults", get(get_faults).post(set_faults))
        .route("/healthz", get(async || "ok\n"))
        .fallback(async |request: Request| Answer::no_such("path", request.uri().path()))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(desk)
}

async fn create(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let begun = async {
        let (key, mut params) = form(request).await?;
        let fingerprint = params.fingerprint("create");
        let line = new_intent(&mut params)?;
        params.finish()?;
        let call = Call { key, request: fingerprint, intent: None, is_confirm: false };
        Ok((call, Work::Create(Box::new(line))))
    };
    serve(desk, begun.await).await
}

async fn step(
    State(desk): State<Arc<Desk>>,
    Path((id, step)): Path<(String, String)>,
    request: Request,
) -> Response {
    let begun = async {
        let (key, mut params) = form(request).await?;
        let fingerprint = params.fingerprint(&format!("{step} {id}"));
        let step = match step.as_str() {
            "confirm" => Step::Confirm { payment_method: payment_method(&mut params)? },
            "capture" => Step::Capture { amount: params.take_number("amount_to_capture")? },
            "cancel" => Step::Cancel { reason: params.take("cancellation_reason").map(Arc::from) },
            _ => return Err(Answer::no_such("path", &step)),
        };
        params.finish()?;
        let is_confirm = matches!(step, Step::Confirm { .. });
        let call = Call { key, request: fingerprint, intent: Some(id.into()), is_confirm };
        Ok((call, Work::Step(step)))
    };
    serve(desk, begun.await).await
}

async fn refund(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let begun = async {
        let (key, mut params) = form(request).await?;
        let fingerprint = params.fingerprint("refund");
        let missing = || Answer::missing_parameter("payment_intent");
        let intent = params.take("payment_intent").ok_or_else(missing)?;
        let step = Step::Refund {
            id: new_id("re"),
            amount: params.take_number("amount")?,
            reason: params.take("reason").map(Arc::from),
            metadata: params.take_metadata()?,
        };
        params.finish()?;
        let call =
            Call { key, request: fingerprint, intent: Some(intent.into()), is_confirm: false };
        Ok((call, Work::Step(step)))
    };
    serve(desk, begun.await).await
}

async fn serve(desk: Arc<Desk>, begun: Result<(Call, Work), Answer>) -> Response {
    let outcome = match begun {
        Ok((call, work)) => desk.serve(call, work).await,
        Err(refusal) => Outcome::Answer(refusal),
    };
    match outcome {
        Outcome::Answer(answer) => answer.into_response(),
        Outcome::LostReply => {
            let mut response = Response::default();
            response.extensions_mut().insert(LostReply);
            response
        }
    }
}

async fn retrieve(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Answer {
    desk.book().intent_body(&id).map_or_else(|refusal| refusal, |body| Answer::ok(&body))
}

async fn retrieve_refund(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Answer {
    desk.book().refund_body(&id).map_or_else(|refusal| refusal, |body| Answer::ok(&body))
}

async fn list_intents(
    State(desk): State<Arc<Desk>>,
    query: Result<Query<Pairs>, QueryRejection>,
) -> Answer {
    let listed = page(query).and_then(|page| desk.book().intents(&page));
    listed.map_or_else(|refusal| refusal, |body| Answer::ok(&body))
}

async fn list_refunds(
    State(desk): State<Arc<Desk>>,
    query: Result<Query<Pairs>, QueryRejection>,
) -> Answer {
    let listed = page(query).and_then(|page| desk.book().refunds(&page));
    listed.map_or_else(|refusal| refusal, |body| Answer::ok(&body))
}

async fn get_faults(State(desk): State<Arc<Desk>>) -> Json<Faults> {
    Json(desk.faults())
}

async fn set_faults(State(desk): State<Arc<Desk>>, Json(faults): Json<Faults>) -> Response {
    if !faults.is_valid() {
        return Answer::invalid("parameter_invalid", "a rate is a number from 0 to 1")
            .into_response();
    }
    desk.set_faults(faults);
    Json(faults).into_response()
}

/// The idempotency key and the parameters of a changing call.
async fn form(request: Request) -> Result<(Option<Arc<str>>, Params), Answer> {
    let key = idempotency_key(request.headers())?;
    // A call without parameters has no body and no type of it.
    let pairs = if request.headers().contains_key(CONTENT_TYPE) {
        let form = Form::<Pairs>::from_request(request, &()).await;
        form.map_err(|error: FormRejection| Answer::invalid("body_invalid", &error.body_text()))?.0
    } else {
        Vec::new()
    };
    Ok((key, Params::new(pairs)?))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<Arc<str>>, Answer> {
    let Some(header) = headers.get("idempotency-key") else { return Ok(None) };
    match header.to_str() {
        Ok(key) if (1..=KEY_CHARS_MAX).contains(&key.len()) => Ok(Some(key.into())),
        _ => {
            Err(Answer::invalid("parameter_invalid", "an idempotency key has 1 to 255 characters"))
        }
    }
}

fn new_intent(params: &mut Params) -> Result<Line, Answer> {
    let amount =
        params.take_number("amount")?.ok_or_else(|| Answer::missing_parameter("amount"))?;
    if !(1..=AMOUNT_MAX).contains(&amount) {
        return Err(Answer::invalid_parameter("amount", &amount.to_string()));
    }
    let currency = params.take("currency").ok_or_else(|| Answer::missing_parameter("currency"))?;
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(Answer::invalid_parameter("currency", &currency));
    }
    let capture_method = params.take_word("capture_method")?.unwrap_or_default();
    let payment_method = payment_method(params)?;
    let metadata = params.take_metadata()?;
    Ok(Line {
        seq: 0,
        at_ms: 0,
        intent: new_id("pi"),
        event: Event::Created,
        amount,
        currency: currency.to_ascii_lowercase().into(),
        order: metadata.get("order").cloned(),
        key: None,
        request: None,
        capture_method: Some(capture_method),
        payment_method,
        metadata,
        decline_code: None,
        refund: None,
        reason: None,
    })
}

fn payment_method(params: &mut Params) -> Result<Option<Arc<str>>, Answer> {
    let Some(method) = params.take("payment_method") else { return Ok(None) };
    Card::of(&method)?;
    Ok(Some(method.into()))
}

fn page(query: Result<Query<Pairs>, QueryRejection>) -> Result<Page, Answer> {
    let Query(pairs) =
        query.map_err(|error| Answer::invalid("parameter_invalid", &error.body_text()))?;
    let mut params = Params::new(pairs)?;
    let page = Page {
        limit: params.take_number("limit")?,
        starting_after: params.take("starting_after"),
        created_from_s: params.take_number("created[gte]")?,
        intent: params.take("payment_intent"),
    };
    params.finish()?;
    Ok(page)
}

/// An id as Stripe makes them: a prefix and random letters and digits.
fn new_id(prefix: &str) -> Arc<str> {
    let letters = rand::rng().sample_iter(Alphanumeric).take(ID_CHARS).map(char::from);
    format!("{prefix}_{}", letters.collect::<String>()).into()
}
