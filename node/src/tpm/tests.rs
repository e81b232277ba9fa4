//! Against `swtpm`, which is a whole TPM 2.0 in a process.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use ringfence_tpm::{Answer, AnswerError, Challenge, Offer, TpmError, challenge, verify};
use zeroize::Zeroizing;

use super::*;

/// A TPM of a test.
pub(crate) struct SoftTpm {
    process: Child,
    folder: tempfile::TempDir,
}

impl SoftTpm {
    /// One that nobody else has.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = format!("dir={}", folder.path().display());
        let server = format!("type=unixio,path={}/tpm", folder.path().display());
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &state, "--server", &server])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("swtpm is needed: scripts/setup.sh installs it");
        let tpm = Self { process, folder };
        let started = Instant::now();
        while !tpm.place().path().exists() {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "swtpm does not start"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        tpm
    }

    pub(crate) fn place(&self) -> TpmPlace {
        TpmPlace::Socket(self.folder.path().join("tpm"))
    }
}

impl Drop for SoftTpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn what_one_tpm_sealed_it_opens_again_and_another_does_not() {
    let (tpm, other) = (SoftTpm::start(), SoftTpm::start());
    let secret = [7; 32];

    let sealed = tpm.place().open().unwrap().seal(&secret).unwrap();

    assert_eq!(*tpm.place().open().unwrap().unseal(&sealed).unwrap(), secret);
    let refused = other.place().open().unwrap().unseal(&sealed);
    assert!(matches!(refused, Err(TpmError::Another)), "{refused:?}");
    assert!(
        !sealed
            .to_bytes()
            .windows(secret.len())
            .any(|window| window == secret)
    );
}

#[test]
fn a_sealed_secret_that_was_changed_does_not_open() {
    let tpm = SoftTpm::start();
    let sealed = tpm.place().open().unwrap().seal(&[7; 32]).unwrap().to_bytes();

    for at in (34..sealed.len()).step_by(7) {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        let Ok(changed) = ringfence_tpm::Sealed::from_bytes(&changed) else {
            continue;
        };
        let opened = tpm.place().open().unwrap().unseal(&changed);
        assert!(opened.is_err(), "byte {at}");
    }
}

/// A line that keeps what passes on it.
struct Tap {
    line: Line,
    heard: std::rc::Rc<std::cell::RefCell<Vec<u8>>>,
}

impl Channel for Tap {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let response = self.line.exchange(command)?;
        let mut heard = self.heard.borrow_mut();
        heard.extend_from_slice(command);
        heard.extend_from_slice(&response);
        Ok(response)
    }
}

#[test]
fn whoever_listens_on_the_bus_hears_no_secret() {
    let tpm = SoftTpm::start();
    let heard = std::rc::Rc::<std::cell::RefCell<Vec<u8>>>::default();
    let secret = std::array::from_fn(|index| index as u8 ^ 0xa5);
    let tap = Tap {
        line: tpm.place().line().unwrap(),
        heard: heard.clone(),
    };
    let mut tpm = Tpm::new(tap, [1; 32]);

    let sealed = tpm.seal(&secret).unwrap();
    assert_eq!(*tpm.unseal(&sealed).unwrap(), secret);

    let heard = heard.borrow();
    assert!(heard.len() > 1000);
    // Not even a part of it.
    assert!(!heard.windows(8).any(|window| window == &secret[..8]));
}

/// A line on which somebody changes one bit of the last response of a kind.
struct Meddler {
    line: Line,
    command: u32,
}

impl Channel for Meddler {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let mut response = self.line.exchange(command)?;
        if command[6..10] == self.command.to_be_bytes() {
            // In the first parameter, behind header, size of the parameters and its own length.
            response[20] ^= 1;
        }
        Ok(response)
    }
}

#[test]
fn a_secret_that_was_changed_on_its_way_is_refused() {
    let tpm = SoftTpm::start();
    let sealed = tpm.place().open().unwrap().seal(&[7; 32]).unwrap();
    let meddler = Meddler {
        line: tpm.place().line().unwrap(),
        command: 0x15e,
    };

    let opened = Tpm::new(meddler, [1; 32]).unseal(&sealed);

    assert!(matches!(opened, Err(TpmError::Changed)), "{opened:?}");
}

