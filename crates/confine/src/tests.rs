//! What a confined thread tries, and what the kernel says.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::process::Command;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{UnshareFlags, capabilities};

use super::*;

fn nothing() -> Needs {
    Needs {
        capabilities: CapabilitySet::empty(),
        read: Vec::new(),
        write: Vec::new(),
        sockets: Vec::new(),
        devices: Vec::new(),
        listen_tcp: Vec::new(),
        connect_tcp: Connect::Nowhere,
    }
}

/// Runs `attempt` on a thread that has given up all but `needs`: nothing of it can be undone.
fn confined<R: Send>(needs: &Needs, attempt: impl FnOnce(Confined) -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| attempt(confine(needs).unwrap()));
        thread.join().unwrap()
    })
}

fn refusal<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn every_wall_stands_on_this_kernel() {
    let stands = confined(&nothing(), |confined| confined);

    assert_eq!((&stands.files, &stands.calls), (&Wall::Whole, &Wall::Whole));
}

#[test]
fn no_program_can_be_started() {
    let started = confined(&nothing(), |_| Command::new("/bin/true").status());

    assert_eq!(refusal(started), Some(ErrorKind::PermissionDenied));
}

#[test]
fn threads_can_be_started_and_have_given_it_up_too() {
    let started = confined(&nothing(), |_| {
        std::thread::spawn(|| Command::new("/bin/true").status())
            .join()
            .unwrap()
    });

    assert_eq!(refusal(started), Some(ErrorKind::PermissionDenied));
}

#[test]
fn what_is_not_needed_of_capabilities_is_gone() {
    let needs = Needs {
        capabilities: CapabilitySet::NET_ADMIN,
        ..nothing()
    };
    let had = capabilities(None).unwrap().permitted & (CapabilitySet::NET_ADMIN | memory_right());

    let left = confined(&needs, |confined| {
        assert_eq!(confined.capabilities, had);
        capabilities(None).unwrap()
    });

    assert_eq!((left.effective, left.permitted), (had, had));
    assert_eq!(left.inheritable, CapabilitySet::empty());
}

/// What locked memory takes: nothing where the limit can be lifted, as by a root that is not in a container.
fn memory_right() -> CapabilitySet {
    let lifted = capabilities(None)
        .unwrap()
        .effective
        .contains(CapabilitySet::SYS_RESOURCE)
        || getrlimit(Resource::Memlock).maximum.is_none();
    if lifted {
        CapabilitySet::empty()
    } else {
        CapabilitySet::IPC_LOCK
    }
}

#[test]
fn memory_is_locked_for_root_and_more_than_the_limit_can_be_used_after() {
    let may = capabilities(None).unwrap().effective;
    let expected = may.intersects(CapabilitySet::SYS_RESOURCE | CapabilitySet::IPC_LOCK)
        || getrlimit(Resource::Memlock).maximum.is_none();

    confined(&nothing(), |confined| {
        assert_eq!(confined.memory == Wall::Whole, expected, "{:?}", confined.memory);
        // More than any finite limit that a system sets for everybody.
        std::hint::black_box(vec![1_u8; 64 << 20]);
    });

    let status = fs::read_to_string("/proc/self/status").unwrap();
    let locked = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
    assert_eq!(!locked.ends_with(" 0 kB"), expected, "{locked}");
}

#[test]
fn only_files_that_are_needed_can_be_opened() {
    let inside = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let readable = outside.path().join("readable");
    fs::write(&readable, "text").unwrap();
    let needs = Needs {
        write: vec![inside.path().to_owned()],
        read: vec![readable.clone(), "/not/there".into()],
        ..nothing()
    };

    confined(&needs, |_| {
        let file = inside.path().join("file");
        fs::write(&file, "state").unwrap();
        fs::rename(&file, inside.path().join("renamed")).unwrap();
        fs::remove_file(inside.path().join("renamed")).unwrap();
        assert_eq!(fs::read(&readable).unwrap(), b"text");

        let denied = Some(ErrorKind::PermissionDenied);
        assert_eq!(refusal(fs::write(&readable, "other")), denied);
        assert_eq!(refusal(fs::write(outside.path().join("new"), "")), denied);
        assert_eq!(refusal(fs::read("/etc/passwd")), denied);
        assert_eq!(refusal(fs::read_dir("/")), denied);
        assert_eq!(refusal(UnixListener::bind(outside.path().join("socket"))), denied);
    });
}

#[test]
fn sockets_can_be_made_where_they_are_needed_and_files_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let needs = Needs {
        sockets: vec![folder.path().to_owned()],
        ..nothing()
    };

    confined(&needs, |_| {
        let path = folder.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        fs::remove_file(&path).unwrap();
        assert_eq!(
            refusal(fs::write(folder.path().join("file"), "")),
            Some(ErrorKind::PermissionDenied)
        );
    });
}

#[test]
fn only_ports_that_are_needed_are_listened_on_and_nobody_is_called() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = free.local_addr().unwrap();
    let needs = Needs {
        listen_tcp: vec![0],
        ..nothing()
    };

    confined(&needs, |_| {
        TcpListener::bind("127.0.0.1:0").unwrap();
        let denied = Some(ErrorKind::PermissionDenied);
        assert_eq!(refusal(TcpListener::bind("127.0.0.1:7443")), denied);
        assert_eq!(refusal(TcpStream::connect(other)), denied);
        UdpSocket::bind("127.0.0.1:0").unwrap();
    });
}

#[test]
fn no_way_into_the_kernel_or_another_namespace_is_open() {
    let netlink = AddressFamily::NETLINK;
    let vsock = AddressFamily::VSOCK;

    confined(&nothing(), |_| {
        // Without the filter it is EINVAL: a process with threads cannot do this.
        #[expect(deprecated, reason = "the call is refused, so nothing is unshared")]
        let unshared = rustix::thread::unshare(UnshareFlags::NEWUSER);
        assert_eq!(unshared, Err(Errno::PERM));
        assert_eq!(socket(vsock, SocketType::STREAM, None).err(), Some(Errno::PERM));
        socket(netlink, SocketType::RAW, None).unwrap();
    });
}
