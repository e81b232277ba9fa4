//! Whether the root file system lies on an encrypted device.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::machine::{at, unreadable};

/// Follows the device of `/` down to what it is made of: it is encrypted if each way down passes dm-crypt.
pub(super) fn is_encrypted(root: &Path) -> Result<bool, String> {
    is_device_encrypted(root, root_device(root)?)
}

fn is_device_encrypted(root: &Path, (major, minor): (u32, u32)) -> Result<bool, String> {
    let link = format!("/sys/dev/block/{major}:{minor}");
    let device = at(root, &link);
    let device = fs::canonicalize(device).map_err(|error| unreadable(&link, &error))?;
    passes_crypt(&device, DEPTH_MAX)
}

/// The device of `/`; for a file system that hides it (btrfs), the one it was mounted from.
fn root_device(root: &Path) -> Result<(u32, u32), String> {
    let metadata = fs::metadata(root).map_err(|error| unreadable("/", &error))?;
    let device = split(metadata.dev());
    if device.0 != 0 {
        return Ok(device);
    }
    let path = "/proc/self/mountinfo";
    let mounts = fs::read_to_string(at(root, path)).map_err(|error| unreadable(path, &error))?;
    let (kind, source) = mount_of_root(&mounts).ok_or_else(|| format!("{path} has no mount of /"))?;
    let source_device = fs::metadata(at(root, source)).ok();
    match source_device.filter(|found| found.file_type().is_block_device()) {
        Some(found) => Ok(split(found.rdev())),
        None => Err(format!(
            "the root file system is {kind}, which lies on no device of its own"
        )),
    }
}

/// Type and source of the newest mount at `/` (proc_pid_mountinfo(5)).
fn mount_of_root(mounts: &str) -> Option<(&str, &str)> {
    mounts.lines().rev().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        let mut words = after.split(' ');
        (point == "/").then_some((words.next()?, words.next()?))
    })
}

/// As the kernel packs device numbers for user space (makedev(3)).
fn split(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

fn passes_crypt(device: &Path, depth: u8) -> Result<bool, String> {
    if depth == 0 {
        return Err("devices are stacked deeper than is looked".to_owned());
    }
    let name = device
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    match fs::read_to_string(device.join("dm/uuid")) {
        // dm-crypt's own prefix, whatever the format: LUKS1, LUKS2, plain (dmsetup(8)).
        Ok(uuid) if uuid.starts_with("CRYPT-") => return Ok(true),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(&name, &error)),
    }
    let below = parts(device).map_err(|error| unreadable(&name, &error))?;
    let mut all = !below.is_empty();
    for part in below {
        all &= passes_crypt(&part, depth - 1)?;
    }
    Ok(all)
}

/// What a device is made of; nothing, if it is a disk or a part of one.
fn parts(device: &Path) -> std::io::Result<Vec<PathBuf>> {
    let is_made_of_others = device.join("dm").exists() || device.join("md").exists();
    if !is_made_of_others {
        return Ok(Vec::new());
    }
    let mut parts = Vec::new();
    for entry in fs::read_dir(device.join("slaves"))? {
        parts.push(fs::canonicalize(entry?.path())?);
    }
    Ok(parts)
}

const DEPTH_MAX: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Devices as sysfs shows them: name, what device-mapper calls it, and what it is made of.
    fn machine(devices: &[(&str, Option<&str>, &[&str])]) -> tempfile::TempDir {
        let machine = tempfile::tempdir().unwrap();
        let all = machine.path().join("sys/devices/virtual/block");
        fs::create_dir_all(machine.path().join("sys/dev/block")).unwrap();
        for (minor, (name, uuid, parts)) in devices.iter().enumerate() {
            let device = all.join(name);
            fs::create_dir_all(device.join("slaves")).unwrap();
            if let Some(uuid) = uuid {
                fs::create_dir_all(device.join("dm")).unwrap();
                fs::write(device.join("dm/uuid"), uuid).unwrap();
            }
            for part in *parts {
                std::os::unix::fs::symlink(all.join(part), device.join("slaves").join(part)).unwrap();
            }
            let link = machine.path().join(format!("sys/dev/block/254:{minor}"));
            std::os::unix::fs::symlink(&device, link).unwrap();
        }
        machine
    }

    fn encrypted(machine: &tempfile::TempDir) -> Result<bool, String> {
        is_device_encrypted(machine.path(), (254, 0))
    }

    #[test]
    fn a_volume_on_an_encrypted_part_is_encrypted() {
        let luks = "CRYPT-LUKS2-0123-cryptroot\n";
        let one = machine(&[("dm-0", Some(luks), &["sda3"]), ("sda3", None, &[])]);
        let lvm = machine(&[
            ("dm-1", Some("LVM-abc"), &["dm-0"]),
            ("dm-0", Some(luks), &["sda3"]),
            ("sda3", None, &[]),
        ]);

        assert_eq!((encrypted(&one), encrypted(&lvm)), (Ok(true), Ok(true)));
    }

    #[test]
    fn a_plain_part_anywhere_below_leaves_it_open() {
        let plain = machine(&[("sda3", None, &[])]);
        let half = machine(&[
            ("dm-1", Some("LVM-abc"), &["dm-0", "sdb1"]),
            ("dm-0", Some("CRYPT-LUKS2-0123-x"), &["sda3"]),
            ("sda3", None, &[]),
            ("sdb1", None, &[]),
        ]);
        let empty = machine(&[("dm-0", Some("LVM-abc"), &[])]);

        for machine in [plain, half, empty] {
            assert_eq!(encrypted(&machine), Ok(false));
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_claimed() {
        let circle = machine(&[
            ("dm-0", Some("LVM-a"), &["dm-1"]),
            ("dm-1", Some("LVM-b"), &["dm-0"]),
        ]);
        let gone = machine(&[]);

        assert!(encrypted(&circle).is_err() && encrypted(&gone).is_err());
    }

    #[test]
    fn the_newest_mount_of_root_counts() {
        let mounts = "21 1 0:20 / / rw - overlay overlay rw\n22 1 0:5 / /proc rw - proc proc rw\n\
                      29 1 0:26 /@ / rw,relatime shared:1 - btrfs /dev/mapper/cryptroot rw,ssd\n";

        assert_eq!(mount_of_root(mounts), Some(("btrfs", "/dev/mapper/cryptroot")));
    }

    #[test]
    fn this_machine_gives_an_answer_or_a_reason() {
        match is_encrypted(Path::new("/")) {
            Ok(_) => {}
            Err(why) => assert!(!why.is_empty()),
        }
    }
}