fn key(byte: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([byte; 32])
}

fn offer(tpm: &SoftTpm) -> Offer {
    tpm.place().open().unwrap().offer().unwrap()
}

fn answer(tpm: &SoftTpm, challenge: &Challenge, binding: &[u8]) -> Result<Answer, TpmError> {
    tpm.place().open().unwrap().answer(challenge, binding)
}

#[test]
fn an_answer_holds_for_its_challenge_node_and_tpm_alone() {
    let (tpm, other) = (SoftTpm::start(), SoftTpm::start());
    let (offered, others) = (offer(&tpm), offer(&other));
    assert_eq!(offered, offer(&tpm), "a TPM's keys are the same each time");
    assert_ne!(offered, others);
    let asked = challenge(&offered, &key(1), &key(2)).unwrap();

    let given = answer(&tpm, &asked, b"node").unwrap();

    assert_eq!(verify(&offered, &key(1), b"node", &given), Ok(()));
    let refused = |offer: &Offer, secret: u8, binding: &[u8], answer: &Answer| {
        verify(offer, &key(secret), binding, answer).unwrap_err()
    };
    // Replayed to a later challenge; of another node; by another TPM's keys.
    assert_eq!(refused(&offered, 3, b"node", &given), AnswerError::Another);
    assert_eq!(refused(&offered, 1, b"nodf", &given), AnswerError::Another);
    assert_eq!(refused(&others, 1, b"node", &given), AnswerError::Signature);
    for part in 0..given.quote.len() {
        let mut forged = given.clone();
        forged.quote[part] ^= 1;
        assert_eq!(refused(&offered, 1, b"node", &forged), AnswerError::Signature);
    }
    for part in 0..given.signature.len() {
        let mut forged = given.clone();
        forged.signature[part] ^= 1;
        refused(&offered, 1, b"node", &forged);
    }
}

#[test]
fn a_tpm_tells_the_secret_to_no_key_of_another_tpm() {
    let (tpm, other) = (SoftTpm::start(), SoftTpm::start());
    // The endorsement key of a TPM that may be trusted, with an attestation key from elsewhere.
    let mixed = Offer {
        attestation: offer(&other).attestation,
        ..offer(&tpm)
    };
    let asked = challenge(&mixed, &key(1), &key(2)).unwrap();

    for each in [&tpm, &other] {
        let refused = answer(each, &asked, b"node");
        assert!(matches!(refused, Err(TpmError::Refused { .. })), "{refused:?}");
    }
}

#[test]
fn a_tpm_is_left_as_it_was_found() {
    let tpm = SoftTpm::start();
    let offered = offer(&tpm);

    // A TPM has room for three objects and three sessions: whatever stays is soon one too many.
    for round in 0..8 {
        let asked = challenge(&offered, &key(round + 1), &key(2)).unwrap();
        answer(&tpm, &asked, b"node").unwrap();
        let wrong = Challenge {
            secret: vec![0; 3],
            ..asked
        };
        answer(&tpm, &wrong, b"node").unwrap_err();
        tpm.place().open().unwrap().seal(&[7; 32]).unwrap();
    }
}

#[test]
fn what_may_be_said_of_where_a_tpm_is() {
    assert_eq!(
        TpmPlace::parse("/dev/tpmrm0"),
        Ok(TpmPlace::Device("/dev/tpmrm0".into()))
    );
    assert_eq!(
        TpmPlace::parse("unix:/run/tpm"),
        Ok(TpmPlace::Socket("/run/tpm".into()))
    );
    for odd in ["", "tpm0", "unix:", "unix:tpm", "tcp:127.0.0.1:2321"] {
        assert!(TpmPlace::parse(odd).is_err(), "{odd}");
    }
    let missing = TpmPlace::Device("/dev/no-such-tpm".into());
    let told = missing.open().err().unwrap().to_string();
    assert!(told.contains("there is no TPM at /dev/no-such-tpm"), "{told}");
}
