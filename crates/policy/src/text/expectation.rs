//! `[[expect]]`: the tests in a policy.

use ringfence_model::Name;

use super::allow::read_service;
use super::members::{Groups, read_group_name};
use crate::policy::{Endpoint, Expectation, Verdict};
use crate::reader::{Reader, Value, read_word};

pub(super) fn read_expectation<'t>(
    reader: &mut Reader<'t>,
    value: &Value<'t>,
    groups: &Groups,
) -> Option<Expectation> {
    let fields = reader.fields(value, "[[expect]]", &["from", "to", "port", "verdict"])?;
    let from = reader
        .required(&fields, "from")
        .and_then(|value| read_endpoint(reader, value, "from", groups));
    let to = reader
        .required(&fields, "to")
        .and_then(|value| read_endpoint(reader, value, "to", groups));
    let service = reader
        .required(&fields, "port")
        .and_then(|value| read_service(reader, value, "port"));
    let words = [("allow", Verdict::Allow), ("deny", Verdict::Deny)];
    let verdict = reader
        .required(&fields, "verdict")
        .and_then(|value| read_word(reader, value, "verdict", &words));
    let expectation = Expectation {
        place: reader.place(fields.span.clone()),
        from: from?,
        to: to?,
        service: service?,
        verdict: verdict?,
    };
    if matches!(&expectation.from, Endpoint::Node(_)) && expectation.from == expectation.to {
        reader.error(
            fields.span,
            "from and to are the same node: a perimeter does not stand between it and itself",
        );
        return None;
    }
    Some(expectation)
}

fn read_endpoint<'t>(
    reader: &mut Reader<'t>,
    value: &Value<'t>,
    key: &str,
    groups: &Groups,
) -> Option<Endpoint> {
    let text = reader.string(value, key)?;
    match text.strip_prefix("node:") {
        Some(_) => {
            let parse = |text: &str| Name::parse(text.trim_start_matches("node:"));
            reader.parsed(value, key, parse).map(Endpoint::Node)
        }
        None => read_group_name(reader, value, key, groups).map(Endpoint::Group),
    }
}

/// The most `[[expect]]` of a policy.
pub const EXPECTATIONS_MAX: usize = 512;
