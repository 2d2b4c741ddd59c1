//! What people may ask about rules: dead letters, history and traces, the events that are retained, and to run a dead letter again; and to send
//! something to an EventSink by hand.
//!
//! Whoever asks shows a token of the rule's ServiceAccount, made for the audience `signalbox`: who may make that token may see what the rule saw.
//! Requests and results of actions are not told, so that nothing secret can be in an answer.

mod archive;
mod entry;
mod pages;
mod places;
mod sinks;
mod told;

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use self::{entry::Visitors, pages::Page};
use crate::{
    actions::Services,
    bus::Bus,
    record::{Account, DeadLetter, FiringId, OpenFiring, Position, Record, Replay, RuleRef, RuleUid, Table},
    shard::{Desk, Place},
};

/// What the answers are made of. Behind an `OnceLock`: the server begins before there is a log.
pub struct Rules {
    desk: Desk,
    bus: Arc<dyn Bus>,
    visitors: Visitors,
    /// One replay at a time: of two for the same letter, the second finds it gone.
    replaying: tokio::sync::Mutex<()>,
    /// What is sent by hand, and who may watch what.
    services: Arc<Services>,
    /// Places for what is being sent by hand.
    sending: places::Places,
    /// Those who read the archive.
    slots: archive::Slots,
}

/// The answers, once there are any.
pub type LateRules = Arc<OnceLock<Rules>>;

/// Why something is not answered.
#[derive(Debug)]
pub(super) struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        reply(self.0, &json!({"message": self.1}))
    }
}

