//! Whether a maker of TPMs says that an endorsement key is one of theirs.
//!
//! **Invariant:** a certificate counts for the key in it alone, and only if it leads to a certificate of the posture file.

use ringfence_controlplane::{ProvedTpm, TpmMaker};
use ringfence_model::UnixMillis;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// What is known of whoever made a TPM, going by the makers that the posture file trusts.
pub(crate) fn judge(makers: &[Vec<u8>], tpm: &ProvedTpm, wall: UnixMillis) -> TpmMaker {
    let Some(certificate) = &tpm.certificate else {
        return TpmMaker::Unknown("its maker has put no certificate in it".to_owned());
    };
    match verify(makers, certificate, &tpm.endorsement.spki_der(), wall) {
        Ok(()) => TpmMaker::Trusted,
        Err(why) => TpmMaker::Unknown(why),
    }
}

fn verify(makers: &[Vec<u8>], certificate: &[u8], spki: &[u8], wall: UnixMillis) -> Result<(), String> {
    let der = CertificateDer::from(certificate);
    let leaf = EndEntityCert::try_from(&der).map_err(|error| format!("its certificate is odd: {error}"))?;
    if leaf.subject_public_key_info().as_ref() != spki {
        return Err("its certificate is of another key".to_owned());
    }
    let makers: Vec<CertificateDer<'_>> = makers
        .iter()
        .map(|maker| CertificateDer::from(maker.as_slice()))
        .collect();
    // Each of the file's certificates is trusted, the roots and what they have signed.
    let anchors: Vec<TrustAnchor<'_>> = makers
        .iter()
        .filter_map(|maker| anchor_from_trusted_cert(maker).ok())
        .collect();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_millis(wall.0));
    let usage = KeyUsage::required_if_present(EK_CERTIFICATE);
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    leaf.verify_for_usage(algorithms, &anchors, &[], time, usage, None, None)
        .map(|_| ())
        .map_err(|error| format!("its certificate leads to no maker of the posture file: {error}"))
}

/// `tcg-kp-EKCertificate`, 2.23.133.8.1.
const EK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];

#[cfg(test)]
mod tests;
