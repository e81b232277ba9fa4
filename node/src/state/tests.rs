//! Tests of the state directory.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn node() -> NodeFile {
    NodeFile {
        format: FORMAT,
        mesh: name("acme"),
        node: NodeId(3),
        name: name("db-1"),
        controllers: vec!["192.0.2.1:8443".into()],
    }
}

fn fresh() -> (tempfile::TempDir, StateDir) {
    let parent = tempfile::tempdir().unwrap();
    let state = StateDir::create(&parent.path().join("state")).unwrap();
    (parent, state)
}

#[test]
fn what_is_written_reads_back_and_only_the_owner_can() {
    let (_parent, state) = fresh();

    state.save_node(&node()).unwrap();
    state.save_certificate("pem").unwrap();

    assert_eq!(state.node().unwrap(), node());
    for file in [NODE, CERTIFICATE] {
        let mode = fs::metadata(state.path.join(file)).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
    assert_eq!(fs::metadata(&state.path).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_directory_without_identity_is_not_enrolled() {
    let (parent, state) = fresh();

    assert!(matches!(state.node(), Err(StateError::NotEnrolled(_))));
    assert!(state.check_vacant().is_ok());
    let missing = StateDir::open(&parent.path().join("nowhere"));
    assert!(matches!(missing.err(), Some(StateError::NotEnrolled(_))));
}

#[test]
fn an_identity_is_not_enrolled_over() {
    let (_parent, state) = fresh();
    state.save_node(&node()).unwrap();

    assert!(matches!(
        state.check_vacant(),
        Err(StateError::AlreadyEnrolled { .. })
    ));
}

#[test]
fn a_directory_or_secret_that_others_can_read_is_refused() {
    let (_parent, state) = fresh();
    let path = state.path.clone();
    state.write(IDENTITY, b"pem").unwrap();
    fs::set_permissions(path.join(IDENTITY), fs::Permissions::from_mode(0o640)).unwrap();

    let told = state.identity_path().unwrap_err().to_string();

    assert!(told.contains("mode 0640") && told.contains("chmod 600"), "{told}");
    drop(state);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let told = StateDir::open(&path).err().unwrap().to_string();
    assert!(told.contains("mode 0755") && told.contains("chmod 700"), "{told}");
}

#[test]
fn a_second_instance_is_refused_until_the_first_ends() {
    let (_parent, state) = fresh();
    let path = state.path.clone();

    assert!(matches!(StateDir::open(&path).err(), Some(StateError::InUse(_))));
    drop(state);
    assert!(StateDir::open(&path).is_ok());
}

#[test]
fn a_newer_format_and_unknown_keys_are_refused() {
    let (_parent, state) = fresh();

    state.write(NODE, b"format = 2\nfuture = true\n").unwrap();
    assert!(matches!(state.node(), Err(StateError::Format { found: 2, .. })));
    state.write(NODE, b"format = 1\nodd = true\n").unwrap();
    assert!(matches!(state.node(), Err(StateError::Damaged { .. })));
}

#[test]
fn what_a_cut_off_write_left_is_swept_away_and_nothing_else() {
    let (_parent, state) = fresh();
    let path = state.path.clone();
    let key = state.key(&name("stays"), [1; 32]).unwrap().public_key();
    state.save_node(&node()).unwrap();
    let left = [".new-a1", ".ringfence-b2", "keys/.new-c3"].map(|left| path.join(left));
    for left in &left {
        fs::write(left, "half a secr").unwrap();
    }
    drop(state);

    let state = StateDir::open(&path).unwrap();

    assert!(left.iter().all(|left| !left.exists()));
    assert_eq!(state.node().unwrap(), node());
    assert_eq!(state.key(&name("stays"), [2; 32]).unwrap().public_key(), key);
}

#[test]
fn a_key_is_made_once_and_gone_after_membership() {
    let (_parent, state) = fresh();
    let (stays, goes) = (name("stays"), name("goes"));
    let first = state.key(&stays, [1; 32]).unwrap().public_key();
    state.key(&goes, [2; 32]).unwrap();

    assert_eq!(state.key(&stays, [3; 32]).unwrap().public_key(), first);
    state.retain_keys(|perimeter| *perimeter == stays).unwrap();

    assert_eq!(state.key(&stays, [4; 32]).unwrap().public_key(), first);
    let anew = state.key(&goes, [5; 32]).unwrap();
    assert!(anew == PrivateKey::from_random([5; 32]));
}

#[test]
fn keys_are_wrapped_where_the_identity_is_sealed() {
    let (_parent, mut state) = fresh();
    let (one, other) = (name("one"), name("other"));
    let plain = state.key(&one, [1; 32]).unwrap();
    state.wrap_keys(Zeroizing::new([9; 32]));

    let taken = state.key(&one, [3; 32]).unwrap();
    let made = state.key(&other, [2; 32]).unwrap();

    assert_eq!(
        taken.public_key(),
        plain.public_key(),
        "from before there was a TPM"
    );
    assert_eq!(
        state.key(&other, [4; 32]).unwrap().public_key(),
        made.public_key()
    );
    for (perimeter, key) in [(&one, &taken), (&other, &made)] {
        let text = fs::read_to_string(state.path.join(key_file(perimeter))).unwrap();
        assert!(
            is_wrapped(&text) && !text.contains(&*key.expose_base64()),
            "{text}"
        );
    }
}

#[test]
fn a_wrapped_key_opens_for_its_identity_and_perimeter_alone() {
    let (_parent, mut state) = fresh();
    let (one, other) = (name("one"), name("other"));
    state.wrap_keys(Zeroizing::new([9; 32]));
    state.key(&one, [1; 32]).unwrap();
    fs::copy(state.path.join(key_file(&one)), state.path.join(key_file(&other))).unwrap();

    assert!(state.key(&other, [1; 32]).is_err(), "another perimeter's file");
    state.wrap_keys(Zeroizing::new([8; 32]));
    assert!(state.key(&one, [1; 32]).is_err(), "another identity");
    state.wrapping = None;
    assert!(state.key(&one, [1; 32]).is_err(), "no identity in a TPM");
}
