//! `/scim/v2/Users`: the people of a provider.
//!
//! Of what is said of a person as much is kept as finds them: the rest is read over.

use axum::extract::{Path as UrlPath, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use ringfence_controlplane::{
    DirectoryCommand, DirectoryEmail, DirectoryPerson, PersonProfile, UserStanding,
};
use ringfence_model::DirectoryId;
use serde_json::{Value, json};

use super::filter::{Filter, Term, unsupported};
use super::list::{Page, Query, Wanted};
use super::patch::{self, Change, How};
use super::problem::ScimProblem;
use super::{ApiState, Caller, Opened, Resource, answer, created, meta, parse_id};

pub(super) async fn list(
    caller: Caller,
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Response, ScimProblem> {
    let query = Query::parse(query.as_deref())?;
    let page = state.in_directory(caller, |opened| find(opened, query)).await?;
    Ok(page.answer())
}

fn find(opened: &mut Opened<'_>, query: Query) -> Result<Page, ScimProblem> {
    let filter = query.filter.clone();
    let base = &opened.caller.base;
    let mut page = Page::new(query);
    for person in opened.directory()?.people() {
        let is_met = |filter: &Filter| filter.is_met(|term| holds(person, term));
        if filter.as_ref().map_or(Ok(true), is_met)? {
            page.add(1, || view(person, base));
        }
    }
    Ok(page)
}

pub(super) async fn show(
    caller: Caller,
    State(state): State<ApiState>,
    UrlPath(id): UrlPath<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ScimProblem> {
    let id = parse_id(&id)?;
    let person = state
        .in_directory(caller, move |opened| opened.person_view(id))
        .await?;
    Ok(answer(
        StatusCode::OK,
        &Wanted::parse(query.as_deref()).of(person),
    ))
}

pub(super) async fn create(
    caller: Caller,
    State(state): State<ApiState>,
    Resource(body): Resource,
) -> Result<Response, ScimProblem> {
    let profile = profile_of(UserStanding::Active, &patch::whole(body)?)?;
    let person = state
        .in_directory(caller, move |opened| {
            let provider = opened.provider.clone();
            let id = opened.say(DirectoryCommand::AddPerson { provider, profile })?;
            opened.person_view(id.ok_or_else(gone)?)
        })
        .await?;
    Ok(created(&person))
}

pub(super) async fn replace(
    caller: Caller,
    State(state): State<ApiState>,
    UrlPath(id): UrlPath<String>,
    Resource(body): Resource,
) -> Result<Response, ScimProblem> {
    let (id, changes) = (parse_id(&id)?, patch::whole(body)?);
    let change = move |before: &PersonProfile| profile_of(before.standing, &changes);
    let person = state
        .in_directory(caller, move |opened| opened.change_person(id, change))
        .await?;
    Ok(answer(StatusCode::OK, &person))
}

pub(super) async fn change(
    caller: Caller,
    State(state): State<ApiState>,
    UrlPath(id): UrlPath<String>,
    Resource(body): Resource,
) -> Result<Response, ScimProblem> {
    let (id, changes) = (parse_id(&id)?, patch::changes(body)?);
    let change = move |before: &PersonProfile| {
        let mut profile = before.clone();
        for change in &changes {
            apply(&mut profile, change)?;
        }
        Ok(profile)
    };
    let person = state
        .in_directory(caller, move |opened| opened.change_person(id, change))
        .await?;
    Ok(answer(StatusCode::OK, &person))
}

pub(super) async fn remove(
    caller: Caller,
    State(state): State<ApiState>,
    UrlPath(id): UrlPath<String>,
) -> Result<Response, ScimProblem> {
    let id = parse_id(&id)?;
    state
        .in_directory(caller, move |opened| {
            let provider = opened.provider.clone();
            opened.say(DirectoryCommand::RemovePerson { provider, id })
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Opened<'_> {
    fn person_view(&self, id: DirectoryId) -> Result<Value, ScimProblem> {
        let person = self.directory()?.person(id).ok_or_else(gone)?;
        Ok(view(person, &self.caller.base))
    }

    /// Makes of a person what `change` makes of them.
    fn change_person(
        &mut self,
        id: DirectoryId,
        change: impl FnOnce(&PersonProfile) -> Result<PersonProfile, ScimProblem>,
    ) -> Result<Value, ScimProblem> {
        let before = self.directory()?.person(id).ok_or_else(gone)?;
        let profile = change(&before.profile)?;
        let provider = self.provider.clone();
        self.say(DirectoryCommand::ChangePerson {
            provider,
            id,
            profile,
        })?;
        self.person_view(id)
    }
}

/// The person that a whole resource describes. Whether somebody is active is never changed by leaving it out.
fn profile_of(standing: UserStanding, changes: &[Change]) -> Result<PersonProfile, ScimProblem> {
    let mut profile = PersonProfile {
        user_name: String::new(),
        external_id: None,
        display_name: None,
        emails: Vec::new(),
        standing,
    };
    for change in changes {
        apply(&mut profile, change)?;
    }
    if profile.user_name.is_empty() {
        return Err(ScimProblem::invalid_value("userName is required"));
    }
    Ok(profile)
}

fn apply(profile: &mut PersonProfile, change: &Change) -> Result<(), ScimProblem> {
    match change.path.attribute.as_str() {
        "username" => profile.user_name = change.required_text()?,
        "externalid" => profile.external_id = change.text()?,
        "displayname" => profile.display_name = change.text()?,
        "active" => {
            profile.standing = if change.flag()? {
                UserStanding::Active
            } else {
                UserStanding::Deactivated
            };
        }
        "emails" => apply_to_emails(&mut profile.emails, change)?,
        _ => {}
    }
    Ok(())
}

fn apply_to_emails(emails: &mut Vec<DirectoryEmail>, change: &Change) -> Result<(), ScimProblem> {
    if let Some(which) = &change.path.which {
        return apply_to_some(emails, which, change);
    }
    let given = change.values().iter().map(|value| email_of(value, change));
    let given: Vec<DirectoryEmail> = given.collect::<Result<_, _>>()?;
    let is_same = |a: &DirectoryEmail, b: &DirectoryEmail| a.value.eq_ignore_ascii_case(&b.value);
    match change.how {
        How::Replace => *emails = given,
        How::Add => {
            emails.retain(|email| !given.iter().any(|given| is_same(given, email)));
            emails.extend(given);
        }
        How::Remove if given.is_empty() => emails.clear(),
        How::Remove => emails.retain(|email| !given.iter().any(|given| is_same(given, email))),
    }
    Ok(())
}

/// Changes those addresses that a filter in the path means: `emails[type eq "work"].value`.
fn apply_to_some(
    emails: &mut Vec<DirectoryEmail>,
    which: &Filter,
    change: &Change,
) -> Result<(), ScimProblem> {
    if change.how == How::Remove {
        emails.retain(|email| !is_email(email, which));
        return Ok(());
    }
    let part = change.path.part.as_deref();
    let value = match part {
        None => email_of(change.values().first().unwrap_or(&Value::Null), change)?.value,
        Some("value") => change.required_text()?,
        Some(_) => return Ok(()),
    };
    let mut meant = emails.iter_mut().filter(|email| is_email(email, which));
    if let Some(email) = meant.next() {
        email.value = value;
        return Ok(());
    }
    // What is named by its type alone comes to be (RFC 7644 section 3.5.2.3 has it fail; providers count on it).
    let kind = which.0.iter().find(|term| term.attribute == "type");
    let kind = kind.and_then(|term| term.value.as_str()).map(str::to_owned);
    emails.push(DirectoryEmail {
        value,
        kind: Some(kind.ok_or_else(|| ScimProblem::no_target("there is no such address"))?),
        primary: false,
    });
    Ok(())
}

fn is_email(email: &DirectoryEmail, which: &Filter) -> bool {
    which.0.iter().all(|term| match term.attribute.as_str() {
        "type" => email.kind.as_ref().is_some_and(|kind| term.is_like(kind)),
        "value" => term.is_like(&email.value),
        "primary" => term.value == email.primary,
        _ => false,
    })
}

fn email_of(value: &Value, change: &Change) -> Result<DirectoryEmail, ScimProblem> {
    let text = |name: &str| {
        let fields = value.as_object();
        let mut fields = fields.into_iter().flatten();
        fields
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, field)| field)
    };
    let address = value.as_str().or_else(|| text("value")?.as_str());
    let address = address.ok_or_else(|| change.wrong("a list of objects with a value"))?;
    Ok(DirectoryEmail {
        value: address.trim().to_owned(),
        kind: text("type").and_then(Value::as_str).map(str::to_owned),
        primary: text("primary").is_some_and(|primary| primary == true),
    })
}

fn holds(person: &DirectoryPerson, term: &Term) -> Result<bool, ScimProblem> {
    let profile = &person.profile;
    Ok(match term.attribute.as_str() {
        "id" => term.is_exactly(&person.id.to_string()),
        "username" => term.is_like(&profile.user_name),
        "externalid" => profile.external_id.as_ref().is_some_and(|id| term.is_exactly(id)),
        "displayname" => profile
            .display_name
            .as_ref()
            .is_some_and(|name| term.is_like(name)),
        "emails" | "emails.value" => profile.emails.iter().any(|email| term.is_like(&email.value)),
        "active" => term.value == (profile.standing == UserStanding::Active),
        _ => return Err(unsupported()),
    })
}

fn view(person: &DirectoryPerson, base: &str) -> Value {
    let profile = &person.profile;
    let emails = profile.emails.iter().map(|email| {
        let mut view = json!({ "value": email.value, "primary": email.primary });
        if let Some(kind) = &email.kind {
            view["type"] = kind.as_str().into();
        }
        view
    });
    let location = format!("{base}/Users/{}", person.id);
    let mut view = json!({
        "schemas": [super::discovery::USER],
        "id": person.id,
        "userName": profile.user_name,
        "active": profile.standing == UserStanding::Active,
        "emails": emails.collect::<Vec<Value>>(),
        "meta": meta("User", &location, (person.created_at, person.changed_at)),
    });
    if let Some(id) = &profile.external_id {
        view["externalId"] = id.as_str().into();
    }
    if let Some(name) = &profile.display_name {
        view["displayName"] = name.as_str().into();
    }
    view
}

fn gone() -> ScimProblem {
    ScimProblem::not_found("there is no such user")
}
