//! Lists of resources, page by page (RFC 7644 section 3.4.2).

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer;
use super::filter::{Filter, bare};
use super::problem::ScimProblem;

/// What of which resources is asked for.
pub(super) struct Query {
    pub(super) filter: Option<Filter>,
    /// The first one, counted from 1.
    start: usize,
    count: usize,
    wanted: Wanted,
}

/// Which attributes are asked for.
pub(super) struct Wanted {
    only: Option<Vec<String>>,
    without: Vec<String>,
}

/// One page of a list, while it is filled.
pub(super) struct Page {
    query: Query,
    total: usize,
    weight: usize,
    resources: Vec<Value>,
}

impl Query {
    pub(super) fn parse(text: Option<&str>) -> Result<Self, ScimProblem> {
        let mut query = Self {
            filter: None,
            start: 1,
            count: COUNT_DEFAULT,
            wanted: Wanted::parse(text),
        };
        for (name, value) in pairs(text) {
            // Whatever is below 1, or no number, counts as the RFC says: as the least.
            let number = || value.trim().parse::<i64>().unwrap_or(0).max(0);
            match name.as_str() {
                "filter" => query.filter = Some(Filter::parse(&value)?),
                "startindex" => query.start = usize::try_from(number()).unwrap_or(usize::MAX).max(1),
                "count" => query.count = usize::try_from(number()).unwrap_or(usize::MAX).min(COUNT_MAX),
                _ => {}
            }
        }
        Ok(query)
    }
}

impl Wanted {
    pub(super) fn parse(text: Option<&str>) -> Self {
        let mut wanted = Self {
            only: None,
            without: Vec::new(),
        };
        for (name, value) in pairs(text) {
            let names = || value.split(',').map(|name| top(name.trim())).collect();
            match name.as_str() {
                "attributes" if !value.trim().is_empty() => wanted.only = Some(names()),
                "excludedattributes" => wanted.without = names(),
                _ => {}
            }
        }
        wanted
    }

    /// Whether an attribute is asked for. `id` and `schemas` always are (RFC 7643 section 7, `returned`).
    pub(super) fn has(&self, attribute: &str) -> bool {
        let small = attribute.to_ascii_lowercase();
        let always = ["id", "schemas"].contains(&small.as_str());
        let only = self.only.as_ref().is_none_or(|only| only.contains(&small));
        always || only && !self.without.contains(&small)
    }

    /// What of a resource is asked for.
    pub(super) fn of(&self, mut resource: Value) -> Value {
        if let Some(attributes) = resource.as_object_mut() {
            attributes.retain(|name, _| self.has(name));
        }
        resource
    }
}

impl Page {
    pub(super) fn new(query: Query) -> Self {
        Self {
            query,
            total: 0,
            weight: 0,
            resources: Vec::new(),
        }
    }

    /// Whether an attribute is asked for.
    pub(super) fn has(&self, attribute: &str) -> bool {
        self.query.wanted.has(attribute)
    }

    /// One more that is found, and how much there is of it: a page holds fewer than were asked for if they are large.
    pub(super) fn add(&mut self, weight: usize, resource: impl FnOnce() -> Value) {
        self.total += 1;
        let is_next = self.total == self.query.start.saturating_add(self.resources.len());
        let fits = self.resources.is_empty() || self.weight.saturating_add(weight) <= WEIGHT_MAX;
        if is_next && fits && self.resources.len() < self.query.count {
            self.weight = self.weight.saturating_add(weight);
            self.resources.push(self.query.wanted.of(resource()));
        }
    }

    pub(super) fn answer(self) -> Response {
        let page = all(self.query.start, self.total, &self.resources);
        answer(StatusCode::OK, &page)
    }
}

/// A list that is all there is.
pub(super) fn whole(resources: &[Value]) -> Response {
    answer(StatusCode::OK, &all(1, resources.len(), resources))
}

fn all(start: usize, total: usize, resources: &[Value]) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": total,
        "startIndex": start,
        "itemsPerPage": resources.len(),
        "Resources": resources,
    })
}

/// Names in small letters, and values.
fn pairs(text: Option<&str>) -> impl Iterator<Item = (String, String)> {
    let pairs = form_urlencoded::parse(text.unwrap_or("").as_bytes());
    pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.into_owned()))
}

/// The attribute that a path such as `emails.value` leads into.
fn top(path: &str) -> String {
    let bare = bare(path);
    bare.split('.').next().unwrap_or("").to_owned()
}

const COUNT_DEFAULT: usize = 100;
/// Resources of one page.
pub(super) const COUNT_MAX: usize = 1_000;
/// Members of groups and people on one page.
const WEIGHT_MAX: usize = 20_000;
