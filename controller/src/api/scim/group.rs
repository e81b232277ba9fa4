//! `/scim/v2/Groups`: the groups of a provider, which policies speak of by `displayName`.

use std::collections::BTreeSet;

use axum::extract::{Path as UrlPath, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use ringfence_controlplane::{DirectoryCommand, DirectoryGroup, GroupProfile};
use ringfence_model::DirectoryId;
use serde_json::{Value, json};

use super::filter::{Filter, Term, unsupported};
use super::list::{Page, Query, Wanted};
use super::patch::{self, Change, How};
use super::problem::ScimProblem;
use super::{ApiState, Caller, Opened, Resource, answer, created, meta, parse_id};

/// What may change about a group.
type Parts = (GroupProfile, BTreeSet<DirectoryId>);

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
    let with_members = page.has("members");
    for group in opened.directory()?.groups() {
        let is_met = |filter: &Filter| filter.is_met(|term| holds(group, term));
        if filter.as_ref().map_or(Ok(true), is_met)? {
            let weight = if with_members { group.members.len() + 1 } else { 1 };
            page.add(weight, || view(group, base));
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
    let group = state
        .in_directory(caller, move |opened| opened.group_view(id))
        .await?;
    Ok(answer(StatusCode::OK, &Wanted::parse(query.as_deref()).of(group)))
}

pub(super) async fn create(
    caller: Caller,
    State(state): State<ApiState>,
    Resource(body): Resource,
) -> Result<Response, ScimProblem> {
    let (profile, members) = parts_of(&patch::whole(body)?)?;
    let group = state
        .in_directory(caller, move |opened| {
            let provider = opened.provider.clone();
            let id = opened.say(DirectoryCommand::AddGroup {
                provider,
                profile,
                members,
            })?;
            opened.group_view(id.ok_or_else(gone)?)
        })
        .await?;
    Ok(created(&group))
}

pub(super) async fn replace(
    caller: Caller,
    State(state): State<ApiState>,
    UrlPath(id): UrlPath<String>,
    Resource(body): Resource,
) -> Result<Response, ScimProblem> {
    let (id, parts) = (parse_id(&id)?, parts_of(&patch::whole(body)?)?);
    let group = state
        .in_directory(caller, move |opened| {
            opened.change_group(id, |_| Ok(parts))?;
            opened.group_view(id)
        })
        .await?;
    Ok(answer(StatusCode::OK, &group))
}

/// Answers with nothing: a group may be large, and who changed it knows it.
pub(super) async fn change(
    caller: Caller,
    State(state): State<ApiState>,
    UrlPath(id): UrlPath<String>,
    Resource(body): Resource,
) -> Result<Response, ScimProblem> {
    let (id, changes) = (parse_id(&id)?, patch::changes(body)?);
    let change = move |mut parts: Parts| {
        for change in &changes {
            apply(&mut parts, change)?;
        }
        Ok(parts)
    };
    state
        .in_directory(caller, move |opened| opened.change_group(id, change))
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
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
            opened.say(DirectoryCommand::RemoveGroup { provider, id })
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Opened<'_> {
    fn group_view(&self, id: DirectoryId) -> Result<Value, ScimProblem> {
        let group = self.directory()?.group(id).ok_or_else(gone)?;
        Ok(view(group, &self.caller.base))
    }

    /// Makes of a group what `change` makes of it.
    fn change_group(
        &mut self,
        id: DirectoryId,
        change: impl FnOnce(Parts) -> Result<Parts, ScimProblem>,
    ) -> Result<(), ScimProblem> {
        let before = self.directory()?.group(id).ok_or_else(gone)?;
        let (profile, members) = change((before.profile.clone(), before.members.clone()))?;
        let provider = self.provider.clone();
        self.say(DirectoryCommand::ChangeGroup {
            provider,
            id,
            profile,
            members,
        })?;
        Ok(())
    }
}

/// The group that a whole resource describes.
fn parts_of(changes: &[Change]) -> Result<Parts, ScimProblem> {
    let profile = GroupProfile {
        name: String::new(),
        external_id: None,
    };
    let mut parts = (profile, BTreeSet::new());
    for change in changes {
        apply(&mut parts, change)?;
    }
    if parts.0.name.is_empty() {
        return Err(ScimProblem::invalid_value("displayName is required"));
    }
    Ok(parts)
}

fn apply((profile, members): &mut Parts, change: &Change) -> Result<(), ScimProblem> {
    match change.path.attribute.as_str() {
        "displayname" => profile.name = change.required_text()?,
        "externalid" => profile.external_id = change.text()?,
        "members" => apply_to_members(members, change)?,
        _ => {}
    }
    Ok(())
}

fn apply_to_members(members: &mut BTreeSet<DirectoryId>, change: &Change) -> Result<(), ScimProblem> {
    if let Some(which) = &change.path.which {
        let [term] = which.0.as_slice() else {
            return Err(unsupported());
        };
        if change.how != How::Remove || term.attribute != "value" {
            let detail = "members of a group are removed by value, and added by a list of them";
            return Err(ScimProblem::invalid_path(detail));
        }
        members.retain(|member| !term.is_exactly(&member.to_string()));
        return Ok(());
    }
    match change.how {
        How::Add => members.extend(members_of(change)?),
        How::Replace => *members = members_of(change)?,
        How::Remove if change.values().is_empty() => members.clear(),
        How::Remove => {
            let ids: BTreeSet<&str> = change.values().iter().filter_map(member_id).collect();
            members.retain(|member| !ids.contains(member.to_string().as_str()));
        }
    }
    Ok(())
}

fn members_of(change: &Change) -> Result<BTreeSet<DirectoryId>, ScimProblem> {
    let members = change.values().iter().map(|value| {
        if value["type"]
            .as_str()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("group"))
        {
            let detail = "groups of groups are not taken: have the provider send who is in them";
            return Err(ScimProblem::invalid_value(detail));
        }
        let id = member_id(value).and_then(|id| id.parse().ok());
        id.ok_or_else(|| change.wrong("a list of objects whose value is the id of a user here"))
    });
    members.collect()
}

fn member_id(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["value"].as_str())
}

fn holds(group: &DirectoryGroup, term: &Term) -> Result<bool, ScimProblem> {
    Ok(match term.attribute.as_str() {
        "id" => term.is_exactly(&group.id.to_string()),
        "displayname" => term.is_like(&group.profile.name),
        "externalid" => group
            .profile
            .external_id
            .as_ref()
            .is_some_and(|id| term.is_exactly(id)),
        "members" | "members.value" => {
            let member = term.value.as_str().and_then(|id| id.parse().ok());
            member.is_some_and(|member| group.members.contains(&member))
        }
        _ => return Err(unsupported()),
    })
}

fn view(group: &DirectoryGroup, base: &str) -> Value {
    let members = group
        .members
        .iter()
        .map(|member| json!({ "value": member, "$ref": format!("{base}/Users/{member}"), "type": "User" }));
    let location = format!("{base}/Groups/{}", group.id);
    let mut view = json!({
        "schemas": [super::discovery::GROUP],
        "id": group.id,
        "displayName": group.profile.name,
        "members": members.collect::<Vec<Value>>(),
        "meta": meta("Group", &location, (group.created_at, group.changed_at)),
    });
    if let Some(id) = &group.profile.external_id {
        view["externalId"] = id.as_str().into();
    }
    view
}

fn gone() -> ScimProblem {
    ScimProblem::not_found("there is no such group")
}
