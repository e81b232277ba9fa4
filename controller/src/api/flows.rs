//! `/flows`: who talked to whom, by which rule, and how it ended.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use ringfence_control::api::{FlowList, FlowView, MissingFlows, Problem};
use ringfence_controlplane::{Role, Seen};
use ringfence_model::{Name, NodeId, UnixMillis};
use ringfence_packet::Protocol;
use ringfence_policy::Direction;
use serde::Deserialize;

use super::ApiState;
use super::caller::Reader;
use super::problem::ApiProblem;
use crate::core::wall_now;
use crate::flows::{FlowFilter, FlowLoss, FlowRow, FlowsUnavailable, Found};

/// The query of `GET /flows`.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowsQuery {
    /// Only in this perimeter.
    #[param(value_type = Option<String>)]
    perimeter: Option<Name>,
    /// Only those with this node at either end, by name or id.
    node: Option<String>,
    /// Only those that ended at or after this time.
    #[serde(default)]
    since_ms: u64,
    /// How many at the most, the newest.
    #[serde(default = "default_limit")]
    limit: u32,
}

/// Conversations that ended, oldest first.
#[utoipa::path(get, path = "/api/v1/flows", tag = "flows", security(("admin" = [])), params(FlowsQuery),
    responses((status = 200, body = FlowList), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    reader: Reader,
    State(state): State<ApiState>,
    query: Result<Query<FlowsQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<FlowList>, ApiProblem> {
    let Query(query) = query.map_err(|error| ApiProblem::bad_request(error.to_string()))?;
    let node = match query.node {
        // A removed node has no name any more; what it told is found by its id.
        Some(text) => match text.parse() {
            Ok(id) => Some(id),
            Err(_) => Some(state.find_seen_node(&reader, &text).await?),
        },
        None => None,
    };
    let asked = query.perimeter;
    let perimeters = state
        .see(&reader, move |seen| perimeters(seen.role(), asked))
        .await??;
    let filter = FlowFilter {
        perimeters,
        node,
        since: UnixMillis(query.since_ms),
        limit: usize::try_from(query.limit.clamp(1, FLOWS_LISTED_MAX)).unwrap_or(1),
    };
    let read = state
        .flows
        .with(move |store| Ok::<_, rusqlite::Error>((store.find(&filter, wall_now())?, store.losses()?)))
        .await
        .map_err(|error| unavailable(&error))?;
    let (found, losses) = read.map_err(|error| ApiProblem::internal(error.to_string()))?;
    let list = state
        .see(&reader, move |seen| view(seen, &found, &losses))
        .await?;
    Ok(Json(list))
}

/// In which perimeters to look; `None` for all.
fn perimeters(role: &Role, asked: Option<Name>) -> Result<Option<BTreeSet<Name>>, ApiProblem> {
    match (asked, role) {
        (Some(name), _) if !role.sees(&name) => {
            Err(ApiProblem::not_found(format!("there is no perimeter {name}")))
        }
        (Some(name), _) => Ok(Some(BTreeSet::from([name]))),
        (None, Role::Admin | Role::Auditor) => Ok(None),
        (None, Role::Owner { perimeters }) => Ok(Some(perimeters.clone())),
    }
}

fn view(seen: Seen<'_>, found: &Found, losses: &[FlowLoss]) -> FlowList {
    let name = |id: NodeId| {
        let name = seen.name_of(id);
        name.map_or_else(|| id.to_string(), ToString::to_string)
    };
    let flow = |row: &FlowRow| {
        let report = &row.report;
        FlowView {
            perimeter: report.perimeter.clone(),
            node: name(row.node),
            node_id: row.node,
            peer: name(report.peer),
            peer_id: report.peer,
            direction: match report.direction {
                Direction::Egress => "egress",
                Direction::Ingress => "ingress",
            }
            .to_owned(),
            protocol: protocol(Protocol(report.protocol)),
            src: end_of(report.src, report.src_port),
            dst: end_of(report.dst, report.dst_port),
            rule: report.rule,
            revision: report.revision,
            opened_ms: report.opened_at,
            closed_ms: report.closed_at,
            end: report.end,
            to_responder: report.to_responder,
            to_initiator: report.to_initiator,
        }
    };
    let missing = |loss: &FlowLoss| MissingFlows {
        node: name(loss.node),
        lost: loss.lost,
        refused: loss.refused,
    };
    FlowList {
        flows: found.rows.iter().map(flow).collect(),
        truncated: found.truncated,
        // They are counted by node, over all of its perimeters.
        missing: losses
            .iter()
            .filter(|_| seen.role().sees_all())
            .map(missing)
            .collect(),
    }
}

fn protocol(protocol: Protocol) -> String {
    match protocol {
        Protocol::TCP => "tcp".to_owned(),
        Protocol::UDP => "udp".to_owned(),
        Protocol::ICMP | Protocol::ICMPV6 => "icmp".to_owned(),
        Protocol(other) => other.to_string(),
    }
}

fn end_of(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}

fn unavailable(error: &FlowsUnavailable) -> ApiProblem {
    ApiProblem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "flows-unavailable",
        "The flow records cannot be read",
        error.to_string(),
    )
}

fn default_limit() -> u32 {
    1000
}

const FLOWS_LISTED_MAX: u32 = 10_000;
