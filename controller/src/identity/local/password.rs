//! Passwords: argon2id (RFC 9106), and how long they are.

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use super::{LocalRefusal, random};

/// Whether a person may choose it.
pub(super) fn check(password: &str) -> Result<(), LocalRefusal> {
    let is_short = password.chars().count() < CHARS_MIN;
    if is_short || password.len() > BYTES_MAX {
        return Err(LocalRefusal::Password);
    }
    Ok(())
}

/// Its hash, with the salt and the costs it was made with. Takes a core for some time: see [`super::HASHES_AT_ONCE`].
pub(super) fn hash(password: &str) -> Result<Zeroizing<String>, LocalRefusal> {
    let salt = SaltString::encode_b64(&random::<SALT_BYTES>()?).map_err(broken)?;
    let hashed = argon2()?
        .hash_password(password.as_bytes(), &salt)
        .map_err(broken)?;
    Ok(Zeroizing::new(hashed.to_string()))
}

/// What reads like a hash, and is that of no password that anybody can find: to check one against it takes as long.
pub(super) fn hash_of_nothing() -> Result<Zeroizing<String>, LocalRefusal> {
    let part = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
    let (salt, output) = (
        random::<SALT_BYTES>()?,
        random::<{ Params::DEFAULT_OUTPUT_LEN }>()?,
    );
    Ok(Zeroizing::new(format!(
        "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}",
        part(&salt),
        part(&output)
    )))
}

/// Whether a hash is that of a password, by the costs that the hash itself names. Takes as long as [`hash`].
pub(super) fn is_right(hash: &str, password: &str) -> bool {
    let parsed = PasswordHash::new(hash);
    parsed.is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

fn argon2() -> Result<Argon2<'static>, LocalRefusal> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(broken)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn broken(error: impl std::fmt::Display) -> LocalRefusal {
    LocalRefusal::Broken(format!("argon2: {error}"))
}

// OWASP asks for 19 MiB and two passes at least; RFC 9106 section 4 has three passes where memory is short.
const MEMORY_KIB: u32 = 32 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
/// Beside a second factor NIST SP 800-63B asks for 8.
pub(super) const CHARS_MIN: usize = 12;
pub(super) const BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_one_password_and_says_what_it_costs() {
        let hashed = hash("correct horse battery").unwrap();

        assert!(
            hashed.starts_with("$argon2id$v=19$m=32768,t=3,p=1$"),
            "{}",
            *hashed
        );
        assert!(is_right(&hashed, "correct horse battery"));
        assert!(!is_right(&hashed, "correct horse batter"));
        assert!(!is_right("nonsense", "correct horse battery"));
        assert_ne!(
            *hashed,
            *hash("correct horse battery").unwrap(),
            "it has its own salt"
        );
    }

    #[test]
    fn nobody_is_somebody_of_the_same_costs() {
        let (nobody, somebody) = (hash_of_nothing().unwrap(), hash("correct horse battery").unwrap());
        let costs = |hash: &str| {
            let hash = PasswordHash::new(hash).unwrap();
            let lengths = (hash.salt.unwrap().len(), hash.hash.unwrap().len());
            (
                hash.algorithm.to_string(),
                hash.version,
                hash.params.to_string(),
                lengths,
            )
        };

        assert_eq!(costs(&nobody), costs(&somebody));
        assert!(!is_right(&nobody, "correct horse battery"));
    }

    #[test]
    fn a_password_is_long_enough_in_characters_and_short_enough_in_bytes() {
        assert!(check("twelve chars").is_ok());
        assert!(check(&"ä".repeat(12)).is_ok());
        assert!(check("eleven char").is_err());
        assert!(check(&"ä".repeat(11)).is_err());
        assert!(check(&"x".repeat(BYTES_MAX + 1)).is_err());
    }
}
