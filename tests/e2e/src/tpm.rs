//! A TPM 2.0 on a host of the lab: `swtpm`, which is a whole one in a process.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use ringfence_lab::{Host, Running, wait_until};
use ringfence_tpm::{Channel, EccPublic, Tpm};

/// A TPM that nobody else has.
pub struct SoftTpm {
    host: Host,
    folder: PathBuf,
    running: Option<Running>,
}

impl SoftTpm {
    /// Makes one and switches it on. `name` is for this host alone.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(host: &Host, name: &str) -> Result<Self> {
        let folder = host.dir().join(name);
        std::fs::create_dir(&folder)?;
        let mut tpm = Self {
            host: host.clone(),
            folder,
            running: None,
        };
        tpm.switch_on()?;
        Ok(tpm)
    }

    /// Switches it on, with what it knew before.
    ///
    /// # Errors
    /// When it does not start.
    pub fn switch_on(&mut self) -> Result<()> {
        let socket = self.socket();
        let _ = std::fs::remove_file(&socket);
        let running = self
            .host
            .command("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", self.folder.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .spawn("swtpm")?;
        if wait_until(START_WAIT, "the TPM to start", || socket.exists()).is_err() {
            bail!("swtpm does not start: {}", running.log());
        }
        self.running = Some(running);
        Ok(())
    }

    /// Takes it away.
    pub fn switch_off(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
        }
    }

    /// As `--tpm` has it.
    pub fn place(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("tpm")
    }

    /// Puts another TPM in its place, with other keys and nothing in it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn replace(&mut self) -> Result<()> {
        self.switch_off();
        for entry in std::fs::read_dir(&self.folder)? {
            std::fs::remove_file(entry?.path())?;
        }
        self.switch_on()
    }

    /// Has a maker certify its endorsement key, as `swtpm_localca` does for TPMs of virtual machines, and puts the
    /// certificate where makers do. Gives the maker's certificates in PEM. A maker is new with each `name`.
    ///
    /// # Errors
    /// When `swtpm_localca` or the TPM refuses.
    pub fn certify(&self, name: &str) -> Result<String> {
        let seed = [7; 32];
        let offer = Tpm::new(Line(UnixStream::connect(self.socket())?), seed).offer()?;
        let key = EccPublic::endorsement(&offer.endorsement)?.sec1();
        let point = format!(
            "x={},y={},id=secp256r1",
            hex::encode(&key[1..33]),
            hex::encode(&key[33..])
        );
        let maker = self.host.dir().join(name);
        std::fs::create_dir_all(&maker)?;
        let at = |file: &str| maker.join(file).display().to_string();
        let config = format!(
            "statedir = {}\nsigningkey = {}\nissuercert = {}\ncertserial = {}\n",
            maker.display(),
            at("signkey.pem"),
            at("issuercert.pem"),
            at("certserial")
        );
        std::fs::write(maker.join("config"), config)?;
        std::fs::write(maker.join("options"), "")?;
        let localca = self.host.command("swtpm_localca");
        let localca = localca.args(["--type", "ek", "--tpm2", "--decryption", "--ek", &point]);
        let localca = localca.args(["--dir", &at(""), "--configfile", &at("config")]);
        let localca = localca.args(["--optsfile", &at("options"), "--logfile", &at("log")]);
        let of_tpm = ["--tpm-manufacturer", "id:00001014", "--tpm-model", "swtpm"];
        let localca = localca.args(of_tpm).args(["--tpm-version", "id:20191023"]);
        let localca = localca.args(["--tpm-spec-family", "2.0", "--tpm-spec-level", "0"]);
        localca.args(["--tpm-spec-revision", "164"]).text()?;
        self.keep_certificate(&std::fs::read(maker.join("ek.cert"))?)?;
        let root = std::fs::read_to_string(maker.join("swtpm-localca-rootca-cert.pem"))?;
        Ok(std::fs::read_to_string(maker.join("issuercert.pem"))? + &root)
    }

    /// `NV_DefineSpace` and `NV_Write`.
    fn keep_certificate(&self, certificate: &[u8]) -> Result<()> {
        let mut line = Line(UnixStream::connect(self.socket())?);
        let size = u16::try_from(certificate.len())?;
        let public = [
            &INDEX.to_be_bytes()[..],
            &[0, 0x0b],
            &READ_AND_WRITE.to_be_bytes(),
            &[0, 0],
            &size.to_be_bytes(),
        ]
        .concat();
        let length = u16::try_from(public.len())?.to_be_bytes();
        line.run(0x12a, &[OWNER], &[&[0, 0], &length[..], &public].concat())?;
        for (number, part) in certificate.chunks(PART).enumerate() {
            let (length, offset) = (u16::try_from(part.len())?, u16::try_from(number * PART)?);
            let data = [&length.to_be_bytes()[..], part, &offset.to_be_bytes()].concat();
            line.run(0x137, &[INDEX, INDEX], &data)?;
        }
        Ok(())
    }
}

struct Line(UnixStream);

impl Channel for Line {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut head = [0; 6];
        self.0.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
        let mut rest = vec![0; length as usize - head.len()];
        self.0.read_exact(&mut rest)?;
        Ok([&head[..], &rest].concat())
    }
}

impl Line {
    /// A command with an empty password for its first handle.
    fn run(&mut self, code: u32, handles: &[u32], parameters: &[u8]) -> Result<()> {
        let handles: Vec<u8> = handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
        let body = [&handles[..], &EMPTY_PASSWORD, parameters].concat();
        let whole = u32::try_from(10 + body.len())?;
        let head = [&[0x80, 2][..], &whole.to_be_bytes(), &code.to_be_bytes()].concat();
        let response = self.exchange(&[head, body].concat())?;
        ensure!(
            response.get(6..10) == Some(&[0; 4]),
            "command {code:#x}: {response:02x?}"
        );
        Ok(())
    }
}

const OWNER: u32 = 0x4000_0001;
/// Where the certificate of the default P-256 endorsement key lies.
const INDEX: u32 = 0x01c0_000a;
/// For the owner, and with the index's own password.
const READ_AND_WRITE: u32 = 1 << 1 | 1 << 2 | 1 << 17 | 1 << 18 | 1 << 25;
/// The size of the area, then the password session with nothing in it.
const EMPTY_PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
const PART: usize = 512;

const START_WAIT: Duration = Duration::from_secs(10);
