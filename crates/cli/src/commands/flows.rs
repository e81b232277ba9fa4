//! `ringfence flows`: who talked to whom, by which rule, and how it ended.

use ringfence_control::api::{FlowList, FlowView};
use ringfence_model::UnixMillis;

use crate::args::FlowsArgs;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Output, table};
use crate::when;

pub(super) fn run(args: &FlowsArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let back = u64::try_from(args.since.as_millis()).unwrap_or(u64::MAX);
    let since = UnixMillis(when::now().0.saturating_sub(back));
    let mut path = format!("/flows?since_ms={}&limit={}", since.0, args.limit);
    if let Some(perimeter) = &args.perimeter {
        path += &format!("&perimeter={perimeter}");
    }
    if let Some(node) = &args.node {
        path += &format!("&node={}", escaped(node));
    }
    let answer: FlowList = client.get(&path)?;
    output.answer(&answer, |answer| {
        table(
            [
                "ENDED",
                "NODE",
                "PERIMETER",
                "RULE",
                "WHAT",
                "FROM",
                "TO",
                "SENT",
                "ANSWERED",
                "WHY",
            ],
            answer.flows.iter().map(row),
        )
    });
    if answer.truncated {
        output.note("note: there are older flows; raise --limit to see them");
    }
    for missing in &answer.missing {
        output.note(&format!(
            "note: of {}, {} records were lost and {} refused since it was first seen",
            missing.node, missing.lost, missing.refused
        ));
    }
    Ok(())
}

fn row(flow: &FlowView) -> [String; 10] {
    [
        when::at(flow.closed_ms),
        flow.node.clone(),
        flow.perimeter.to_string(),
        format!("{} at {}", flow.rule, flow.revision),
        flow.protocol.clone(),
        flow.src.clone(),
        flow.dst.clone(),
        when::bytes(flow.to_responder.bytes),
        when::bytes(flow.to_initiator.bytes),
        flow.end.as_str().to_owned(),
    ]
}

/// A word in a query, with everything but what names and ids are made of as its bytes in hex.
fn escaped(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    word.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word_of_the_query() {
        assert_eq!(escaped("api-1"), "api-1");
        assert_eq!(escaped("a&limit=1 \u{e9}"), "a%26limit%3D1%20%C3%A9");
    }
}