fn reply(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

type Answer = Result<Response, Refusal>;

pub(super) fn router(rules: LateRules) -> Router {
    Router::new()
        .route("/v1/namespaces/{namespace}/rules/{rule}/deadletters", get(dead_letters))
        .route("/v1/namespaces/{namespace}/rules/{rule}/deadletters/{firing}/replay", post(replay))
        .route("/v1/namespaces/{namespace}/rules/{rule}/history", get(history))
        .route("/v1/namespaces/{namespace}/firings/{firing}", get(trace))
        .route(
            "/v1/namespaces/{namespace}/sinks/{sink}/deliveries",
            post(sinks::deliver).layer(DefaultBodyLimit::max(sinks::MOST)),
        )
        .route("/v1/namespaces/{namespace}/events", get(archive::events))
        .with_state(rules)
}

fn ready(rules: &LateRules) -> Result<&Rules, Refusal> {
    let starting = || Refusal(StatusCode::SERVICE_UNAVAILABLE, "the operator is starting: try again".to_owned());
    rules.get().ok_or_else(starting)
}

async fn dead_letters(
    State(rules): State<LateRules>,
    Path((namespace, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let (rules, page) = (ready(&rules)?, Page::read(query.as_deref())?);
    let (rule, account) = rules.enter(&headers, &namespace, &name).await?;
    let (letters, more) = rules.letters(&rule.uid, &account, page).await?;
    Ok(reply(StatusCode::OK, &pages::list(letters.iter().map(told::letter), more)))
}

async fn history(
    State(rules): State<LateRules>,
    Path((namespace, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let (rules, page) = (ready(&rules)?, Page::read(query.as_deref())?);
    let (rule, account) = rules.enter(&headers, &namespace, &name).await?;
    let (uid, limit) = (rule.uid.clone(), page.limit);
    let (oldest, recent) = rules
        .ask(move |state| {
            let progress = state.engine.progress(&uid).unwrap_or_default();
            (told::oldest(state, &uid, limit), progress.recent)
        })
        .await?;
    let open = rules.open(oldest, &account).await?;
    let (letters, more) = rules.letters(&rule.uid, &account, page).await?;
    let mut body = json!({
        "rule": rule.to_string(),
        "open": open.iter().map(|open| told::open(open)).collect::<Vec<_>>(),
        "recent": recent,
        "deadLetters": letters.iter().map(told::letter).collect::<Vec<_>>(),
    });
    pages::mark(&mut body, more);
    Ok(reply(StatusCode::OK, &body))
}

async fn trace(
    State(rules): State<LateRules>,
    Path((namespace, firing)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let rules = ready(&rules)?;
    let visitor = rules.visitors.account(&headers).await?;
    let id = FiringId(firing.as_str().into());
    let found = rules.ask(move |state| told::find(state, &namespace, &id)).await?;
    let unknown = || {
        let why = "it is not of a rule of this namespace, or not kept any more: of firings that succeeded, the last are (historyLimit)";
        Refusal(StatusCode::NOT_FOUND, format!("nothing is known of firing {firing}: {why}"))
    };
    let found = found.ok_or_else(unknown)?;
    entry::admit(&visitor, &found.rule, &found.account)?;
    let admit = |open: &OpenFiring| entry::admit(&visitor, &found.rule, &told::account(open));
    let body = match found.what {
        told::What::Open(id, open) => {
            // It may have ended a moment ago.
            let open = rules.whole(&id, open).await?.ok_or_else(unknown)?;
            admit(&open).map(|()| told::tree(&open, None))?
        }
        told::What::Letter(id, place) => {
            let letter = rules.read(&id, place).await?.ok_or_else(unknown)?;
            admit(&letter.open).map(|()| told::tree(&letter.open, Some(&letter.finished)))?
        }
        told::What::Recent(recent) => told::recent(&found.rule, &recent),
    };
    Ok(reply(StatusCode::OK, &body))
}

async fn replay(
    State(rules): State<LateRules>,
    Path((namespace, name, firing)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    let rules = ready(&rules)?;
    let (rule, account) = rules.enter(&headers, &namespace, &name).await?;
    let of = FiringId(firing.into());
    let gone = || {
        let why = "it was run again already, or had to go for newer ones";
        Refusal(StatusCode::NOT_FOUND, format!("rule {rule} has no dead letter {of}: {why}"))
    };
    let _one = rules.replaying.lock().await;
    let (id, uid) = (of.clone(), rule.uid.clone());
    let place = rules
        .ask(move |state| state.letters.find(&id).filter(|(kept, _)| kept.rule == uid).map(|(_, place)| place))
        .await?;
    let letter = rules.read(&of, place.ok_or_else(gone)?).await?.ok_or_else(gone)?;
    if !told::acts_as(&letter.open, &account) {
        let (then, now) = (told::account(&letter.open).name, account.name);
        let why = format!(
            "it saw what {then} may see, and the rule acts as {now} now: set serviceAccountName back to run it again"
        );
        return Err(Refusal(StatusCode::FORBIDDEN, format!("firing {of} is not run again: {why}")));
    }
    let replay = Replay { of: of.clone(), open: Box::new(letter.open), unjudged: letter.unjudged };
    let log = rules.bus.id().clone();
    let head = rules.bus.append(Record::Replay(replay.clone())).await.map_err(failed)?;
    rules.bus.durable(head.position).await.map_err(failed)?;
    let id = of.clone();
    let kept = move |state: &crate::shard::State| state.letters.find(&id).map(|_| state.engine.stopped().cloned());
    if let Some(stopped) = rules.ask_after(head.position, kept).await? {
        // What fires of itself waits with the others; an event that is judged meanwhile would be over.
        let stopped = stopped.filter(|_| replay.unjudged.is_some());
        return Err(Refusal(
            StatusCode::CONFLICT,
            format!("firing {of} is not run again: {}", told::not_again(stopped)),
        ));
    }
    let told = match replay.unjudged {
        Some(_) => json!({"judged": true}),
        None => json!({"firing": replay.firing(&log, head.position).to_string()}),
    };
    Ok(reply(StatusCode::ACCEPTED, &told))
}

fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

impl Rules {
    /// Answers made of the shard's state and the letters in the log's view. What is sent by hand goes the way of what rules send.
    pub fn new(desk: Desk, bus: Arc<dyn Bus>, services: Arc<Services>) -> Self {
        let visitors = Visitors::new(services.cluster.clone());
        let (sending, slots) = (places::Places::default(), archive::Slots::default());
        Self { desk, bus, visitors, replaying: tokio::sync::Mutex::default(), services, sending, slots }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&crate::shard::State) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        self.ask_after(Position(0), question).await
    }

    async fn ask_after<T: Send + 'static>(
        &self,
        after: Position,
        question: impl FnOnce(&crate::shard::State) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        self.desk.ask(after, question).await.ok_or_else(|| failed("the operator is stopping: try again"))
    }

    /// Lets in whoever shows a token of the rule's account.
    async fn enter(&self, headers: &HeaderMap, namespace: &str, name: &str) -> Result<(RuleRef, Account), Refusal> {
        let visitor = self.visitors.account(headers).await?;
        let (of, named) = (namespace.to_owned(), name.to_owned());
        let known = self
            .ask(move |state| {
                let is = |rule: &RuleRef| rule.namespace == of && rule.name == named;
                let found = state.engine.accounts().find(|(rule, _)| is(rule));
                found.map(|(rule, account)| (rule.clone(), account.clone()))
            })
            .await?;
        match known {
            Some((rule, account)) => entry::admit(&visitor, &rule, &account).map(|()| (rule, account)),
            None if visitor.namespace == namespace => {
                let none =
                    format!("the operator knows no rule {namespace}/{name}: kubectl get eventrules -n {namespace}");
                Err(Refusal(StatusCode::NOT_FOUND, none))
            }
            None => Err(entry::stranger(&visitor, namespace, name)),
        }
    }

    /// A page of the rule's letters, newest first, and where the next begins. Firings of an account that the rule had before saw what this one may not,
    /// and are left out.
    async fn letters(
        &self,
        rule: &RuleUid,
        account: &Account,
        page: Page,
    ) -> Result<(Vec<DeadLetter>, Option<Position>), Refusal> {
        let uid = rule.clone();
        let (found, more) = self.ask(move |state| state.letters.page(&uid, page.before, page.limit)).await?;
        let mut letters = Vec::with_capacity(found.len());
        for (id, place) in found {
            // One that was run again meanwhile is left out as well.
            let letter = self.read(&id, place).await?;
            letters.extend(letter.filter(|letter| told::acts_as(&letter.open, account)));
        }
        Ok((letters, more))
    }

    /// Those of them that the account may see; one that has ended meanwhile is left out.
    async fn open(
        &self,
        found: Vec<(FiringId, Option<Arc<OpenFiring>>)>,
        account: &Account,
    ) -> Result<Vec<Arc<OpenFiring>>, Refusal> {
        let mut all = Vec::with_capacity(found.len());
        for (id, here) in found {
            let open = self.whole(&id, here).await?;
            all.extend(open.filter(|open| told::acts_as(open, account)));
        }
        Ok(all)
    }

    /// An open firing, from memory or from the view.
    async fn whole(&self, id: &FiringId, here: Option<Arc<OpenFiring>>) -> Result<Option<Arc<OpenFiring>>, Refusal> {
        if here.is_some() {
            return Ok(here);
        }
        let row = self.bus.row(Table::Firings, id.0.as_bytes().to_vec()).await.map_err(failed)?;
        let unread = |error| failed(format!("read firing {id}: {error}"));
        row.map(|row| serde_json::from_slice(&row).map(Arc::new)).transpose().map_err(unread)
    }

    async fn read(&self, id: &FiringId, place: Place) -> Result<Option<DeadLetter>, Refusal> {
        match place {
            Place::Here(letter) => Ok(Some(DeadLetter::clone(&letter))),
            Place::InView => {
                let row = self.bus.row(Table::DeadLetters, id.0.as_bytes().to_vec()).await.map_err(failed)?;
                let unread = |error| failed(format!("read dead letter {id}: {error}"));
                row.map(|row| serde_json::from_slice(&row)).transpose().map_err(unread)
            }
        }
    }
}
