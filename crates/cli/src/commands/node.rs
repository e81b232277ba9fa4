//! `ringfence node …`: the machines of the mesh.

use ringfence_control::api::{AdmissionView, ChangeReport, LockView, NodeList, NodeView, PatchNodeRequest};

use crate::args::{NodeCommand, labels};
use crate::client::{Client, path_segment};
use crate::commands::perimeter::flow_line;
use crate::commands::receipt;
use crate::failure::{Exit, Failure};
use crate::output::{Output, list, table};
use crate::when;

pub(super) fn run(command: NodeCommand, client: &Client, output: &mut Output) -> Result<(), Failure> {
    match command {
        NodeCommand::Ls => {
            let answer: NodeList = client.get("/nodes")?;
            output.answer(&answer, list_text);
        }
        NodeCommand::Show { node } => {
            let answer: NodeView = client.get(&route(&node)?)?;
            output.answer(&answer, show_text);
        }
        NodeCommand::Label { node, labels: words } => {
            let request = label_request(&words)?;
            let report: ChangeReport = client.patch(&route(&node)?, &request)?;
            output.answer(&report, |report| {
                changed(&format!("node {node} labelled"), report)
            });
            receipt::note_closing(report.revision, &report.changes, client, output);
        }
        NodeCommand::Rename { node, name } => {
            let request = PatchNodeRequest {
                name: Some(name.clone()),
                ..PatchNodeRequest::default()
            };
            let report: ChangeReport = client.patch(&route(&node)?, &request)?;
            output.answer(&report, |report| {
                changed(&format!("node {node} is now {name}"), report)
            });
        }
        NodeCommand::Remove { node } => {
            let report: ChangeReport = client.delete(&route(&node)?)?;
            output.answer(&report, |report| changed(&format!("node {node} removed"), report));
            receipt::note_closing(report.revision, &report.changes, client, output);
        }
    }
    Ok(())
}

fn route(node: &str) -> Result<String, Failure> {
    let name = node.strip_prefix("node:").unwrap_or(node);
    Ok(format!("/nodes/{}", path_segment(name)?))
}

fn label_request(words: &[String]) -> Result<PatchNodeRequest, Failure> {
    let (removed, set): (Vec<&String>, Vec<&String>) = words
        .iter()
        .partition(|word| word.ends_with('-') && !word.contains('='));
    if let Some(odd) = set.iter().find(|word| !word.contains('=')) {
        return Err(Failure::new(
            Exit::Usage,
            format_args!("{odd:?} neither sets a label (key=value) nor removes one (key-)"),
        ));
    }
    let set: Vec<String> = set.into_iter().cloned().collect();
    Ok(PatchNodeRequest {
        name: None,
        set_labels: labels(&set)?,
        remove_labels: removed
            .into_iter()
            .map(|word| word.trim_end_matches('-').to_owned())
            .collect(),
    })
}

fn changed(what: &str, report: &ChangeReport) -> String {
    let flows: String = report.changes.iter().map(flow_line).collect();
    format!("{flows}{what}; revision {}\n", report.revision)
}

fn lock_line(lock: &LockView) -> String {
    let until = lock.until_ms.map_or_else(|| "lifted".to_owned(), when::at);
    format!(
        "locked       until {until} by {} ({}), keeps {}: {}\n",
        lock.by,
        lock.target,
        list(&lock.keep),
        lock.reason
    )
}

fn list_text(answer: &NodeList) -> String {
    if answer.nodes.is_empty() {
        return "no nodes yet: `ringfence token create` makes a token to join with".to_owned();
    }
    table(
        [
            "NAME",
            "ID",
            "CONNECTED",
            "ENFORCED",
            "PERIMETERS",
            "LABELS",
            "LAST SEEN",
            "CAME BY",
            "LOCKED",
        ],
        answer.nodes.iter().map(|node| {
            [
                node.name.to_string(),
                node.id.to_string(),
                if node.connected { "yes" } else { "no" }.to_owned(),
                node.enforced
                    .map_or_else(|| "-".to_owned(), |revision| revision.to_string()),
                list(&node.perimeters),
                node.labels.to_string(),
                when::at_or_never(node.last_seen_ms),
                match &node.admitted_by {
                    Some(AdmissionView::Token { .. }) => "token".to_owned(),
                    Some(AdmissionView::Workload { issuer, .. }) => format!("workload {issuer}"),
                    None => "-".to_owned(),
                },
                if node.locks.is_empty() { "no" } else { "yes" }.to_owned(),
            ]
        }),
    )
}

fn show_text(node: &NodeView) -> String {
    let dash = || "-".to_owned();
    let locks: String = node.locks.iter().map(lock_line).collect();
    format!(
        "node         {}\nid           {}\nlabels       {}\nperimeters   {}\nconnected    {}\nremote       {}\nendpoints    {}\nversion      {}\nenforced     {}\nlast seen    {}\nenrolled     {} {}\ncertificate  until {}\n{locks}",
        node.name,
        node.id,
        node.labels,
        list(&node.perimeters),
        if node.connected { "yes" } else { "no" },
        node.remote.map_or_else(dash, |address| address.to_string()),
        list(&node.endpoints),
        node.version.clone().unwrap_or_else(dash),
        node.enforced.map_or_else(dash, |revision| revision.to_string()),
        when::at_or_never(node.last_seen_ms),
        when::at(node.enrolled_ms),
        node.admitted_by.as_ref().map_or_else(String::new, came_by),
        when::at_or_never(node.certificate_expires_ms),
    )
}

fn came_by(admission: &AdmissionView) -> String {
    match admission {
        AdmissionView::Token { token } => format!("by join token {token}"),
        AdmissionView::Workload {
            issuer,
            subject,
            rule,
        } => format!("as {subject} by rule {rule} of workload issuer {issuer}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_and_removed_in_one_command() {
        let request = label_request(&["role=api".to_owned(), "env-".to_owned()]).unwrap();

        assert_eq!(request.set_labels.to_string(), "role=api");
        assert_eq!(request.remove_labels, ["env"]);
        assert_eq!(
            label_request(&["role".to_owned()]).err().unwrap().exit,
            Exit::Usage
        );
    }
}
