//! A program to be run on a host: what it is given, as whom it runs, and what comes of it.

use std::{
    ffi::{OsStr, OsString},
    fmt::Display,
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{host::Host, running::Running, wait::wait_for};

/// A program, its arguments and its surroundings; built up like [`std::process::Command`].
#[derive(Clone)]
pub struct Program {
    host: Host,
    path: OsString,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    folder: PathBuf,
    user: Option<String>,
    capabilities: Vec<String>,
    input: String,
    stdin: Stdin,
    timeout: Duration,
}

#[derive(Clone, Copy)]
enum Stdin {
    Closed,
    Open,
}

/// What a finished program left.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Program {
    pub(crate) fn new(host: Host, program: &OsStr) -> Self {
        Self {
            folder: host.dir().to_owned(),
            host,
            path: program.to_owned(),
            args: Vec::new(),
            envs: Vec::new(),
            user: None,
            capabilities: Vec::new(),
            input: String::new(),
            stdin: Stdin::Closed,
            timeout: TIMEOUT,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs
            .push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Where it runs; the host's own folder otherwise.
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        folder.as_ref().clone_into(&mut self.folder);
        self
    }

    /// Runs it as this user and the group of the same name or number, with no rights beyond [`Self::ambient`].
    pub fn as_user(mut self, user: impl Display) -> Self {
        self.user = Some(user.to_string());
        self
    }

    /// Leaves a program with [`Self::as_user`] this one capability, written as in setpriv(1): `net_admin`.
    pub fn ambient(mut self, capability: &str) -> Self {
        self.capabilities.push(capability.to_owned());
        self
    }

    /// What it reads on standard input.
    pub fn input(mut self, text: &str) -> Self {
        text.clone_into(&mut self.input);
        self
    }

    /// Keeps standard input open for [`Running::say`].
    pub fn interactive(mut self) -> Self {
        self.stdin = Stdin::Open;
        self
    }

    /// How long [`Self::run`] and [`Self::text`] wait; 30 seconds otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it to its end, however it ends.
    ///
    /// # Errors
    /// When it cannot be run, or takes too long (then it is killed, and the error shows what it printed).
    pub fn run(self) -> Result<Output> {
        let mut command = self.to_command();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.host.spawn(command).with_context(|| self.cannot_run())?;
        let stdin = child.stdin.take();
        let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
        let input = self.input.clone();
        // A program that fills its output before it reads all input would block both of us on one thread.
        let writer = thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));

        let status = wait_to_end(&mut child, self.timeout);
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = writer.join();
        let (stdout, stderr) = (
            stdout.join().unwrap_or_default(),
            stderr.join().unwrap_or_default(),
        );
        let Some(status) = status else {
            bail!(
                "{} took longer than {:?}\n{stdout}{stderr}",
                self.shown(),
                self.timeout
            );
        };
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    /// Runs it to its end and gives what it printed.
    ///
    /// # Errors
    /// As [`Self::run`], and when it ends with anything but success; the error shows what it complained about.
    pub fn text(self) -> Result<String> {
        let shown = self.shown();
        let output = self.run()?;
        if !output.status.success() {
            bail!(
                "{shown} failed ({}):\n{}{}",
                output.status,
                output.stdout,
                output.stderr
            );
        }
        Ok(output.stdout)
    }

    /// Starts it, with what it prints going to `<name>.log` in the host's folder. A log that is there is added to.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn spawn(self, name: &str) -> Result<Running> {
        let log_path = self.host.dir().join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.with_context(|| format!("cannot write {}", log_path.display()))?;
        let mut command = self.to_command();
        command.stdout(log.try_clone()?).stderr(log);
        command.stdin(Stdio::piped());
        let child = self.host.spawn(command).with_context(|| self.cannot_run())?;
        let running = Running::new(self.host.clone(), name, child, log_path);
        if !self.input.is_empty() {
            running.say(&self.input)?;
        }
        match self.stdin {
            Stdin::Closed => running.hang_up(),
            Stdin::Open => {}
        }
        Ok(running)
    }

    /// Each wrapper replaces itself by the next, so the process is the program's own in the end.
    fn to_command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount={}", self.host.mounts_path()));
        command.arg(format!("--wdns={}", self.folder.display()));
        // Should the test be killed, its programs go with it.
        command.args(["--", "setpriv", "--pdeathsig=KILL"]);
        if let Some(user) = &self.user {
            let rights = self.rights();
            command.args([
                format!("--reuid={user}"),
                format!("--regid={user}"),
                "--clear-groups".to_owned(),
            ]);
            command.args([format!("--inh-caps={rights}"), format!("--ambient-caps={rights}")]);
            command.arg(format!("--bounding-set={rights}"));
        }
        command.arg("--").arg(&self.path).args(&self.args);
        command.envs(self.envs.iter().map(|(key, value)| (key, value)));
        command
    }

    fn rights(&self) -> String {
        self.capabilities
            .iter()
            .fold("-all".to_owned(), |rights, name| rights + ",+" + name)
    }

    fn shown(&self) -> String {
        let words: Vec<_> = [&self.path]
            .into_iter()
            .chain(&self.args)
            .map(|w| w.to_string_lossy())
            .collect();
        format!("`{}` on {}", words.join(" "), self.host.name())
    }

    fn cannot_run(&self) -> String {
        format!("cannot run {}", self.shown())
    }
}

impl Output {
    /// Both what it printed and what it complained about.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Its exit code, or `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

pub(crate) fn wait_to_end(child: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    wait_for(timeout, "a program's end", || child.try_wait().ok().flatten()).ok()
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

const TIMEOUT: Duration = Duration::from_secs(90);
