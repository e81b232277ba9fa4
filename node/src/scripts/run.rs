//! Runs the text of a script, and nothing else: what was verified is what the kernel executes.
//!
//! **Invariant:** a run ends by itself or is ended with everything that it started in its group, and gives at most so much.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::sys;

/// What a script printed to standard output before it ended well.
pub(super) fn run(text: &[u8], timeout: Duration) -> Result<Vec<u8>, String> {
    let program = seal(text).map_err(|error| format!("the kernel does not hold it: {error}"))?;
    let child = start(&program).map_err(|error| format!("the kernel does not run it: {error}"))?;
    let mut running = Running { child };
    running.finish(timeout)
}

/// A program in memory that nobody can write to any more.
fn seal(text: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let program = match memfd_create("fact", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 all are executable.
        Err(Errno::INVAL) => memfd_create("fact", flags)?,
        made => made?,
    };
    let mut file = File::from(program);
    file.write_all(text)?;
    let program = OwnedFd::from(file);
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&program, seals)?;
    Ok(program)
}

fn start(program: &OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    sys::die_with_parent(&mut command);
    // An interpreter opens it by that name.
    sys::keep_open(&mut command, program.as_fd());
    command.spawn()
}

/// A script that runs, until [`Self::finish`] is through with it.
struct Running {
    child: Child,
}

impl Running {
    fn finish(&mut self, timeout: Duration) -> Result<Vec<u8>, String> {
        let printed = self.watch(timeout);
        // Whatever came of it: nothing of it stays.
        let status = self.end();
        let Printed { output, complaint } = printed?;
        let status = status.map_err(|error| format!("how it ended is not known: {error}"))?;
        if status.success() {
            return Ok(output);
        }
        let first = String::from_utf8_lossy(&complaint);
        let first = first.lines().next().unwrap_or_default().trim();
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("it ended with exit code {code}"),
            (None, Some(signal)) => format!("it was ended by signal {signal}"),
            (None, None) => "it did not end well".to_owned(),
        };
        Err(if first.is_empty() {
            how
        } else {
            format!("{how}: {first}")
        })
    }

    /// What it prints until it ends.
    fn watch(&mut self, timeout: Duration) -> Result<Printed, String> {
        let failed = |error: io::Error| format!("it cannot be watched: {error}");
        let deadline = Instant::now() + timeout;
        let ended = pidfd_open(self.pid(), PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
        let (Some(mut output), Some(mut complaint)) = (self.child.stdout.take(), self.child.stderr.take())
        else {
            return Err("it has no output".to_owned());
        };
        for pipe in [output.as_fd(), complaint.as_fd()] {
            ioctl_fionbio(pipe, true).map_err(|error| failed(error.into()))?;
        }
        let (mut output, mut complaint) = (Stream::of(&mut output), Stream::of(&mut complaint));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("it did not end within {} s", timeout.as_secs()));
            }
            let has_ended = wait(&ended, (&output, &complaint), left).map_err(failed)?;
            // What it wrote before it ended is there by now.
            let is_more = output.fill().map_err(failed)?;
            complaint.fill().map_err(failed)?;
            if is_more {
                return Err(format!("it printed more than {PRINTED_BYTES_MAX} bytes"));
            }
            if has_ended {
                return Ok(Printed {
                    output: output.bytes,
                    complaint: complaint.bytes,
                });
            }
        }
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        // Not waited for yet: the number is still its own.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        self.child.wait()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

struct Printed {
    output: Vec<u8>,
    complaint: Vec<u8>,
}

/// One of its outputs.
struct Stream<'p, P> {
    pipe: &'p mut P,
    bytes: Vec<u8>,
    is_open: bool,
}

impl<'p, P: Read + AsFd> Stream<'p, P> {
    fn of(pipe: &'p mut P) -> Self {
        Self {
            pipe,
            bytes: Vec::new(),
            is_open: true,
        }
    }

