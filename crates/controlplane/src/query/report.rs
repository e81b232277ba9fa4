//! What a change would open and close, before it is made.

use ringfence_control::api;
use ringfence_model::{Name, NodeId, Revision, UnixMillis};
use ringfence_policy::{Change as FlowEnd, FlowChange, Policy, diff};

use crate::apply::ApplyError;
use crate::compile::{Touched, compile_perimeter};
use crate::controller::advance;
use crate::state::State;
use crate::{Actor, ActorKind, Change, Command, Controller, Event, PolicyFile, Refusal, Role};

/// An apply that is ready: report it for a dry run, or store and apply its change.
#[derive(Clone, Debug, PartialEq)]
pub struct ApplyPlan {
    /// The change; `None` if everything is as the files say already.
    pub change: Option<Change>,
    /// What it does. Its revision is the one it leads to, and `dry_run` is for the caller to set.
    pub report: api::ApplyReport,
    /// Whether it takes access away and gives none.
    pub only_closes: bool,
}

/// The flows a change opens and closes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowChanges {
    /// The first [`api::FLOW_CHANGES_MAX`], in order.
    pub listed: Vec<api::FlowChangeView>,
    /// How many more there are.
    pub more: u64,
    opens: usize,
    closes: usize,
}

impl FlowChanges {
    /// Whether access is taken away and none given.
    pub fn only_closes(&self) -> bool {
        self.opens == 0 && self.closes > 0
    }
}

impl Controller {
    /// Everything that policy files would do.
    ///
    /// # Errors
    /// [`Refusal`], as for [`Self::propose`]; an apply that changes nothing is a plan without a change.
    pub fn plan_apply(
        &self,
        actor: &Actor,
        files: Vec<PolicyFile>,
        options: ApplyOptions,
        wall: UnixMillis,
    ) -> Result<ApplyPlan, Refusal> {
        let command = Command::ApplyPerimeters {
            files: files.clone(),
            prune: options.prune,
            base: options.base,
        };
        // Applying draws no ids, so it needs no entropy.
        let change = match self.propose(actor, command, wall, [0; 32]) {
            Ok(change) => Some(change),
            Err(Refusal::Unchanged) => None,
            Err(refusal) => return Err(refusal),
        };
        let mut report = api::ApplyReport {
            revision: change.as_ref().map_or(self.revision(), |change| change.revision),
            dry_run: false,
            applied: Vec::new(),
            removed: Vec::new(),
            changes: Vec::new(),
            more_changes: 0,
            warnings: Vec::new(),
        };
        let after = self.after(change.as_ref()).expect(PROPOSED);
        for file in files {
            let Ok(checked) = Policy::parse(&file.file, &file.text) else {
                continue;
            };
            report
                .warnings
                .extend(checked.warnings.iter().map(api::Finding::from));
            let unknown = checked.policy.unknown_checks(after.posture.checks());
            report.warnings.extend(unknown.iter().map(api::Finding::from));
            let compiled = compile_perimeter(&after, &checked.policy.name);
            let odd = compiled.map(|compiled| compiled.warnings).unwrap_or_default();
            report.warnings.extend(odd.iter().map(api::Finding::from));
            report.applied.push(checked.policy.name);
        }
        report.warnings.dedup();
        let mut only_closes = false;
        if let Some(change) = &change {
            report.removed = removed_perimeters(change);
            let flows = self.flow_changes_for(actor, change, wall);
            only_closes = flows.only_closes();
            (report.changes, report.more_changes) = (flows.listed, flows.more);
        }
        Ok(ApplyPlan {
            change,
            report,
            only_closes,
        })
    }

    /// The flows that a change proposed to this state opens and closes; none for any other change, so ask before it
    /// is applied. Expensive for large groups: every pair is looked at.
    pub fn flow_changes(&self, change: &Change) -> FlowChanges {
        self.flow_changes_in(change, |_| true)
    }

    /// The same, of which those are listed that an actor may see. A change to one perimeter may open and close flows in
    /// others: where it is the first that asks where nodes connect from.
    pub fn flow_changes_for(&self, actor: &Actor, change: &Change, wall: UnixMillis) -> FlowChanges {
        let role = match actor.kind {
            ActorKind::System => Some(&Role::Admin),
            ActorKind::Admin
            | ActorKind::ApiToken
            | ActorKind::Directory
            | ActorKind::Node
            | ActorKind::Token
            | ActorKind::Workload => self.role_of(actor, wall),
        };
        self.flow_changes_in(change, |name| role.is_some_and(|role| role.sees(name)))
    }

    fn flow_changes_in(&self, change: &Change, sees: impl Fn(&Name) -> bool) -> FlowChanges {
        let mut changes = FlowChanges::default();
        let Ok(after) = self.after(Some(change)) else {
            return changes;
        };
        let touched = Touched::by(&change.events, self.state());
        for name in touched.recompiled() {
            let new = compile_perimeter(&after, name).unwrap_or_default();
            for flow in diff(self.compiled(name), &new) {
                match flow.change {
                    FlowEnd::Opens => changes.opens += 1,
                    FlowEnd::Closes => changes.closes += 1,
                }
                if !sees(name) {
                    continue;
                }
                if changes.listed.len() < api::FLOW_CHANGES_MAX {
                    changes.listed.extend(self.flow_view(name, &flow, &after));
                } else {
                    changes.more += 1;
                }
            }
        }
        changes.listed.sort();
        changes
    }

    /// The state that a change leads to.
    fn after(&self, change: Option<&Change>) -> Result<State, ApplyError> {
        let mut after = self.state().clone();
        if let Some(change) = change {
            advance(&mut after, change)?;
        }
        Ok(after)
    }

    fn flow_view(&self, perimeter: &Name, flow: &FlowChange, after: &State) -> Option<api::FlowChangeView> {
        let name = |id: NodeId| after.name_of(id).or_else(|| self.name_of(id)).cloned();
        Some(api::FlowChangeView {
            perimeter: perimeter.clone(),
            from: name(flow.from)?,
            to: name(flow.to)?,
            service: flow.service,
            change: match flow.change {
                FlowEnd::Opens => api::FlowChangeKind::Opens,
                FlowEnd::Closes => api::FlowChangeKind::Closes,
            },
            rule: flow.rule,
        })
    }
}

/// How an apply treats what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Whether perimeters in none of the files are removed.
    pub prune: bool,
    /// The state the files were written against.
    pub base: Option<Revision>,
}

fn removed_perimeters(change: &Change) -> Vec<Name> {
    let mut removed = Vec::new();
    for event in &change.events {
        if let Event::PerimeterRemoved { perimeter, .. } = event {
            removed.push(perimeter.clone());
        }
    }
    removed
}

const PROPOSED: &str = "a change that was just proposed to this state applies to it";
