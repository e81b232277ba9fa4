//! `[tpm]` of a posture file: whose TPMs are trusted, and what checks ask of them.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use toml::de::DeTable;

use super::{FactName, NativeFact, PostureFile};
use crate::reader::Reader;

/// What checks ask of TPMs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TpmNeeds {
    /// How often at least a TPM has to prove itself. `None` if no check asks for it.
    pub every: Option<Duration>,
    /// The certificates of makers that are trusted, in DER.
    pub makers: Arc<[Vec<u8>]>,
}

impl PostureFile {
    /// What checks ask of TPMs. A third of the shortest age that a check allows lets two proofs get lost.
    pub fn tpm_needs(&self) -> TpmNeeds {
        let state = FactName::Native(NativeFact::TpmState);
        let asking = self.checks.iter().filter(|check| {
            let mut asked = check.comparisons.iter();
            asked.any(|comparison| comparison.fact == state)
        });
        TpmNeeds {
            every: asking.map(|check| check.max_age / 3).min(),
            makers: Arc::clone(&self.tpm_makers),
        }
    }
}

/// The certificates of `[tpm]`, if there are any.
pub(super) fn read_makers<'t>(reader: &mut Reader<'t>, root: &DeTable<'t>) -> Option<Arc<[Vec<u8>]>> {
    let Some(value) = root.get("tpm") else {
        return Some(Arc::default());
    };
    let fields = reader.fields(value, "[tpm]", &["makers"])?;
    let makers = reader.required(&fields, "makers")?;
    reader.parsed(makers, "makers", parse).map(Arc::from)
}

fn parse(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut makers = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let number = makers.len() + 1;
        let odd = |why: String| format!("certificate {number} cannot be read: {why}");
        let certificate = certificate.map_err(|error| odd(error.to_string()))?;
        webpki::anchor_from_trusted_cert(&certificate).map_err(|error| odd(error.to_string()))?;
        makers.push(certificate.to_vec());
        if makers.len() > MAKERS_MAX {
            return Err(format!("more than {MAKERS_MAX} certificates"));
        }
    }
    if makers.is_empty() {
        return Err("write the certificates in PEM, as in -----BEGIN CERTIFICATE-----".to_owned());
    }
    Ok(makers)
}

/// Certificates of makers in one posture file.
const MAKERS_MAX: usize = 64;
