//! An identity key that this machine's TPM keeps sealed.
//!
//! **Invariant:** a plain key is wiped only after the TPM has opened the sealed one and the node's certificate is for it.

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize};

use ringfence_tpm::{Sealed, TpmError};
use ringfence_transport::IdentityKey;

use crate::state::StateDir;
use crate::tpm::TpmPlace;

/// `identity.tpm`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedFile {
    /// Version of this file.
    format: u32,
    /// What the TPM sealed, in hexadecimal digits.
    sealed: String,
}

/// Writes a new key down: sealed if there is a TPM, or else plain. Either way the other kind is not left from before.
///
/// # Errors
/// If the TPM cannot be reached or refuses, or the file cannot be written.
pub(crate) fn keep(state: &StateDir, tpm: Option<&TpmPlace>, key: &IdentityKey) -> anyhow::Result<()> {
    if let Some(place) = tpm {
        seal(state, place, key)?;
        state.wipe_plain_identity()?;
    } else {
        key.write(&state.identity_path()?)
            .context("saving the identity key")?;
        state.remove_sealed_identity()?;
    }
    Ok(())
}

/// The key in the state directory. A plain one is sealed if there is a TPM: see [`settle`].
///
/// # Errors
/// If it cannot be opened.
pub(crate) fn read(state: &StateDir, tpm: Option<&TpmPlace>) -> anyhow::Result<IdentityKey> {
    let sealed = state.sealed_identity()?;
    match (tpm, sealed) {
        (None, None) => Ok(IdentityKey::read(&state.identity_path()?)?),
        (None, Some(_)) => bail!(
            "{}: the identity key is sealed in a TPM: run with --tpm",
            state.sealed_path().display()
        ),
        (Some(place), Some(text)) => open(state, place, &text),
        (Some(place), None) => {
            let key = IdentityKey::read(&state.identity_path()?)?;
            seal(state, place, &key)?;
            tracing::info!(tpm = %place, "the identity key is sealed in the TPM from now on");
            Ok(key)
        }
    }
}

/// Wipes a plain key that was sealed, once it is known that the sealed one is of use.
///
/// # Errors
/// Those of the file system.
pub(crate) fn settle(state: &StateDir, tpm: Option<&TpmPlace>) -> anyhow::Result<()> {
    if tpm.is_some() {
        state
            .wipe_plain_identity()
            .context("wiping the plain identity key")?;
    }
    Ok(())
}

fn seal(state: &StateDir, place: &TpmPlace, key: &IdentityKey) -> anyhow::Result<()> {
    let secret = key.expose_scalar()?;
    let sealed = place.open()?.seal(&secret);
    let sealed = sealed.with_context(|| format!("sealing the identity key in the TPM at {place}"))?;
    let file = SealedFile {
        format: FORMAT,
        sealed: hex::encode(sealed.to_bytes()),
    };
    state
        .save_sealed_identity(&toml::to_string(&file)?)
        .context("saving the sealed identity key")
}

fn open(state: &StateDir, place: &TpmPlace, text: &str) -> anyhow::Result<IdentityKey> {
    let path = state.sealed_path();
    let sealed = parse(text).with_context(|| format!("{} is damaged", path.display()))?;
    let secret = place.open()?.unseal(&sealed).map_err(|error| match error {
        TpmError::Another => anyhow!(
            "{} does not open: the TPM at {place} is not the one that sealed it, or it was cleared since. An identity \
             does not move between machines: remove {}, then enrol this machine anew",
            path.display(),
            state.path().display()
        ),
        other => anyhow::Error::new(other)
            .context(format!("opening {} with the TPM at {place}", path.display())),
    })?;
    IdentityKey::from_scalar(&secret).with_context(|| format!("{} is damaged", path.display()))
}

fn parse(text: &str) -> anyhow::Result<Sealed> {
    let file: SealedFile = toml::from_str(text)?;
    if file.format != FORMAT {
        bail!("it has format {}, this program reads {FORMAT}", file.format);
    }
    Ok(Sealed::from_bytes(&hex::decode(file.sealed)?)?)
}

const FORMAT: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tpm::tests::SoftTpm;

    fn fresh() -> (tempfile::TempDir, StateDir) {
        let parent = tempfile::tempdir().unwrap();
        let state = StateDir::create(&parent.path().join("state")).unwrap();
        (parent, state)
    }

    #[test]
    fn a_new_key_is_never_on_the_disk_in_plain() {
        let (tpm, (_parent, state)) = (SoftTpm::start(), fresh());
        let (place, key) = (tpm.place(), IdentityKey::generate().unwrap());

        keep(&state, Some(&place), &key).unwrap();

        let again = read(&state, Some(&place)).unwrap();
        assert_eq!(again.public_key_der(), key.public_key_der());
        assert!(!state.identity_path().unwrap().exists());
        let told = read(&state, None).err().unwrap().to_string();
        assert!(told.contains("run with --tpm"), "{told}");
    }

    #[test]
    fn a_plain_key_is_taken_into_the_tpm_and_a_crash_on_the_way_loses_nothing() {
        let (tpm, (_parent, state)) = (SoftTpm::start(), fresh());
        let (place, key) = (tpm.place(), IdentityKey::generate().unwrap());
        keep(&state, None, &key).unwrap();
        let plain = state.identity_path().unwrap();

        // The power fails before `settle`: both are there.
        read(&state, Some(&place)).unwrap();
        assert!(plain.exists());
        let again = read(&state, Some(&place)).unwrap();
        settle(&state, Some(&place)).unwrap();

        assert_eq!(again.public_key_der(), key.public_key_der());
        assert!(!plain.exists());
        let again = read(&state, Some(&place)).unwrap();
        assert_eq!(again.public_key_der(), key.public_key_der());
    }

    #[test]
    fn a_state_directory_does_not_open_on_another_machine() {
        let (tpm, other, (_parent, state)) = (SoftTpm::start(), SoftTpm::start(), fresh());
        keep(&state, Some(&tpm.place()), &IdentityKey::generate().unwrap()).unwrap();

        let told = read(&state, Some(&other.place())).err().unwrap().to_string();

        assert!(
            told.contains("not the one that sealed it") && told.contains("enrol this machine anew"),
            "{told}"
        );
    }

    #[test]
    fn without_the_tpm_that_is_asked_for_there_is_no_key() {
        let (_parent, state) = fresh();
        let nowhere = TpmPlace::Socket("/no/such/tpm".into());
        let key = IdentityKey::generate().unwrap();

        assert!(keep(&state, Some(&nowhere), &key).is_err());
        assert!(!state.identity_path().unwrap().exists());
        assert!(!state.sealed_path().exists());
    }
}
