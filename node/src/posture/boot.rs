//! Whether the firmware boots only what is signed.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::machine::{at, unreadable};

/// The UEFI variable SecureBoot (UEFI 2.10, section 3.3): four bytes of attributes, then one that is 1 if it is enforced.
pub(super) fn is_secure(root: &Path) -> Result<bool, String> {
    if !at(root, "/sys/firmware/efi").exists() {
        // Started by a BIOS, or in a container that shows no firmware: nothing vouches for what was started.
        return Ok(false);
    }
    match fs::read(at(root, VARIABLE)) {
        Ok(bytes) => match bytes.as_slice() {
            [_, _, _, _, value] => Ok(*value == 1),
            _ => Err(format!("{VARIABLE} is not as UEFI says")),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(unreadable(VARIABLE, &error)),
    }
}

pub(crate) const VARIABLE: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_secure_if_the_firmware_says_so_and_not_without_one() {
        let machine = tempfile::tempdir().unwrap();
        assert_eq!(is_secure(machine.path()), Ok(false));
        let variable = at(machine.path(), VARIABLE);
        fs::create_dir_all(variable.parent().unwrap()).unwrap();
        assert_eq!(is_secure(machine.path()), Ok(false));

        for (bytes, secure) in [([6, 0, 0, 0, 1], true), ([6, 0, 0, 0, 0], false)] {
            fs::write(&variable, bytes).unwrap();
            assert_eq!(is_secure(machine.path()), Ok(secure));
        }
        fs::write(&variable, [1]).unwrap();
        assert!(is_secure(machine.path()).is_err());
    }
}
