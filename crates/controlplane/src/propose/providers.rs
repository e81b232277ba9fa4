//! Identity providers: added and removed.

use ringfence_model::Name;

use super::{directories, people};
use crate::draft::Draft;
use crate::limit::PROVIDERS_MAX;
use crate::{Event, Provider, ProviderCommand, Refusal, SessionEnd};

pub(super) fn dispatch(draft: &mut Draft, command: ProviderCommand) -> Result<(), Refusal> {
    match command {
        ProviderCommand::Add { provider } => add(draft, provider),
        ProviderCommand::Remove { name } => remove(draft, &name),
    }
}

fn add(draft: &mut Draft, provider: Provider) -> Result<(), Refusal> {
    provider.check()?;
    let providers = &draft.state.providers;
    if providers.contains_key(&provider.name) {
        return Err(Refusal::ProviderTaken(provider.name));
    }
    if providers.len() >= PROVIDERS_MAX {
        return Err(Refusal::Limit {
            what: "identity providers",
            max: PROVIDERS_MAX,
        });
    }
    draft.record(Event::ProviderAdded { provider });
    Ok(())
}

fn remove(draft: &mut Draft, name: &Name) -> Result<(), Refusal> {
    let before = draft.state.providers.get(name);
    let before = before.ok_or_else(|| Refusal::NoProvider(name.clone()))?;
    let before = Provider::clone(before);
    // Nobody vouches for them any more.
    people::end_where(draft, SessionEnd::Ended, |session| {
        session.login.user.provider == *name
    });
    directories::forget(draft, name);
    draft.record(Event::ProviderRemoved { before });
    Ok(())
}
