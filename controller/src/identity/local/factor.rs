//! Second factors: codes by time (TOTP, RFC 6238), and recovery codes.

use ringfence_control::LocalSecret;
use ringfence_model::{Name, UnixMillis};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use totp_rs::{Algorithm, Secret, TOTP};
use zeroize::Zeroizing;

/// The step whose code this is: the present one, or one beside it. Each step's code is looked at, whatever the others are.
pub(super) fn step_of(secret: &[u8], code: &str, wall: UnixMillis) -> Option<u64> {
    let totp = TOTP::new(Algorithm::SHA1, DIGITS, 0, STEP_SECONDS, secret.to_vec()).ok()?;
    let now = wall.0 / 1000 / STEP_SECONDS;
    let mut found = None;
    for step in now.saturating_sub(SKEW_STEPS)..=now.saturating_add(SKEW_STEPS) {
        let right = Zeroizing::new(totp.generate(step.saturating_mul(STEP_SECONDS)));
        if right.as_bytes().ct_eq(code.as_bytes()).into() {
            found = Some(step);
        }
    }
    found
}

/// A secret as authenticators take it: they scan it, or read it off (the key URI format of Google Authenticator).
pub(super) fn url(secret: &[u8], mesh: &Name, name: &Name) -> LocalSecret {
    let secret = base32(secret);
    LocalSecret::new(format!(
        "otpauth://totp/Ringfence%20{mesh}:{name}?secret={}&issuer=Ringfence%20{mesh}&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}",
        *secret
    ))
}

/// A recovery code, as it is shown.
pub(super) fn recovery_code(random: &[u8; RECOVERY_BYTES]) -> LocalSecret {
    let letters = base32(random).to_ascii_lowercase();
    let letters = Zeroizing::new(letters);
    let (first, rest) = letters.split_at(letters.len() / 2);
    LocalSecret::new(format!("{first}-{rest}"))
}

/// The hash of a recovery code, as the person may type it: in any case, with dashes and blanks anywhere.
pub(super) fn recovery_hash(code: &str) -> [u8; 32] {
    let letters = code.chars().filter(char::is_ascii_alphanumeric);
    let plain: Zeroizing<String> = Zeroizing::new(letters.map(|c| c.to_ascii_lowercase()).collect());
    Sha256::digest(plain.as_bytes()).into()
}

fn base32(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(Secret::Raw(bytes.to_vec()).to_encoded().to_string())
}

const DIGITS: usize = 6;
const STEP_SECONDS: u64 = 30;
/// A code of the step before or after counts as well (RFC 6238 section 5.2).
const SKEW_STEPS: u64 = 1;
/// What HMAC-SHA-1 takes (RFC 4226 section 4, R6).
pub(super) const FACTOR_BYTES: usize = 20;
/// 80 bits: too many to guess, so that a plain hash may be kept.
pub(super) const RECOVERY_BYTES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, its last six digits.
        for (second, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (20_000_000_000, "353130"),
        ] {
            let at = |second: u64| UnixMillis(second * 1000);
            assert_eq!(step_of(SECRET, code, at(second)), Some(second / 30));
            assert_eq!(
                step_of(SECRET, code, at(second + 30)),
                Some(second / 30),
                "a step late"
            );
            assert_eq!(
                step_of(SECRET, code, at(second - 30)),
                Some(second / 30),
                "a step early"
            );
            assert_eq!(step_of(SECRET, code, at(second + 60)), None);
            assert_eq!(step_of(b"another secret of 20", code, at(second)), None);
        }
        assert_eq!(step_of(SECRET, "", UnixMillis(59_000)), None);
    }

    #[test]
    fn an_authenticator_is_told_all_it_needs() {
        let name = |text| Name::parse(text).unwrap();

        assert_eq!(
            url(SECRET, &name("acme"), &name("ada")).expose(),
            "otpauth://totp/Ringfence%20acme:ada?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=Ringfence%20acme&algorithm=SHA1&digits=6&period=30"
        );
    }

    #[test]
    fn a_recovery_code_may_be_typed_as_people_do() {
        let code = recovery_code(&[0xa5; RECOVERY_BYTES]);

        assert_eq!(code.expose(), "uws2ljnf-uws2ljnf");
        assert_eq!(
            recovery_hash(code.expose()),
            recovery_hash(" UWS2LJNF uws2 ljnf ")
        );
        assert_ne!(recovery_hash(code.expose()), recovery_hash("uws2ljnf-uws2ljng"));
    }
}