    /// Reads what is there; gives whether that is more than is kept.
    fn fill(&mut self) -> io::Result<bool> {
        let mut part = [0; 1024];
        while self.is_open {
            match self.pipe.read(&mut part) {
                Ok(0) => self.is_open = false,
                Ok(read) => {
                    let room = PRINTED_BYTES_MAX - self.bytes.len();
                    self.bytes.extend(&part[..read.min(room)]);
                    if read > room {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

/// Waits until there is something to read, or the end, or `left` is over; gives whether the process has ended.
fn wait<A: AsFd, B: AsFd>(
    ended: &OwnedFd,
    pipes: (&Stream<'_, A>, &Stream<'_, B>),
    left: Duration,
) -> io::Result<bool> {
    let mut fds = vec![PollFd::new(ended, PollFlags::IN)];
    // One that was closed is always ready.
    if pipes.0.is_open {
        fds.push(PollFd::new(pipes.0.pipe, PollFlags::IN));
    }
    if pipes.1.is_open {
        fds.push(PollFd::new(pipes.1.pipe, PollFlags::IN));
    }
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&left)) {
        Ok(_) | Err(Errno::INTR) => Ok(!fds[0].revents().is_empty()),
        Err(error) => Err(error.into()),
    }
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Of each output. A line of it is all that counts.
const PRINTED_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(text: &str) -> Result<String, String> {
        let printed = run(format!("#!/bin/sh\n{text}\n").as_bytes(), Duration::from_secs(5))?;
        Ok(String::from_utf8(printed).unwrap())
    }

    #[test]
    fn what_it_prints_is_given_if_it_ends_well() {
        assert_eq!(sh("echo true; echo loud >&2").unwrap(), "true\n");
        assert_eq!(
            sh("echo true; echo no agent here >&2; exit 3").unwrap_err(),
            "it ended with exit code 3: no agent here"
        );
        assert_eq!(
            sh("echo true; kill -9 $$").unwrap_err(),
            "it was ended by signal 9"
        );
        assert!(run(b"#!/no/such/interpreter\n", Duration::from_secs(5)).is_err());
    }

    #[test]
    fn it_gets_nothing_but_a_path_an_empty_input_and_its_own_text() {
        assert_eq!(
            sh("env | sed 's/=.*//' | grep -vx -e PWD -e SHLVL -e _").unwrap(),
            "PATH\n"
        );
        assert_eq!(sh("pwd; wc -c").unwrap(), "/\n0\n");
        let open = sh("ls -l /proc/$$/fd | sed -n 's/.* -> //p'").unwrap();
        for file in open.lines() {
            assert!(
                file == "/dev/null" || file.starts_with("pipe:") || file.starts_with("/memfd:fact"),
                "{open}"
            );
        }
    }

    #[test]
    fn it_cannot_change_its_own_text() {
        let written = sh("{ echo false > \"$0\"; } 2>/dev/null || echo sealed").unwrap();

        assert_eq!(written, "sealed\n");
    }

    #[test]
    fn one_that_hangs_is_ended_with_what_it_started() {
        let began = Instant::now();
        let marker = tempfile::tempdir().unwrap();
        let left = marker.path().join("left");
        let text = format!("#!/bin/sh\n(sleep 2; touch {}) & sleep 60\n", left.display());

        let told = run(text.as_bytes(), Duration::from_secs(1)).unwrap_err();

        assert_eq!(told, "it did not end within 1 s");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(2500));
        assert!(!left.exists());
    }

    #[test]
    fn one_that_leaves_something_behind_is_not_waited_for_and_leaves_nothing() {
        let began = Instant::now();

        assert_eq!(sh("sleep 60 & echo true").unwrap(), "true\n");

        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }

    #[test]
    fn one_that_prints_without_end_is_ended() {
        assert_eq!(sh("yes").unwrap_err(), "it printed more than 4096 bytes");
        assert_eq!(sh("yes >&2 & sleep 0.2; echo true").unwrap(), "true\n");
    }
}
